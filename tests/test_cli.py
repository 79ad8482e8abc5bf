"""The command line: light to start, only results on stdout, clear errors with exit code 2, nothing lost in a batch."""

import csv
import inspect
import json
import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Any

import pytest
from PIL import Image
from textlens.cli import app
from textlens.commands.recreate_command import recreate
from textlens.scenes.rendering import render
from textlens.scenes.scene import scene_at
from typer.main import get_command
from typer.testing import CliRunner

from .agent.models.chat_server import chat_server
from .language_models import tiny_llama
from .pipelines import tiny_pipeline

runner = CliRunner()
COMMANDS = sorted(get_command(app).commands)


def run(*arguments: str, cwd: Path | None = None, **settings: Any) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-c", "from textlens.cli import main; main()", *arguments]
    return subprocess.run(command, capture_output=True, text=True, cwd=cwd, check=False, **settings)


@pytest.fixture
def pictures(tmp_path):
    for index in range(3):
        Image.fromarray(render(scene_at(index, "test"))).save(tmp_path / f"{index}.png")
    return tmp_path


def test_help_imports_no_torch():
    code = "import sys, textlens.cli\ntry: textlens.cli.main()\nfinally: print('torch' in sys.modules, file=sys.stderr)"
    done = subprocess.run([sys.executable, "-c", code, "--help"], capture_output=True, text=True, check=True)
    assert done.stderr == "False\n"
    assert all(command in done.stdout for command in COMMANDS)


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_has_help(command):
    result = runner.invoke(app, [command, "--help"])
    assert result.exit_code == 0
    assert "Usage" in result.output


def test_describe_json_has_one_line_per_image_and_encoder(pictures):
    done = run("describe", str(pictures), "--encoder", "scenes:coca", "--json")
    assert done.returncode == 0, done.stderr
    lines = [json.loads(line) for line in done.stdout.splitlines()]
    assert [Path(line["image"]).name for line in lines] == ["0.png", "1.png", "2.png"]
    for line in lines:
        assert list(line) == ["image", "encoder", "text", "tokens", "note", "error"]
        assert line["error"] is None
        assert line["encoder"] == "scenes:coca"
        assert line["text"]
        assert line["tokens"]


def test_describe_prints_the_words_alone_for_one_image(pictures):
    result = runner.invoke(app, ["describe", str(pictures / "0.png"), "--encoder", "scenes:coca"])
    assert result.exit_code == 0
    assert scene_at(0, "test").background in result.stdout
    assert "png" not in result.stdout


def test_one_bad_image_loses_no_other(pictures):
    (pictures / "1.png").write_bytes(b"no image")
    done = run("describe", str(pictures / "*.png"), str(pictures / "missing.png"), "--encoder", "scenes:coca", "--json")
    assert done.returncode == 1
    lines = [json.loads(line) for line in done.stdout.splitlines()]
    assert [line["error"] is None for line in lines] == [True, False, True, False]
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("describe", "missing.png", "--encoder", "scenes:coca"), "missing.png"),
        (("describe", "https://example.com/a.png", "--encoder", "scenes:coca"), "network"),
        (("describe", "a.png", "--encoder", "cocoa"), "expected one of: coca"),
        (("describe", "a.png", "--encoder", "coca:/nowhere"), "/nowhere"),
        (("describe", "a.png", "--encoder", "hf"), "hf:HUB_ID"),
        (("describe", "a.png", "--encoder", "scenes:coca", "--prompt", "a"), "--prompt is for hf: encoders"),
        (("describe", "https://example.com/a.png", "--encoder", "scenes:coca"), "--allow-network"),
        (("import", "open-clip", "none.pt", "out"), "--model"),
        (("import", "open-clip", "none.pt", "out", "--model", "ViT-B-32"), "none.pt cannot be read"),
        (("import", "clip", "none.pt", "out"), "expected decap-official or open-clip"),
        (("describe", "a.png", "--json", "--csv"), "exclude each other"),
        (("describe", "a.png", "--sidecar", "txt"), "--out"),
        (("describe", "a.png", "--out", "out", "--sidecar", "xml"), "'txt', 'json'"),
        (("scenes", "3", "--split", "tset", "--out", "out"), "train, val, test"),
        (("scenes", "0", "--out", "out"), "Invalid value"),
        (("recreate", "missing.png", "-o", "out.png"), "no such image"),
        (("recreate", "a red star", "-o", "none/out.png"), "no folder none"),
        (("recreate", "a red star", "-o", "."), "is a folder"),
        (("recreate", "a red star", "-o", "out.txt"), "no ending"),
        (("recreate", "a red star", "-o", "out.png", "--guidance", "0.5"), "Invalid value"),
        (("recreate", "a red \udcff star", "-o", "out.png"), "half of a surrogate pair"),
        (("ask", "a.png", "what?", "--llm", "gpt"), "expected one of: tiny"),
        (("upsample", "a cat", "--llm", "http://[::1/v1#m"), "no address of a server"),
        (("ask", "a.png", "what?", "--num-fewshot", "2"), "--shots"),
        (("ask", "a.png", "what?", "--shots", "none.jsonl"), "none.jsonl"),
        (("ask", "a.png", "what?", "--encoder", "cocoa", "--llm", "http://localhost:9/v1"), "expected one of: coca"),
        (("classify", "a.png", "--labels", "a,,b"), "cannot stand in a prompt"),
        (("classify", "a.png", "--labels", "a,b", "--shots", "none"), "no folder none/a"),
        (("upsample", "a cat", "--llm", "hf:/nowhere"), "/nowhere"),
        (("chat", "a.png", "--llm", "http://localhost:9/v1#m", "-q", "?"), "a.png"),
        (("chat", "a.png"), "--llm"),
        (("train", "coca", "--config", "none.yaml", "--out", "out"), "none.yaml"),
        (("train", "cocoa", "--config", "none.yaml", "--out", "out"), "cocoa"),
    ],
)
def test_bad_input_exits_with_2_and_no_traceback(arguments, message, tmp_path):
    done = run(*arguments, cwd=tmp_path)
    assert done.returncode == 2
    assert message in " ".join(done.stderr.replace("│", " ").split())
    assert "Traceback" not in done.stderr
    assert done.stdout == ""
    assert list(tmp_path.iterdir()) == []


