"""Against a real vLLM server, one for all tests. `make vllm` makes its environment; without it they are skipped."""

from __future__ import annotations

import re
from typing import Any

import httpx
import pytest
import torch
from textlens.agent.models.base import Request
from textlens.agent.models.registry import load_language_model
from textlens.agent.models.server import ServerModel, ServerSettings
from textlens.agent.reader.reading import read
from textlens.errors import InputError
from textlens.prompting.templates import Context, Shot
from textlens.prompting.vqa import VQA_PSEUDO, VQATemplate
from textlens.scenes.language_model.pieces import BOS_ID, load_sentencepiece
from transformers import AutoModelForCausalLM

from .faulty_proxy import faulty_proxy

GREEDY: dict[str, Any] = {"temperature": 0.0, "seed": 0}
CHOICES = [" yes", " no", " yes it is", " two cats", "né"]


@pytest.fixture(scope="module")
def model(vllm_address: str) -> ServerModel:
    return ServerModel.from_spec(vllm_address)


def metric(address: str, name: str) -> float:
    """The sum of a counter of the server."""
    text = httpx.get(address.removesuffix("/v1") + "/metrics", trust_env=False, timeout=60).text
    return sum(float(value) for value in re.findall(rf"^vllm:{name}_total{{.*}} (\S+)$", text, re.MULTILINE))


def test_the_same_ids_from_sentencepiece_transformers_and_the_server(
    vllm_address, language_model_folder, own_tokenizer, world_prompts
):
    pieces = load_sentencepiece(language_model_folder)
    assert len(set(world_prompts)) == 500
    with httpx.Client(base_url=vllm_address.removesuffix("/v1"), trust_env=False, timeout=60) as client:
        for text in world_prompts:
            ids = [BOS_ID, *pieces.encode(text)]
            assert own_tokenizer(text, verbose=False).input_ids == ids, text
            assert client.post("/tokenize", json={"prompt": text}).json()["tokens"] == ids, text


@pytest.mark.parametrize("choices", [None, (" red", " blue", " green")])
def test_a_chat_that_renders_the_same_text_has_the_same_answers(model, vllm_address, choices):
    chat, template = load_language_model(f"chat+{vllm_address}"), VQATemplate(end="$")
    contexts = [(Context(f"a {colour} star on a white background"),) for colour in ("red", "blue", "green")]
    shots = [Shot(contexts[0], "What color is the star?", "red"), Shot(contexts[1], "What is there?", "star")]
    queries = [Shot(context, "What color is the star?") for context in contexts]
    request = Request(6, template.stop, 0.0, 0, choices)
    text, turns = (read(one, template, queries, [shots] * 3, request) for one in (model, chat))
    assert [one.answer for one in turns] == [one.answer for one in text] == ["red", "blue", "green"]
    assert turns[0].completion.parameters["endpoint"] == "/chat/completions"
    assert turns[0].completion.prompt_tokens == chat.count_tokens(template.render(queries[0], shots))


def test_completions_say_how_they_ended(model, vllm_address, own_tokenizer):
    prompt = "Image question: What is red?\nShort answer:"
    (free,) = model.complete([prompt], max_tokens=6, **GREEDY)
    assert free.error is None
    assert free.prompt_tokens == len(own_tokenizer(prompt).input_ids)
    assert free.parameters == {"model": model.model, "max_tokens": 6, **GREEDY}
    (short,) = model.complete([prompt], max_tokens=1, **GREEDY)
    assert (short.finish_reason, short.cut_off, short.completion_tokens) == ("length", True, 1)
    mark = next(sign for sign in reversed(free.text) if sign.isascii())
    (stopped,) = model.complete([prompt], max_tokens=6, stop=["never written by it", mark], **GREEDY)
    assert stopped.text == free.text[: free.text.index(mark)]
    assert (stopped.finish_reason, stopped.cut_off) == ("stop", False)
    assert load_language_model(f"{vllm_address}#{model.model}").complete([prompt], max_tokens=6, **GREEDY) == [free]
    assert "404" in load_language_model(f"{vllm_address}#other").complete([prompt], max_tokens=6, **GREEDY)[0].error


def test_a_sample_follows_from_the_seed(model):
    def sample(seed: int) -> list[str]:
        return [one.text for one in model.complete(["a", "the red"], max_tokens=8, temperature=1.5, seed=seed)]

    assert sample(3) == sample(3)
    assert len({tuple(sample(seed)) for seed in range(4)}) > 1


def test_choices_are_all_that_is_written(model, counted):
    made = model.complete(counted, max_tokens=1, stop=["a"], choices=CHOICES, **GREEDY)
    assert [one.error for one in made] == [None] * len(counted)
    assert {one.text for one in made} <= set(CHOICES)
    assert {one.finish_reason for one in made} == {"stop"}
    drawn = model.complete(counted, max_tokens=1, choices=CHOICES, temperature=2.0, seed=1)
    assert {one.text for one in drawn} <= set(CHOICES)


