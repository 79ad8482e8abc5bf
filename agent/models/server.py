"""A language model behind an OpenAI-compatible server, such as vLLM: concurrent requests, retried by the openai client.

Text to write on goes to /completions; where a server has none of that, or "chat+" stands before its address, prompts
go to /chat/completions as messages; never where "text+" stands before it.

The API key is TEXTLENS_API_KEY, never another program's: the server may be anybody's. No result, error or log shows it.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager, contextmanager, suppress
from dataclasses import dataclass, replace
from threading import Lock
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

import httpx

from ...errors import InputError, TextlensError, encoding_error
from ...progress import print_note
from ...prompting.sanitize import clean, quote_untrusted
from . import chat_specs
from .base import Completion, Request
from .endpoints import CHAT, COMPLETIONS, Endpoint, Reply, chosen, constrained

if TYPE_CHECKING:
    from openai import OpenAI

API_KEY = "TEXTLENS_API_KEY"
_NOT_THERE = (404, 405, 501)  # a server without an endpoint, or without the model
_NOT_KNOWN = (400, 422, 501)  # a server that refuses a field which it does not know
_WRITTEN_TOKENS = 16  # more than the longest choice, where a model writes freely or as JSON
_MOST_TOKENS = 2**40  # that a server may count
_SHORTEST_KEY = 6  # characters of one that is masked
_PROBE_SECONDS = 10.0  # timeout of the request for the context length


class ServiceError(TextlensError):
    """The server is unreachable, refused the request, or sent malformed responses, after all retries.

    status: of an HTTP error.
    """

    def __init__(self, message: str, status: int | None = None) -> None:
        super().__init__(message)
        self.status = status


@dataclass(frozen=True)
class ServerSettings:
    """How requests are sent."""

    concurrency: int = 16  # requests at a time
    attempts: int = 4  # per request, the first included; 0.5 to 8 seconds apart, or as the server says
    timeout_seconds: float = 120.0  # per attempt, altogether

    def __post_init__(self) -> None:
        for name, value in vars(self).items():
            if not value > 0:
                raise InputError(f"{name} is {value}; expected more than 0")


class ServerModel:
    """`complete` by `POST base_url/completions` or `/chat/completions`, one request per prompt.

    model: its name on the server; by default the only one that the server lists. chat: by default only where the
    server has no /completions.
    """

    def __init__(
        self,
        base_url: str,
        model: str | None = None,
        *,
        chat: bool | None = None,
        settings: ServerSettings | None = None,
    ) -> None:
        from openai import OpenAI

        from .http_client import bounded_client

        _check_address(base_url)
        if model and (reason := encoding_error(model, "the model's name")):
            raise InputError(reason)
        self.settings = settings or ServerSettings()
        self.base_url = base_url
        how = "" if chat is None else chat_specs.CHAT if chat else chat_specs.TEXT
        self.spec = f"{how}{base_url}{f'#{model}' if model else ''}"
        self.endpoint: Endpoint = CHAT if chat else COMPLETIONS
        self._text_only = chat is False
        self._constraint, self._lock = 0, Lock()  # number of the way to hold answers to choices that is tried now
        self._name, self._key, self._context_length = model, api_key(), None
        self._client: OpenAI = OpenAI(
            base_url=base_url,
            api_key=self._key or "EMPTY",
            max_retries=self.settings.attempts - 1,
            timeout=self.settings.timeout_seconds,
            http_client=bounded_client(self._key, _check_response),
        )

    @classmethod
    def from_spec(cls, spec: str, *, settings: ServerSettings | None = None) -> ServerModel:
        """From "http://host:port/v1" or "http://host:port/v1#model", both also after "chat+" or "text+"."""
        address = spec.removeprefix(chat_specs.CHAT).removeprefix(chat_specs.TEXT)
        base_url, _, model = address.partition("#")
        return cls(base_url, model or None, chat=chat_specs.asked_chat(spec), settings=settings)

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
        """One completion per prompt, in order; see `LanguageModel`."""
        request = Request(max_tokens, stop, temperature, seed, choices)
        try:
            name = self.model
        except ServiceError as error:  # once for all: each prompt would wait for the same failure
            return [Completion.failed(str(error), prompt, self._parameters(request)) for prompt in prompts]
        pool = ThreadPoolExecutor(self.settings.concurrency, thread_name_prefix="textlens-server")
        try:
            return list(pool.map(lambda prompt: self._complete(prompt, name, request), prompts))
        finally:
            pool.shutdown(cancel_futures=True)

    @property
    def model(self) -> str:
        """The model's name on the server. Raises `ServiceError` if it lists several."""
        return self._model_name(self._client)

    def _model_name(self, client: OpenAI) -> str:
        if self._name is None:
            with self._service_errors():
                names = [self._shown(model.id) for model in client.models.list().data]
            if len(names) > 1:
                told = [clean(name, max_chars=100) for name in names[:8]]
                raise ServiceError(
                    f"{self.base_url} serves {len(names)} models: {', '.join(told)}; name one of them, as in "
                    f"{self.base_url}#{told[0]}"
                )
            self._name = names[0]
        return self._name

    @property
    def context_length(self) -> int | None:
        """As vLLM reports it. None if the server does not: it then rejects prompts that are too long itself."""
        if self._context_length is None:
            with suppress(ServiceError):
                timeout = min(self.settings.timeout_seconds, _PROBE_SECONDS)
                self._context_length = self._tokenize("a", timeout=timeout, max_retries=0)["max_model_len"]
        return self._context_length

    def count_tokens(self, text: str) -> int:
        """By vLLM's tokenizer, special tokens included. Raises `InputError` for text that cannot be encoded,
        `ServiceError` if the server has no /tokenize."""
        if reason := encoding_error(text):
            raise InputError(reason)
        return int(self._tokenize(text)["count"])

    def _tokenize(self, text: str, **options: Any) -> dict[str, Any]:
        url = f"{self.base_url.rstrip('/').removesuffix('/v1')}/tokenize"
        client = self._client.with_options(**options)
        body = {"model": self._model_name(client), **self.endpoint.asked(text)}
        with self._service_errors():
            return dict(json.loads(client.post(url, body=body, cast_to=str)))  # whatever its content type

    def _complete(self, prompt: str, name: str, request: Request) -> Completion:
        if reason := encoding_error(prompt):
            return Completion.failed(reason, prompt, {"model": name, **self._parameters(request)})
        if request.choices is not None:
            return self._choose(prompt, name, request, request.choices)
        parameters = {"model": name, **self._parameters(request)}
        try:
            reply = self._reply(prompt, parameters)
        except ServiceError as failure:
            return Completion.failed(str(failure), prompt, self._told(parameters))
        return _completion(reply, reply.text, prompt, self._told(parameters))

    def _choose(self, prompt: str, name: str, request: Request, choices: Sequence[str]) -> Completion:
        """By the first way to hold answers to choices that works; later prompts begin with that one."""
        failed: Completion | None = None
        way = self._constraint - 1
        while (way := way + 1) < len(self.endpoint.constraints):  # of another endpoint, once /completions is not there
            parameters = {"model": name, **self._parameters(request, way)}
            try:
                reply = self._reply(prompt, parameters)
            except ServiceError as failure:
                failed = failed or Completion.failed(str(failure), prompt, self._told(parameters))
                if failure.status not in _NOT_KNOWN:
                    break
                continue
            choice = chosen(reply.text, choices)
            if choice is not None or way == len(self.endpoint.constraints) - 1:
                self._settle(way)
            if choice is not None:
                return _completion(reply, choice, prompt, self._told(parameters))
            error = f"the server wrote {quote_untrusted(reply.text, max_chars=80)}, which is none of the choices"
            failed = _completion(reply, reply.text, prompt, self._told(parameters), error)
        assert failed is not None
        return failed

    def _settle(self, way: int) -> None:
        with self._lock:
            new, self._constraint = way > self._constraint, max(way, self._constraint)
        if new and self.endpoint.constraints[way] == "none":
            print_note(f"{self.base_url} does not hold answers to choices: they are read from what it writes freely")

    def _told(self, parameters: dict[str, Any]) -> dict[str, Any]:
        return {**parameters, "endpoint": CHAT.path} if self.endpoint is CHAT else parameters

    def _reply(self, prompt: str, parameters: dict[str, Any]) -> Reply:
        """From /completions; where the server has none, from /chat/completions from now on."""
        endpoint = self.endpoint
        try:
            return self._sent(endpoint, prompt, parameters)
        except ServiceError as failure:
            if self._text_only or endpoint is CHAT or failure.status not in _NOT_THERE:
                raise
            try:
                reply = self._sent(CHAT, prompt, parameters)
            except ServiceError:
                raise failure from None
        with self._lock:
            said, self.endpoint = self.endpoint is CHAT, CHAT
        if not said:
            print_note(f"{self.base_url} has no /completions: prompts go to /chat/completions as messages")
        return reply

    def _sent(self, endpoint: Endpoint, prompt: str, parameters: dict[str, Any]) -> Reply:
        with self._service_errors():
            reply = endpoint.reply(endpoint.send(self._client, {**endpoint.asked(prompt), **parameters}))
        return replace(reply, text=self._shown(reply.text), finish_reason=self._shown(reply.finish_reason))

    def _shown(self, text: str) -> str:
        """What a server wrote, as text that can be encoded, without the key, which it may repeat."""
        return masked(text.encode(errors="replace").decode(), self._key)

    def _parameters(self, request: Request, way: int = 0) -> dict[str, Any]:
        """way: number of the way to hold answers to choices."""
        sent: dict[str, Any] = {
            "max_tokens": request.max_answer_tokens,
            "temperature": request.temperature,
            "seed": request.seed,
        }
        if request.choices is None:
            return {**sent, "stop": list(request.stop)} if request.stop else sent
        kind, choices = self.endpoint.constraints[way], request.choices
        if kind in ("response_format", "none"):
            sent["max_tokens"] += _WRITTEN_TOKENS
        if kind == "none":
            return {**sent, "stop": ["\n"]}
        # Without stop strings, which could cut a choice.
        return {**sent, **constrained(kind, [one.strip() for one in choices] if self.endpoint is CHAT else choices)}

    def _service_errors(self) -> AbstractContextManager[None]:
        return service_errors(self.base_url, f"gave no answer in {self.settings.attempts} attempts", self._key)


