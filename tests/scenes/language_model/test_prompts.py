from __future__ import annotations

import json
import random
from collections import Counter
from pathlib import Path

import pytest
from PIL import Image
from textlens.encoders import Description
from textlens.errors import InputError
from textlens.prompting.faithfulness import check
from textlens.prompting.templates import Shot
from textlens.prompting.vqa import VQATemplate
from textlens.scenes.captions import captions
from textlens.scenes.language_model import conventions
from textlens.scenes.language_model.contexts import Pool, View, draw_view
from textlens.scenes.language_model.conventions import FAMILIES, QUESTION_TYPES, draw_convention
from textlens.scenes.language_model.encoder_texts import encoder_texts, read_encoder_texts
from textlens.scenes.language_model.prompts import BLANK, Example, LanguagePrompts, PromptSettings
from textlens.scenes.language_model.tasks import ask, detailed
from textlens.scenes.questions import questions
from textlens.scenes.scene import sample_scene, scene_at
from textlens.scenes.tokenizer import scene_words

SETTINGS = PromptSettings(scenes=500)
TEXTS = {i: {"dediffusion": f"loose words {i}", "decap": f"a caption {i}"} for i in range(0, 400, 2)}


@pytest.fixture(scope="module")
def prompts() -> LanguagePrompts:
    return LanguagePrompts(SETTINGS, TEXTS)


@pytest.fixture(scope="module")
def examples(prompts: LanguagePrompts) -> list[Example]:
    return [prompts.example(i, 7) for i in range(400)]


def test_the_same_example_for_the_same_seed_and_index(prompts: LanguagePrompts, examples: list[Example]) -> None:
    anew = LanguagePrompts(SETTINGS, TEXTS)
    assert [anew.example(i, 7) for i in (399, 3, 50)] == [examples[i] for i in (399, 3, 50)]
    assert anew.example(3, 8) != examples[3]


def test_every_kind_of_prompt_occurs(examples: list[Example]) -> None:
    kinds = {example.kind for example in examples}
    assert kinds >= {"classification", "captioning", "upsampling", "vqa/what", "vqa/count", "vqa/read"}
    assert {example.family for example in examples} == {"plain", "classes", *FAMILIES}
    assert {len(example.shots) for example in examples if example.kind.startswith("vqa")} == set(range(9))
    texts = "\n".join(example.prompt for example in examples)
    for part in ("(De-Diffusion)", "(DeCap)", "(caption)", "loose words", "Class:", "Image context:\n", '"', "MS COCO"):
        assert part in texts, part


def test_segments_are_prompt_and_target(examples: list[Example]) -> None:
    for example in examples:
        segments = list(example.segments())
        assert "".join(text for text, _ in segments) == example.prompt + example.target
        assert segments[-1] == (example.target, True)
        assert example.target[0] == " "
        assert example.target.endswith(("$", ".", "\n"))
        assert not any(counted for _, counted in list(example.segments(shots=False))[:-1])


def test_prompts_are_what_the_template_renders() -> None:
    settings = PromptSettings(
        tasks={"vqa": 1}, contexts={"descriptive": 1}, conventions={"plain": 1}, pseudo=0, scenes=50
    )
    rng = random.Random(3)
    task = ask(rng, View(Pool("train", 50), ("descriptive",), True, rng), "plain", 3)
    shots = [Shot(item.context, item.question, item.value) for item in task.items]
    rendered = task.template.render(shots[-1], shots[:-1])
    assert rendered.startswith("Answer the question given the context.\n\nImage context (caption): ")
    example = LanguagePrompts(settings).example(1, 0)
    assert example.prompt.startswith(VQATemplate().prefix())
    assert example.prompt.count("Short answer:") == len(example.shots) + 1
    assert VQATemplate.paper().parse(example.target).answer == example.answer


def test_shots_tell_how_the_answer_is_written(examples: list[Example]) -> None:
    for example in examples:
        if example.family in ("names", "pairs", "classes", "numbers"):
            assert example.target in [shot.answer for shot in example.shots]
            told = [shot.answer in [one.answer for one in example.shots[:i]] for i, shot in enumerate(example.shots)]
            assert [shot.told for shot in example.shots] == told
        if example.family in ("affix", "form"):
            assert [shot.told for shot in example.shots] == [i > 0 for i in range(len(example.shots))]


