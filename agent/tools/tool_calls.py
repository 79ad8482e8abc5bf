"""What the tools do, whoever calls them: the LangChain tools and the MCP server are wrappers of `ToolCalls`."""

from __future__ import annotations

import io
import logging
import re
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

from PIL.Image import Image
from pydantic import ValidationError

from ...encoders.base import Description
from ...encoders.images import ImageError, display_name
from ...encoders.redraw.recreate import Recreation
from ...errors import TextlensError
from ...prompting.rewrites import FLAGS
from ...prompting.sanitize import clean, quote_untrusted, quoted, told
from ..reader.upsampler import upsample
from .image_access import ImageAccess
from .output_folder import OutputFolder
from .tool_inputs import TOOLS, invalid_arguments
from .tool_models import ToolModels

if TYPE_CHECKING:
    from ..reader.answers import Answer
    from ..reader.reader import ImageReader

_BUGS = (TypeError, AttributeError, NameError, AssertionError, LookupError, ImportError, NotImplementedError)
# The folders before a file's name, which no language model needs to know; not those of an address.
_FOLDERS = re.compile(r"""(?<![\w:/.\\])(?:[A-Za-z]:)?[/\\](?:[^\s/\\'":,;()]+[/\\])+(?=[^\s/\\])""")

_log = logging.getLogger(__name__)


class RecoverableError(TextlensError):
    """Written for the language model, which may correct its call or tell the user. One line, sanitised: it may hold
    names of files and what a server wrote.
    """

    def __init__(self, message: str) -> None:
        super().__init__(told(message))


@contextmanager
def recoverable() -> Iterator[None]:
    """Errors in here are `RecoverableError`s, without paths of this machine."""
    try:
        yield
    except TextlensError as error:
        raise RecoverableError(without_folders(str(error))) from error


@contextmanager
def _guarded(tool: str) -> Iterator[None]:
    """What goes wrong in here though nobody's code is wrong (a full disk, no memory, a file that is gone) becomes a
    `RecoverableError` without the error's own words, which hold paths of this machine; the log has them.
    """
    try:
        yield
    except (TextlensError, *_BUGS):
        raise
    except Exception as error:
        _log.exception("%s failed", tool)
        reason = error.strerror if isinstance(error, OSError) and error.strerror else type(error).__name__
        raise RecoverableError(f"{tool} failed inside textlens ({reason}); its log says more") from error


@dataclass(frozen=True)
class ToolResult:
    """text: for the language model. evidence: in plain JSON types. picture: what was drawn."""

    text: str
    evidence: dict[str, Any]
    picture: Image | None = None


