"""A language model behind an OpenAI-compatible server, such as vLLM: many requests at once, bounded retries.

A prompt that fails for good has a completion with its error; the others keep their answers. The key comes from the
environment variable TEXTLENS_API_KEY, and stands in no result, error or log. It is never taken from a variable of
another program, because the address may be anybody's.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from threading import Lock
from typing import TYPE_CHECKING, Any, TypeVar
from urllib.parse import urlsplit

from ...errors import InputError, TextlensError, encoding_error
from .base import Completion, Request

if TYPE_CHECKING:
    from openai import OpenAI

API_KEY = "TEXTLENS_API_KEY"
_ASK_SECONDS = 10.0  # to wait for how much a model takes

Result = TypeVar("Result")


class ServiceError(TextlensError):
    """The server could not be reached, refused, or sent what is no answer, after all retries."""


class _MalformedError(Exception):
    """An answer that is no completion; sent anew, it may be one."""


@dataclass(frozen=True)
class ServerSettings:
    """concurrency: requests under way at once. attempts: per request, the first included.

    timeout_seconds: for the whole of one attempt's connection, and for each wait on the answer.
    backoff_seconds: before the second attempt; doubled (with jitter) for each further one, up to `max_backoff_seconds`.
    """

    concurrency: int = 16
    attempts: int = 4
    timeout_seconds: float = 120.0
    backoff_seconds: float = 0.5
    max_backoff_seconds: float = 8.0

    def __post_init__(self) -> None:
        for name, value in vars(self).items():
            if not value > 0:
                raise InputError(f"{name} is {value}; expected more than 0")


class ServerModel:
    """`complete` by `POST base_url/completions`, one request per prompt.

    model: by default the one that the server lists; with several, one must be named.
    """

    def __init__(self, base_url: str, model: str | None = None, *, settings: ServerSettings | None = None) -> None:
        from openai import OpenAI

        _check_address(base_url)
        self.settings = settings or ServerSettings()
        self.base_url, self.spec = base_url, f"{base_url}#{model}" if model else base_url
        self._model, self._naming, self._key = model, Lock(), api_key()
        self._context_length: int | None = None
        self._context_known = False
        # Retries are ours alone: the client's own would multiply with them.
        self._client: OpenAI = OpenAI(
            base_url=base_url,
            api_key=self._key or "EMPTY",
            max_retries=0,
            timeout=self.settings.timeout_seconds,
        )

    @classmethod
    def from_spec(cls, spec: str, *, settings: ServerSettings | None = None) -> ServerModel:
        """From "http://host:port/v1" or "http://host:port/v1#model"."""
        base_url, _, model = spec.partition("#")
        return cls(base_url, model or None, settings=settings)

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
        """One completion per prompt, in their order; see `LanguageModel`."""
        request = Request.of(max_tokens, stop, temperature, seed, choices)
        parameters = _parameters(request)
        try:
            parameters = {"model": self.model, **parameters}
        except ServiceError as error:  # once for all: each prompt would wait for the same failure
            return [Completion.failed(str(error), prompt, parameters) for prompt in prompts]
        pool = ThreadPoolExecutor(self.settings.concurrency, thread_name_prefix="textlens-server")
        try:
            return list(pool.map(lambda prompt: self._complete(prompt, parameters, request), prompts))
        finally:
            pool.shutdown(cancel_futures=True)

    def _complete(self, prompt: str, parameters: dict[str, Any], request: Request) -> Completion:
        if reason := encoding_error(prompt):
            return Completion.failed(reason, prompt, parameters)
        try:
            return self._retried(lambda: self._send(prompt, parameters, request))
        except ServiceError as error:
            return Completion.failed(str(error), prompt, parameters)

    @property
    def model(self) -> str:
        """The model's name on the server, asked for once."""
        with self._naming:
            if self._model is None:
                self._model = self._retried(self._only_model)
            return self._model

    @property
    def context_length(self) -> int | None:
        """As vLLM tells it. None for another server, which is left to refuse what is too long, and for one that does
        not answer."""
        from openai import APIStatusError, OpenAIError

        if not self._context_known:
            try:
                _, self._context_length = self._tokenized("a", timeout=min(self.settings.timeout_seconds, _ASK_SECONDS))
                self._context_known = True
            except APIStatusError as error:
                self._context_known = error.status_code < 500
            except (ServiceError, OpenAIError, _MalformedError, ValueError):
                pass  # whatever it is, the prompts will meet it, too
        return self._context_length

    def count_tokens(self, text: str) -> int:
        """By vLLM's own tokenizer, special tokens included. Raises `InputError` for a text that cannot be encoded,
        `ServiceError` where the server does not count."""
        if reason := encoding_error(text):
            raise InputError(reason)
        count, _ = self._retried(lambda: self._tokenized(text))
        return count

    def _tokenized(self, text: str, timeout: float | None = None) -> tuple[int, int]:
        """How many tokens, and how many the model takes."""
        asked = {"model": self._model or self._only_model(), "prompt": text}
        address = f"{self.base_url.rstrip('/').removesuffix('/v1')}/tokenize"
        client = self._client.with_options(timeout=timeout or self.settings.timeout_seconds)
        told = client.post(address, body=asked, cast_to=object)
        count, limit = (told.get(name) if isinstance(told, dict) else None for name in ("count", "max_model_len"))
        if not isinstance(count, int) or not isinstance(limit, int):
            raise _MalformedError("the answer is no number of tokens")
        return count, limit

    def _only_model(self) -> str:
        listed = getattr(self._client.models.list(), "data", None)
        found = [getattr(model, "id", None) for model in listed] if isinstance(listed, list) else []
        names = [name for name in found if isinstance(name, str)]
        if not names or len(names) < len(found):
            raise _MalformedError("the server lists no models")
        if len(names) > 1:
            raise ServiceError(
                f"{self.base_url} serves {len(names)} models: {', '.join(names[:8])}; name one of them, as in "
                f"{self.base_url}#{names[0]}"
            )
        return names[0]

    def _send(self, prompt: str, parameters: dict[str, Any], request: Request) -> Completion:
        answer = self._client.completions.create(prompt=prompt, **parameters)
        made = _read(answer, prompt, parameters)
        return made if request.choices is None else _validated(made, request.choices)

    def _retried(self, send: Callable[[], Result]) -> Result:
        """What `send` returns, after as many attempts as it takes and is granted. Raises `ServiceError` alone."""
        from openai import APIConnectionError, APIStatusError, InternalServerError, OpenAIError, RateLimitError
        from tenacity import Retrying, retry_if_exception, stop_after_attempt, wait_exponential_jitter

        settings = self.settings
        again = (APIConnectionError, RateLimitError, InternalServerError, _MalformedError, ValueError)
        retrying = Retrying(
            retry=retry_if_exception(lambda error: isinstance(error, again) and type(error) is not UnicodeEncodeError),
            stop=stop_after_attempt(settings.attempts),
            wait=wait_exponential_jitter(
                multiplier=settings.backoff_seconds, max=settings.max_backoff_seconds, jitter=settings.backoff_seconds
            ),
            reraise=True,
        )
        try:
            return retrying(send)
        except APIStatusError as error:
            raise ServiceError(self._said(f"{self.base_url} answered {error.status_code}: {error.message}")) from None
        except UnicodeEncodeError as error:  # in the model's name or the key: prompts are looked at before
            raise ServiceError(f"the request cannot be sent: {error}") from None
        except (OpenAIError, _MalformedError, ValueError) as error:  # ValueError: JSON that is none
            reason = f"{error} ({type(error.__cause__ or error).__name__})"
            raise ServiceError(
                self._said(f"{self.base_url} gave no answer in {settings.attempts} attempts: {reason}")
            ) from None

    def _said(self, message: str) -> str:
        return line_without(self._key, message)