def test_a_budget_drops_the_first_shots_but_not_the_telling_one(
    prompts: LanguagePrompts, examples: list[Example]
) -> None:
    shorter = 0
    for i, whole in enumerate(examples[:100]):
        if "Keep each colour" in whole.head:
            continue
        example = prompts.example(i, 7, length=len, max_length=900)
        assert len(example.prompt + example.target) <= 900
        assert example.query == whole.query
        shorter += len(example.shots) < len(whole.shots)
        if example.family in ("names", "pairs", "classes") and example.shots:
            assert example.target in [shot.answer for shot in example.shots]
    assert shorter > 10
    with pytest.raises(InputError, match="without shots takes more than 20"):
        prompts.example(0, 7, length=len, max_length=20)


def test_only_train_scenes_and_no_held_out_member(examples: list[Example]) -> None:
    assert not set(conventions._PAIRS[0]) & set(conventions._PAIRS[1])
    written = {word.strip("$. ") for example in examples for word in example.target.split()}
    assert not written & set(conventions.UNSEEN_WORDS)
    rng = random.Random(0)
    never = {*conventions.UNSEEN_WORDS, *scene_words(), "bread", "nay"}
    assert not {conventions.made_up_word(rng) for _ in range(5000)} & never
    pairs = {conventions.draw_convention("pairs", rng).write("yes") for _ in range(2000)}
    assert len(pairs) > 500
    assert not pairs & {"P", "Q", "bread", "nay"}


@pytest.mark.parametrize("family", FAMILIES)
def test_unseen_conventions(prompts: LanguagePrompts, family: str) -> None:
    differ = 0
    for i in range(10):
        shown, alone = prompts.mapped(i, 0, family)
        assert (len(shown.shots), len(alone.shots)) == (4, 0)
        assert (shown.query, shown.target, shown.head) == (alone.query, alone.target, alone.head)
        assert shown.family == family
        assert shown.kind.partition("/")[2] in QUESTION_TYPES[family]
        if family in ("names", "pairs", "numbers"):
            assert shown.target in [shot.answer for shot in shown.shots]
        differ += shown.target != prompts.mapped(i, 1, family)[0].target
    assert differ > 3


def test_conventions_write_different_answers_differently() -> None:
    for family, values in (("names", ("red", "blue", "green")), ("pairs", ("yes", "no")), ("numbers", tuple("1234"))):
        for seed in range(20):
            convention = draw_convention(family, random.Random(seed), held_out=bool(seed % 2))
            written = [convention.write(value) for value in values]
            assert len(set(written)) == len(values)
            assert written == [convention.write(value) for value in values]


def test_interviews_show_an_image_once_and_count_all_its_answers() -> None:
    plain = {"conventions": {"plain": 1}, "pseudo": 1.0, "scenes": 200}
    settings = PromptSettings(tasks={"interview": 1}, contexts={"descriptive": 1}, **plain)
    examples = [LanguagePrompts(settings).example(i, 0) for i in range(40)]
    for example in examples:
        assert example.prompt.count("Image context") == 1
        asked = [shot.opening for shot in example.shots] + [example.query]
        assert len(set(asked)) == len(asked)
        assert all(opening.startswith("Image question: ") for opening in asked)
        assert all(shot.told for shot in example.shots)
    assert {len(example.shots) + 1 for example in examples} >= {4, 6, 8, 10, 12}
    asked = [opening for example in examples for opening in (*(shot.opening for shot in example.shots), example.query)]
    begins = Counter(opening.removeprefix("Image question: ").split()[0] for opening in asked)
    assert begins["Where"] > len(asked) / 10  # of all that scenes allow they are a tenth at most
    assert begins["Is"] < len(asked) / 3  # and these, for yes or no, half
    context = next(example.head for example in examples if "purple" in example.head)
    assert context.startswith("Answer the question given the context.\n\nImage context")


@pytest.mark.parametrize("task", ["interview", "vqa"])
def test_one_type_of_question_may_be_asked_more_often(task: str) -> None:
    def places(often: dict[str, int]) -> float:
        plain = {"conventions": {"plain": 1}, "contexts": {"descriptive": 1}, "scenes": 200, "often": often}
        prompts = LanguagePrompts(PromptSettings(tasks={task: 1}, **plain))
        openings = [
            opening
            for example in (prompts.example(i, 0) for i in range(60))
            for opening in (*(shot.opening for shot in example.shots), example.query)
        ]
        return sum("question: Where" in opening for opening in openings) / len(openings)

    assert places({"where": 3}) > 1.3 * places({"where": 1}) > 0.1
    assert places({"where": 1}) == places({})


