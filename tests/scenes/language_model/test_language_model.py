from __future__ import annotations

import json
import shutil
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch
from textlens.errors import InputError
from textlens.scenes.language_model import language_model
from textlens.scenes.language_model.answer_model import IGNORED, encode, split_by_length
from textlens.scenes.language_model.language_model import LanguageModelConfig, LanguageModelRecipe, LlamaSizes
from textlens.scenes.language_model.pieces import BOS_ID, EOS_ID, load_sentencepiece
from textlens.scenes.language_model.prompts import PromptSettings
from textlens.train.engine.loop import LoopConfig, TrainResult
from textlens.train.engine.run import run, run_file
from textlens.train.engine.settings import parse, read_stages
from torch.nn import functional as F
from transformers import AutoModelForCausalLM, AutoTokenizer

LLAMA = LlamaSizes(32, 32, num_hidden_layers=1, num_attention_heads=1, num_key_value_heads=1)
CONFIG = LanguageModelConfig(
    loop=LoopConfig(2, batch_size=4, learning_rate=1e-2, num_workers=0, log_every=1),
    prompts=PromptSettings(scenes=100, max_shots=3),
    llama=LLAMA,
    vocab_size=800,
    tokenizer_prompts=60,
    max_tokens=768,
    validation=5,
)


def tokens(recipe: LanguageModelRecipe, text: str) -> int:
    return len(recipe.pieces.encode(text))


def trained(config: LanguageModelConfig, out: Path, **options: Any) -> TrainResult:
    return run(LanguageModelRecipe, config, out, **options)


@pytest.fixture(scope="module")
def recipe() -> LanguageModelRecipe:
    return LanguageModelRecipe(CONFIG)


def test_ids_are_those_of_the_whole_text_and_labels_those_of_the_answers(recipe: LanguageModelRecipe) -> None:
    for i in range(40):
        example = recipe.prompts.example(i, 0)
        row = encode(recipe.pieces, example, shots=False)
        ids = [BOS_ID, *recipe.pieces.encode(example.prompt + example.target), EOS_ID]
        assert row["ids"].tolist() == ids[:-1]
        counted = row["labels"] != IGNORED
        assert row["labels"][counted].tolist() == [*recipe.pieces.encode(example.target), EOS_ID]
        assert counted.tolist() == sorted(counted.tolist())  # at the end
        assert torch.equal(row["weights"] > 0, counted)
        with_shots = encode(recipe.pieces, example, shots=True)
        text = recipe.pieces.decode(with_shots["labels"][with_shots["labels"] != IGNORED].tolist())
        assert text == "".join(shot.answer for shot in example.shots if shot.told) + example.target


def test_the_rest_of_the_prompt_counts_as_little_as_asked(recipe: LanguageModelRecipe) -> None:
    example = next(one for i in range(40) if (one := recipe.prompts.example(i, 0)).shots)
    plain, whole = (
        encode(recipe.pieces, example, shots=True),
        encode(recipe.pieces, example, shots=True, prompt_weight=0.02),
    )
    answers = whole["answers"]
    assert torch.equal(plain["answers"], answers)
    assert torch.equal(plain["labels"][answers], whole["labels"][answers])
    assert torch.equal(plain["weights"][answers], whole["weights"][answers])
    others = whole["weights"][~answers]
    assert set(others.tolist()) == {0.0, float(torch.tensor(0.02))}
    assert 0.2 < float((others > 0).float().mean()) < 0.3
    following = torch.tensor([*whole["ids"][1:].tolist(), EOS_ID])
    counted = whole["labels"] != IGNORED
    assert torch.equal(counted, whole["weights"] > 0)
    assert torch.equal(whole["labels"][counted], following[counted])
    with torch.no_grad():
        figures = recipe.loss(recipe.model, split_by_length([whole]), step=0, indices=[0])
        alone = recipe.loss(recipe.model, split_by_length([plain]), step=0, indices=[0])
    assert float(figures["answer_loss"]) == pytest.approx(float(alone["loss"]), rel=1e-4)
    assert float(figures["token_accuracy"]) == pytest.approx(float(alone["token_accuracy"]))
    assert float(figures["loss"]) != pytest.approx(float(alone["loss"]), rel=1e-4)


