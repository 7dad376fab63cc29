"""Files that are whole or absent, and what file systems differ in: synchronising, removing, locking.

What a file system does not offer is passed over with a warning, once; a disk that fails or is full stays an error.
"""

import errno
import hashlib
import os
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from alibi.progress import say

if TYPE_CHECKING:
    from filelock import BaseFileLock

UNFINISHED = ".part"
NO_ROOM = frozenset({errno.ENOSPC, errno.EDQUOT})
# What a file system answers that does not know how to synchronise (EIO and ENOSPC are those of a disk that fails).
_NO_SYNC = frozenset({errno.EINVAL, errno.ENOSYS, errno.ENOTSUP, errno.EOPNOTSUPP})
# Folders are refused in more ways: Windows opens none (EACCES), others open them and sync none (EBADF, EISDIR, EPERM).
_NO_FOLDER_SYNC = _NO_SYNC | {errno.EACCES, errno.EPERM, errno.EBADF, errno.EISDIR}
_NO_LOCKS = frozenset({errno.ENOSYS, errno.ENOLCK, errno.ENOTSUP, errno.EOPNOTSUPP})

_told: set[tuple[object, ...]] = set()


def write_whole(path: Path, write: Callable[[Path], Any]) -> None:
    """Has `write` make a file that is at `path` whole or not at all, whenever the process or the machine ends.

    Raises:
        OSError: if it can't be written; what was at `path` is still there.
    """
    temporary = path.with_name(f"{path.name}.{os.getpid()}{UNFINISHED}")
    try:
        write(temporary)
        to_disk(temporary)
        os.replace(temporary, path)
        to_disk(path.parent)
    finally:
        temporary.unlink(missing_ok=True)


def to_disk(path: Path) -> None:
    """Synchronises a file or a folder, as far as its file system offers that.

    Raises:
        OSError: if the disk fails, or is full.
    """
    folder = path.is_dir()
    try:
        # Windows synchronises only what is open for writing; a folder can't be.
        descriptor = os.open(path, os.O_RDONLY if folder else os.O_RDWR)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
    except OSError as wrong:
        if wrong.errno not in (_NO_FOLDER_SYNC if folder else _NO_SYNC):
            raise
        what = "folders" if folder else "files"
        _tell_once(
            (what, wrong.errno),
            f"{what} can't be synchronised where {path} lies ({wrong.strerror}): what was written last may be lost if "
            "the machine stops",
        )


def sha256(path: Path) -> str:
    """SHA-256 of a file, in hexadecimal digits."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def remove_folder(folder: Path) -> None:
    """Removes a folder that is no longer needed; one that can't be removed stays, with a warning."""
    try:
        shutil.rmtree(folder)
    except OSError as wrong:
        if folder.exists():
            _tell_once((folder,), f"{folder} is no longer needed and can't be removed: {wrong}")


@contextmanager
def locked(path: Path, timeout: float = -1) -> Iterator[None]:
    """Holds a lock that one process has at a time.

    Where the file system knows no locks, a file beside it stands for one as long as it exists.

    Args:
        path: the lock file, which stays.
        timeout: seconds to wait for another process; -1 waits without end.

    Raises:
        filelock.Timeout: if another process had it for so long.
        OSError: if the lock file can't be written.
    """
    from filelock import FileLock, SoftFileLock

    lock: BaseFileLock = FileLock(path, timeout)
    try:
        lock.acquire()
    except (OSError, NotImplementedError) as wrong:  # The latter is that of older releases of filelock.
        if isinstance(wrong, OSError) and wrong.errno not in _NO_LOCKS:
            raise
        lock = SoftFileLock(f"{path}.exists", timeout)
        _tell_once((path,), f"{path} can't be locked ({wrong}): {lock.lock_file} stands for the lock while it exists")
        lock.acquire()
    try:
        yield
    finally:
        lock.release()


def _tell_once(key: tuple[object, ...], message: str) -> None:
    if key not in _told:
        _told.add(key)
        say(f"warning: {message}")
