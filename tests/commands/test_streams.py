"""What stands on stdout and stderr: results alone on the one, notes of ours alone on the other."""

from __future__ import annotations

import os
import pty
import subprocess
import sys
from pathlib import Path

import pytest
from PIL import Image
from textlens.scenes.rendering import render
from textlens.scenes.scene import scene_at

START = [sys.executable, "-W", "error::FutureWarning", "-c", "from textlens.cli import main; main()"]


@pytest.fixture(scope="module")
def picture(tmp_path_factory: pytest.TempPathFactory) -> str:
    path = tmp_path_factory.mktemp("picture") / "0.png"
    Image.fromarray(render(scene_at(0, "test"))).save(path)
    return str(path)


@pytest.mark.parametrize(
    "command",
    [
        ["describe", "IMAGE", "-e", "scenes:decap", "-e", "scenes:coca", "-e", "scenes:dediffusion"],
        ["describe", "IMAGE", "-e", "decap", "-e", "dediffusion"],
        ["ask", "IMAGE", "What is it?", "-e", "scenes:decap", "--llm", "tiny"],
        ["upsample", "a red star", "--llm", "tiny"],
    ],
    ids=["scenes", "photographs", "ask", "upsample"],
)
def test_the_first_use_of_a_model_warns_of_nothing(command, picture):
    given = [picture if part == "IMAGE" else part for part in command]
    done = subprocess.run([*START, *given], capture_output=True, text=True, check=False)
    own = [line for line in done.stderr.splitlines() if not line.startswith("note: ")]
    assert (own, done.returncode) == ([], 0)
    assert done.stdout


BAR = """
import typer
from textlens.commands.printing import print_json
from textlens.progress import paused, progress_bar

with progress_bar("answers") as bar:
    task = bar.add_task("answering", total=2, note="")
    for number in range(2):
        with paused(bar):
            print_json({"words": "w" * 200})
            typer.echo("text " * 40)
        bar.advance(task)
"""
RESULTS = "\n".join(['{"words": "' + "w" * 200 + '"}', "text " * 40] * 2) + "\n"


def test_results_reach_the_file_that_stdout_is_while_a_bar_stands_on_the_terminal(tmp_path: Path):
    out = tmp_path / "out.jsonl"
    with out.open("w") as file:
        shown = on_terminal(file.fileno())
    assert out.read_text() == RESULTS
    assert "answering" in shown
    assert "words" not in shown


def test_results_on_the_terminal_of_the_bar_are_whole_lines():
    shown = on_terminal(None).replace("\r\n", "\n")
    for line in RESULTS.splitlines():
        assert f"\n{line}\n" in shown.replace("\x1b[2K", "\n")


def on_terminal(stdout: int | None) -> str:
    """What a terminal gets where stderr, and stdout unless it is given, are one."""
    ours, theirs = pty.openpty()
    with subprocess.Popen(
        [sys.executable, "-c", BAR], stdout=theirs if stdout is None else stdout, stderr=theirs,
        env={**os.environ, "TERM": "xterm", "COLUMNS": "80"},
    ) as process:  # fmt: skip
        os.close(theirs)
        found = b""
        while part := _read(ours):
            found += part
        assert process.wait(60) == 0
    os.close(ours)
    return found.decode()


def _read(terminal: int) -> bytes:
    try:
        return os.read(terminal, 65536)
    except OSError:  # how Linux tells that the other side is closed
        return b""