@dataclass
class ToolCalls:
    """A method for each of `tool_inputs.TOOLS`, with its arguments.

    output: where `recreate` may save files; None for nowhere. guidance_scale, num_inference_steps: of drawing.
    All methods raise `RecoverableError` for wrong names and arguments, and another `TextlensError` for a wrong set-up.
    From outside come `call`s alone. Safe in parallel threads: each model has its own lock, and none is held while a
    language model's server is waited for.
    """

    models: ToolModels
    access: ImageAccess = field(default_factory=ImageAccess)
    output: OutputFolder | None = None
    guidance_scale: float = 3.0
    num_inference_steps: int = 50

    def call(self, name: str, arguments: Mapping[str, Any]) -> ToolResult:
        """Any tool, by its name and by arguments from outside, checked. An error that is not a bug is a
        `RecoverableError`, or a `TextlensError` for a wrong set-up.
        """
        spec = TOOLS.get(name)
        if spec is None:
            raise RecoverableError(
                f"unknown tool {quote_untrusted(name, max_chars=100)}: expected one of: {', '.join(TOOLS)}"
            )
        try:
            checked = spec.arguments.model_validate(dict(arguments))
        except ValidationError as error:
            raise RecoverableError(invalid_arguments(error)) from error
        with _guarded(name):
            made: ToolResult = getattr(self, spec.method)(**checked.model_dump())
            return made

    def describe(self, image: str) -> ToolResult:
        """All encoders' descriptions of one image."""
        found = self._descriptions(self._open(image))
        words = [{"encoder": one.encoder, "text": one.text, "note": one.note} for one in found]
        lines = [f"{one.encoder}: {quoted(clean(one.text))}" for one in found]
        return ToolResult("\n".join(lines), {"image": display_name(image), "descriptions": words})

    def ask(self, image: str, question: str, choices: list[str] | None = None) -> ToolResult:
        """A question about one image, answered by the reader's language model from the encoders' words."""
        answer = self._answer(image, lambda reader, opened: reader.ask([opened], [question], choices=choices))
        return ToolResult(with_notes(str(answer.answer), [answer.note]), answer.as_json())

    def classify(self, image: str, labels: list[str]) -> ToolResult:
        """One of the given classes for one image."""
        answer = self._answer(image, lambda reader, opened: reader.classify([opened], labels))
        return ToolResult(with_notes(str(answer.answer), [answer.note]), answer.as_label_json())

    def upsample(self, prompt: str, seed: int = 0) -> ToolResult:
        """A short prompt made detailed; if that fails, the prompt itself with the reason."""
        with self.models.lock:
            model = self.models.language_model
        with self.models.answering(), recoverable():
            (made,) = upsample(model, [prompt], seed=seed)
        notes = [FLAGS[flag] for flag in made.upsampled.flags] + [made.upsampled.error]
        completion = made.completion and made.completion.as_json()
        evidence = {"sent": made.prompt, "completion": completion, "llm": made.llm, "note": made.note}
        return ToolResult(with_notes(made.upsampled.prompt, notes), {**made.as_json(), **evidence})

    def recreate(
        self,
        image: str | None = None,
        text: str | None = None,
        file_name: str | None = None,
        side_by_side: bool = False,
        seed: int = 0,
    ) -> ToolResult:
        """An image redrawn from the words of one encoder alone, or a drawing of given words."""
        if file_name:
            with recoverable():
                self._output().check(file_name)  # before drawing
        if bool(image) == bool(text):  # models fill what they leave out with empty strings
            raise RecoverableError("expected either an image or a text to draw")
        opened = self._open(image) if image else None
        steps = self.num_inference_steps
        settings: dict[str, Any] = {"guidance_scale": self.guidance_scale, "num_inference_steps": steps, "seed": seed}
        words = (text or "") if opened is None else self._descriptions(opened, to_redraw=True)[0].text
        with self.models.lock:
            redrawer = self.models.redrawer
        with self.models.drawing, recoverable():
            made = Recreation(opened, words, redrawer.draw([words], **settings)[0])
        picture = made.picture if side_by_side else made.drawn
        with recoverable():
            path = self._output().save(file_name, picture) if file_name else None
            drawn = self.access.drawn.add(made.drawn)
        saved = f"saved as {file_name}, and " if path else ""
        evidence = {
            "image": image and display_name(image),
            "text": words,
            "decoder": redrawer.name,
            **settings,
            "id": drawn,
            "out": path and str(path),
        }
        return ToolResult(
            f"Drawn from the words {quoted(clean(words))}; {saved}kept as {drawn}.", evidence, picture=picture
        )

    def _open(self, reference: str) -> Image:
        try:
            return self.access.open(reference)
        except ImageError as error:  # tells the path that was asked for, and no other
            raise RecoverableError(str(error)) from error

    def _descriptions(self, image: Image, *, to_redraw: bool = False) -> tuple[Description, ...]:
        """By all encoders; to_redraw: by those whose words are drawn."""
        with self.models.lock:
            describer = self.models.redraw_describer if to_redraw else self.models.describer
        (described,) = describer.describe([image])
        if described.error is not None:
            raise RecoverableError(without_folders(described.error))
        return described.descriptions

    def _answer(self, reference: str, ask: Callable[[ImageReader, Image], list[Answer]]) -> Answer:
        """What the reader answers to `ask` about an image."""
        opened = self._open(reference)
        with self.models.lock:
            reader = self.models.reader
        reader.describer.describe([opened])  # kept in its cache, before a language model may have to be waited for
        with self.models.answering(), recoverable():
            (answer,) = ask(reader, opened)
        if answer.answer is None:
            raise RecoverableError(f"no answer: {without_folders(answer.error or '')}")
        return replace(answer, image=display_name(reference))

    def _output(self) -> OutputFolder:
        if self.output is None:
            raise RecoverableError("no files may be written here; leave out file_name")
        return self.output


def with_notes(text: str, notes: list[str | None]) -> str:
    """The text, with the notes in parentheses; both sanitised, as notes may hold what a server wrote."""
    known = [told(without_folders(note)) for note in notes if note]
    return f"{clean(text)} ({'; '.join(known)})" if known else clean(text)


def without_folders(text: str) -> str:
    """The text with names of files instead of their paths."""
    return _FOLDERS.sub("", text)


def png(image: Image) -> bytes:
    """The bytes of a PNG file."""
    encoded = io.BytesIO()
    image.save(encoded, "PNG")
    return encoded.getvalue()
