"""What is printed cannot be forged by what it is about."""

from __future__ import annotations

import csv
import io
import subprocess
import sys
import unicodedata
import warnings
from pathlib import Path

import pytest
from PIL import Image
from textlens.commands.printing import echo, labelled, print_csv, show_warnings_once
from textlens.errors import escaped
from textlens.evals.aligned_table import aligned
from textlens.progress import print_note

FORGING = [
    *(chr(code) for code in (*range(32), *range(127, 160))),  # C0, DEL, C1
    *"\u2028\u2029",  # line and paragraph separators
    *"\u061c\u200e\u200f\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069",  # order of letters
    *"\u00ad\u200b\u2060\ufeff\U000e0001\U000e0041",  # not seen
    *"\udc80\ud800",  # not text
]


@pytest.mark.parametrize("sign", FORGING, ids=ascii)
def test_signs_that_forge_output_are_escaped(sign: str) -> None:
    shown = escaped(f"a{sign}b.png: words")
    assert shown.isascii()
    assert shown == f"a{ascii(sign)[1:-1]}b.png: words"


def test_every_character_is_shown_or_escaped() -> None:
    for code in range(sys.maxunicode + 1):
        sign = chr(code)
        if escaped(sign) == sign:
            assert unicodedata.category(sign) not in ("Cc", "Cs", "Zl", "Zp"), ascii(sign)
            assert unicodedata.bidirectional(sign) not in (
                "LRE",
                "RLE",
                "LRO",
                "RLO",
                "PDF",
                "LRI",
                "RLI",
                "FSI",
                "PDI",
            )


def test_words_of_any_script_stay() -> None:
    for text in ("naïve café", "漢字\u3000かな", "می\u200cخواهم", "👩\u200d👩\u200d👧", "a\u00a0b", "שלום", "क्\u200dष"):
        assert escaped(text) == text
    assert escaped("two\nlines\x1b", keep="\n") == "two\nlines\\x1b"


def test_one_line_for_each_image(capsys: pytest.CaptureFixture[str]) -> None:
    echo(labelled("a.png: a cat\nb.png", "coca", "a dog\r\x1b[2K", 2, 1))
    assert capsys.readouterr().out == "a.png: a cat\\nb.png: a dog\\r\\x1b[2K\n"


def test_no_cell_of_a_table_forges_another(capsys: pytest.CaptureFixture[str]) -> None:
    made = aligned(["task", "score"], [["a\n| b", "1"], ["\x1b[2Jc", "10"]])
    assert made.splitlines() == [
        r"| task     | score |",
        r"|----------|------:|",
        r"| a\n\| b  |     1 |",
        r"| \x1b[2Jc |    10 |",
    ]
    print_note("a\r\nnote: b")
    assert capsys.readouterr().err == "note: a\\r\\nnote: b\n"


def test_csv_cells_are_exact(capsys: pytest.CaptureFixture[str]) -> None:
    row = ["=1+1.png", '-"a",\n@b', "\x1b"]
    print_csv(row)
    assert next(csv.reader(io.StringIO(capsys.readouterr().out, newline=""))) == row


def test_warnings_come_once_for_each_place(capsys: pytest.CaptureFixture[str]) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("always")
        show_warnings_once()
        for number in range(4000):
            warnings.warn(f"tag {number} is odd\n\x1b", stacklevel=1)
    assert capsys.readouterr().err == "warning: tag 0 is odd\\n\\x1b\n"


def test_names_on_the_command_line(tmp_path: Path) -> None:
    for name in ("a\nerror: all is lost.png", "b\x1b[31m.png"):
        Image.new("RGB", (64, 64)).save(tmp_path / name)
    (tmp_path / "c\nd.png: a cat.png").write_bytes(b"no image")
    (tmp_path / "odd\nfolder").mkdir()
    Image.new("RGB", (64, 64)).save(tmp_path / "odd\nfolder" / "x.png")
    code = "from textlens.cli import main; main()"
    command = [sys.executable, "-c", code, "describe", str(tmp_path), "-e", "scenes:coca"]
    made = subprocess.run(command, capture_output=True, text=True, timeout=300, check=False)
    assert made.returncode == 1
    lines = made.stdout.splitlines()
    assert [line.partition(".png: ")[0].removeprefix(f"{tmp_path}/") for line in lines] == [
        "a\\nerror: all is lost",
        "b\\x1b[31m",
    ]
    assert "\x1b" not in made.stdout + made.stderr
    assert len([line for line in made.stderr.splitlines() if line.startswith("error: ")]) == 1
    assert "odd\\nfolder" in made.stderr
