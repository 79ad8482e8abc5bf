from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from textlens.errors import InputError
from textlens.prompting.captioning import CaptionTemplate
from textlens.prompting.classification import ClassificationTemplate
from textlens.prompting.faithfulness import check
from textlens.prompting.fewshot import pseudo_shots
from textlens.prompting.templates import Context, Parsed, Shot, Template, context_label
from textlens.prompting.upsampling import MAX_WORDS, MIN_WORDS, WORKED_PAIRS, UpsampleTemplate
from textlens.prompting.vqa import VQATemplate

SHOT = Shot((Context("red star white"),), "What color is the star?", "red")
QUERY = Shot((Context("blue moon navy"),), "What is this?", "moon")  # carries the truth, which no prompt may show
LABELS = ("lion", "vase")
TEMPLATES: list[Template] = [
    VQATemplate(),
    VQATemplate.paper(),
    CaptionTemplate(),
    CaptionTemplate.paper(),
    ClassificationTemplate(labels=("red", "moon")),
    ClassificationTemplate(labels=("red", "moon"), induction=False),
    UpsampleTemplate(),
]


def test_vqa_in_the_papers_format() -> None:
    assert VQATemplate.paper().render(QUERY, [SHOT]) == (
        "Answer the question given the context.\n"
        "\n"
        "Image context: red star white\n"
        "Image question: What color is the star?\n"
        "Short answer: red$\n"
        "\n"
        "Image context: blue moon navy\n"
        "Image question: What is this?\n"
        "Short answer:"
    )


def test_vqa_with_several_labelled_descriptions() -> None:
    context = tuple(
        Context(text, context_label(spec))
        for spec, text in (
            ("dediffusion", "moon blue navy"),
            ("decap:some/checkpoint", "a blue moon"),
            ("coca", 'the "moon"'),
        )
    )
    assert VQATemplate().render(Shot(context, "What is this?")) == (
        "Answer the question given the context.\n"
        "\n"
        'Image context (De-Diffusion): "moon blue navy"\n'
        'Image context (DeCap): "a blue moon"\n'
        "Image context (caption): \"the 'moon'\"\n"
        "Image question: What is this?\n"
        "Short answer:"
    )


def test_pseudo_samples_have_an_empty_context() -> None:
    shots = pseudo_shots([SHOT] * 6, seed=3)
    assert (
        VQATemplate().render(QUERY, shots).split("\n\n")[1:5]
        == ["Image context:\nImage question: What color is the star?\nShort answer: red"] * 4
    )


def test_captioning_in_the_papers_format() -> None:
    shot = Shot((Context("red star white"),), answer="A red star.")
    assert CaptionTemplate.paper().render(QUERY, [shot]) == (
        "MS COCO image captioning.\n"
        "\n"
        "Image context: red star white\n"
        "Image caption: A red star.$\n"
        "\n"
        "Image context: blue moon navy\n"
        "Image caption:"
    )


def test_classification_in_the_papers_format_with_and_without_induction() -> None:
    shots = [Shot((Context("mane savanna"),), answer="lion"), Shot((Context("clay flowers"),), answer="vase")]
    examples = (
        "Context: mane savanna\nClass: lion.\n\nContext: clay flowers\nClass: vase.\n\nContext: blue moon navy\nClass:"
    )
    induced = ClassificationTemplate.paper(LABELS).render(QUERY, shots)
    assert induced == f'Classify the context into "lion" or "vase".\n\n{examples}'
    assert ClassificationTemplate.paper(LABELS, induction=False).render(QUERY, shots) == examples
    five = ClassificationTemplate(labels=("a", "b", "c", "d", "e"))
    assert five.head == 'Classify the context into "a", "b", "c", "d" or "e".'