def test_scenes_writes_the_contract(tmp_path):
    done = run("scenes", "4", "--split", "val", "--seed", "7", "--out", str(tmp_path / "out"), "--size", "96")
    assert done.returncode == 0
    assert done.stdout.strip() == str(tmp_path / "out" / "scenes.jsonl")
    lines = [json.loads(line) for line in (tmp_path / "out" / "scenes.jsonl").read_text().splitlines()]
    assert [line["background"] for line in lines] == [scene_at(index, "val", 7).background for index in range(4)]
    assert Image.open(tmp_path / "out" / lines[0]["image"]).size == (96, 96)


def test_recreate_shows_image_words_and_redrawn_image(pictures, tmp_path):
    decoder, out = str(tiny_pipeline(tmp_path / "decoder")), tmp_path / "out.png"
    few = ("--decoder", decoder, "--steps", "2", "-o", str(out))
    result = runner.invoke(
        app, ["recreate", str(pictures / "0.png"), *few, "--encoder", "scenes:coca", "--seed", "3", "--json"]
    )
    assert result.exit_code == 0, result.output
    record = json.loads(result.stdout)
    assert "taken as an image" in result.stderr
    assert scene_at(0, "test").background in record["text"]
    assert (record["image"], record["encoder"], record["out"]) == (str(pictures / "0.png"), "scenes:coca", str(out))
    assert (record["guidance_scale"], record["num_inference_steps"], record["seed"]) == (3.0, 2, 3)
    three = Image.open(out).size
    result = runner.invoke(app, ["recreate", "a red star", *few])
    assert result.exit_code == 0, result.output
    assert result.stdout == f"{out}\n"
    assert "taken as a text: a red star" in result.stderr
    assert Image.open(out).width < three[0]


def test_recreate_has_the_library_s_own_defaults():
    from textlens.encoders.redraw.redrawer import Redrawer

    ours, library = inspect.signature(recreate).parameters, inspect.signature(Redrawer.draw).parameters
    names = {"guidance": "guidance_scale", "steps": "num_inference_steps", "seed": "seed"}
    assert {name: ours[name].default for name in names} == {name: library[own].default for name, own in names.items()}


@pytest.fixture(scope="module")
def llm(tmp_path_factory):
    """Random weights: what it writes is noise, but all of the way to it is real."""
    return f"hf:{tiny_llama(tmp_path_factory.mktemp('llama'), 2048)}"


def test_ask_prints_one_line_of_json_per_question(pictures, llm):
    image = str(pictures / "0.png")
    line = json.dumps({"image": "1.png", "question": "what is it?", "answer": "sun"})
    (pictures / "shots.jsonl").write_text(line + "\n")
    given = ["ask", image, "what colour?", "-", "--llm", llm, "--encoder", "scenes:coca", "--json"]
    result = runner.invoke(app, [*given, "--shots", str(pictures / "shots.jsonl")], input="how many?\n\nwhere?\n")
    lines = [json.loads(line) for line in result.stdout.splitlines()]
    assert result.exit_code == (0 if all(line["error"] is None for line in lines) else 1 + (not any_answer(lines)))
    assert [line["question"] for line in lines] == ["what colour?", "how many?", "where?"]
    keys = ["image", "question", "answer", "descriptions", "prompt", "completion", "llm", "error", "note"]
    for line in lines:
        assert list(line) == keys
        assert (line["image"], line["llm"]) == (image, llm)
        assert scene_at(0, "test").background in line["descriptions"][0]["text"]
        assert scene_at(1, "test").background in line["prompt"].split("Short answer: sun\n")[0]
        assert line["completion"]["completion_tokens"] > 0


