"""Ctrl-C and other requests to end: one interruption is one, whatever signals it comes as."""

import multiprocessing
import signal
import threading
import time
from pathlib import Path

import pytest

from alibi.interruption import Pool, noted, raised

pytestmark = pytest.mark.slow


def test_a_request_to_end_is_noted_and_only_a_second_ctrl_c_is_not_waited_for():
    with noted() as received:
        for number in (signal.SIGTERM, signal.SIGTERM, signal.SIGINT, signal.SIGTERM):
            signal.raise_signal(number)
        assert received == [signal.SIGTERM, signal.SIGTERM, signal.SIGINT, signal.SIGTERM]
        with pytest.raises(KeyboardInterrupt, match="SIGINT"):
            signal.raise_signal(signal.SIGINT)
    assert signal.getsignal(signal.SIGTERM) is signal.SIG_DFL


def test_a_command_is_ended_once_and_what_it_holds_is_closed():
    closed = []
    with pytest.raises(KeyboardInterrupt, match="SIGTERM"), raised():
        try:
            signal.raise_signal(signal.SIGTERM)
        finally:
            signal.raise_signal(signal.SIGTERM)
            closed.append("all of it")
    assert closed


@pytest.mark.skipif(not hasattr(signal, "SIGHUP"), reason="no hang-ups here")
def test_what_nohup_has_ignored_stays_ignored():
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    try:
        with noted() as received, raised():
            signal.raise_signal(signal.SIGHUP)
        assert not received
    finally:
        signal.signal(signal.SIGHUP, before)


def test_in_another_thread_nothing_is_set():
    found = []

    def run():
        with noted() as received, raised():
            found.append((received, signal.getsignal(signal.SIGTERM)))

    thread = threading.Thread(target=run)
    thread.start()
    thread.join()
    assert found == [([], signal.SIG_DFL)]


def wait_for_ever(at_work):
    at_work.touch()
    threading.Event().wait()


def test_a_pool_ends_what_is_at_work_and_starts_nothing_more_when_its_block_is_interrupted(tmp_path):
    at_work, later = tmp_path / "at work", tmp_path / "later"
    with pytest.raises(KeyboardInterrupt), Pool(1) as pool:
        task, *waiting = [pool.submit(wait_for_ever, at_work)] + [pool.submit(Path.touch, later) for _ in range(3)]
        while not at_work.exists():
            assert not task.done(), task.exception()
            time.sleep(0.01)
        raise KeyboardInterrupt
    assert task.done() and not multiprocessing.active_children()
    assert all(other.done() for other in waiting) and not later.exists()