def test_the_first_prompts_have_settings_of_their_own(recipe: LanguageModelRecipe) -> None:
    config = replace(CONFIG, first_prompts=12, first=replace(CONFIG.prompts, max_shots=1))
    short = LanguageModelRecipe(config)
    limit = CONFIG.max_tokens - 2
    few = replace(recipe.prompts, settings=replace(recipe.prompts.settings, max_shots=1))
    drawn = [few.example(i, 0, length=partial(tokens, recipe), max_length=limit) for i in range(12)]
    drawn += [recipe.prompts.example(i, 0, length=partial(tokens, recipe), max_length=limit) for i in range(12, 16)]
    expected = sorted(len(encode(recipe.pieces, example, shots=True)["ids"]) for example in drawn)
    parts = short.batch(range(16), 0)
    assert sorted(int((row != EOS_ID).sum()) for part in parts for row in part["ids"]) == expected


def test_a_batch_holds_every_prompt_once_and_little_padding(recipe: LanguageModelRecipe) -> None:
    parts = recipe.batch(range(16), 5)
    lengths = [int((part["ids"][i] != EOS_ID).sum()) for part in parts for i in range(len(part["ids"]))]
    assert len(lengths) == 16
    assert sum(lengths) > 0.75 * sum(part["ids"].numel() for part in parts)
    widths = [part["ids"].shape[1] for part in parts]
    assert widths == sorted(widths, reverse=True)
    assert widths[0] < CONFIG.max_tokens
    limit = CONFIG.max_tokens - 2
    drawn = [recipe.prompts.example(i, 5, length=partial(tokens, recipe), max_length=limit) for i in range(16)]
    rows = [encode(recipe.pieces, example, shots=True) for example in drawn]
    assert sorted(lengths) == sorted(len(row["ids"]) for row in rows)


def test_padding_and_parts_change_nothing(recipe: LanguageModelRecipe) -> None:
    rows = [encode(recipe.pieces, recipe.prompts.example(i, 1), shots=True) for i in range(6)]
    with torch.no_grad():
        together = recipe.loss(recipe.model, split_by_length(rows), step=0, indices=range(6))
        each, weight = 0.0, 0.0
        for row in rows:
            logits = recipe.llama(input_ids=row["ids"][None]).logits[0]
            losses = F.cross_entropy(logits, row["labels"], ignore_index=IGNORED, reduction="none")
            each, weight = each + float((losses * row["weights"]).sum()), weight + float(row["weights"].sum())
    assert float(together["loss"]) == pytest.approx(each / weight, rel=1e-4)


@pytest.mark.skipif(not shutil.which("g++"), reason="torch.compile needs a C++ compiler")
def test_compiled_layers_are_the_same_for_all_lengths(recipe: LanguageModelRecipe) -> None:
    compiled = LanguageModelRecipe(replace(CONFIG, compile_layers=True))
    torch._dynamo.reset()
    for first in (0, 4, 12):
        batch = recipe.batch(range(first, first + 4 + first), 3)
        found = []
        for one in (recipe, compiled):
            one.model.zero_grad()
            one.loss(one.model, batch, step=0, indices=[])["loss"].backward()
            found.append([parameter.grad.clone() for parameter in one.model.parameters() if parameter.grad is not None])
        torch.testing.assert_close(found[0], found[1], rtol=1e-3, atol=1e-5)
    with torch._dynamo.config.patch(error_on_recompile=True):
        compiled.loss(compiled.model, recipe.batch(range(40, 49), 3), step=0, indices=[])["loss"].backward()


