"""Completions of a language model, kept in a file: what was once answered is never asked again."""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from hashlib import blake2b
from pathlib import Path
from threading import Lock
from typing import Any, cast

from torch import nn

from ...agent.models.base import Completion, CountsTokens, LanguageModel
from ...encoders.fingerprint import fingerprint

_PART = 64  # prompts that a model in this process gets at once; lost if it is killed before they are answered
_AT_ONCE = 32  # prompts sent to a server, which are kept one by one: it never waits for the last of a part


class CompletionCache:
    """Hash of model, prompt and settings -> completion, in `folder/completions-MODEL.jsonl`. Failed ones are not kept.

    Lines are only ever added; a line that a killed process left unfinished is passed over.
    """

    def __init__(self, folder: Path, model: LanguageModel) -> None:
        self.identity = identity(model)
        name = re.sub(r"[^\w@.-]+", "_", model.spec)[-60:]
        self.path = folder / f"completions-{name}.jsonl"
        self._known: dict[str, dict[str, Any]] = {}
        self._lock = Lock()
        if self.path.exists():
            for line in self.path.read_bytes().split(b"\n"):
                try:
                    entry = json.loads(line)
                    self._known[entry["key"]] = entry
                except (ValueError, KeyError, TypeError):  # the unfinished line
                    continue

    def key(self, prompt: str, settings: dict[str, Any]) -> str:
        """Of one prompt with the settings of `complete`."""
        asked = json.dumps([self.identity, prompt, settings], sort_keys=True, default=list)
        return blake2b(asked.encode(errors="surrogatepass"), digest_size=16).hexdigest()

    def get(self, key: str, prompt: str) -> Completion | None:
        """What was answered before."""
        found = self._known.get(key)
        if found is None:
            return None
        return Completion(
            found["text"], found["finish_reason"], found["prompt_tokens"], found["completion_tokens"], prompt,
            found["parameters"],
        )  # fmt: skip

    def add(self, keys: Sequence[str], completions: Sequence[Completion]) -> None:
        """Keep those that are no failures."""
        new = {
            key: {"key": key, **one.as_json()} for key, one in zip(keys, completions, strict=True) if one.error is None
        }
        if not new:
            return
        with self._lock:
            self._known |= new
            self.path.parent.mkdir(parents=True, exist_ok=True)
            with self.path.open("a", encoding="utf-8") as file:
                file.write("\n" + "".join(json.dumps(entry) + "\n" for entry in new.values()))


class CachedModel:
    """A language model that asks only what the cache does not hold."""

    def __init__(self, model: LanguageModel, cache: CompletionCache) -> None:
        self.model, self.cache, self.asked = model, cache, 0
        self.spec = model.spec
        self._counts_tokens = isinstance(model, CountsTokens)  # once: it may ask a server

    @property
    def context_length(self) -> int | None:
        return cast(CountsTokens, self.model).context_length if self._counts_tokens else None

    def count_tokens(self, text: str) -> int:
        return cast(CountsTokens, self.model).count_tokens(text)

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
        """As `LanguageModel.complete`; a server's answer is kept as soon as it is there, others in parts."""
        settings: dict[str, Any] = {
            "max_tokens": max_tokens, "stop": stop, "temperature": temperature, "seed": seed, "choices": choices
        }  # fmt: skip
        keys = [self.cache.key(prompt, settings) for prompt in prompts]
        missing = [i for i, key in enumerate(keys) if self.cache.get(key, prompts[i]) is None]
        failed: dict[str, Completion] = {}

        def ask(part: Sequence[int]) -> None:
            made = self.model.complete([prompts[i] for i in part], **settings)
            self.cache.add([keys[i] for i in part], made)
            failed.update({keys[i]: one for i, one in zip(part, made, strict=True) if one.error is not None})

        unique = list({keys[i]: i for i in missing}.values())
        self.asked += len(unique)
        if self.spec.startswith(("http", "chat+http")):
            pool = ThreadPoolExecutor(_AT_ONCE)
            try:
                list(pool.map(ask, [[i] for i in unique]))
            finally:
                pool.shutdown(cancel_futures=True)
        else:
            for start in range(0, len(unique), _PART):
                ask(unique[start : start + _PART])
        return [
            failed.get(key) or cast(Completion, self.cache.get(key, prompt))
            for key, prompt in zip(keys, prompts, strict=True)
        ]


def identity(model: LanguageModel) -> str:
    """Of the model's weights where they are in this process; of a server its address and the model's name there."""
    inner = getattr(model, "model", None)
    return f"{model.spec} {fingerprint(inner)}" if isinstance(inner, nn.Module) else f"{model.spec} {inner or ''}"
