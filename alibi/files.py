"""Files that are whole or absent, on any file system: synchronising, removing, locking.

A file system may lack synchronisation or locks: one warning says so, and work goes on. A failing or full disk stays an
error.
"""

import errno
import hashlib
import json
import os
import re
import shutil
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

from alibi.progress import say

if TYPE_CHECKING:
    from filelock import BaseFileLock

UNFINISHED = ".part"
NO_ROOM = frozenset({errno.ENOSPC, errno.EDQUOT})
# Errors of a file system that cannot synchronise (a failing disk gives EIO or ENOSPC).
_NO_SYNC = frozenset({errno.EINVAL, errno.ENOSYS, errno.ENOTSUP, errno.EOPNOTSUPP})
# More errors for folders: Windows opens none (EACCES), other systems open but do not sync them (EBADF, EISDIR, EPERM).
_NO_FOLDER_SYNC = _NO_SYNC | {errno.EACCES, errno.EPERM, errno.EBADF, errno.EISDIR}
_NO_LOCKS = frozenset({errno.ENOSYS, errno.ENOLCK, errno.ENOTSUP, errno.EOPNOTSUPP})

_told: set[tuple[object, ...]] = set()


def write_whole(path: Path, write: Callable[[Path], Any], *, alone: bool = False) -> None:
    """Calls `write` with a temporary path and renames the file to `path`, which is whole or absent at any moment.

    Args:
        path: the file.
        write: writes it into the temporary path.
        alone: whether a lock keeps other processes from writing it; then what killed processes left of it is removed.

    Raises:
        OSError: if it can't be written; `path` stays as it was.
    """
    temporary = path.with_name(f"{path.name}.{os.getpid()}{UNFINISHED}")
    try:
        if alone:
            _remove_left(path)
        temporary.unlink(missing_ok=True)
        temporary.open("wb").close()
        mode = temporary.stat().st_mode
        write(temporary)
        if temporary.stat().st_mode != mode:  # safetensors lets only the owner read its files.
            temporary.chmod(mode)
        to_disk(temporary)
        os.replace(temporary, path)
        to_disk(path.parent)
    finally:
        temporary.unlink(missing_ok=True)


def _remove_left(path: Path) -> None:
    left = re.compile(rf"{re.escape(path.name)}\.[0-9]+{re.escape(UNFINISHED)}")
    for other in path.parent.iterdir():
        if left.fullmatch(other.name):
            with suppress(OSError):
                other.unlink()


def to_disk(path: Path) -> None:
    """Synchronises a file or a folder to the disk; a file system that can't gets a warning.

    Raises:
        OSError: if the disk fails or is full.
    """
    folder = path.is_dir()
    try:
        # Windows synchronises only files that are open for writing; a folder can't be.
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
            f"{what} can't be synchronised in the file system of {path} ({wrong.strerror}): if the machine stops, the "
            "last writes may be lost",
        )


def sha256(path: Path) -> str:
    """SHA-256 of a file, in hexadecimal digits."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def content_sha256(content: Mapping[str, Any], digest: str | None = None) -> str:
    """SHA-256 of the members of a JSON object, in any order; the member `digest` is left out."""
    others = {name: value for name, value in content.items() if name != digest}
    return hashlib.sha256(json.dumps(others, sort_keys=True).encode()).hexdigest()


def remove_folder(folder: Path) -> None:
    """Removes a folder; if that fails, it stays and a warning names it."""
    try:
        shutil.rmtree(folder)
    except OSError as wrong:
        if folder.exists():
            _tell_once((folder,), f"{folder} is no longer needed and can't be removed: {wrong}")


@contextmanager
def locked(path: Path, timeout: float = -1, waiting: str = "") -> Iterator[None]:
    """Holds a lock; only one process can hold it at a time.

    On a file system without locks a second file is the lock while it exists.

    Args:
        path: the lock file, which stays.
        timeout: seconds to wait for another process; -1 waits without end.
        waiting: printed if another process still holds it after a second.

    Raises:
        filelock.Timeout: if another process held the lock for `timeout` seconds.
        OSError: if the lock file can't be written.
    """
    from filelock import FileLock, SoftFileLock, Timeout

    lock: BaseFileLock = FileLock(path, timeout)
    try:
        if waiting:
            with suppress(Timeout):
                lock.acquire(1)
            if not lock.is_locked:
                say(waiting)
        if not lock.is_locked:
            lock.acquire()
    except (OSError, NotImplementedError) as wrong:  # Older releases of filelock raise NotImplementedError.
        if isinstance(wrong, OSError) and wrong.errno not in _NO_LOCKS:
            raise
        lock = SoftFileLock(f"{path}.exists", timeout)
        _tell_once((path,), f"{path} can't be locked ({wrong}): the lock is {lock.lock_file} while that file exists")
        lock.acquire()
    try:
        yield
    finally:
        lock.release()


def _tell_once(key: tuple[object, ...], message: str) -> None:
    if key not in _told:
        _told.add(key)
        say(f"warning: {message}")