def test_evaluation_is_what_greedy_writing_gives(recipe: LanguageModelRecipe, monkeypatch: pytest.MonkeyPatch) -> None:
    """A model that has learnt four answers by heart writes just those right."""
    examples = [recipe.prompts.example(i, 2, length=partial(tokens, recipe), max_length=300) for i in range(40)]
    examples = [example for example in examples if example.kind.startswith("vqa")][:8]
    anew = LanguageModelRecipe(CONFIG)
    optimizer = torch.optim.AdamW(anew.model.parameters(), lr=1e-2)
    rows = split_by_length([encode(anew.pieces, example, shots=False) for example in examples[:4]])
    for _ in range(60):
        loss = anew.loss(anew.model, rows, step=0, indices=range(4))["loss"]
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    right = anew.written_right(anew.model, examples)
    assert right[:4] == [True] * 4
    for example, one in zip(examples, right, strict=True):
        ids = torch.tensor([[BOS_ID, *anew.pieces.encode(example.prompt)]])
        written = anew.llama.generate(ids, max_new_tokens=12)[0, ids.shape[1] :].tolist()
        assert (written == [*anew.pieces.encode(example.target), EOS_ID]) == one
    anew.validation = {"mixed": examples}
    figures = anew.evaluate(anew.model)
    assert figures["exact_match_mixed"] == figures["exact_match_vqa"] == sum(right) / 8


def test_figures_of_every_kind(recipe: LanguageModelRecipe) -> None:
    figures = recipe.evaluate(recipe.model)
    names = ("mixed", "vqa", "true_context", "blank_context", "mapped_4_shots", "mapped_0_shots")
    assert set(figures) >= {f"exact_match_{name}" for name in names}
    assert all("Image context:\n" in example.query for example in recipe.validation["blank_context"])
    assert all(example.family == "plain" for example in recipe.validation["true_context"])


def test_training_writes_a_folder_for_transformers(tmp_path: Path) -> None:
    result = trained(CONFIG, tmp_path / "run")
    assert result.finished
    folder = tmp_path / "run" / "model"
    assert {path.name for path in folder.iterdir()} == {
        *("config.json", "generation_config.json", "model.safetensors", "training.json"),
        *("tokenizer.model", "tokenizer.json", "tokenizer_config.json"),
    }
    model, tokenizer = AutoModelForCausalLM.from_pretrained(folder), AutoTokenizer.from_pretrained(folder)
    assert model.dtype == torch.bfloat16
    assert model.config.vocab_size == len(tokenizer) == 800
    ends = [EOS_ID, load_sentencepiece(folder).piece_to_id("$")]
    assert (model.generation_config.eos_token_id, model.generation_config.do_sample) == (ends, False)
    text = "Image question: What is red?\nShort answer:"
    ids = tokenizer(text, return_tensors="pt")
    assert ids.input_ids[0].tolist() == [BOS_ID, *load_sentencepiece(folder).encode(text)]
    assert model.generate(**ids, max_new_tokens=3).shape[1] <= ids.input_ids.shape[1] + 3
    record = json.loads((folder / "training.json").read_text())
    assert record["recipe"] == "language-model"
    assert record["settings"]["parameters"] == sum(parameter.numel() for parameter in model.parameters())
    assert "exact_match_true_context" in record["final_metrics"]["validation"]


def test_a_paused_run_ends_with_the_same_weights(tmp_path: Path) -> None:
    config = replace(CONFIG, validation=1)
    trained(config, tmp_path / "whole")
    assert not trained(config, tmp_path / "parts", max_minutes=0).finished
    assert trained(config, tmp_path / "parts", resume=True).finished
    weights = [(tmp_path / run / "model" / "model.safetensors").read_bytes() for run in ("whole", "parts")]
    assert weights[0] == weights[1]


