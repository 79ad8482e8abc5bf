"""The reader: encoders describe an image, a template puts the words into a prompt, a language model answers it."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from ...encoders.base import Encoder
from ...encoders.images import ImageSource
from ...encoders.registry import ASK_ENCODERS, load_encoder
from ...errors import InputError
from ...prompting.captioning import CaptionTemplate
from ...prompting.classification import ClassificationTemplate
from ...prompting.templates import Shot, Template
from ...prompting.vqa import VQA_PSEUDO, VQATemplate
from ..models.base import LanguageModel, Request
from ..models.registry import load_language_model
from .answers import Answer, Upsampling
from .describer import Describer
from .reading import Reading, read
from .upsampler import upsample

_BLANK = "the question is blank; expected some words"
Shots = Sequence[Shot] | Callable[[Shot], Sequence[Shot]]
"""The same shots for every query, or a function that selects them for one, such as `NearestShots`."""


class ImageReader:
    """`ask`, `classify`, `caption` and `upsample`, each batched, each answer with its evidence.

    encoders: spec -> encoder; the context holds the words of all, labelled if there are several.
    settings: of `Describer`, such as `limits`, `batch_size` and `cache_size`.
    """

    def __init__(self, encoders: Mapping[str, Encoder], language_model: LanguageModel, **settings: Any) -> None:
        self.describer = Describer(encoders, **settings)
        self.language_model = language_model

    @classmethod
    def from_specs(
        cls,
        encoders: Sequence[str] | None = None,
        language_model: str | None = None,
        *,
        chat: bool | None = None,
        **settings: Any,
    ) -> ImageReader:
        """By the specs of the command line: `ImageReader.from_specs(["coca"], "http://localhost:8000/v1")`.

        encoders: by default `ASK_ENCODERS`. language_model: by default `default_language_model()`. chat: as
        `load_language_model` has it. settings: of `Describer`.
        """
        model = load_language_model(language_model, chat=chat)
        loaded = {spec: load_encoder(spec) for spec in encoders or ASK_ENCODERS}
        return cls(loaded, model, **settings)

    def ask(
        self,
        images: Sequence[ImageSource],
        questions: Sequence[str],
        *,
        shots: Shots = VQA_PSEUDO,
        ids: Sequence[str] | None = None,
        template: VQATemplate | None = None,
        choices: Sequence[str] | None = None,
        max_tokens: int = 16,
        temperature: float = 0.0,
        seed: int = 0,
    ) -> list[Answer]:
        """Answer `questions[i]` about `images[i]`. An image that occurs several times is described once.

        shots: by default pseudo samples, which show the form of an answer; () for none. A shot with an image and no
        context is described by the encoders. ids: of the queries, for a function that selects shots by id.
        choices: the answer is one of these.
        """
        if len(images) != len(questions):
            raise InputError(f"got {len(images)} images and {len(questions)} questions; expected one question for each")
        template = template or VQATemplate()
        stop = template.choice_stop if choices else template.stop
        request = Request(max_tokens, stop, temperature, seed, _spaced(choices))
        return self._read(template, images, questions, shots, ids, request)

    def classify(
        self,
        images: Sequence[ImageSource],
        labels: Sequence[str],
        *,
        shots: Shots = (),
        ids: Sequence[str] | None = None,
        template: ClassificationTemplate | None = None,
        constrained: bool = True,
        max_tokens: int = 16,
        temperature: float = 0.0,
        seed: int = 0,
    ) -> list[Answer]:
        """The label of each image. constrained: the model can only write a label; otherwise its text is parsed, and
        anything but a label is an error.
        """
        template = template or ClassificationTemplate(labels=tuple(labels))
        if template.labels != tuple(labels):
            raise InputError(f"the template's labels are {list(template.labels)}; expected {list(labels)}")
        request = Request(max_tokens, template.stop, temperature, seed, _spaced(labels if constrained else None))
        return self._read(template, images, [""] * len(images), shots, ids, request)

    def caption(
        self,
        images: Sequence[ImageSource],
        *,
        shots: Shots = (),
        ids: Sequence[str] | None = None,
        template: CaptionTemplate | None = None,
        max_tokens: int = 64,
        temperature: float = 0.0,
        seed: int = 0,
    ) -> list[Answer]:
        """One caption per image, in the style of the shots."""
        template = template or CaptionTemplate()
        request = Request(max_tokens, template.stop, temperature, seed)
        return self._read(template, images, [""] * len(images), shots, ids, request)

    def described(self, shots: Sequence[Shot]) -> list[Shot]:
        """The shots, each with an image and no context described: once, for several calls with the same shots."""
        return self._with_contexts([shots])[0]

    def upsample(self, prompts: Sequence[str], **settings: Any) -> list[Upsampling]:
        """Rewrite short prompts for an image generator; settings of `upsampler.upsample`, which needs no encoder."""
        return upsample(self.language_model, prompts, **settings)

    def _read(
        self,
        template: Template,
        images: Sequence[ImageSource],
        questions: Sequence[str],
        shots: Shots,
        ids: Sequence[str] | None,
        request: Request,
    ) -> list[Answer]:
        if ids is not None and len(ids) != len(images):
            raise InputError(f"got {len(ids)} ids for {len(images)} images; expected one for each")
        described = self.describer.describe(images)
        names = ids or [one.name for one in described]
        errors = [one.error for one in described]
        if isinstance(template, VQATemplate):
            errors = [
                error or (None if text.strip() else _BLANK) for error, text in zip(errors, questions, strict=True)
            ]
        valid = [i for i, error in enumerate(errors) if error is None]
        files = [str(image) if isinstance(image, str | Path) else "" for image in images]
        contexts = {i: described[i].context(self.describer.specs) for i in valid}
        queries = [Shot(contexts[i], questions[i], id=names[i], image=files[i]) for i in valid]
        if callable(shots):
            own_shots = self._with_contexts([shots(query) for query in queries])
        else:
            own_shots = self._with_contexts([shots]) * len(queries)
        readings = dict(zip(valid, read(self.language_model, template, queries, own_shots, request), strict=True))
        answers = []
        for i, (one, question) in enumerate(zip(described, questions, strict=True)):
            made = readings.get(i) or Reading(None, None, None, errors[i])
            evidence = (one.descriptions, made.prompt, made.completion, self.language_model.spec)
            notes = [made.note, *(description.note for description in one.descriptions)]
            note = "; ".join(dict.fromkeys(filter(None, notes))) or None
            answers.append(Answer(one.name, question, made.answer, *evidence, made.error, note))
        return answers

    def _with_contexts(self, lists: Sequence[Sequence[Shot]]) -> list[list[Shot]]:
        """The lists of shots; those with an image and no context are described."""
        paths = list(dict.fromkeys(shot.image for shots in lists for shot in shots if shot.image and not shot.context))
        described = dict(zip(paths, self.describer.describe(paths), strict=True))
        if errors := [one.error for one in described.values() if one.error]:
            raise InputError(f"the image of a shot cannot be described: {errors[0]}")
        contexts = {path: one.context(self.describer.specs) for path, one in described.items()}
        return [
            [shot if shot.context else replace(shot, context=contexts.get(shot.image, shot.context)) for shot in shots]
            for shots in lists
        ]


def _spaced(choices: Sequence[str] | None) -> tuple[str, ...] | None:
    """With the space between a field's colon and its answer."""
    return None if choices is None else tuple(f" {choice}" for choice in choices)