def test_upsampling_opens_with_rules_and_wraps_the_prompt_like_the_worked_pairs() -> None:
    prompt = UpsampleTemplate().render(Shot(question="a cat\nwith 2 hats"), WORKED_PAIRS[:1])
    parts = prompt.split("\n\n")
    assert parts[0].startswith("You rewrite short prompts for an image generator.")
    assert f"- Write {MIN_WORDS} to {MAX_WORDS} words, one description on one line, and nothing else." in parts[0]
    assert parts[1] == f"Prompt: two red kites over a beach\nDescription: {WORKED_PAIRS[0].answer}"
    assert parts[2] == "Prompt: a cat with 2 hats\nDescription:"
    assert UpsampleTemplate.brief().render(Shot(question="a cat")) == (
        "Rewrite the prompt as one detailed description of the same picture.\n\nPrompt: a cat\nDescription:"
    )


def test_the_users_prompt_is_kept_word_for_word() -> None:
    prompt = 'a $5 bill, a sign that says "Prompt: café №1", 50% grey'
    assert f"Prompt: {prompt}\n" in UpsampleTemplate().render(Shot(question=prompt))


@pytest.mark.parametrize("pair", WORKED_PAIRS, ids=lambda pair: pair.id)
def test_the_worked_pairs_keep_their_own_rules(pair: Shot) -> None:
    assert pair.answer is not None
    assert MIN_WORDS <= len(pair.answer.split()) <= MAX_WORDS
    assert check(pair.question, pair.answer).faithful


@pytest.mark.parametrize("template", TEMPLATES)
def test_shots_and_query_are_rendered_alike(template: Template) -> None:
    """A query is what a shot is, up to the answer."""
    as_query = template.render(SHOT)
    as_shot = template.prefix([SHOT])
    assert as_shot.startswith(as_query + " red")


@pytest.mark.parametrize("template", TEMPLATES)
def test_the_prefix_is_shared_by_all_queries_and_the_answer_stays_open(template: Template) -> None:
    prefix = template.prefix([SHOT])
    for query in (QUERY, Shot((), "Why?"), Shot((Context("x" * 5000),), "How?")):
        prompt = template.render(query, [SHOT])
        assert prompt.startswith(prefix)
        assert prompt.endswith(":")
    assert "moon" not in template.render(QUERY, [SHOT]).rsplit("\n", 1)[1]


@pytest.mark.parametrize("template", TEMPLATES)
def test_a_shot_without_an_answer_is_refused(template: Template) -> None:
    for answer in (None, " ", "\n"):
        with pytest.raises(InputError, match="shot 2 has no answer"):
            template.render(QUERY, [SHOT, Shot(question="x", answer=answer)])


@pytest.mark.parametrize(
    ("completion", "answer"),
    [
        (" red", "red"),
        ("\n red\nImage context: x", "red"),
        ("2 o'clock", "2 o'clock"),
        (" $5.99\n\nImage context: a dog", "$5.99"),
        ("$", "$"),
        (" 5 $ or US$ 6 \n", "5 $ or US$ 6"),
    ],
)
def test_an_answer_is_one_line(completion: str, answer: str) -> None:
    assert VQATemplate().parse(completion) == CaptionTemplate().parse(completion) == Parsed(answer)


@pytest.mark.parametrize(
    ("completion", "answer"),
    [
        (" red$", "red"),
        (" red", "red"),
        (" red $ and more", "red"),
        ("\n red\nImage context: x", "red"),
        (" $5.99$\n", "$5.99"),
        (" between $5 and $.50$ Image", "between $5 and $.50"),
        (" 4$\n", "4"),
    ],
)
def test_the_papers_format_ends_an_answer_at_a_mark_that_begins_no_price(completion: str, answer: str) -> None:
    assert VQATemplate.paper().parse(completion) == CaptionTemplate.paper().parse(completion) == Parsed(answer)


@pytest.mark.parametrize("template", [VQATemplate(), VQATemplate.paper()], ids=["own", "paper"])
@pytest.mark.parametrize(
    "completion", ["", "  ", "\n", "Image question: what?", "red Short answer: blue", "red<|im_end|>"]
)
def test_a_completion_without_an_answer_is_an_error(completion: str, template: Template) -> None:
    parsed = template.parse(completion)
    assert parsed.answer is None
    assert parsed.error


