"""Progress: drawn where it can be, rare lines in a log, and never what ends the work."""

import io
import os
import sys

import pytest

from alibi import progress


def work(**options):
    with progress.bar(total=300, desc="work", unit="step", **options) as bar:
        for step in range(300):
            bar.set_postfix(loss=step, refresh=False)
            bar.update()


def test_a_log_gets_whole_lines_and_few(monkeypatch):
    monkeypatch.setattr(sys, "stderr", io.StringIO())
    work()
    progress.say("done")
    first, last, said = sys.stderr.getvalue().splitlines()
    assert first.startswith("work:   0%") and "loss=299" in last and said == "done"
    assert not set(sys.stderr.getvalue()) & set("\r\x1b")


def test_short_work_leaves_no_line_in_a_log(monkeypatch):
    monkeypatch.setattr(sys, "stderr", io.StringIO())
    work(leave=False, delay=1)
    assert not sys.stderr.getvalue()
    # More often on demand, for a test that does not wait a minute.
    monkeypatch.setattr(progress, "SECONDS_A_LINE", 1e-9)
    work(leave=False)
    assert len(sys.stderr.getvalue().splitlines()) > 100


def test_a_terminal_gets_a_bar_that_is_drawn_over(monkeypatch):
    pty = pytest.importorskip("pty")
    ours, theirs = pty.openpty()
    __import__("termios").tcsetwinsize(ours, (24, 80))
    with open(theirs, "w", encoding="utf-8") as terminal:
        monkeypatch.setattr(sys, "stderr", terminal)
        work(mininterval=0, maxinterval=0, miniters=30)
        terminal.flush()
        shown = b""
        while b"100%" not in shown:  # The kernel hands a terminal's output on in pieces.
            shown += os.read(ours, 100_000)
    os.close(ours)
    assert shown.count(b"\r") > 5


def test_a_reader_that_has_gone_ends_no_work(monkeypatch):
    reader, writer = os.pipe()
    os.close(reader)
    monkeypatch.setattr(sys, "stderr", os.fdopen(writer, "w", buffering=1))
    work()
    progress.say("nobody hears this")


def test_a_log_in_another_encoding_gets_what_it_can_show(monkeypatch):
    raw = io.BytesIO()
    monkeypatch.setattr(sys, "stderr", io.TextIOWrapper(raw, encoding="cp1252"))
    work()
    sys.stderr.flush()
    assert b"100%|##########|" in raw.getvalue()
