from __future__ import annotations

from pathlib import Path

import pytest
from textlens.errors import InputError
from textlens.prompting.shot_files import load_shots
from textlens.prompting.templates import Context, Shot

GOOD = '{"answer": "yes"}'


def write(folder: Path, text: str) -> Path:
    path = folder / "shots.jsonl"
    path.write_text(text, encoding="utf-8")
    return path


def test_every_form_of_a_shot(tmp_path: Path) -> None:
    path = write(
        tmp_path,
        '\ufeff{"context": "a cat", "question": "What?", "answer": "cat", "id": "q9"}\n'
        "\n"
        '{"context": {"DeCap": "a dog", "caption": "one dog"}, "question": "What?", "answer": "dog"}\r\n'
        '{"context": ["a", "", "b"], "answer": "x\u2028y"}\n'
        '{"image": "pictures/1.png", "question": "Who?", "answer": "me"}',
    )
    assert load_shots(path) == [
        Shot((Context("a cat"),), "What?", "cat", "q9"),
        Shot((Context("a dog", "DeCap"), Context("one dog", "caption")), "What?", "dog", "3"),
        Shot((Context("a"), Context("b")), "", "x\u2028y", "4"),
        Shot((), "Who?", "me", "5", str(tmp_path / "pictures/1.png")),
    ]


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ('{"answer": "yes"', r"line 2: not JSON \(.* at column \d+\)"),
        ('{"answer": ' + "7" * 5000 + "}", "line 2: JSON that cannot be read"),
        ("[" * 100_000, "line 2: JSON that cannot be read"),
        ('["yes"]', "line 2: expected a JSON object, got list"),
        ('{"question": "What?"}', 'line 2: no "answer"'),
        ('{"answer": "  "}', 'line 2: no "answer"'),
        ('{"answer": 2}', "line 2: 'answer' is 2; expected a text in quotes"),
        ('{"answer": "yes", "anwser": "no"}', "line 2: unknown key 'anwser'; expected answer, question, context"),
        ('{"answer": "yes", "context": 7}', 'line 2: "context" holds 7'),
        ('{"answer": "yes", "context": {"DeCap": null}}', 'line 2: "context" holds null'),
    ],
)
def test_a_bad_line_is_named(tmp_path: Path, line: str, message: str) -> None:
    with pytest.raises(InputError, match=message):
        load_shots(write(tmp_path, f"{GOOD}\n{line}\n"))


def test_a_bad_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"none\.jsonl cannot be read"):
        load_shots(tmp_path / "none.jsonl")
    with pytest.raises(InputError, match="cannot be read"):
        load_shots(tmp_path)
    with pytest.raises(InputError, match="holds no shots"):
        load_shots(write(tmp_path, "\n  \n"))
    (tmp_path / "shots.jsonl").write_bytes(b'{"answer": "caf\xe9"}')
    with pytest.raises(InputError, match=r"shots\.jsonl cannot be read .*position 15.*expected UTF-8"):
        load_shots(tmp_path / "shots.jsonl")
