"""Language models as text in, text out: one protocol, what it returns, and the specs by which a model is named.

Importing this module is light; torch, transformers, openai and vllm load with the model that needs them.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any, Protocol, runtime_checkable

from ...encoders.registry import WEIGHTS
from ...errors import InputError, encoding_error

DEFAULT_LANGUAGE_MODEL = "tiny"


@dataclass(frozen=True)
class Completion:
    """What a language model wrote after one prompt, and exactly what it was asked.

    text: without the stop mark that ended it. finish_reason: "stop" (a stop mark, the end token, or a whole choice),
    "length" (cut off at `max_tokens`), "error", or what else a server says.
    completion_tokens: as generated, with the end token and the stop mark.
    prompt, parameters: as sent. error: why there is no text; None where well.
    """

    text: str
    finish_reason: str
    prompt_tokens: int
    completion_tokens: int
    prompt: str
    parameters: Mapping[str, Any] = field(default_factory=dict)
    error: str | None = None

    @property
    def cut_off(self) -> bool:
        """Whether the text ends because `max_tokens` were used up, not because the model was done."""
        return self.finish_reason == "length"

    @classmethod
    def failed(cls, error: str, prompt: str, parameters: Mapping[str, Any], *, prompt_tokens: int = 0) -> Completion:
        """A prompt that got no text."""
        return cls("", "error", prompt_tokens, 0, prompt, parameters, error)

    def as_json(self) -> dict[str, Any]:
        """Everything but the prompt and the error, which stand beside it in the lines of the command line."""
        record = asdict(self)
        return {key: value for key, value in record.items() if key not in ("prompt", "error")}


class LanguageModel(Protocol):
    """Anything that writes on from a prompt."""

    @property
    def spec(self) -> str:
        """The name that stands in results, such as "tiny"."""
        ...

    def complete(
        self,
        prompts: Sequence[str],
        *,
        max_tokens: int,
        stop: Sequence[str] = (),
        temperature: float,
        seed: int,
        choices: Sequence[str] | None = None,
    ) -> list[Completion]:
        """One completion per prompt, in their order. temperature 0 is greedy.

        stop: the text ends before the first of these. choices: the text is exactly one of these; `max_tokens` then
        plays no part. A prompt that fails has a `Completion` with its error, and loses no other.
        Raises `InputError` for settings that no model could follow, such as a choice that cannot be encoded.
        """
        ...


@runtime_checkable
class CountsTokens(Protocol):
    """A language model that knows the length of a text: shots can be dropped before a prompt is too long."""

    @property
    def context_length(self) -> int | None:
        """Tokens of prompt and completion together; None for no limit."""
        ...

    def count_tokens(self, text: str) -> int:
        """The length of a prompt, with the special tokens that the model puts around it.

        Raises `InputError` for a text that cannot be encoded.
        """
        ...


@dataclass(frozen=True)
class Request:
    """The settings of `LanguageModel.complete`, checked."""

    max_tokens: int
    stop: tuple[str, ...]
    temperature: float
    seed: int
    choices: tuple[str, ...] | None = None

    def __post_init__(self) -> None:
        if self.max_tokens < 1:
            raise InputError(f"max_tokens is {self.max_tokens}; expected 1 or more")
        if not 0 <= self.temperature < float("inf"):
            raise InputError(f"temperature is {self.temperature}; expected 0 (greedy) or more")
        if self.seed < 0:
            raise InputError(f"seed is {self.seed}; expected 0 or more")
        if not all(self.stop):
            raise InputError("a stop mark is empty; expected texts of one character or more")
        for text in (*self.stop, *(self.choices or ())):
            if reason := encoding_error(text, "a stop mark or choice"):
                raise InputError(reason)
        if self.choices is not None and (
            not self.choices or not all(self.choices) or len(set(self.choices)) < len(self.choices)
        ):
            raise InputError(f"choices are {list(self.choices)}; expected one or more texts, each another, none empty")

    @classmethod
    def of(
        cls, max_tokens: int, stop: Sequence[str], temperature: float, seed: int, choices: Sequence[str] | None
    ) -> Request:
        """From the arguments of `complete`."""
        if isinstance(stop, str) or isinstance(choices, str):
            raise InputError("stop and choices are lists of texts; got a single text")
        return cls(max_tokens, tuple(stop), temperature, seed, None if choices is None else tuple(choices))

    @property
    def parameters(self) -> dict[str, Any]:
        """As `Completion.parameters` holds them."""
        return asdict(self)

    @property
    def longest_answer(self) -> int:
        """Tokens that a server must grant: `max_tokens`, or enough for any choice, at one byte a token."""
        return self.max_tokens if self.choices is None else 1 + max(len(choice.encode()) for choice in self.choices)

    def before_stop(self, text: str) -> str | None:
        """The text before the first stop mark; None where there is no mark in it."""
        ends = [place for mark in self.stop if (place := text.find(mark)) >= 0]
        return text[: min(ends)] if ends else None


@dataclass(frozen=True)
class LanguageModelSpec:
    """build(checkpoint, device, spec) makes the model; `checkpoint` is what follows the colon, or `default`.

    bare: the name stands alone, without a checkpoint.
    """

    build: Callable[[str, str | None, str], LanguageModel]
    help: str
    default: str | None = None
    bare: bool = False


def _tiny(checkpoint: str, device: str | None, spec: str) -> LanguageModel:
    from pathlib import Path

    if not (Path(checkpoint) / "config.json").is_file():
        raise InputError(
            f"the small language model is not there: no config.json in {checkpoint}; name another model, such as "
            "http://localhost:8000/v1 (a vLLM server) or hf:HUB_ID_OR_FOLDER"
        )
    return _transformers(checkpoint, device, spec)


def _transformers(checkpoint: str, device: str | None, spec: str) -> LanguageModel:
    from .transformers import InProcessModel

    return InProcessModel.from_pretrained(checkpoint, device=device, spec=spec)


def _server(checkpoint: str, device: str | None, spec: str) -> LanguageModel:
    from .server import ServerModel

    return ServerModel.from_spec(spec)


def _vllm(checkpoint: str, device: str | None, spec: str) -> LanguageModel:
    from .vllm import VllmEngine

    return VllmEngine.from_pretrained(checkpoint, spec=spec)


_SERVER = LanguageModelSpec(_server, "http://HOST:PORT/v1 or http://HOST:PORT/v1#MODEL, a vLLM server")

LANGUAGE_MODELS: dict[str, LanguageModelSpec] = {
    "tiny": LanguageModelSpec(
        _tiny, "tiny, the small model that comes along", str(WEIGHTS / "language_model"), bare=True
    ),
    "http": _SERVER,
    "https": _SERVER,
    "vllm": LanguageModelSpec(_vllm, "vllm:HUB_ID_OR_FOLDER, vLLM in this process"),
    "hf": LanguageModelSpec(_transformers, "hf:HUB_ID_OR_FOLDER, transformers in this process"),
}


def load_language_model(spec: str = DEFAULT_LANGUAGE_MODEL, *, device: str | None = None) -> LanguageModel:
    """The language model of a spec. device: for models in this process; by default a GPU if there is one.

    Raises `InputError` for an unknown name, listing the valid ones, and for a checkpoint that does not load.
    """
    name, _, checkpoint = spec.partition(":")
    entry = LANGUAGE_MODELS.get(name)
    chosen = checkpoint or (entry.default if entry else None)
    if entry is None or chosen is None or (entry.bare and ":" in spec):
        known = "; ".join(dict.fromkeys(known.help for known in LANGUAGE_MODELS.values()))
        raise InputError(f"unknown language model {spec!r}: expected one of: {known}")
    return entry.build(chosen, device, spec)
