"""Errors on the command line name its options, not Python's parameters."""

from pathlib import Path

import pytest
import typer.main
from PIL import Image
from textlens.cli import app
from textlens.commands.option_names import in_options
from textlens.errors import TextlensError
from typer.testing import CliRunner

DESCRIBE = typer.main.get_command(app).commands["describe"]  # type: ignore[attr-defined]


@pytest.mark.parametrize(
    ("message", "expected"),
    [
        ("expected allow_network=True", "expected --allow-network"),
        ("raise ImageLimits.max_pixels", "raise --max-pixels"),
        ("got batch_size=0, cache_size=-1", "got --batch-size 0, cache_size=-1"),
        ("max_pixels is 3; expected more", "--max-pixels is 3; expected more"),
        ("recursive=True, or not recursive", "--recursive, or not recursive"),  # a bare word stays
        ("/tmp/max_pixels/a.png: no max_pixels.yaml", "/tmp/max_pixels/a.png: no max_pixels.yaml"),
        ("set text_cfg.batch_size", "set text_cfg.batch_size"),  # a setting of a file
        ("my_max_pixels, max_pixels_of", "my_max_pixels, max_pixels_of"),
        ("in Python allow_network='private'", "in Python allow_network='private'"),  # no value of the option
        ("already --max-pixels", "already --max-pixels"),
    ],
)
def test_parameters_become_options(message: str, expected: str) -> None:
    assert in_options(message, DESCRIBE) == expected


def test_without_a_command_nothing_changes() -> None:
    assert in_options("allow_network=True") == "allow_network=True"


def run(*arguments: str) -> tuple[int, str]:
    """The exit code, and all that it says."""
    made = CliRunner().invoke(app, arguments)
    return made.exit_code, f"{made.output}{made.exception if isinstance(made.exception, TextlensError) else ''}"


@pytest.mark.parametrize("form", [(), ("--json",), ("--csv",)])
def test_a_refused_address_names_the_option(form: tuple[str, ...]) -> None:
    code, said = run("describe", "http://127.0.0.1:9/a.png", *form)
    assert code == 2
    assert "--allow-network" in said
    assert "allow_network" not in said


def test_a_size_over_the_limit_names_the_option(tmp_path: Path) -> None:
    Image.new("RGB", (20, 20)).save(tmp_path / "a.png")
    _, said = run("describe", str(tmp_path / "a.png"), "--max-pixels", "100")
    assert "raise --max-pixels" in said


def test_a_memory_of_long_captions_names_the_option(tmp_path: Path) -> None:
    (tmp_path / "captions.txt").write_text(" ".join(["word"] * 200) + "\n")
    _, said = run("memory", str(tmp_path / "captions.txt"), "--out", str(tmp_path / "memory"), "--clip", "scenes:coca")
    assert "build with --cut-long" in said