def test_a_second_stage_goes_on_from_the_first(tmp_path: Path) -> None:
    config = replace(CONFIG, validation=1)
    trained(config, tmp_path / "first")
    folder = tmp_path / "first" / "model"
    second = replace(config, start=str(folder), loop=replace(config.loop, steps=1), prompts=PromptSettings(scenes=90))
    recipe = LanguageModelRecipe(second)
    before = AutoModelForCausalLM.from_pretrained(folder).state_dict()
    assert all(torch.equal(value, before[name].float()) for name, value in recipe.llama.state_dict().items())
    assert trained(second, tmp_path / "second").finished
    after = tmp_path / "second" / "model"
    assert (after / "tokenizer.model").read_bytes() == (folder / "tokenizer.model").read_bytes()
    assert json.loads((after / "training.json").read_text())["started_from"]["steps"] == 2
    with pytest.raises(InputError, match="expected the folder of a trained language model"):
        LanguageModelRecipe(replace(second, start=str(tmp_path / "none")))


def test_lookup_layers_come_before_the_models_own_and_stay_when_frozen(tmp_path: Path) -> None:
    llama = replace(LLAMA, hidden_size=192, num_attention_heads=6, num_key_value_heads=6)
    config = replace(CONFIG, validation=1, llama=llama, lookup_layers=True, frozen_layers=2)
    fresh = LanguageModelRecipe(config).llama.state_dict()
    trained(config, tmp_path)
    saved = AutoModelForCausalLM.from_pretrained(tmp_path / "model").state_dict()
    layers = {name: name.split(".")[2] for name in saved if "layers" in name}
    assert torch.equal(saved["model.embed_tokens.weight"], fresh["model.embed_tokens.weight"].bfloat16())
    same = {name for name in layers if torch.equal(saved[name], fresh[name].bfloat16())}
    assert set(layers.values()) == {"0", "1", "2"}
    assert {name for name, layer in layers.items() if layer != "2"} <= same
    assert not [name for name in same if layers[name] == "2" and "norm" not in name]


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"max_tokens": 0}, "max_tokens is 0; input should be greater than or equal to 1"),
        ({"frozen_layers": -1}, "frozen_layers is -1; input should be greater than or equal to 0"),
        ({"first_prompts": 5}, "first_prompts is 5; expected a number above 0 where there is `first`"),
        ({"llama": {"num_attention_heads": 2}}, "llama: 2 heads over a width of 256: vLLM serves heads of 32 or 64"),
        ({"prompts": {"pseudo": "1e-1"}}, "prompts.pseudo is '1e-1'.* stands in quotes"),
        ({"prompts": {"tasks": {"poetry": 1}}}, "prompts: tasks is .*expected weights above 0 of vqa, interview"),
    ],
)
def test_bad_settings_name_the_key(changes: dict[str, Any], message: str) -> None:
    loop = {"steps": 1, "batch_size": 1}
    with pytest.raises(InputError, match=message):
        parse(LanguageModelConfig, {"loop": loop, **changes}, "settings.yaml")


def test_the_shipped_settings_give_a_model_below_12_mb() -> None:
    path = Path(language_model.__file__).parents[1] / "configs" / "language-model.yaml"
    config = read_stages(path, Path("runs"))[0].settings(LanguageModelConfig, path)
    parameters = sum(parameter.numel() for parameter in language_model.new_llama(config).parameters())
    assert 2.5e6 < parameters < 5.6e6
    assert 2 * parameters < 11.5e6


def test_stages_of_one_file_go_on_from_one_another(tmp_path: Path) -> None:
    path = tmp_path / "settings.yaml"
    path.write_text(
        "llama: {hidden_size: 32, intermediate_size: 32, num_hidden_layers: 1, num_attention_heads: 1, "
        "num_key_value_heads: 1}\nprompts: {scenes: 50, max_shots: 1}\nvocab_size: 700\ntokenizer_prompts: 40\n"
        "validation: 1\nloop: {steps: 1, batch_size: 2, num_workers: 0}\nstages: [{}, {loop: {seed: 1}}]\n"
    )
    assert run_file(LanguageModelRecipe, path, tmp_path / "out").finished
    record = json.loads((tmp_path / "out" / "model" / "training.json").read_text())
    assert record["settings"]["start"] == str(tmp_path / "out" / "stage-1" / "model")
    assert record["started_from"]["settings"]["loop"]["seed"] == 0
