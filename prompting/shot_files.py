"""Shots from a JSON Lines file, one object per line: `{"context": …, "question": …, "answer": …}`."""

from __future__ import annotations

import json
from pathlib import Path

from ..errors import InputError
from ..input_files import read_text
from .templates import Context, Shot

_KEYS = ("answer", "question", "context", "image", "id")


def load_shots(path: str | Path) -> list[Shot]:
    """Read every shot of a file. Blank lines are passed over.

    `answer` is needed. `context` is a text, a list of texts, or an object of label -> text. `image` is a path,
    relative to the file's folder, for shots whose context an encoder is to write. `id` is the line number where it
    is not given.
    Raises `InputError` naming the file, the line, and what was expected there.
    """
    path = Path(path)
    text = read_text(path, encoding="utf-8-sig")
    # Not splitlines(), which also breaks at U+2028 and the like: JSON allows those inside a string.
    lines = text.split("\n")
    shots = [_shot(line, f"{path}, line {n}", path.parent, n) for n, line in enumerate(lines, 1) if line.strip()]
    if not shots:
        raise InputError(f"{path} holds no shots; expected one JSON object per line")
    return shots


def _shot(line: str, where: str, folder: Path, number: int) -> Shot:
    try:
        entry = json.loads(line)
    except json.JSONDecodeError as error:
        raise InputError(
            f"{where}: not JSON ({error.msg} at column {error.colno}); expected one object per line"
        ) from error
    except (ValueError, RecursionError) as error:  # a number of thousands of digits, thousands of brackets
        raise InputError(f"{where}: JSON that cannot be read ({error}); expected one object per line") from error
    if not isinstance(entry, dict):
        raise InputError(f"{where}: expected a JSON object, got {type(entry).__name__}")
    if unknown := sorted(set(entry) - set(_KEYS)):
        raise InputError(f"{where}: unknown key {unknown[0]!r}; expected {', '.join(_KEYS)}")
    texts = {key: _text(entry, key, where) for key in _KEYS if key != "context"}
    if not texts["answer"].strip():
        raise InputError(f'{where}: no "answer"; every shot needs one')
    image = str(folder / texts["image"]) if texts["image"] else ""
    context = _context(entry.get("context", ""), where)
    return Shot(context, texts["question"], texts["answer"], texts["id"] or str(number), image)


def _text(entry: dict[str, object], key: str, where: str) -> str:
    value = entry.get(key, "")
    if not isinstance(value, str):
        raise InputError(f"{where}: {key!r} is {json.dumps(value)}; expected a text in quotes")
    return value


def _context(value: object, where: str) -> tuple[Context, ...]:
    pairs: list[tuple[object, str]]
    if isinstance(value, dict):
        pairs = [(text, label) for label, text in value.items()]
    else:
        pairs = [(text, "") for text in (value if isinstance(value, list) else [value])]
    contexts = []
    for text, label in pairs:
        if not isinstance(text, str):
            raise InputError(f'{where}: "context" holds {json.dumps(text)}; expected a text, a list, or label -> text')
        if text:
            contexts.append(Context(text, label))
    return tuple(contexts)
