"""The reader: words of encoders in, answers with all their evidence out, and no failure that loses another answer."""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from dataclasses import replace

import pytest
from PIL import Image
from textlens.agent.models.base import Completion, Request
from textlens.agent.reader.describer import Describer
from textlens.agent.reader.reader import ImageReader
from textlens.agent.reader.shot_sources import folder_shots, question_shots
from textlens.agent.reader.upsampler import token_counter
from textlens.encoders.base import Description
from textlens.errors import InputError
from textlens.prompting.fewshot import select_shots
from textlens.prompting.templates import Context, Shot
from textlens.prompting.upsampling import SYSTEM

COLOURS = {"red": (255, 0, 0), "green": (0, 255, 0), "blue": (0, 0, 255)}
RED, GREEN, BLUE = (Image.new("RGB", (8, 8), colour) for colour in COLOURS.values())


class ColourEncoder:
    """Names the colour of the first pixel; fails on black images as a model may."""

    def __init__(self, spec: str) -> None:
        self.spec, self.seen = spec, 0

    def describe(self, images: Sequence[Image.Image]) -> list[Description]:
        self.seen += len(images)
        names = {colour: name for name, colour in COLOURS.items()}
        if any(image.getpixel((0, 0)) == (0, 0, 0) for image in images):
            raise ValueError("too dark")
        words = [f"a {names[image.getpixel((0, 0))]} wall" for image in images]
        return [Description(text, tuple(text.split()), self.spec) for text in words]


class QueuedModel:
    """Answers from a queue, in the order of the prompts; "!…" is an error, "…~" is cut off."""

    spec = "queued"

    def __init__(self, *texts: str) -> None:
        self.texts, self.requests = list(texts), []

    def complete(self, prompts, *, max_tokens, stop=(), temperature, seed, choices=None):
        request = Request(max_tokens, stop, temperature, seed, choices)
        self.requests.append(request)
        return [self._completion(prompt, self.texts.pop(0), request) for prompt in prompts]

    def _completion(self, prompt: str, text: str, request: Request) -> Completion:
        if text.startswith("!"):
            return Completion.failed(text[1:], prompt, request.parameters)
        reason = "length" if text.endswith("~") else "stop"
        return Completion(text.removesuffix("~"), reason, len(prompt.split()), 3, prompt, request.parameters)


class CountingModel(QueuedModel):
    """As one whose tokens are words."""

    context_length = 60

    def count_tokens(self, text: str) -> int:
        return len(text.split())


def reader(*texts: str, encoders: Sequence[str] = ("coca",), model: type[QueuedModel] = QueuedModel) -> ImageReader:
    return ImageReader({spec: ColourEncoder(spec) for spec in encoders}, model(*texts))


def test_ask_returns_the_answer_with_its_evidence():
    one = reader(" red", " two~")
    first, second = one.ask([RED, GREEN], ["what colour?", "how many?"], shots=(), max_tokens=5, seed=3)
    assert first.answer == "red"
    assert first.prompt == (
        'Answer the question given the context.\n\nImage context: "a red wall"\nImage question: what colour?\n'
        "Short answer:"
    )
    assert [d.text for d in first.descriptions] == ["a red wall"]
    assert (first.completion.text, first.llm, first.error, first.note) == (" red", "queued", None, None)
    assert (second.answer, second.note) == ("two", "the answer was cut off after 3 tokens")
    assert one.language_model.requests == [Request(5, ("\n",), 0.0, 3)]
    line = json.loads(json.dumps(first.as_json()))
    keys = ["image", "question", "answer", "descriptions", "prompt", "completion", "llm", "error", "note"]
    assert list(line) == keys
    assert line["descriptions"] == [{"encoder": "coca", "text": "a red wall"}]
    assert line["completion"]["finish_reason"] == "stop"
    assert list(first.as_label_json()) == ["image", "label", *keys[3:]]


def test_several_encoders_stand_labelled_in_one_context():
    (answer,) = reader("red", encoders=("dediffusion", "decap:some/folder")).ask([RED], ["what?"], shots=())
    assert 'Image context (De-Diffusion): "a red wall"\nImage context (DeCap): "a red wall"\n' in answer.prompt
    assert [d.encoder for d in answer.descriptions] == ["dediffusion", "decap:some/folder"]


def test_zero_shots_are_pseudo_samples_without_any_image():
    (answer,) = reader("red").ask([RED], ["what?"])
    assert answer.prompt.count("Short answer:") == 5
    assert answer.prompt.count("Image context:\n") == 4


