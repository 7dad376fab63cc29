"""What file systems do not offer is passed over and told once; a disk that fails is an error."""

import errno
import os
import stat
import threading
from concurrent.futures import ThreadPoolExecutor

import pytest
from file_systems import read_only
from filelock import Timeout

from alibi import files
from alibi.files import content_sha256, locked, remove_folder, sha256, to_disk, write_whole

fcntl = pytest.importorskip("fcntl")


@pytest.fixture(autouse=True)
def nothing_told(monkeypatch):
    monkeypatch.setattr(files, "_told", set())


def answer(monkeypatch, name, number, kind):
    """Has this call of `os` answer with an error for folders or for files: no such file system is at hand."""
    right = getattr(os, name)

    def call(at, *arguments):
        if kind(os.stat(at).st_mode):
            raise OSError(number, os.strerror(number))
        return right(at, *arguments)

    monkeypatch.setattr(os, name, call)


@pytest.mark.parametrize(
    ("name", "number", "kind"),
    [
        ("fsync", errno.EINVAL, stat.S_ISDIR),
        ("fsync", errno.ENOTSUP, stat.S_ISDIR),
        ("fsync", errno.EBADF, stat.S_ISDIR),
        ("open", errno.EACCES, stat.S_ISDIR),
        ("fsync", errno.EINVAL, stat.S_ISREG),
    ],
)
def test_what_can_not_be_synchronised_is_written_all_the_same(name, number, kind, tmp_path, monkeypatch, capsys):
    path = tmp_path / "file"
    answer(monkeypatch, name, number, kind)
    for text in ("one", "two"):
        write_whole(path, lambda part, text=text: part.write_text(text))
    assert path.read_text() == "two" and list(tmp_path.iterdir()) == [path]
    told = capsys.readouterr().err
    assert told.count("warning:") == 1 and os.strerror(number) in told and str(tmp_path) in told


@pytest.mark.parametrize(
    ("number", "kind"),
    [
        (errno.EIO, stat.S_ISDIR),
        (errno.ENOSPC, stat.S_ISDIR),
        (errno.EIO, stat.S_ISREG),
        (errno.EDQUOT, stat.S_ISREG),
        (errno.EBADF, stat.S_ISREG),
    ],
)
def test_a_disk_that_fails_is_an_error(number, kind, tmp_path, monkeypatch, capsys):
    (tmp_path / "file").write_text("before")
    answer(monkeypatch, "fsync", number, kind)
    with pytest.raises(OSError, match=os.strerror(number)):
        write_whole(tmp_path / "file", lambda part: part.write_text("after"))
    assert not list(tmp_path.glob("*.part")) and not capsys.readouterr().err


def test_files_are_synchronised_through_a_descriptor_that_can_write(tmp_path, monkeypatch):
    # Windows refuses others.
    modes = []
    monkeypatch.setattr(os, "fsync", lambda at: modes.append(fcntl.fcntl(at, fcntl.F_GETFL) & os.O_ACCMODE))
    (tmp_path / "file").touch()
    to_disk(tmp_path / "file")
    assert modes == [os.O_RDWR]


def test_what_a_killed_process_left_is_removed_by_who_writes_alone(tmp_path):
    path, left = tmp_path / "file", tmp_path / f"file.{2**22 + 1}.part"
    others = [tmp_path / name for name in ("file.part", "file.notes.part", "another.7.part", "file.7.part.old")]
    for other in (left, *others):
        other.write_text("kept")
    write_whole(path, lambda part: part.write_text("one"))
    assert left.exists()
    write_whole(path, lambda part: part.write_text("two"), alone=True)
    assert path.read_text() == "two" and sorted(tmp_path.iterdir()) == sorted([path, *others])


def test_a_folder_that_can_not_be_removed_is_told_once(tmp_path, capsys):
    (tmp_path / "old").mkdir()
    (tmp_path / "old" / "file").touch()
    with read_only(tmp_path / "old"):
        for _ in range(2):
            remove_folder(tmp_path / "old")
        remove_folder(tmp_path / "gone")
    assert capsys.readouterr().err.count(f"warning: {tmp_path / 'old'} is no longer needed and can't be removed") == 1
    remove_folder(tmp_path / "old")
    assert not (tmp_path / "old").exists()


@pytest.mark.parametrize("number", [errno.ENOSYS, errno.ENOLCK, errno.ENOTSUP])
def test_without_locks_one_process_has_it_at_a_time(number, tmp_path, monkeypatch, capsys, recwarn):
    def flock(descriptor, operation):
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(fcntl, "flock", flock)
    path = tmp_path / "lock"
    for _ in range(2):
        with locked(path), pytest.raises(Timeout), locked(path, timeout=0):
            pass
    # filelock has a remedy of its own for a system without the call, and warns of it.
    assert capsys.readouterr().err.count("can't be locked") + len(recwarn) == 1


def test_who_waits_for_a_lock_is_told(tmp_path, capsys):
    path, released = tmp_path / "lock", threading.Event()

    def hold():
        with locked(path):
            held.set()
            released.wait()

    held, holder = threading.Event(), threading.Thread(target=hold)
    holder.start()
    held.wait()
    with ThreadPoolExecutor() as pool:

        def take():
            with locked(path, waiting="another process holds it"):
                return True

        taken = pool.submit(take)
        try:
            while "another process holds it" not in capsys.readouterr().err:
                assert not taken.done()
        finally:
            released.set()  # Else a failure would wait for ever.
        assert taken.result()
    holder.join()


def test_a_digest_of_content_depends_on_no_order():
    assert content_sha256({"a": 1, "b": 2}) == content_sha256({"b": 2, "a": 1}) != content_sha256({"a": 2, "b": 1})
    assert content_sha256({"a": 1, "sum": "x"}, "sum") == content_sha256({"a": 1})


def test_a_lock_that_can_not_be_written_is_an_error(tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(OSError, match="file"), locked(tmp_path / "file" / "lock"):
        pass


def test_sha256(tmp_path):
    (tmp_path / "abc").write_bytes(b"abc")
    assert sha256(tmp_path / "abc").startswith("ba7816bf8f01cfea") and len(sha256(tmp_path / "abc")) == 64
