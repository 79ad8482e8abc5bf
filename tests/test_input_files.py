"""What others wrote is read as far as it is a file of its kind: no pipe waits, no alias explodes."""

from __future__ import annotations

import os
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import pytest
from textlens.agent.tools.toolkit_settings import ToolkitSettings
from textlens.errors import InputError
from textlens.evals.faithfulness import load_pairs
from textlens.evals.task_data.table_rows import read_rows
from textlens.input_files import check_regular, read_json_file, read_text, read_yaml
from textlens.prompting.shot_files import load_shots
from textlens.scenes.language_model.encoder_texts import read_encoder_texts
from textlens.train.recaption.caption_checks import read_deny_list

from .damage import DEEP

PLACES: dict[str, Callable[[Path], object]] = {
    "a pipe": os.mkfifo,
    "(a folder|directory)": Path.mkdir,
    "a device": lambda path: path.symlink_to("/dev/zero"),
    "No such file": lambda path: path.symlink_to("nowhere"),
    "symbolic links": lambda path: path.symlink_to(path.name),
}


@pytest.mark.parametrize("kind", PLACES)
@pytest.mark.parametrize("read", [read_text, read_json_file, read_yaml, check_regular])
def test_what_is_no_file_is_named_and_does_not_hang(kind: str, read: Callable[[Path], object], tmp_path: Path) -> None:
    path = tmp_path / "config"
    PLACES[kind](path)
    with pytest.raises(InputError, match=rf"config cannot be read \(.*{kind}"):
        read(path)


READERS = {
    "tools.yaml": ToolkitSettings.read,
    "shots.jsonl": load_shots,
    "pairs.jsonl": load_pairs,
    "rows.jsonl": read_rows,
    "rows.parquet": read_rows,
    "texts.jsonl": read_encoder_texts,
    "deny.txt": read_deny_list,
}


@pytest.mark.parametrize("kind", PLACES)
@pytest.mark.parametrize("name", READERS)
def test_files_of_users_are_read_alike(name: str, kind: str, tmp_path: Path) -> None:
    PLACES[kind](tmp_path / name)
    with pytest.raises(InputError, match=rf"{name} cannot be read \(.*{kind}"):
        READERS[name](tmp_path / name)


def test_a_yaml_bomb_is_no_toolkit(tmp_path: Path) -> None:
    (tmp_path / "tools.yaml").write_text(BOMB)
    with pytest.raises(InputError, match=r"tools\.yaml holds more than"):
        ToolkitSettings.read(tmp_path / "tools.yaml")


BOMB = "a: &a [x, x, x, x, x, x, x, x, x]\n" + "".join(
    f"{name}: &{name} [{', '.join([f'*{before}'] * 9)}]\n" for before, name in zip("abcdefgh", "bcdefghi", strict=True)
)
YAML = {
    "deep": DEEP,
    "open": "a: [",
    "a bomb": BOMB,
    "itself": "&a [*a]",
    "a date that is none": "2020-13-45",
    "a tag": "!!python/object/apply:os.system [ls]",
    "a list as key": "? [a]\n: b",
    "long number": "9" * 5000,
    "null byte": "a: \0",
    "no anchor": "a: *b",
    "merge of nothing": "<<: 3",
    "base 60": "1:99999999999999999999:1.e",
}


@pytest.mark.parametrize("text", YAML.values(), ids=YAML)
def test_yaml_of_any_kind_is_read_or_refused_with_its_file(text: str, tmp_path: Path) -> None:
    path = tmp_path / "settings.yaml"
    path.write_text(text)
    if text in (YAML["base 60"], YAML["merge of nothing"]):  # read, or refused, as the library likes
        with suppress(InputError):
            read_yaml(path)
        return
    with pytest.raises(InputError, match=r"settings\.yaml"):
        read_yaml(path)


def test_numbers_of_yaml_are_those_of_yaml_1_2(tmp_path: Path) -> None:
    path = tmp_path / "settings.yaml"
    path.write_text("[1e-3, 5E4, -1e+2, 1.5e3, 12, 0.5, 1e, e3, '1e-3', v1e3, .inf]")
    assert read_yaml(path) == [1e-3, 5e4, -100.0, 1500.0, 12, 0.5, "1e", "e3", "1e-3", "v1e3", float("inf")]


@pytest.mark.parametrize("text", [DEEP, '{"a":' * 50_000, '{"a": NaN}', '{"a": 1e999}', "9" * 5000, "\xff", "", "{"])
def test_json_of_no_use_is_refused_with_its_file(text: str, tmp_path: Path) -> None:
    path = tmp_path / "config.json"
    path.write_text(text, encoding="latin-1")
    with pytest.raises(InputError, match=r"config\.json cannot be read"):
        read_json_file(path)
