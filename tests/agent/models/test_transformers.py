"""Text from a batch, with cache and shared prefix, is the text that plain `generate` writes one prompt at a time."""

from __future__ import annotations

import json
import shutil
from functools import cache
from pathlib import Path

import pytest
import torch
from textlens.agent.models import cached_batch
from textlens.agent.models.cached_batch import shared_length
from textlens.agent.models.transformers import InProcessModel
from textlens.errors import InputError
from transformers import Gemma3ForCausalLM, Gemma3TextConfig

SHARED = "Answer the question given the context.\n\nImage question: is it red?\nShort answer: yes$\n\nImage context: "
PROMPTS = [SHARED + own for own in ('"two cats"', '"a dog and a large red ball by the sea" ', "no", '"é ☃"\nShort')]
APART = ["yes", "the dog is red and the cats are two: ", "Image context:", "é", "two cats or one dog? Short answer:"]
GREEDY = {"temperature": 0.0, "seed": 0}


@pytest.fixture(scope="module")
def model(llama_folder: Path) -> InProcessModel:
    return InProcessModel.from_pretrained(llama_folder, device="cpu", batch_size=3)


def test_loading_a_folder_prints_nothing(llama_folder, capfd):
    InProcessModel.from_pretrained(llama_folder, device="cpu")
    assert capfd.readouterr() == ("", "")


def test_a_config_larger_than_its_weights_is_refused_before_it_is_built(llama_folder, tmp_path):
    folder = shutil.copytree(llama_folder, tmp_path / "large")
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps(config | {"num_hidden_layers": 3000}))
    with pytest.raises(InputError, match="large: the config describes a model far larger than its weights"):
        InProcessModel.from_pretrained(folder, device="cpu")


@cache
def plain(model: InProcessModel, prompt: str, max_tokens: int) -> str:
    ids = model.tokenizer(prompt, return_tensors="pt")["input_ids"]
    out = model.model.generate(ids, max_new_tokens=max_tokens, do_sample=False, attention_mask=torch.ones_like(ids))
    whole, before = (model.tokenizer.decode(row, skip_special_tokens=True) for row in (out[0], ids[0]))
    return whole[len(before) :]


@pytest.mark.parametrize("prompts", [PROMPTS, APART, PROMPTS[:1], [APART[0]] * 4])
@pytest.mark.parametrize("share_prefix", [True, False])
def test_same_text_as_plain_generate(model, llama_folder, prompts, share_prefix):
    own = InProcessModel(model.model, model.tokenizer, batch_size=3, share_prefix=share_prefix)
    made = own.complete(prompts, max_tokens=12, **GREEDY)
    assert [one.text for one in made] == [plain(model, prompt, 12) for prompt in prompts]
    assert [one.prompt for one in made] == prompts
    assert [one.prompt_tokens for one in made] == [model.count_tokens(prompt) for prompt in prompts]
    assert len({one.text for one in made}) == len(set(prompts))


@pytest.fixture(scope="module")
def sliding(model) -> InProcessModel:
    """Layers that see 16 tokens back, between those that see all, as Gemma has them."""
    config = Gemma3TextConfig(
        vocab_size=len(model.tokenizer), hidden_size=32, intermediate_size=64, num_hidden_layers=2, head_dim=8,
        num_attention_heads=4, num_key_value_heads=1, query_pre_attn_scalar=8, sliding_window=16,
        layer_types=["sliding_attention", "full_attention"], initializer_range=0.4,
        bos_token_id=1, eos_token_id=2, pad_token_id=0, tie_word_embeddings=False,
    )  # fmt: skip
    with torch.random.fork_rng():
        torch.manual_seed(5)
        return InProcessModel(Gemma3ForCausalLM(config), model.tokenizer, batch_size=3)


@pytest.mark.parametrize("prompts", [[*PROMPTS, SHARED + '"two dogs"', SHARED + "on"], APART])
def test_a_sliding_window_sees_the_shared_prefix_and_no_padding(sliding, prompts):
    assert len(sliding.tokenizer(SHARED)["input_ids"]) > 16
    made = sliding.complete(prompts, max_tokens=20, **GREEDY)
    assert [one.text for one in made] == [plain(sliding, prompt, 20) for prompt in prompts]
    assert len({one.text for one in made}) == len(prompts)


def test_a_sliding_window_scores_choices_as_without_a_shared_prefix(sliding):
    choices = (" red", " a large dog by the sea", " no")
    alone = [sliding.complete([prompt], max_tokens=1, choices=choices, **GREEDY)[0].text for prompt in PROMPTS]
    assert [one.text for one in sliding.complete(PROMPTS, max_tokens=1, choices=choices, **GREEDY)] == alone


