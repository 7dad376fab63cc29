"""What messages quote is one line of bounded length."""

import pytest

from alibi.errors import bounded, listed, quoted, told


@pytest.mark.parametrize(
    "value", ["a" * 10**6, ["a" * 10**6] * 10**5, {"a\n": b"b" * 10**6}, [[["a"] * 9] * 9] * 9, range(10**9), 10**3000]
)
def test_what_is_quoted_is_short(value):
    assert len(quoted(value)) <= 500 and "\n" not in quoted(value)


def test_what_is_short_is_quoted_whole():
    assert quoted("two\nlines") == r"'two\nlines'" and quoted([1, None]) == "[1, None]" and quoted(2.5) == "2.5"


def test_lists_are_cut():
    assert listed(["a", "b"]) == "a, b" and listed([]) == ""
    assert listed([f"n{number}" for number in range(5000)], 2) == "n0, n1 and 4,998 more"
    assert listed(["a" * 10**6]) == "a" * 97 + "..."


def test_long_lines_lose_their_middle():
    assert bounded("ab\ncd") == "ab\ncd" and bounded("a" * 10**6 + "b\ncd", 10) == "aa...aaaab\ncd"


def test_errors_of_others_are_one_line():
    assert told(ValueError("two\n  lines")) == "ValueError: two lines"
    assert len(told(OSError("a" * 10**6))) < 520
