"""What lm-evaluation-harness makes of exported tasks: the same prompts, answers and scores as `textlens eval`."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
import yaml
from PIL import Image
from textlens.agent.models.registry import load_language_model
from textlens.encoders.registry import WEIGHTS
from textlens.errors import InputError
from textlens.evals.harness.evaluate import open_tasks
from textlens.evals.harness.runner import EvalSettings, open_contexts, run
from textlens.evals.harness.saved_results import read_samples
from textlens.evals.harness.task_kinds import open_task
from textlens.evals.lm_eval_export import export, process_results
from textlens.scenes.scene_files import write_scenes

from .harness.tiny_benchmark import COLOURS, Looker, write_benchmark

PYTHON = os.environ.get("LM_EVAL_PYTHON", sys.executable)  # of an environment with lm_eval and what textlens needs
SHOTS = 2


def benchmark(folder: Path) -> Path:
    return write_benchmark(folder, columns={"type": "kind", "truth": "caption"})


def choices(folder: Path) -> Path:
    path = write_benchmark(folder, task="choices", kind="multiple_choice", metric="exact_match")
    rows = [json.loads(line) for line in (folder / "questions.jsonl").read_text().splitlines()]
    names = [*COLOURS]
    for row in rows:
        row |= {"choices": names, "correct_choice_idx": names.index(row["answers"][0])}
    (folder / "questions.jsonl").write_text("".join(f"{json.dumps(row)}\n" for row in rows))
    return path


def classes(folder: Path, **settings: object) -> Path:
    for name, value in COLOURS.items():
        (folder / "classes" / name).mkdir(parents=True)
        for i in range(4):
            Image.new("RGB", (9, 9 + i), value).save(folder / "classes" / name / f"{name}{i}.png")
    config = {"task": "classes", "kind": "classification", "data": "classes", "episodes": 16, **settings}
    (folder / "classes.yaml").write_text(json.dumps(config))
    return folder / "classes.yaml"


def scenes(folder: Path) -> str:
    list(write_scenes(40, folder))
    return "scenes_vqa"


def exported(task, encoders, out, shots=SHOTS) -> list[str]:
    settings = EvalSettings((shots,), cache=out / "cache")
    with open_contexts(task, encoders, [], settings, shots) as contexts:
        return export(task, contexts, shots, out)


def test_prompts_and_settings_are_in_the_files(tmp_path):
    task = open_task(str(benchmark(tmp_path)), tmp_path)
    out = tmp_path / "out"
    names = exported(task, {"looker": Looker()}, out)
    kinds = ("none", "other_image", "looker", "truth")
    assert names == [f"textlens_colours_{kind}_2shot" for kind in kinds]
    rows = [json.loads(line) for line in (out / f"{names[2]}.jsonl").read_text().splitlines()]
    assert len(rows) == len(task.data.asked)
    assert rows[0]["prompt"].count("Image context: it is") == SHOTS + 1
    assert rows[0]["prompt"].endswith("Short answer:")
    text = (out / f"{names[2]}.yaml").read_text()
    config = yaml.safe_load(text.replace("!function ", ""))
    assert config["num_fewshot"] == 0
    assert config["generation_kwargs"] == {"until": ["\n"], "max_gen_toks": 16, "do_sample": False}
    assert config["process_results"] == "textlens_functions.process_results"
    right, wrong = rows[0]["answer"], "grey"
    assert process_results(rows[0], [f" {right}$ and more"]) == {"vqa_accuracy": 1.0, "unparsed": 0.0}
    assert process_results(rows[0], [f" {wrong}"]) == {"vqa_accuracy": 0.0, "unparsed": 0.0}
    assert process_results(rows[0], ["\n"]) == {"vqa_accuracy": 0.0, "unparsed": 1.0}


def test_choices_are_scored_with_the_mark_that_ends_an_answer(tmp_path):
    task = open_task(str(choices(tmp_path)), tmp_path)
    (name, *_) = exported(task, {}, tmp_path / "out")
    row = json.loads((tmp_path / "out" / f"{name}.jsonl").read_text().splitlines()[0])
    assert row["scored_choices"] == [f" {colour}$" for colour in COLOURS]
    likely = [(-9.0, False)] * 4
    likely[row["target"]] = (-1.0, True)
    assert process_results(row, likely)["exact_match"] == 1.0
    assert process_results(row, [(-2.0, False)] * 4)["exact_match"] == float(row["target"] == 0)


def test_what_cannot_be_exported_is_told(tmp_path):
    path = write_benchmark(tmp_path)
    (tmp_path / "images" / "23.png").write_bytes(b"no image")
    with pytest.raises(InputError, match=r"2 questions have no prompt, such as \d+: 23\.png cannot be read"):
        exported(open_task(str(path), tmp_path), {"looker": Looker()}, tmp_path / "out")
    task = open_task(str(path), tmp_path)
    task.config = replace(task.config, kind="captioning")
    with pytest.raises(InputError, match="is of kind captioning; expected vqa, multiple_choice, classification"):
        export(task, [], 0, tmp_path / "out")


def has_lm_eval() -> bool:
    command = [PYTHON, "-c", "import importlib.util as u; assert u.find_spec('lm_eval') and u.find_spec('peft')"]
    return subprocess.run(command, capture_output=True).returncode == 0


@pytest.mark.skipif(not has_lm_eval(), reason="no lm_eval (pip install 'textlens[lm-eval]'), nor LM_EVAL_PYTHON")
def test_scores_and_answers_are_those_of_lm_eval(tmp_path):
    model, looker = load_language_model("tiny", device="cpu"), {"looker": Looker()}
    folders = {name: tmp_path / name for name in ("scenes", "choices", "classes", "constrained")}
    for folder in folders.values():
        folder.mkdir()
    named = {
        "scenes_vqa": (scenes(folders["scenes"]), folders["scenes"], {}),
        "choices": (str(choices(folders["choices"])), folders["choices"], looker),
        "classes": (str(classes(folders["classes"])), folders["classes"], looker),
        "constrained": (
            str(classes(folders["constrained"], task="constrained", constrained=True, ways=3)),
            folders["constrained"],
            looker,
        ),
    }
    ours, contexts = {}, {}
    for name, (path, folder, encoders) in named.items():
        (task,), _ = open_tasks([path], [], data_dir=folder, limit=20, seed=0)
        settings = EvalSettings((SHOTS,), output=folder / "out", log_samples=True)
        results = run([task], encoders, [], model, settings)
        names = exported(task, encoders, tmp_path / "lm_eval")
        rows = [row for row in results.results if row.num_fewshot == SHOTS]
        contexts |= dict(zip(names, rows, strict=True))
        ours |= {(name, one.context, one.id): one for one in read_samples(folder / "out", name)}
    theirs = lm_eval(tmp_path, [*contexts])
    assert len(contexts) >= 11
    for name, row in contexts.items():
        assert theirs["results"][name][f"{row.metric},none"] == pytest.approx(row.score / 100, abs=1e-9)
        assert theirs["results"][name]["unparsed,none"] == pytest.approx(row.parse_failures / row.n)
        samples = theirs["samples"][name]
        assert len(samples) == row.n
        for one in samples:
            own = ours[row.task, row.context, one["doc"]["id"]]
            assert one["doc"]["prompt"] == own.prompt == one["arguments"]["gen_args_0"]["arg_0"]
            assert one[row.metric] == own.scores[row.metric]
            if not one["doc"]["scored_choices"]:
                assert one["resps"][0][0] == own.completion
    assert len({row.score for row in contexts.values()}) > 4


def lm_eval(folder: Path, names: list[str]) -> dict:
    """What lm_eval found: results, and samples by task."""
    command = [
        PYTHON, "-m", "lm_eval", "run", "--tasks", ",".join(names), "--include_path", str(folder / "lm_eval"),
        "--model", "hf", "--model_args", f"pretrained={WEIGHTS / 'language_model'},dtype=float32", "--device", "cpu",
        "--batch_size", "16", "--output_path", str(folder / "found"), "--log_samples",
    ]  # fmt: skip
    offline = {"HF_HUB_OFFLINE": "1", "HF_DATASETS_OFFLINE": "1"}
    ended = subprocess.run(command, capture_output=True, text=True, env={**os.environ, **offline})
    assert ended.returncode == 0, ended.stderr[-3000:]
    (path,) = (folder / "found").glob("*/results_*.json")
    samples = {
        name: [json.loads(line) for line in next(path.parent.glob(f"samples_{name}_2*.jsonl")).read_text().splitlines()]
        for name in names
    }
    return {"results": json.loads(path.read_text())["results"], "samples": samples}
