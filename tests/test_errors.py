"""Messages of errors: one line, cut, never empty, and without the path that stands beside them already."""

from __future__ import annotations

from pathlib import Path

import pytest
from textlens.errors import reason, shortened


@pytest.mark.parametrize(
    ("error", "line"),
    [
        (ValueError("a\n  b\tc"), "a b c"),
        (ValueError(" \n"), "ValueError"),
        ("a\nb", "a b"),
        ("", ""),
        (ValueError("x" * 20), "x" * 10 + " ..."),
    ],
)
def test_an_error_is_one_line(error: Exception | str, line: str) -> None:
    assert shortened(error, 10) == line


def test_a_reason_names_no_path() -> None:
    with pytest.raises(OSError, match="/no/such") as caught:
        Path("/no/such").read_text()
    assert reason(caught.value) == "No such file or directory"
    assert reason(OSError("a\nb")) == "a b"
    assert reason(KeyError()) == "KeyError"