@pytest.mark.parametrize("family", FAMILIES)
def test_interviews_under_a_convention_tell_how_the_last_answer_is_written(family: str) -> None:
    settings = PromptSettings(tasks={"interview": 1}, contexts={"descriptive": 1}, conventions={family: 1}, scenes=200)
    examples = [LanguagePrompts(settings).example(i, 0) for i in range(40)]
    under = [example for example in examples if example.family == family]
    assert len(under) > 20
    for example in under:
        assert not example.shots[0].told  # nothing stands before it
        before = [shot.answer.strip(" $") for shot in example.shots]
        if family in ("names", "pairs", "numbers"):
            assert example.answer in before
        if family == "affix":
            assert set(before[0].split()) & set(example.answer.split())


def test_pseudo_shots_are_never_counted() -> None:
    settings = PromptSettings(tasks={"vqa": 1}, conventions={"plain": 1}, pseudo=1.0, scenes=200)
    shots = [shot for i in range(40) for shot in LanguagePrompts(settings).example(i, 0).shots]
    assert all(shot.opening.startswith("Image context:\n") and not shot.told for shot in shots)


def test_blank_and_single_sources() -> None:
    blank = PromptSettings(tasks={"vqa": 1}, contexts={BLANK: 1}, scenes=200)
    for i in range(30):
        example = LanguagePrompts(blank).example(i, 0)
        assert "Image context:\n" in example.query
        assert example.family == "plain"
    pool = Pool("train", 100, TEXTS)
    view = draw_view(pool, {"decap": 1, BLANK: 0}, 1.0, random.Random(0))
    assert view.sources == ["decap"]
    scene, context = view.see()
    number = int(context[0].text.removeprefix("a caption "))
    assert scene == scene_at(number, "train")


def test_detailed_descriptions_keep_the_prompt() -> None:
    rng = random.Random(0)
    for _ in range(60):
        scene = sample_scene(rng)
        prompt = captions(scene, "short", rng)
        if "letters" not in prompt:  # "two letters D" is beyond the checker's English
            report = check(prompt, detailed(scene))
            assert report.faithful, (prompt, detailed(scene), report)


def test_encoder_texts(tmp_path: Path) -> None:
    class Echo:
        def describe(self, images: list[Image.Image]) -> list[Description]:
            return [Description(f"{image.size} {i}", (), "echo") for i, image in enumerate(images)]

    rows = list(encoder_texts(Echo(), "echo", range(3, 6), size=32, batch_size=2))
    assert [row["scene"] for row in rows] == [3, 4, 5]
    path = tmp_path / "texts.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    assert read_encoder_texts(path) == {3: {"echo": "(32, 32) 0"}, 4: {"echo": "(32, 32) 1"}, 5: {"echo": "(32, 32) 0"}}
    for line, message in (
        ("{}", "line 1: scene is missing"),
        ("{", "line 1: .*invalid JSON"),
        ('{"scene": "1", "encoder": "a", "text": ""}', "scene is '1'; input should be a valid integer"),
        ("", "no text"),
    ):
        path.write_text(line)
        with pytest.raises(InputError, match=message):
            read_encoder_texts(path)
    with pytest.raises(InputError, match="cannot be read"):
        read_encoder_texts(tmp_path / "missing")


def test_errors() -> None:
    for settings, message in (
        ({"tasks": {"poetry": 1}}, "tasks"),
        ({"conventions": {"plain": 0}}, "conventions"),
        ({"contexts": {"decap": 1}}, "contexts"),
        ({"often": {"who": 2}}, "often"),
        ({"often": {"where": 0}}, "often"),
        ({"several": 2.0}, "several is 2.0"),
        ({"max_shots": -1}, "max_shots is -1"),
    ):
        with pytest.raises(InputError, match=message):
            PromptSettings(**settings)  # type: ignore[arg-type]


def test_questions_of_every_family_can_be_written() -> None:
    rng = random.Random(1)
    for _ in range(100):
        for question in questions(sample_scene(rng), rng):
            for family, types in QUESTION_TYPES.items():
                if question.type in types:
                    assert draw_convention(family, rng, held_out=rng.random() < 0.5).write(question.answer)