def test_a_text_that_outgrows_the_spare_room_of_the_cache(model):
    number = cached_batch.SPARE + 8
    made = model.complete(PROMPTS, max_tokens=number, **GREEDY)
    assert max(one.completion_tokens for one in made) > cached_batch.SPARE
    assert [one.text for one in made] == [plain(model, prompt, number) for prompt in PROMPTS]


def test_the_shared_prefix_is_computed_once(model, monkeypatch):
    shapes, forward = [], cached_batch.CachedModel.forward

    def counted(self, ids, *arguments, **settings):
        shapes.append(tuple(ids.shape))
        return forward(self, ids, *arguments, **settings)

    monkeypatch.setattr(cached_batch.CachedModel, "forward", counted)
    model.complete(PROMPTS, max_tokens=1, **GREEDY)
    encoded = [model.tokenizer(prompt)["input_ids"] for prompt in PROMPTS]
    shared = shared_length(encoded)
    assert shared >= model.count_tokens(SHARED) - 1
    assert shapes[0] == (1, shared)
    assert [rows for rows, _ in shapes[1:]] == [3, 1]
    assert max(width for _, width in shapes[1:]) == max(map(len, encoded)) - shared


@pytest.mark.parametrize(
    ("prompts", "length"),
    [
        ([[1, 2, 3]], 0),
        ([[1, 2], [1, 3]], 1),
        ([[1, 2], [1, 2, 3]], 1),
        ([[4], [4]], 0),
        ([[1, 2], [3, 2]], 0),
        ([], 0),
    ],
)
def test_shared_length_leaves_each_prompt_a_token(prompts, length):
    assert shared_length(prompts) == length


def test_stop_marks_end_the_text(model):
    (free,) = model.complete(PROMPTS[:1], max_tokens=12, **GREEDY)
    assert free.cut_off
    assert (free.finish_reason, free.completion_tokens) == ("length", 12)
    mark = free.text[3:5]
    others = model.complete(PROMPTS, max_tokens=12, stop=["never written by it", mark], **GREEDY)
    assert others[0].text == free.text[: free.text.find(mark)]
    assert (others[0].finish_reason, others[0].cut_off) == ("stop", False)
    assert others[0].completion_tokens < 12
    whole = [plain(model, prompt, 12) for prompt in PROMPTS]
    assert [one.text for one in others] == [text.split(mark)[0] for text in whole]
    assert [one.cut_off for one in others] == [mark not in text for text in whole]


def test_an_end_token_ends_the_text_and_counts(model, monkeypatch):
    ids = model.tokenizer(PROMPTS[0], return_tensors="pt")["input_ids"]
    fifth = model.model.generate(ids, max_new_tokens=5, do_sample=False)[0, -1].item()
    whole = plain(model, PROMPTS[0], 5)
    own = InProcessModel(model.model, model.tokenizer)
    monkeypatch.setattr(model.model.generation_config, "eos_token_id", [2, fifth])
    (made,) = own.complete(PROMPTS[:1], max_tokens=12, **GREEDY)
    assert made.text + model.tokenizer.decode([fifth]) == whole
    assert (made.finish_reason, made.completion_tokens) == ("stop", 5)


def test_a_sample_follows_from_seed_and_prompt_alone(model):
    def draw(prompts, seed, temperature=1.0):
        return [one.text for one in model.complete(prompts, max_tokens=6, temperature=temperature, seed=seed)]

    together = draw(PROMPTS, 7)
    assert together == [draw([prompt], 7)[0] for prompt in PROMPTS]
    assert together[::-1] == draw(PROMPTS[::-1], 7)
    assert together != draw(PROMPTS, 8)
    assert together != draw(PROMPTS, 7, 0.0)
    state = torch.random.get_rng_state()
    draw(PROMPTS, 7)
    assert torch.equal(state, torch.random.get_rng_state())


def log_probability(model, prompt, choice):
    """Of the choice and "$" after the prompt, by a plain forward pass."""
    before, own = (model.tokenizer(text, add_special_tokens=False)["input_ids"] for text in (prompt, choice + "$"))
    ids = torch.tensor([[1, *before, *own]])
    with torch.inference_mode():
        logs = model.model(ids).logits[0].log_softmax(-1)
    return sum(logs[len(before) + i, token].item() for i, token in enumerate(own))