def test_many_at_once_in_order_and_never_more_than_allowed(vllm_address, own_tokenizer, counted):
    lengths = [len(own_tokenizer(prompt).input_ids) for prompt in counted]
    assert len(set(lengths)) == 40
    with faulty_proxy(vllm_address) as proxy:
        made = ServerModel(proxy.address, settings=ServerSettings(concurrency=6)).complete(
            counted, max_tokens=8, **GREEDY
        )
    assert [one.prompt for one in made] == counted
    assert [one.prompt_tokens for one in made] == lengths
    assert 2 <= proxy.at_once <= 6
    assert sorted(proxy.asked) == sorted(counted)


def test_a_prompt_that_cannot_be_taken_loses_no_other(model):
    made = model.complete(["a red", "red " * 3000, "", "a dog", "\ud800"], max_tokens=3, **GREEDY)
    assert [one.error is None for one in made] == [True, False, False, True, False]
    assert "answered 400" in made[1].error
    assert "answered 400" in made[2].error
    assert "cannot be sent" in made[4].error


def test_the_small_models_own_mark_ends_answers_where_the_prompt_has_none(model):
    contexts = [(Context(f"a {colour} star on a white background"),) for colour in ("red", "blue")]
    queries = [Shot(context, "What color is the star?") for context in contexts]
    readings = read(model, VQATemplate(), queries, [VQA_PSEUDO] * 2, Request(6, VQATemplate().stop, 0.0, 0))
    assert [one.completion.text for one in readings] == [" red", " blue"]
    assert [one.completion.finish_reason for one in readings] == ["stop"] * 2


def test_a_token_budget_by_the_servers_own_tokenizer(model, own_tokenizer):
    assert model.context_length is not None
    text = "Is there a red two in the top left?"
    assert model.count_tokens(text) == len(own_tokenizer(text).input_ids)
    with pytest.raises(InputError, match="cannot be sent"):
        model.count_tokens("\ud800")
    shots = [Shot(question=f"Is number {n} here?", answer="yes") for n in range(model.context_length // 8)]
    queries = [Shot(question="Is it red?"), Shot(question="red " * 3000)]
    template = VQATemplate(max_chars=20_000)
    request = Request(3, template.stop, 0.0, 0)
    first, long = read(model, template, queries, [shots] * 2, request)
    assert first.error is None
    assert "shots dropped" in first.note
    assert model.count_tokens(first.prompt) + 3 <= model.context_length
    assert "the query alone takes" in long.error


def test_a_server_that_has_no_tokenize_sets_no_limit(vllm_address):
    with faulty_proxy(vllm_address) as proxy:
        model = ServerModel(proxy.address.replace("/v1", "/elsewhere/v1"), "any")
        assert model.context_length is None


def test_a_shared_prefix_is_computed_once(model, vllm_address, own_tokenizer):
    shared = "".join(f"Image question: is number {n} here?\nShort answer: yes$\n" for n in range(12))
    blocks = len(own_tokenizer(shared).input_ids) // 32
    assert blocks >= 4
    model.complete([shared], max_tokens=1, **GREEDY)
    asked, hits = metric(vllm_address, "prefix_cache_queries"), metric(vllm_address, "prefix_cache_hits")
    made = model.complete([f"{shared}Image question: is it {n}?" for n in range(20)], max_tokens=1, **GREEDY)
    taken = sum(one.prompt_tokens for one in made)
    assert metric(vllm_address, "prefix_cache_queries") - asked == taken
    assert metric(vllm_address, "prefix_cache_hits") - hits >= 20 * 32 * (blocks - 1)


def test_the_server_computes_what_transformers_computes(
    model, vllm_address, language_model_folder, own_tokenizer, world_prompts
):
    llama = AutoModelForCausalLM.from_pretrained(language_model_folder, dtype=torch.float32)
    differences = []
    for prompt in world_prompts[:8]:
        ids = own_tokenizer(prompt[:400], return_tensors="pt").input_ids
        with torch.inference_mode():
            logs = llama(ids).logits[0, :-1].log_softmax(-1).gather(1, ids[0, 1:, None])[:, 0]
        asked = {"model": model.model, "prompt": prompt[:400], "max_tokens": 1, "echo": True, "logprobs": 1}
        answer = httpx.post(f"{vllm_address}/completions", json=asked, trust_env=False, timeout=120).json()
        there = answer["choices"][0]["logprobs"]["token_logprobs"][1 : len(ids[0])]
        differences.append((logs - torch.tensor(there)).abs())
    assert torch.cat(differences).median() < 0.05  # bfloat16 there; the values themselves vary by more than 1