def any_answer(lines):
    return any(line["answer"] is not None for line in lines)


def test_ask_and_classify_exit_as_describe_does_for_images_that_are_none(pictures, llm):
    options = ["--llm", llm, "--encoder", "scenes:coca", "--json"]
    result = runner.invoke(app, ["ask", str(pictures / "none.png"), "what?", *options])
    (line,) = [json.loads(line) for line in result.stdout.splitlines()]
    assert (result.exit_code, line["answer"], line["prompt"]) == (2, None, None)
    assert "none.png" in line["error"]
    (pictures / "1.png").write_bytes(b"no image")
    result = runner.invoke(app, ["classify", str(pictures), "--labels", "day, night", *options])
    lines = [json.loads(line) for line in result.stdout.splitlines()]
    assert result.exit_code == 1
    assert [Path(line["image"]).name for line in lines] == ["0.png", "1.png", "2.png"]
    assert list(lines[0]) == ["image", "label", "descriptions", "prompt", "completion", "llm", "error", "note"]
    assert {lines[0]["label"], lines[2]["label"]} <= {"day", "night"}
    assert lines[1]["label"] is None
    free = [str(pictures / "0.png"), "--labels", "day, night", "--unconstrained", *options]
    (line,) = [json.loads(line) for line in runner.invoke(app, ["classify", *free]).stdout.splitlines()]
    assert line["label"] is None  # random weights write no label by themselves
    assert "none of the classes" in line["error"]


def test_upsample_prints_rewrites_as_they_come_and_keeps_them_at_ctrl_c():
    blocked, released = threading.Event(), threading.Event()

    def write(messages):
        if "kite 16" in messages[-1]["content"]:
            blocked.set()
            released.wait(60)
        return "a kite"

    with chat_server(write) as server:
        command = [sys.executable, "-c", "from textlens.cli import main; main()", "upsample", "-"]
        process = subprocess.Popen(
            [*command, "--llm", f"chat+{server.address}"],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
        )  # fmt: skip
        process.stdin.write("".join(f"kite {number}\n" for number in range(17)))
        process.stdin.close()
        lines = [process.stdout.readline() for _ in range(16)]  # while the last one is still being written
        assert blocked.wait(60)
        process.send_signal(signal.SIGINT)
        time.sleep(3)  # it is heard before the answer is, also on a busy machine
        released.set()
        rest = process.stdout.read()
        assert process.wait(60) != 0
    assert all("kite" in line for line in lines)
    assert rest == ""


def test_upsample_never_loses_the_prompt(llm):
    result = runner.invoke(app, ["upsample", "two red kites", "--llm", llm, "--max-tokens", "77", "--json"])
    (line,) = [json.loads(line) for line in result.stdout.splitlines()]
    assert list(line) == ["original", "prompt", "negative", "added", "changed", "dropped", "flags", "error"]
    assert line["prompt"].startswith("two red kites")
    assert {"failed", "fell_back"} & set(line["flags"])
    assert result.exit_code == (2 if line["error"] else 0)


def test_upsample_keeps_weights_and_flags_and_writes_other_forms():
    given = ["upsample", "a (red:1.4) star --ar 16:9 --no people", "--llm", "tiny"]
    result = runner.invoke(app, [*given, "--json"])
    line = json.loads(result.stdout)
    assert result.exit_code == 0
    assert "(red:1.4) star" in line["prompt"]
    assert line["prompt"].endswith(" --ar 16:9 --no people")
    assert (line["negative"], line["original"]) == ("people", given[1])
    assert line["added"]
    result = runner.invoke(app, [*given, "--mode", "append", "--format", "a1111"])
    prompt, negative = result.stdout.splitlines()
    assert prompt.startswith("a (red:1.4) star")
    assert len(prompt) > len("a (red:1.4) star")
    assert negative == "Negative prompt: people"
    assert "a1111 has nothing for --ar 16:9" in result.stderr
    assert runner.invoke(app, [*given, "--mode", "prepend"]).exit_code == 2


