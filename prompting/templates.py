"""The base of all prompt templates: one rendering for shots and query, strict parsing.

A prompt is instruction, shots, query, in this order, so that a server can cache the shared prefix. As a chat it is the
instruction as system message, each shot as a turn of user and assistant, and the query.
"""

from __future__ import annotations

import re
from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass, replace

from ..errors import InputError
from .messages import Message, Prompt
from .sanitize import MAX_CHARS, clean, has_markers, quoted

PAPER_END = "$"
"""What ends an answer in De-Diffusion's prompts (arXiv 2311.00618)."""


@dataclass(frozen=True)
class Context:
    """One description of an image; `label` tells several of one image apart ("De-Diffusion", "DeCap", "caption")."""

    text: str
    label: str = ""


@dataclass(frozen=True)
class Shot:
    """One example: what is known of an image, what is asked, and the answer. A query is a shot whose answer is left
    open.

    context: descriptions of the image; none for a pseudo sample or a blind question.
    question: VQA's question, or the prompt to be upsampled; "" for captioning and classification.
    answer: answer, caption, class name or rewritten prompt.
    id: names the example, so that a query is never its own demonstration.
    image: path of the image, for examples whose context is still to be written by an encoder; of a query, its own.
    """

    context: tuple[Context, ...] = ()
    question: str = ""
    answer: str | None = None
    id: str = ""
    image: str = ""


@dataclass(frozen=True)
class Parsed:
    """A completion as read by a template: either `answer`, or `error` saying why there is none."""

    answer: str | None
    error: str | None = None


_LABELS = {"dediffusion": "De-Diffusion", "decap": "DeCap", "coca": "caption", "hf": "caption"}


def context_label(encoder: str) -> str:
    """The label of an encoder's text, from the encoder's spec: "decap:some/checkpoint", "scenes:decap" -> "DeCap"."""
    names = encoder.split(":")
    return next((_LABELS[name] for name in names if name in _LABELS), names[0])


@dataclass(frozen=True, kw_only=True)
class Template(ABC):
    """Renders examples to a prompt and parses what a language model writes on.

    quote: descriptions stand in double quotes that they cannot close. The paper's formats have none.
    max_chars: of one description or question; longer ones are cut between words and end in "…".
    """

    quote: bool = True
    max_chars: int = MAX_CHARS

    @property
    @abstractmethod
    def head(self) -> str:
        """The instruction that opens the prompt; "" for none."""

    @property
    @abstractmethod
    def fields(self) -> tuple[str, ...]:
        """The field names, which no text from outside may carry."""

    @property
    def mark(self) -> str:
        """What stands behind every answer of a shot, before the line's end; "" for nothing. It does not end
        generation: a "$" may begin a price.
        """
        return ""

    @property
    @abstractmethod
    def stop(self) -> tuple[str, ...]:
        """Where generation ends; `parse` cuts there too, for models that run on."""

    @property
    def choice_stop(self) -> tuple[str, ...]:
        """`stop` where the answer is one of several choices: the first is what stands behind it in a shot."""
        return (self.mark, *self.stop) if self.mark else self.stop

    @abstractmethod
    def example(self, shot: Shot) -> list[str]:
        """The lines of one example, ending after its answer, or open where the answer is None."""

    def prefix(self, shots: Sequence[Shot] = ()) -> Prompt:
        """What all queries with these shots share: every prompt of `render` begins with it."""
        parts, messages = ([self.head], [Message("system", self.head)]) if self.head else ([], [])
        for number, shot in enumerate(shots, 1):
            if shot.answer is None or not self.clean(shot.answer):
                raise InputError(f"shot {number} has no answer: every demonstration needs one")
            parts.append("\n".join(self.example(shot)))
            messages += [*self.query(shot).messages, Message("assistant", self.answer(shot.answer))]
        return Prompt("".join(f"{part}\n\n" for part in parts), messages)

    def query(self, shot: Shot) -> Prompt:
        """One example, open where its answer is due."""
        text = "\n".join(self.example(replace(shot, answer=None)))
        return Prompt(text, [Message("user", text)])

    def render(self, query: Shot, shots: Sequence[Shot] = ()) -> Prompt:
        """The prompt, open where the answer is due. An answer that the query may carry (the truth, in evaluation) is
        left out.
        """
        return self.prefix(shots).then(self.query(query))

    def answer(self, text: str) -> str:
        """The answer of a shot as it stands in the prompt, without what ends it."""
        return self.clean(text)

    def parse(self, completion: str) -> Parsed:
        """The text before the first stop string, and before the mark. An empty text, or one with the prompt's own
        field names in it, is an error.
        """
        text = completion.lstrip()
        end = min((place for string in self.stop if (place := text.find(string)) >= 0), default=len(text))
        answer = _before(self.mark, text[:end]).strip()
        if not answer:
            return Parsed(None, "the completion holds no text before the end of its line")
        if has_markers(answer, fields=self.fields):
            return Parsed(None, "the completion runs on into the prompt's own field names or special tokens")
        return Parsed(answer)

    def clean(self, text: str, *, max_chars: int | None = None) -> str:
        """Text from outside without this template's field names, and without its mark at the end."""
        line = clean(text, fields=self.fields, max_chars=max_chars or self.max_chars)
        while self.mark and line.endswith(self.mark):
            line = line.removesuffix(self.mark).rstrip()
        return line

    def context_lines(self, field: str, context: Sequence[Context]) -> list[str]:
        """`Image context: …`, or `Image context (DeCap): …` for each labelled description; the bare field where there
        is none.
        """
        lines = []
        for item in context:
            text = self.clean(item.text)
            label = self.clean(item.label).translate({ord(sign): None for sign in '():"“”'}).strip()
            lines.append(line(f"{field} ({label})" if label else field, quoted(text) if self.quote else text))
        return lines or [line(field, "")]


def line(field: str, text: str) -> str:
    """`Field: text`, or `Field:` without a space behind it: models continue worse after one."""
    return f"{field}: {text}" if text else f"{field}:"


def _before(mark: str, text: str) -> str:
    """The text before the first mark. One before a digit begins a price ("$5.99", "$.50") and ends nothing."""
    return re.split(rf"{re.escape(mark)}(?!\.?\d)", text, maxsplit=1)[0] if mark else text
