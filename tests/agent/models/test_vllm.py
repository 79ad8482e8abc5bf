"""Real vLLM in the process of its own environment, where neither open_clip nor torchvision can be imported."""

from __future__ import annotations

import json
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest
from textlens.agent.models.server import ServerModel
from textlens.agent.models.vllm_environment import Vllm

BROKEN = "a red \ud83d"
TURNS = (
    "{% for message in messages %}[{{ message.role }}]{{ message.content }}{% endfor %}"
    "{% if add_generation_prompt %}[assistant]{% endif %}"
)
CHOICES = [" yes", " no", " yes it is", " two cats", "né"]


@pytest.fixture(scope="module")
def engine(
    vllm_python, vllm_variables, language_model_folder, world_prompts, counted, tmp_path_factory
) -> dict[str, Any]:
    """What `vllm_engine_run.py` finds."""
    folder = tmp_path_factory.mktemp("engine")
    same = {"temperature": 0.0, "seed": 0, "max_tokens": 3}
    calls = {
        "ordered": {"prompts": counted, **same},
        "too long": {"prompts": ["a red", "red " * 3000, "", "</s>", "a red", BROKEN], **same},
        "choices": {"prompts": counted, **same, "choices": CHOICES, "stop": ["a"]},
        "seed": {"prompts": ["a red", "a dog"], **same, "temperature": 1.0, "seed": 1 << 80},
        "temperature": {"prompts": ["a red", "a dog"], **same, "temperature": 3.0},
        "as the server": {"prompts": [prompt[:400] for prompt in world_prompts[:24]], **same},
        "none": {"prompts": [], **same},
    }
    settings = {"compilation_config": {"mode": 2, "backend": "eager"}}  # as QUICK_START
    instruct = shutil.copytree(language_model_folder, folder / "instruct")  # the same, with a chat template
    (instruct / "chat_template.jinja").write_text(TURNS)
    chats = {"as text": {**calls["as the server"], "max_tokens": 6}, "choices": calls["choices"]}
    rendered = [f"[user]{prompt}[assistant]" for prompt in calls["as the server"]["prompts"]]
    bare = {**chats["as text"], "prompts": rendered}
    asked = {"folder": str(instruct), "settings": settings, "calls": calls, "chats": chats, "bare": bare}
    asked["texts"] = world_prompts
    (folder / "calls.json").write_text(json.dumps(asked))
    script = Path(__file__).parent / "vllm_engine_run.py"
    done = subprocess.run(
        [vllm_python, str(script), str(folder / "calls.json"), str(folder / "answers.json")],
        env={**Vllm(vllm_python, cpu=True).variables(offline=True), "VLLM_ENABLE_V1_MULTIPROCESSING": "0"},
        capture_output=True,
        text=True,
        timeout=600,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    return {"calls": calls, **json.loads((folder / "answers.json").read_text())}


def test_in_process_order_is_kept_and_nothing_is_lost(engine, own_tokenizer):
    for name, call in engine["calls"].items():
        assert [one["prompt"] for one in engine["completions"][name]] == call["prompts"]
    made = engine["completions"]["ordered"]
    assert [one["prompt_tokens"] for one in made] == [len(own_tokenizer(one["prompt"]).input_ids) for one in made]
    assert {one["error"] for one in made} == {None}


def test_in_process_a_prompt_that_is_too_long_loses_no_other(engine, own_tokenizer):
    made = engine["completions"]["too long"]
    assert [one["error"] is None for one in made] == [True, False, True, True, True, False]
    assert f"holds {engine['context_length']}" in made[1]["error"]
    assert made[2]["prompt_tokens"] == 1  # the begin token
    assert made[3]["prompt_tokens"] == len(own_tokenizer("</s>").input_ids) > 2  # the text, not the end token
    assert made[0]["text"] == made[4]["text"]
    assert "half of a surrogate pair" in made[5]["error"]


def test_in_process_choices_and_settings_that_vllm_refuses(engine):
    made = engine["completions"]["choices"]
    assert {one["text"] for one in made} <= set(CHOICES)
    assert {(one["finish_reason"], one["error"]) for one in made} == {("stop", None)}
    for call, reason in (("seed", "seed is"), ("temperature", "temperature must be")):
        assert all(reason in one["error"] for one in engine["completions"][call])
        assert {one["finish_reason"] for one in engine["completions"][call]} == {"error"}


def test_in_process_writes_what_the_server_writes(engine, vllm_address):
    asked = engine["calls"]["as the server"]["prompts"]
    there = ServerModel(vllm_address).complete(asked, max_tokens=3, temperature=0.0, seed=0)
    same = [one["text"] == other.text for one, other in zip(engine["completions"]["as the server"], there, strict=True)]
    assert sum(same) >= 20  # sums in another order may tip the balance


def test_in_process_an_engine_that_broke_says_so_and_is_not_waited_for(engine):
    first, second = engine["broken"]
    assert first == second
    assert all(one.startswith("vLLM: ") for one in first)


def test_in_process_an_instruct_model_gets_turns(engine):
    assert engine["chat"] == [True, False]
    asked, chats = engine["calls"]["as the server"]["prompts"], engine["chats"]
    assert [one["prompt"] for one in chats["as text"]] == [f"[user]{prompt}[assistant]" for prompt in asked]
    bare = engine["bare"]
    assert [one["prompt"] for one in bare] == [one["prompt"] for one in chats["as text"]]
    assert [one["text"] for one in bare] == [one["text"] for one in chats["as text"]]
    assert [one["prompt_tokens"] for one in bare] == [one["prompt_tokens"] for one in chats["as text"]]
    assert {one["text"] for one in chats["choices"]} <= set(CHOICES)
    assert {one["error"] for one in chats["choices"]} == {None}


def test_in_process_counts_tokens_and_imports_little(engine, own_tokenizer, world_prompts):
    assert engine["count"] == [len(own_tokenizer(text, verbose=False).input_ids) for text in world_prompts]
    assert engine["counts_tokens"]
    assert engine["spec"].startswith("vllm:")
    assert "vLLM cannot load" in engine["refused"]
    assert engine["imported"] == []
