"""`ask` and `classify`: answers are printed as they come, and dollar signs are a part of them."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest
from PIL import Image
from textlens.cli import app
from textlens.scenes.rendering import render
from textlens.scenes.scene import scene_at
from typer.testing import CliRunner

from ..agent.models.chat_server import chat_server

runner = CliRunner()


@pytest.fixture(scope="module")
def picture(tmp_path_factory: pytest.TempPathFactory) -> str:
    path = tmp_path_factory.mktemp("picture") / "0.png"
    Image.fromarray(render(scene_at(0, "test"))).save(path)
    return str(path)


def test_prices_stay_in_shots_and_answers(picture, tmp_path):
    shots = tmp_path / "shots.jsonl"
    shot = {"context": "a board: soup $4.20, bread $1", "question": "Is soup over $4?", "answer": "$4.20"}
    shots.write_text(json.dumps(shot) + "\n")
    with chat_server(lambda messages: " $5.99\n\nImage context: more") as server:
        options = ["--llm", server.address, "--chat", "-e", "scenes:coca", "--shots", str(shots)]
        result = runner.invoke(app, ["ask", picture, "What is $?", *options])
    assert (result.exit_code, result.stdout) == (0, "$5.99\n")
    assert server.paths == ["/v1/chat/completions"]  # --chat: without a try of /completions
    _system, given, answer, asked = (message["content"] for message in server.asked[0]["messages"])
    assert given.startswith('Image context: "a board: soup $4.20, bread $1"\nImage question: Is soup over $4?\n')
    assert answer == "$4.20"
    assert "Image question: What is $?\n" in asked


def test_no_chat_never_asks_the_chat_endpoint(picture):
    with chat_server() as server:
        options = ["--llm", server.address, "--no-chat", "-e", "scenes:coca"]
        result = runner.invoke(app, ["ask", picture, "What is it?", *options])
    assert result.exit_code == 2
    assert "error: What is it?: " in result.stderr
    assert "404" in result.stderr
    assert set(server.paths) == {"/v1/completions"}


def test_a_model_that_only_writes_on_has_no_chat(picture):
    result = runner.invoke(app, ["ask", picture, "What is it?", "--llm", "tiny", "--chat"])
    assert "tiny is no chat model" in str(result.exception)


@pytest.mark.parametrize("command", ["ask", "classify"])
def test_answers_are_printed_as_they_come_and_ctrl_c_keeps_them(command, picture, tmp_path):
    blocked, released, count = threading.Event(), threading.Event(), 17

    def write(messages):
        if blocked_at(messages[-1]["content"]):
            blocked.set()
            released.wait(60)
        return "red"

    def blocked_at(prompt):
        with lock:
            seen.append(prompt)
            return len(seen) == count

    lock, seen = threading.Lock(), []
    images = [tmp_path / f"{number:02}.png" for number in range(count)]
    for number, path in enumerate(images):
        Image.fromarray(render(scene_at(number, "test"))).save(path)
    given = {
        "ask": [picture, *(f"What is {number}?" for number in range(count))],
        "classify": [str(tmp_path), "--labels", "red,blue"],
    }
    with chat_server(write, knows=["structured_outputs"]) as server:
        start = [sys.executable, "-c", "from textlens.cli import main; main()", command, *given[command]]
        process = subprocess.Popen(
            [*start, "-e", "scenes:coca", "--llm", f"chat+{server.address}"],
            stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
        )  # fmt: skip
        lines = [process.stdout.readline() for _ in range(count - 1)]  # while the last one is still being written
        assert blocked.wait(60)
        process.send_signal(signal.SIGINT)
        time.sleep(3)  # it is heard before the answer is, also on a busy machine
        released.set()
        rest, told = process.communicate(timeout=60)
    assert process.returncode != 0
    assert "Traceback" not in told
    names = [f"What is {number}?" for number in range(count)] if command == "ask" else [str(path) for path in images]
    assert [line.rpartition(": ")[0] for line in lines] == names[:-1]
    assert rest == ""


def test_a_failure_is_named_in_its_batch_and_loses_no_other(picture):
    asked = [f"What is {number}?" for number in range(20)]

    def write(messages):
        return "\n" if "is 3?" in messages[-1]["content"] or "is 18?" in messages[-1]["content"] else "red"

    with chat_server(write) as server:
        options = ["--llm", f"chat+{server.address}", "-e", "scenes:coca"]
        result = runner.invoke(app, ["ask", picture, "-", *options], input="\n".join(asked))
    assert result.exit_code == 1
    assert [line.partition(":")[0] for line in result.stdout.splitlines()] == [
        name for name in asked if name not in ("What is 3?", "What is 18?")
    ]
    told = [line.partition(": the completion")[0] for line in result.stderr.splitlines()]
    assert told == ["error: What is 3?", "error: What is 18?"]


def test_an_image_may_be_on_stdin(picture):
    options = ["--llm", "tiny", "-e", "scenes:coca"]
    result = runner.invoke(
        app, ["ask", "-", "What color is the background?", *options], input=Path(picture).read_bytes()
    )
    assert (result.exit_code, result.stdout) == (0, f"{scene_at(0, 'test').background}\n")
    labels = ["--labels", "mint,red", *options]
    result = runner.invoke(app, ["classify", "-", *labels], input=Path(picture).read_bytes())
    assert (result.exit_code, result.stdout) == (0, runner.invoke(app, ["classify", picture, *labels]).stdout)
    result = runner.invoke(app, ["ask", "-", "-", *options], input="What?")
    assert "cannot both be on stdin" in str(result.exception)
