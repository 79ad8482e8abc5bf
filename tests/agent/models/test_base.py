"""Specs of language models, checked settings, and what a completion says of itself."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
from textlens.agent.models.base import (
    LANGUAGE_MODELS,
    Completion,
    CountsTokens,
    Request,
    load_language_model,
)
from textlens.errors import InputError, encoding_error


@pytest.mark.parametrize("spec", ["gpt", "tiny:folder", "hf", "hf:", "vllm", "", "ftp://a/v1"])
def test_an_unknown_spec_lists_the_valid_ones(spec):
    with pytest.raises(InputError, match="hf:HUB_ID_OR_FOLDER") as caught:
        load_language_model(spec)
    assert all(entry.help in str(caught.value) for entry in LANGUAGE_MODELS.values())


def test_a_small_model_that_is_not_there_is_a_clear_error(monkeypatch, tmp_path):
    from dataclasses import replace

    monkeypatch.setitem(LANGUAGE_MODELS, "tiny", replace(LANGUAGE_MODELS["tiny"], default=str(tmp_path)))
    with pytest.raises(InputError, match="small language model is not there"):
        load_language_model("tiny")


def test_a_folder_loads_by_its_spec(llama_folder: Path):
    model = load_language_model(f"hf:{llama_folder}", device="cpu")
    assert model.spec == f"hf:{llama_folder}"
    assert isinstance(model, CountsTokens)
    assert model.context_length == 512


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"max_tokens": 0}, "max_tokens is 0"),
        ({"temperature": -1.0}, "temperature is -1"),
        ({"temperature": float("nan")}, "temperature is nan"),
        ({"seed": -1}, "seed is -1"),
        ({"stop": [""]}, "stop mark is empty"),
        ({"stop": "$"}, "lists of texts"),
        ({"stop": ["$", "\ud83d"]}, "stop mark or choice cannot be sent"),
        ({"choices": ["yes", "no\udfff"]}, "stop mark or choice cannot be sent"),
        ({"choices": []}, "choices are"),
        ({"choices": ["a", "a"]}, "choices are"),
        ({"choices": ["a", ""]}, "choices are"),
    ],
)
def test_settings_no_model_can_follow_are_refused(changed, message):
    settings = {"max_tokens": 4, "stop": ["$"], "temperature": 0.0, "seed": 0, "choices": None, **changed}
    with pytest.raises(InputError, match=message):
        Request.of(**settings)


def test_only_half_a_surrogate_pair_cannot_be_sent():
    assert encoding_error("") is None
    assert encoding_error("\x00\ufffd é 🐱") is None
    assert encoding_error("\ud7ff\ue000") is None  # the neighbours of the surrogates
    message = encoding_error("🐱 a\ud83d\ude00")
    assert "the prompt cannot be sent: character 4, '\\ud83d'," in message
    assert message.isascii()


def test_the_first_stop_mark_in_the_text_ends_it():
    request = Request.of(4, ["\n", "$"], 0.0, 0, None)
    assert request.before_stop("yes$ no\n") == "yes"
    assert request.before_stop("yes") is None


def test_a_choice_always_fits_into_its_longest_answer():
    assert Request.of(1, [], 0.0, 0, ["a", "né"]).longest_answer == 4
    assert Request.of(7, [], 0.0, 0, None).longest_answer == 7


def test_a_completion_marks_what_was_cut_off_and_what_failed():
    assert Completion("a", "length", 1, 1, "p").cut_off
    assert not Completion("a", "stop", 1, 1, "p").cut_off
    failed = Completion.failed("refused", "p", {"seed": 0})
    assert (failed.text, failed.finish_reason, failed.error) == ("", "error", "refused")
    assert failed.as_json() == {
        "text": "",
        "finish_reason": "error",
        "prompt_tokens": 0,
        "completion_tokens": 0,
        "parameters": {"seed": 0},
    }


def test_the_protocol_imports_nothing_heavy():
    code = (
        "import sys, textlens.agent.models.base, textlens.agent.models.server, textlens.agent.models.vllm\n"
        "print(sorted({'torch', 'transformers', 'openai', 'vllm', 'open_clip', 'torchvision'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "[]\n"


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
    from textlens.agent.models.server import ServerModel

    model = ServerModel.from_spec("http://127.0.0.1:9/v1#some")  # nobody listens, and no retry is waited for
    (made,) = model.complete(["a red \ud83d"], max_tokens=2, temperature=0.0, seed=0)
    assert made.error == encoding_error("a red \ud83d")
    assert (made.prompt, made.finish_reason) == ("a red \ud83d", "error")


def test_a_server_that_is_not_there_gives_an_error_per_prompt_without_the_key(monkeypatch):
    from textlens.agent.models.server import API_KEY, ServerModel, ServerSettings

    monkeypatch.setenv(API_KEY, "a-secret-key")
    monkeypatch.setattr(os, "environ", {**os.environ, "NO_PROXY": "*", "no_proxy": "*"})
    settings = ServerSettings(attempts=2, backoff_seconds=0.01, max_backoff_seconds=0.02, timeout_seconds=2)
    model = ServerModel.from_spec("http://127.0.0.1:9/v1#some", settings=settings)  # the discard port: nobody listens
    made = model.complete(["one", "two"], max_tokens=2, temperature=0.0, seed=0)
    assert [one.prompt for one in made] == ["one", "two"]
    assert all("127.0.0.1:9" in one.error and "2 attempts" in one.error for one in made)
    assert made[0].parameters == {"model": "some", "max_tokens": 2, "temperature": 0.0, "seed": 0}
    assert "a-secret-key" not in repr(made)


@pytest.mark.parametrize("key", ["schlüssel", "two\nlines", "a\x00b"])
def test_a_key_that_no_request_can_carry_is_refused_and_not_shown(monkeypatch, key):
    from textlens.agent.models.server import API_KEY, ServerModel

    monkeypatch.setattr(os, "environ", {**os.environ, API_KEY: key})
    with pytest.raises(InputError, match=API_KEY) as caught:
        ServerModel.from_spec("http://127.0.0.1:9/v1#some")
    assert not any(part in str(caught.value) for part in ("ssel", "two", "lines", "a\x00b"))


def test_a_server_that_does_not_count_tokens_sets_no_limit():
    from textlens.agent.models.server import ServerModel, ServerSettings

    settings = ServerSettings(attempts=1, timeout_seconds=2)
    assert ServerModel.from_spec("http://127.0.0.1:9/v1#some", settings=settings).context_length is None