def test_shots_with_images_get_their_context_from_the_encoders(tmp_path):
    BLUE.save(tmp_path / "blue.png")
    shots = [
        Shot(question="what?", answer="blue", image=str(tmp_path / "blue.png")),
        Shot((Context("own words"),), "what?", "own", image=str(tmp_path / "never read.png")),
    ]
    one = reader("red", "green")
    answers = one.ask([RED, GREEN], ["what?"] * 2, shots=shots)
    for answer in answers:
        assert '"a blue wall"\nImage question: what?\nShort answer: blue\n' in answer.prompt
        assert '"own words"' in answer.prompt
    with pytest.raises(InputError, match="image of a shot"):
        one.ask([RED], ["what?"], shots=[replace(shots[0], image="missing.png")])


def test_shots_may_be_picked_for_each_query():
    pool = [Shot((Context(f"thing {n}"),), "what?", f"answer{n}", str(n)) for n in range(6)]

    def pick(query: Shot) -> list[Shot]:
        return select_shots(pool, 3, strategy="random", seed=1, query_id=query.id)

    answers = reader("a", "b").ask([RED, RED], ["what?"] * 2, shots=pick, ids=["0", "1"])
    for own, answer in zip("01", answers, strict=True):
        chosen = [shot.answer for shot in select_shots(pool, 3, strategy="random", seed=1, query_id=own)]
        assert re.findall(r"\nShort answer: (.*)\n", answer.prompt) == chosen
        assert f"answer{own}" not in chosen


def test_one_failure_loses_no_other_answer():
    dark = Image.new("RGB", (8, 8))
    one = reader("red", "!service is down", "Short answer: blue", "\n ", "green")
    images = [RED, "missing.png", dark, RED, RED, RED, GREEN]
    answers = one.ask(images, ["what?"] * 7, shots=())
    assert [answer.answer for answer in answers] == ["red", None, None, None, None, None, "green"]
    errors = [answer.error for answer in answers]
    assert errors[0] is errors[6] is None
    assert "missing.png" in errors[1]
    assert "too dark" in errors[2]
    assert errors[3] == "service is down"
    assert "field names" in errors[4]
    assert "no text" in errors[5]
    assert answers[1].prompt is None
    assert answers[3].prompt is not None
    assert answers[4].completion.text == "Short answer: blue"


def test_an_image_is_described_once_and_the_cache_is_bounded():
    encoder = ColourEncoder("coca")
    describer = Describer({"coca": encoder}, cache_size=2, batch_size=2)
    texts = [one.descriptions[0].text for one in describer.describe([RED, RED.copy(), GREEN, RED])]
    assert texts == ["a red wall", "a red wall", "a green wall", "a red wall"]
    assert encoder.seen == 2
    describer.describe([BLUE])  # green was used longest ago
    describer.describe([RED, BLUE])
    assert encoder.seen == 3
    describer.describe([GREEN])
    assert encoder.seen == 4
    assert describer.describe([RED.resize((4, 16))])[0].error is None  # the same bytes, another image
    assert encoder.seen == 5


def test_classify_gives_labels_and_nothing_else(tmp_path):
    for name, image in (("stop", RED), ("go", GREEN)):
        (tmp_path / name).mkdir()
        image.save(tmp_path / name / "1.png")
    shots = folder_shots(tmp_path, ["stop", "go"])
    one = reader(" stop", " walk", " GO.")
    answers = one.classify([RED, BLUE, GREEN], ["stop", "go"], shots=shots)
    assert [answer.answer for answer in answers] == ["stop", None, "go"]
    assert "'walk' is none of the classes stop, go" in answers[1].error
    assert 'Context: "a green wall"\nClass: go.\n' in answers[0].prompt
    assert one.language_model.requests[0].choices == (" stop", " go")
    free = reader(" stop")
    free.classify([RED], ["stop", "go"], constrained=False)
    assert free.language_model.requests[0].choices is None
    with pytest.raises(InputError, match="no folder"):
        folder_shots(tmp_path, ["stop", "wait"])


@pytest.mark.parametrize("choice", ["US$5", "$5", "a\nb", "Short answer: a", " a "])
def test_a_choice_is_the_answer_whatever_it_holds(choice):
    (answer,) = reader(f" {choice}").ask([RED], ["Which one?"], choices=[choice, "other"])
    assert (answer.answer, answer.error) == (choice, None)


def test_caption():
    (answer,) = reader(" a plain red wall\n").caption([RED])
    assert answer.answer == "a plain red wall"
    assert answer.prompt.startswith("MS COCO image captioning.")