@pytest.mark.parametrize("completion", ["$", " $ red", "$$"])
def test_a_mark_alone_is_no_answer_in_the_papers_format(completion: str) -> None:
    assert VQATemplate.paper().parse(completion).answer is None


PRICED = st.lists(st.sampled_from(["$", "$5", "5$", "US$", "$3.50,", "coffee", "a$b", "$$", "two"]), min_size=1)


@settings(max_examples=60, deadline=None)
@given(context=PRICED, question=PRICED, answer=PRICED)
def test_dollar_signs_stay_in_every_template(context: list[str], question: list[str], answer: list[str]) -> None:
    texts = [" ".join(words) for words in (context, question, answer)]
    for template in TEMPLATES:
        # In the paper's format a text cannot end in the mark.
        seen, asked, said = (f"{text}." if template.mark else text for text in texts)
        ends = template.mark
        if isinstance(template, ClassificationTemplate):
            template, ends = replace(template, labels=(said, "other")), "."
        expected = [] if isinstance(template, UpsampleTemplate) else [f'"{seen}"' if template.quote else seen]
        expected += [asked] * (not isinstance(template, CaptionTemplate | ClassificationTemplate))
        shot = Shot((Context(seen),), asked, said)
        prompt = template.render(shot, [shot])
        lines = [line.partition(": ")[2] for line in prompt.removeprefix(template.head).splitlines() if ": " in line]
        assert lines == [*expected, said + ends, *expected]
        assert [turn.text for turn in prompt.messages if turn.role == "assistant"] == [said]
        if not template.mark:
            assert template.parse(f" {said}{ends}\n\nmore") == Parsed(said)


@pytest.mark.parametrize("completion", [" lion.", "lion", " Lion. Context: x", '"lion".', " lion\n"])
def test_classification_parses_exactly_a_class(completion: str) -> None:
    assert ClassificationTemplate(labels=LABELS).parse(completion) == Parsed("lion")


@pytest.mark.parametrize("completion", ["", "lioness", "a lion", "lion or vase", "tiger.", "lion vase"])
def test_classification_reports_everything_else(completion: str) -> None:
    parsed = ClassificationTemplate(labels=LABELS).parse(completion)
    assert parsed.answer is None
    assert parsed.error


def test_a_class_may_have_a_full_stop_in_its_name() -> None:
    template = ClassificationTemplate(labels=("St. Bernard", "St. Martin"))
    assert template.stop == ("\n",)
    assert template.parse(" St. Bernard.\n") == Parsed("St. Bernard")
    assert template.parse(" St.").answer is None


@pytest.mark.parametrize("labels", [(), ("a", "A"), ("a", " "), ("a", "b\nc"), ("a", 'say "b"'), ("a", "Class: b")])
def test_labels_that_cannot_stand_in_a_prompt_are_refused(labels: tuple[str, ...]) -> None:
    with pytest.raises(InputError):
        ClassificationTemplate(labels=labels)


def test_a_label_of_a_special_tokens_shape_is_refused_with_one_that_is_none() -> None:
    with pytest.raises(InputError, match=r"shape of a special token.*; as in '\[ none \]'"):
        ClassificationTemplate(labels=("a", "[none]"))
    assert ClassificationTemplate(labels=("a", "[ none ]")).labels == ("a", "[ none ]")


def test_a_shot_of_an_unknown_class_is_refused() -> None:
    with pytest.raises(InputError, match="expected one of lion, vase"):
        ClassificationTemplate(labels=LABELS).render(QUERY, [SHOT])


def test_upsampling_parses_one_line() -> None:
    template = UpsampleTemplate()
    assert template.parse(" A $5 bill.\n\nPrompt: more") == Parsed("A $5 bill.")
    assert template.parse("Prompt: a cat").answer is None
