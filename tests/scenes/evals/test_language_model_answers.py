from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path

import pytest
from textlens.errors import InputError
from textlens.scenes.evals import language_model_answers as evaluation
from textlens.scenes.evals.language_model_answers import Row
from textlens.scenes.language_model.language_model import LanguageModelConfig, LanguageModelRecipe, LlamaSizes
from textlens.scenes.language_model.prompts import PromptSettings
from textlens.scenes.scene import held_out
from textlens.train.engine.loop import LoopConfig


@pytest.fixture(scope="module")
def asked() -> list[evaluation.Asked]:
    return evaluation.draw_questions(20)


def test_questions_of_every_type_over_test_scenes(asked: list[evaluation.Asked]) -> None:
    assert {one.question.type for one in asked} == {"what", "colour", "count", "where", "yes/no", "compare", "read"}
    assert len({(one.scene, one.question.type) for one in asked}) == len(asked)
    assert any(held_out(one.scene, "test") for one in asked)
    assert asked == evaluation.draw_questions(20)


def test_vqa_accuracy() -> None:
    answers = ["red"] * 2 + ["orange"] * 8
    assert evaluation.vqa_accuracy("orange", answers) == 1
    assert evaluation.vqa_accuracy(" Red", answers) == pytest.approx(0.6)
    assert evaluation.vqa_accuracy("blue", answers) == 0


def test_true_answers_score_one_and_silence_is_a_failure(asked: list[evaluation.Asked]) -> None:
    truth = iter([one.question.answer for one in asked])
    prompts: list[str] = []

    def complete(given: Sequence[str]) -> list[str]:
        prompts.extend(given)
        return [f" {next(truth)}$\n\nImage context: more" for _ in given]

    shots = evaluation.example_shots(evaluation.true_captions)
    row = evaluation.ask("true", complete, asked, evaluation.true_captions, shots=shots)
    assert set(row.accuracy) >= {"all", "what", "colour"}
    assert set(row.accuracy.values()) == {1.0}
    assert row.failures == 0
    assert all(prompt.count("Short answer:") == 5 and prompt.endswith("Short answer:") for prompt in prompts)
    assert all(f"Image question: {one.question.question}\n" in p for one, p in zip(asked, prompts, strict=True))
    silent = evaluation.ask("silent", lambda given: [""] * len(given), asked, evaluation.no_context)
    assert silent.failures == 1
    assert silent.accuracy["all"] == 0
    with pytest.raises(InputError, match="got 1 completions"):
        evaluation.ask("short", lambda given: ["x$"], asked, evaluation.no_context)


def test_blank_prompts_tell_nothing_of_the_scene(asked: list[evaluation.Asked]) -> None:
    prompts: list[str] = []
    evaluation.ask("blank", lambda given: prompts.extend(given) or ["no$"] * len(given), asked, evaluation.no_context)
    assert all("Image context:\n" in prompt for prompt in prompts)


def test_the_floor_knows_questions_and_no_image() -> None:
    asked = evaluation.draw_questions(200)
    floor = evaluation.majority_floor(asked, evaluation.draw_questions(400, "train"))
    assert floor.failures < 0.02
    assert floor.accuracy["what"] < 0.2
    assert 0.4 < floor.accuracy["yes/no"] < 0.9
    assert 0.2 < floor.accuracy["count"] < 0.9
    assert floor.accuracy["all"] < 0.6
    form, things = evaluation._form("Which is larger, the letter B or the mouse?")
    assert (form, things) == ("Which is larger, the # or the #?", ["b", "mouse"])
    assert evaluation._form("Is there an anchor?")[0] == evaluation._form("Is there a cat?")[0]
    assert evaluation._form("What is red?") == ("What is @?", [])


def copies(prompts: Sequence[str]) -> list[str]:
    """Writes what the last shot of the prompt answers."""
    found = [re.findall(r"Short answer: (.*)\$", prompt) for prompt in prompts]
    return [f" {answers[-1]}$" if answers else " yes$" for answers in found]


def test_unseen_conventions_tell_who_reads_the_shots() -> None:
    rows = evaluation.unseen_conventions(copies, 12, families=("pairs", "names"))
    assert [row.family for row in rows] == ["pairs", "names"]
    assert all(row.without == 0 < row.with_shots < 1 for row in rows)
    assert "| pairs |" in evaluation.mapped_table(rows)


def test_encoder_contexts(asked: list[evaluation.Asked], monkeypatch: pytest.MonkeyPatch) -> None:
    from textlens.encoders import Description

    class Sizes:
        def describe(self, images: Sequence[object]) -> list[Description]:
            return [Description(f"picture {i}", (), "sizes") for i, _ in enumerate(images)]

    monkeypatch.setattr(evaluation, "load_encoder", lambda spec: Sizes())
    scenes = [one.scene for one in asked]
    contexts = evaluation.encoder_contexts(["decap:x", "dediffusion:y"])(scenes)
    assert [one.label for one in contexts[0]] == ["DeCap", "De-Diffusion"]
    assert [context[0].text for context in contexts] == [
        f"picture {list(dict.fromkeys(scenes)).index(s)}" for s in scenes
    ]
    assert evaluation.encoder_contexts(["decap"])(scenes)[0][0].label == ""


def test_a_folder_completes_prompts_in_order(tmp_path: Path) -> None:
    llama = LlamaSizes(32, 32, num_hidden_layers=1, num_attention_heads=1, num_key_value_heads=1)
    config = LanguageModelConfig(
        loop=LoopConfig(1, batch_size=1), prompts=PromptSettings(scenes=50), llama=llama,
        vocab_size=700, tokenizer_prompts=40, validation=1,
    )  # fmt: skip
    LanguageModelRecipe(config).save(tmp_path)
    prompts = ["Short answer:", "A much longer prompt than the first one.\nShort answer:", "Class:"]
    together = evaluation.folder_completer(tmp_path, max_tokens=3, batch_size=2)(prompts)
    assert together == [evaluation.folder_completer(tmp_path, max_tokens=3)([prompt])[0] for prompt in prompts]


def test_table() -> None:
    rows = [Row("true", {"all": 0.5, "what": 1.0}), Row("blank", {"all": 0.25}, 0.1)]
    assert evaluation.table(rows) == (
        "| VQA accuracy | all | what | not parsed |\n|---|---|---|---|\n"
        "| true | 50.0 | 100.0 | 0.0 |\n| blank | 25.0 | - | 10.0 |"
    )