def test_shots_that_do_not_fit_are_dropped_alike_and_the_answer_says_so():
    shots = [Shot((Context(f"number {n}"),), "what is it?", f"{n}") for n in range(5)]
    long = " ".join(["really"] * 6) + " what?"
    answers = reader("a", "b", model=CountingModel).ask([RED] * 3, ["what?", long, "w " * 80], shots=shots)
    assert [answer.answer for answer in answers] == ["a", "b", None]
    assert "the query alone takes" in answers[2].error
    kept = [[f"number {n}" in answer.prompt for n in range(5)] for answer in answers[:2]]
    assert kept[0] == kept[1]
    assert kept[0] == sorted(kept[0])
    assert 0 < sum(kept[0]) < 5
    assert all(f"{5 - sum(kept[0])} of 5 shots dropped" in answer.note for answer in answers[:2])
    assert all(len(answer.prompt.split()) + 16 <= 60 for answer in answers[:2])


def test_shared_shots_are_counted_once_and_long_queries_by_themselves():
    class Server(CountingModel):
        context_length = 300

        def count_tokens(self, text):
            counted.append(text)
            return super().count_tokens(text)

    counted: list[str] = []
    shots = [Shot((Context("a very green wall"),), "what colour is it then?", f"{n}") for n in range(6)]
    asked = ["which?"] * 20 + ["and " * 200 + "which?"]
    answers = reader(*"a" * 21, model=Server).ask([RED] * 21, asked, shots=shots)
    assert all(len(answer.prompt) > 300 for answer in answers)  # a token may be a byte
    assert [answer.note for answer in answers[:20]] == [answers[20].note] * 20
    assert "of 6 shots dropped" in answers[20].note
    assert not any(text.endswith(answers[0].prompt[-60:]) for text in counted)  # no short one was counted
    counted.clear()
    reader(*"a" * 20, model=Server).ask([RED] * 20, asked[:20], shots=shots)
    assert len(counted) == 1


REWRITE = (
    "Two red kites glide over a quiet beach at dawn, soft golden light on wet sand, gentle waves, fine mist, calm mood."
)


def test_upsample_keeps_the_prompt_whatever_comes_back():
    one = reader(REWRITE, REWRITE.replace("red", "blue"), "!no such server", f"{REWRITE}~", "")
    made = one.upsample(["two red kites over a beach"] * 5, seed=4)
    good, wrong, failed, cut, empty = (each.upsampled for each in made)
    assert (good.prompt, good.flags, good.error) == (REWRITE, (), None)
    assert wrong.prompt.startswith("two red kites over a beach")
    assert "fell_back" in wrong.flags
    assert any("blue" in change for change in wrong.changed)
    for each, reason in ((failed, "no such server"), (cut, "cut off"), (empty, "no text")):
        assert (each.prompt, each.flags) == ("two red kites over a beach", ("failed",))
        assert reason in each.error
    request = one.language_model.requests[0]
    assert (request.seed, request.stop) == (4, ("\n",))
    keys = ["original", "prompt", "negative", "added", "changed", "dropped", "flags", "error"]
    assert list(made[0].as_json()) == keys
    assert SYSTEM in made[0].prompt


def test_upsample_counts_the_targets_tokens_and_uses_the_brief_template_for_short_contexts():
    counter = token_counter()
    assert counter("a photo of a cat") == 7  # five words, begin and end
    model = CountingModel(REWRITE)
    model.context_length = 400
    one = ImageReader({"coca": ColourEncoder("coca")}, model)
    (made,) = one.upsample(["two red kites over a beach"], count_tokens=counter, token_limit=20)
    assert made.upsampled.flags == ("shortened",)
    assert counter(made.upsampled.prompt) <= 20
    assert SYSTEM not in made.prompt
    with pytest.raises(InputError, match="token_limit"):
        one.upsample(["a cat"], token_limit=20)
    (blank,) = reader("x").upsample([" "])
    assert "empty" in blank.upsampled.error


def test_question_shots_come_from_file_or_common_questions(tmp_path):
    file = tmp_path / "shots.jsonl"
    file.write_text("".join(json.dumps({"question": f"q{n}", "context": "c", "answer": "a"}) + "\n" for n in range(6)))
    assert [shot.question for shot in question_shots(file)] == [f"q{n}" for n in range(6)]
    assert question_shots(file, 2, seed=5) == question_shots(file, 3, seed=5)[:2]
    assert all(shot.context == () for shot in question_shots(file, 0))
    assert len(question_shots(file, 0)) == len(question_shots(None)) == 4
    with pytest.raises(InputError, match="--shots"):
        question_shots(None, 3)


def test_what_does_not_match_is_refused():
    with pytest.raises(InputError, match="2 images and 1 questions"):
        reader().ask([RED, RED], ["what?"])
    with pytest.raises(InputError, match="no encoder"):
        ImageReader({}, QueuedModel())
    assert reader().ask([], []) == []
