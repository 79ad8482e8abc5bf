"""The reader: encoders write the words for an image, a template carries them to a language model, its answer comes back
with the evidence.
"""

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
from ...prompting.rewrites import TokenCounter
from ...prompting.templates import Shot, Template
from ...prompting.upsampling import WORKED_PAIRS, UpsampleTemplate
from ...prompting.vqa import VQA_PSEUDO, VQATemplate
from ..models.base import DEFAULT_LANGUAGE_MODEL, LanguageModel, load_language_model
from .answers import Answer, Upsampling
from .describer import Described, Describer
from .reading import Generation, Reading, read
from .upsampler import upsample

_BLANK = "the question is blank; expected some words"
Shots = Sequence[Shot] | Callable[[Shot], Sequence[Shot]]
"""Demonstrations, the same for every query; or a function that picks them for a query, such as `NearestShots`."""


class ImageReader:
    """`ask`, `classify`, `caption` and `upsample`, each batched, each answer with its evidence.

    encoders: spec -> encoder; the words of all of them stand in the context, labelled where there are several.
    settings: of `Describer`, such as `limits`, `batch_size` and `cache_size`.
    """

    def __init__(self, encoders: Mapping[str, Encoder], language_model: LanguageModel, **settings: Any) -> None:
        self.describer = Describer(encoders, **settings)
        self.language_model = language_model

    @classmethod
    def from_specs(
        cls,
        encoders: Sequence[str] | None = None,
        language_model: str = DEFAULT_LANGUAGE_MODEL,
        **settings: Any,
    ) -> ImageReader:
        """By the names that the command line takes: `ImageReader.from_specs(["coca"], "http://localhost:8000/v1")`.

        encoders: by default `ASK_ENCODERS`. settings: of `Describer`, such as `limits` and `allow_network`.
        """
        model = load_language_model(language_model)
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

        shots: by default pseudo samples, which show the form of an answer; () for none. Those with an image and no
        context get theirs from the encoders. ids: of the queries, for `shots` that are picked by `Shot.id`.
        choices: the answer is one of these.
        """
        if len(images) != len(questions):
            raise InputError(f"got {len(images)} images and {len(questions)} questions; expected one question for each")
        options = _spaced(choices) if choices is not None else None
        settings = Generation(max_tokens, temperature, seed, options)
        return self._read(template or VQATemplate(), images, questions, shots, ids, settings)

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
        """The label of each image. constrained: the model can write nothing but a label; else what it writes is parsed,
        and all that is no label is an error.
        """
        template = template or ClassificationTemplate(labels=tuple(labels))
        if template.labels != tuple(labels):
            raise InputError(f"the template's labels are {list(template.labels)}; expected {list(labels)}")
        settings = Generation(max_tokens, temperature, seed, _spaced(labels) if constrained else None)
        return self._read(template, images, [""] * len(images), shots, ids, settings)

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
        """One caption for each image, in the manner of the shots."""
        settings = Generation(max_tokens, temperature, seed)
        return self._read(template or CaptionTemplate(), images, [""] * len(images), shots, ids, settings)

    def upsample(
        self,
        prompts: Sequence[str],
        *,
        template: UpsampleTemplate | None = None,
        shots: Sequence[Shot] = WORKED_PAIRS,
        count_tokens: TokenCounter | None = None,
        token_limit: int | None = None,
        max_tokens: int = 192,
        temperature: float = 0.7,
        seed: int = 0,
    ) -> list[Upsampling]:
        """Rewrite short prompts for an image generator; see `upsampler.upsample`, which needs no encoder."""
        return upsample(
            self.language_model,
            prompts,
            template=template,
            shots=shots,
            count_tokens=count_tokens,
            token_limit=token_limit,
            max_tokens=max_tokens,
            temperature=temperature,
            seed=seed,
        )

    def _read(
        self,
        template: Template,
        images: Sequence[ImageSource],
        questions: Sequence[str],
        shots: Shots,
        ids: Sequence[str] | None,
        settings: Generation,
    ) -> list[Answer]:
        if ids is not None and len(ids) != len(images):
            raise InputError(f"got {len(ids)} ids for {len(images)} images; expected one for each")
        described = self.describer.describe(images)
        specs = self.describer.specs
        names = ids or [one.name for one in described]
        errors = [one.error for one in described]
        if isinstance(template, VQATemplate):
            errors = [
                error or (None if asked.strip() else _BLANK) for error, asked in zip(errors, questions, strict=True)
            ]
        ready = [i for i, error in enumerate(errors) if error is None]
        files = [str(image) if isinstance(image, str | Path) else "" for image in images]
        queries = [Shot(described[i].context(specs), questions[i], id=names[i], image=files[i]) for i in ready]
        if callable(shots):
            chosen = self._with_contexts([shots(query) for query in queries])
        else:
            chosen = self._with_contexts([shots]) * len(queries)
        by_place = dict(zip(ready, read(self.language_model, template, queries, chosen, settings), strict=True))
        return [
            self._answer(one, question, by_place.get(i) or Reading(None, None, None, errors[i]))
            for i, (one, question) in enumerate(zip(described, questions, strict=True))
        ]

    def _with_contexts(self, chosen: Sequence[Sequence[Shot]]) -> list[list[Shot]]:
        """The shots, those with an image and no context described as the queries are."""
        paths = list(dict.fromkeys(s.image for shots in chosen for s in shots if s.image and not s.context))
        words = dict(zip(paths, self.describer.describe(paths), strict=True))
        if wrong := [one for one in words.values() if one.error]:
            raise InputError(f"the image of a shot cannot be described: {wrong[0].error}")
        return [
            [
                replace(shot, context=words[shot.image].context(self.describer.specs)) if shot.image in words else shot
                for shot in shots
            ]
            for shots in chosen
        ]

    def _answer(self, one: Described, question: str, made: Reading) -> Answer:
        return Answer(
            one.name,
            question,
            made.answer,
            one.descriptions,
            made.prompt,
            made.completion,
            self.language_model.spec,
            made.error,
            made.note,
        )


def _spaced(choices: Sequence[str]) -> tuple[str, ...]:
    """With the space that stands between a field's colon and its answer."""
    return tuple(f" {choice}" for choice in choices)