def test_recreate_upsamples_the_words(tmp_path):
    decoder, out = str(tiny_pipeline(tmp_path / "decoder")), tmp_path / "out.png"
    given = ["recreate", "two red stars", "--decoder", decoder, "--steps", "2", "-o", str(out), "--upsample"]
    result = runner.invoke(app, [*given, "--llm", "tiny", "--json"])
    record = json.loads(result.stdout)
    assert result.exit_code == 0
    assert record["upsampled"]["original"] == "two red stars"
    assert record["upsampled"]["prompt"] == record["text"]
    assert record["text"].startswith("Two red stars ")
    assert out.is_file()
    result = runner.invoke(app, [*given[:-1], "--llm", "tiny"])
    assert "expected --upsample beside it" in str(result.exception)


STRICT = {"env": {**os.environ, "PYTHONIOENCODING": "utf-8:strict"}}  # as in most places, but for LANG=C


def test_questions_that_are_no_text_and_blank_ones_lose_no_other(pictures):
    asked = ["What color is \udcff?", "-", " ", "Is it red?"]
    done = run("ask", str(pictures / "0.png"), *asked, input="Is it blue?\n\nIs it big?\n", **STRICT)
    assert "Traceback" not in done.stderr
    assert done.returncode == 1
    names = [line.partition(":")[0] for line in done.stdout.splitlines()]
    assert names == ["What color is \\udcff?", "Is it blue?", "Is it big?", "Is it red?"]
    assert "the question is blank" in done.stderr


def test_stdin_that_is_no_text_is_an_error(pictures):
    command = [sys.executable, "-c", "from textlens.cli import main; main()", "ask", str(pictures / "0.png"), "-"]
    done = subprocess.run(command, input=b"what?\nwhat \xff?\n", capture_output=True, check=False, **STRICT)
    assert done.returncode == 2
    assert b"error: stdin is no text" in done.stderr


def test_version_and_short_help():
    version = runner.invoke(app, ["--version"])
    assert (version.exit_code, version.stdout.split()[0]) == (0, "textlens")
    assert runner.invoke(app, ["describe", "-h"]).exit_code == 0


def test_describe_reads_stdin_and_names_what_it_leaves_out(pictures):
    options = ["-e", "scenes:coca"]
    given = runner.invoke(app, ["describe", "-", *options], input=(pictures / "0.png").read_bytes())
    named = runner.invoke(app, ["describe", str(pictures / "0.png"), *options])
    assert (given.exit_code, given.stdout) == (0, named.stdout)
    inside = pictures / "trip"
    inside.mkdir()
    (inside / "3.png").write_bytes((pictures / "0.png").read_bytes())
    (pictures / "IMG.jxl").write_bytes(b"\xff\x0a")
    flat = runner.invoke(app, ["describe", str(pictures), *options])
    assert flat.exit_code == 1
    assert f"note: the pictures in {inside} are left out" in flat.stderr
    assert "JPEG XL is an unsupported format" in flat.stderr
    deep = runner.invoke(app, ["describe", str(pictures), "--recursive", *options])
    assert "left out" not in deep.stderr
    assert len(deep.stdout.splitlines()) == len(flat.stdout.splitlines()) + 1


def test_describe_writes_a_file_for_each_image_and_keeps_those_there(pictures, tmp_path):
    (pictures / "trip").mkdir()
    (pictures / "trip" / "0.png").write_bytes((pictures / "1.png").read_bytes())
    out = tmp_path / "words"
    command = ["describe", str(pictures), "-r", "-e", "scenes:coca", "-e", "scenes:dediffusion", "--out", str(out)]
    done = runner.invoke(app, command)
    assert (done.exit_code, done.stdout) == (0, "")
    assert f"note: 4 files written to {out}" in done.stderr
    found = {str(path.relative_to(out)): path.read_text() for path in out.rglob("*.*")}
    assert set(found) == {"0.txt", "1.txt", "2.txt", "trip/0.txt"}
    assert found["trip/0.txt"] == found["1.txt"] != found["0.txt"]
    assert [line.split()[0] for line in found["0.txt"].splitlines()] == ["[scenes:coca]", "[scenes:dediffusion]"]

    (out / "1.txt").write_text("mine")
    (out / "2.txt").unlink()
    kept = runner.invoke(app, command)
    assert "note: 3 of 4 files kept" in kept.stderr
    assert (kept.exit_code, (out / "1.txt").read_text(), (out / "2.txt").exists()) == (0, "mine", True)
    told = runner.invoke(app, [*command, "--overwrite", "--sidecar", "json", "--csv"])
    assert told.exit_code == 0
    rows = list(csv.DictReader(told.stdout.splitlines()))
    assert list(rows[0]) == ["image", "encoder", "text", "note", "error"]
    saved = json.loads((out / "trip" / "0.json").read_text())
    by_file = [row["text"] for row in rows if row["image"] == saved["image"]]
    assert by_file == [one["text"] for one in saved["descriptions"]]
    assert (out / "1.txt").read_text() == "mine"  # of the other kind