@contextmanager
def service_errors(
    server: str, failure: str, key: str, *, hint: str = "", malformed: tuple[type[Exception], ...] = ()
) -> Iterator[None]:
    """Raises errors of the openai client as a `ServiceError` of one line without the key, which a server may repeat.
    What the server wrote stands in quotes.

    failure: what happened if it was not an HTTP error. hint: added to an HTTP 400. malformed: further exceptions.
    """
    import openai

    expected: tuple[type[Exception], ...] = (openai.OpenAIError, httpx.HTTPError, *malformed)
    status = None
    try:
        yield
    except openai.APIStatusError as error:
        message = f"{server} answered {error.status_code}: {quote_untrusted(masked(error.message, key), max_chars=500)}"
        status, hint = error.status_code, hint if error.status_code == 400 else ""
    except RecursionError:
        message = f"{server} {failure}: malformed response (nested too deeply)"
    except expected as error:
        cause: BaseException = error
        while cause.__cause__ is not None:  # the outer ones only say "Connection error."
            cause = cause.__cause__
        message, hint = f"{server} {failure}: {cause} ({type(cause).__name__})", ""
    else:
        return
    raise ServiceError(clean(masked(message, key), max_chars=600) + hint, status)


def masked(text: str, key: str) -> str:
    """The text with *** in place of the key. Not of a key of a few letters, which is none and may be part of words."""
    return text.replace(key, "***") if len(key) >= _SHORTEST_KEY else text


