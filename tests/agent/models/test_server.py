"""A server's address, its key, and a server that is not there. test_vllm_*.py have a real one."""

from __future__ import annotations

import os

import pytest
from textlens.agent.models.registry import load_language_model
from textlens.agent.models.server import API_KEY, ServerModel, ServerSettings
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