def test_choices_are_sampled_from_the_softmax_at_their_temperature(model):
    choices, asked = [" yes", " no", " two"], {"max_tokens": 1, "stop": ["$"], "temperature": 4.0}
    texts = [model.complete(["dog"], choices=choices, seed=seed, **asked)[0].text for seed in range(400)]
    shares = torch.tensor([texts.count(choice) / 400 for choice in choices])
    expected = (torch.tensor([log_probability(model, "dog", choice) for choice in choices]) / 4).softmax(-1)
    torch.testing.assert_close(shares, expected, atol=0.08, rtol=0)  # above three standard errors


def test_choices_give_the_likeliest_one(model):
    choices, stop = [" yes", " no", " two cats", "é"], ["$", "\n"]
    made = model.complete(PROMPTS, max_tokens=1, stop=stop, choices=choices, **GREEDY)
    best = [max(choices, key=lambda choice: log_probability(model, prompt, choice)) for prompt in PROMPTS]
    assert [one.text for one in made] == best
    assert {one.finish_reason for one in made} == {"stop"}
    assert made[0].parameters["choices"] == tuple(choices)
    wide = InProcessModel(model.model, model.tokenizer, batch_size=64)
    assert [one.text for one in wide.complete(PROMPTS, max_tokens=1, stop=stop, choices=choices, **GREEDY)] == best
    many = wide.complete([f"dog {n}" for n in range(30)], max_tokens=1, choices=choices, temperature=1e4, seed=0)
    assert {one.text for one in many} == set(choices)


def test_a_prompt_beyond_the_context_loses_no_other(model):
    made = model.complete([PROMPTS[0], "dog " * 600, PROMPTS[1]], max_tokens=4, **GREEDY)
    assert "512" in made[1].error
    assert (made[1].text, made[1].finish_reason) == ("", "error")
    assert [one.text for one in made[::2]] == [plain(model, prompt, 4) for prompt in PROMPTS[:2]]
    edge = "d" * (512 - 1 - 8)
    length = model.count_tokens(edge)
    assert model.complete([edge], max_tokens=512 - length, **GREEDY)[0].error is None
    assert model.complete([edge], max_tokens=513 - length, **GREEDY)[0].error is not None


@pytest.mark.parametrize("broken", ["\ud83d", PROMPTS[0] + "\udc00 red"])
@pytest.mark.parametrize("choices", [None, [" yes", " no"]])
def test_half_a_surrogate_pair_in_a_prompt_loses_no_other(model, broken, choices):
    asked = {"max_tokens": 4, "choices": choices, **GREEDY}
    made = model.complete([PROMPTS[0], broken, PROMPTS[1]], **asked)
    assert made[::2] == model.complete(PROMPTS[:2], **asked)
    assert (made[1].text, made[1].finish_reason, made[1].prompt) == ("", "error", broken)
    assert "half of a surrogate pair" in made[1].error
    with pytest.raises(InputError, match="surrogate"):
        model.count_tokens(broken)


def test_a_completion_holds_what_was_sent(model):
    (made,) = model.complete(["dog"], max_tokens=2, stop=["$"], temperature=0.5, seed=9)
    assert made.prompt == "dog"
    assert made.parameters == {"max_tokens": 2, "stop": ("$",), "temperature": 0.5, "seed": 9, "choices": None}
    assert model.complete([], max_tokens=2, **GREEDY) == []


def test_weights_that_are_not_there_are_an_error(tmp_path):
    with pytest.raises(InputError, match="does not load as a language model"):
        InProcessModel.from_pretrained(tmp_path)


def test_as_many_choices_as_the_tools_take_are_scored_in_one_pass(model):
    passes, choices = [], [f" cat number {n}" for n in range(50)]
    hook = model.model.register_forward_hook(lambda *_: passes.append(1))
    (made,) = model.complete(["dog"], max_tokens=1, stop=["$"], choices=choices, **GREEDY)
    hook.remove()
    assert len(passes) == 2  # of the prompt, of the choices
    assert made.text == max(choices, key=lambda choice: log_probability(model, "dog", choice))


def test_tokens_that_the_served_tokenizer_alone_knows_are_taken_apart(llama_folder):
    from transformers import AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(llama_folder)
    tokenizer.add_tokens(["/nothink", "%%END%%", "<tool_call>", "word", "$$"])
    own = InProcessModel(InProcessModel.from_pretrained(llama_folder, device="cpu").model, tokenizer, spec="own")
    assert set(own._own_tokens) == {"/nothink", "%%END%%"}
    sent = own._as_sent("a word /nothink %%END%%/nothink")
    assert sent == "a word / nothink % %END%%/ nothink"
    assert not {tokenizer.convert_tokens_to_ids(token) for token in own._own_tokens} & set(own._encode(sent))
    assert own._as_sent("a word $$") == "a word $$"
