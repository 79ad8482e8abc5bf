"""A server's address, its key, what is retried, and a server that is not there. test_vllm_*.py have real vLLM."""

from __future__ import annotations

import os
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, HTTPServer

import pytest
from textlens.agent.models.registry import load_language_model
from textlens.agent.models.server import API_KEY, ServerModel, ServerSettings, ServiceError
from textlens.errors import InputError, encoding_error


@pytest.mark.parametrize(
    "spec",
    [
        *("http://user:secret@localhost:8000/v1", "http:nowhere", "http:///v1", "http://[::1/v1", "http://h:abc/v1#m"),
        *("http://h:99999/v1", "http://h:0/v1", "http://h\x01/v1", "http://a b/v1"),
    ],
)
def test_addresses_that_are_none_or_hold_a_password_are_refused(spec):
    with pytest.raises(InputError) as caught:
        load_language_model(spec)
    assert "secret" not in str(caught.value)


def test_a_prompt_that_cannot_be_sent_is_not_tried():
    model = ServerModel.from_spec("http://127.0.0.1:9/v1#some")  # nobody listens, and no retry is waited for
    (made,) = model.complete(["a red \ud83d"], max_tokens=2, temperature=0.0, seed=0)
    assert made.error == encoding_error("a red \ud83d")
    assert (made.prompt, made.finish_reason) == ("a red \ud83d", "error")


def test_a_server_that_is_not_there_gives_an_error_per_prompt_without_the_key(monkeypatch):
    monkeypatch.setenv(API_KEY, "a-secret-key")
    monkeypatch.setattr(os, "environ", {**os.environ, "NO_PROXY": "*", "no_proxy": "*"})
    settings = ServerSettings(attempts=2, timeout_seconds=2)
    model = ServerModel.from_spec("http://127.0.0.1:9/v1#some", settings=settings)  # the discard port: nobody listens
    made = model.complete(["one", "two"], max_tokens=2, temperature=0.0, seed=0)
    assert [one.prompt for one in made] == ["one", "two"]
    assert all("127.0.0.1:9" in one.error and "2 attempts" in one.error for one in made)
    assert made[0].parameters == {"model": "some", "max_tokens": 2, "temperature": 0.0, "seed": 0}
    assert "a-secret-key" not in repr(made)


@pytest.mark.parametrize("key", ["schlüssel", "two\nlines", "a\x00b"])
def test_a_key_that_no_request_can_carry_is_refused_and_not_shown(monkeypatch, key):
    monkeypatch.setattr(os, "environ", {**os.environ, API_KEY: key})
    with pytest.raises(InputError, match=API_KEY) as caught:
        ServerModel.from_spec("http://127.0.0.1:9/v1#some")
    assert not any(part in str(caught.value) for part in ("ssel", "two", "lines", "a\x00b"))


def test_a_server_that_does_not_count_tokens_sets_no_limit():
    settings = ServerSettings(attempts=1, timeout_seconds=2)
    assert ServerModel.from_spec("http://127.0.0.1:9/v1#some", settings=settings).context_length is None


@contextmanager
def scripted(*script: int | bytes) -> Iterator[tuple[str, list[str]]]:
    """The address of a server that answers with these status codes and bodies in turn, and the paths asked for."""
    remaining, asked = list(script), []

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.rfile.read(int(self.headers.get("Content-Length", 0)))
            asked.append(self.path)
            answer = remaining.pop(0)
            self.send_response(answer if isinstance(answer, int) else 200)
            self.end_headers()
            self.wfile.write(answer if isinstance(answer, bytes) else b"")

        def do_POST(self) -> None:
            self.do_GET()

        def log_message(self, *args: object) -> None:
            pass

    server = HTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True).start()
    try:
        yield f"http://127.0.0.1:{server.server_address[1]}/v1", asked
    finally:
        server.shutdown()
        server.server_close()


GOOD = b'{"choices": [{"text": " yes", "finish_reason": "stop"}], "usage": null}'
MODELS = b'{"data": [{"id": "some"}]}'


def test_all_kinds_of_failures_share_the_attempts():
    settings, asked_for = ServerSettings(attempts=3), {"max_tokens": 2, "temperature": 0.0, "seed": 0}
    with scripted(503, b"<html>busy", GOOD, 503, b'{"choices": []}', b"null") as (address, asked):
        model = ServerModel(address, "some", settings=settings)
        (good,) = model.complete(["one"], **asked_for)
        (failed,) = model.complete(["two"], **asked_for)
    assert (good.text, good.error) == (" yes", None)
    assert (good.prompt_tokens, good.completion_tokens) == (0, 0)  # the server does not count
    assert failed.error == f"{address} gave no answer in 3 attempts: malformed response (DecodingError)"
    assert len(asked) == 6


def test_a_malformed_list_of_models_is_asked_for_again():
    with scripted(b'{"data": 7}', MODELS) as (address, asked):
        assert ServerModel(address, settings=ServerSettings(attempts=2)).model == "some"
    assert asked == ["/v1/models"] * 2
    with (
        scripted(b'{"data": [{"id": "one"}, {"id": "two"}]}') as (address, _),
        pytest.raises(ServiceError, match=r"serves 2 models: one, two; name one of them, as in .*#one"),
    ):
        _ = ServerModel(address).model


def test_the_context_length_is_asked_for_without_retries_until_it_is_known():
    with scripted(503, MODELS, 404, b'{"count": 1, "max_model_len": 512}') as (address, asked):
        model = ServerModel(address)
        assert [model.context_length for _ in range(4)] == [None, None, 512, 512]
    assert asked == ["/v1/models", "/v1/models", "/tokenize", "/tokenize"]


def test_an_error_of_the_server_holds_its_status():
    assert (ServiceError("gone", 404).status, ServiceError("gone").status, str(ServiceError("gone", 404))) == (
        404, None, "gone",
    )  # fmt: skip
    with scripted(403) as (address, _), pytest.raises(ServiceError, match="answered 403") as caught:
        _ = ServerModel(address).model
    assert caught.value.status == 403