def api_key() -> str:
    """TEXTLENS_API_KEY, without the line end that files of secrets have; "" for none.

    Raises `InputError`, which does not show it, for characters that no request can carry.
    """
    key = os.environ.get(API_KEY, "").strip()
    if key and not (key.isascii() and key.isprintable()):
        raise InputError(f"{API_KEY} holds characters that no key has; expected printable ASCII, such as sk-…")
    return key


def _check_address(base_url: str) -> None:
    try:
        parts = urlsplit(base_url)
        known = parts.scheme in ("http", "https") and bool(parts.hostname) and (parts.port is None or parts.port > 0)
    except ValueError:  # a port that is none, half an IPv6 address
        known = False
    if not known or not base_url.isprintable() or " " in base_url:
        raise InputError(f"{base_url!r} is no address of a server; expected one such as http://localhost:8000/v1")
    if parts.username or parts.password:
        raise InputError(f"the address of {parts.hostname} holds a user name or password; set {API_KEY} instead")


def line_without(key: str, message: str) -> str:
    """A message as one line of at most 600 characters, without the key ("" for none), which a server may repeat."""
    line = " ".join(message.split())
    return (line.replace(key, "***") if key else line)[:600]


def _parameters(request: Request) -> dict[str, Any]:
    sent: dict[str, Any] = {
        "max_tokens": request.longest_answer,
        "temperature": request.temperature,
        "seed": request.seed,
    }
    if request.choices is not None:  # the choice is the end: a stop mark might cut it
        return {**sent, "extra_body": {"structured_outputs": {"choice": list(request.choices)}}}
    return {**sent, "stop": list(request.stop)} if request.stop else sent


def _read(answer: Any, prompt: str, parameters: dict[str, Any]) -> Completion:
    """The completion that the client has read, which it does without any check. Raises `_MalformedError`."""
    try:
        first, usage = answer.choices[0], answer.usage
        text, reason = first.text, first.finish_reason or "stop"
        taken, written = (usage.prompt_tokens, usage.completion_tokens) if usage else (0, 0)
    except (AttributeError, TypeError, LookupError) as error:  # what is not JSON comes back as plain text
        raise _MalformedError("the answer is no completion") from error
    if not isinstance(text, str) or not isinstance(taken, int) or not isinstance(written, int):
        raise _MalformedError("the answer is no completion")
    return Completion(text, str(reason), taken, written, prompt, parameters)


def _validated(made: Completion, choices: tuple[str, ...]) -> Completion:
    """The completion, or its error where it is none of the choices: an old server ignores the field without a word."""
    if made.text in choices:
        return made
    error = (
        f"the server wrote {made.text[:80]!r}, which is none of the choices; it may be too old for structured outputs"
    )
    return Completion(
        made.text, "error", made.prompt_tokens, made.completion_tokens, made.prompt, made.parameters, error
    )