def api_key() -> str:
    """TEXTLENS_API_KEY, stripped of the newline that files of secrets end with; "" for none.

    Raises `InputError`, which does not show the key, for characters that no HTTP header can carry.
    """
    key = os.environ.get(API_KEY, "").strip()
    if key and not (key.isascii() and key.isprintable()):
        raise InputError(f"{API_KEY} holds characters that no key has; expected printable ASCII, such as sk-…")
    return key


def _check_address(base_url: str) -> None:
    try:
        parts = urlsplit(base_url)
        known = parts.scheme in ("http", "https") and bool(parts.hostname) and (parts.port is None or parts.port > 0)
    except ValueError:  # a port that is not a number, half an IPv6 address
        known = False
    if not known or not base_url.isprintable() or " " in base_url:
        raise InputError(f"{base_url!r} is no address of a server; expected one such as http://localhost:8000/v1")
    if parts.username or parts.password:
        raise InputError(f"the address of {parts.hostname} holds a user name or password; set {API_KEY} instead")


def _completion(
    reply: Reply, text: str, prompt: str, parameters: dict[str, Any], error: str | None = None
) -> Completion:
    finish_reason = "error" if error else reply.finish_reason
    return Completion(text, finish_reason, reply.prompt_tokens, reply.completion_tokens, prompt, parameters, error)


def _check_response(response: Any) -> None:
    """Response hook of the HTTP client. Malformed response; retryable, as a connection error is."""
    if not response.is_success:
        return
    response.read()
    try:
        well_formed = _is_well_formed(response.url.path, response.json())
    except (ValueError, RecursionError):  # not JSON, not UTF-8, or nested too deeply
        well_formed = False
    if not well_formed:
        raise httpx.DecodingError("malformed response")


def _is_well_formed(path: str, body: Any) -> bool:
    """Whether a response has what is read of it, of the right types."""
    match path.rpartition("/")[2], body:
        case "completions", {"choices": [dict() as choice, *_]}:
            text = choice.get("text")
            if path.endswith("/chat/completions"):
                message = choice.get("message")
                text = (message.get("content") or "") if isinstance(message, dict) else None
            usage = body.get("usage")
            counted = usage is None or _holds(usage, "prompt_tokens", "completion_tokens")
            return counted and isinstance(text, str) and isinstance(choice.get("finish_reason"), str | None)
        case "models", {"data": [_, *_] as models}:
            names = [model.get("id") for model in models if isinstance(model, dict)]
            known = [name for name in names if isinstance(name, str) and name and encoding_error(name) is None]
            return len(known) == len(models)
        case "tokenize", _:
            return _holds(body, "count", "max_model_len") and body["max_model_len"] > 0
    return False


def _holds(record: Any, *counts: str) -> bool:
    """Whether a record holds these numbers of tokens."""
    values = [record.get(name) for name in counts] if isinstance(record, dict) else [None]
    return all(type(value) is int and 0 <= value < _MOST_TOKENS for value in values)
