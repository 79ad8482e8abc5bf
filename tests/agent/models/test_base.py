"""Validated settings, and what a completion says of itself."""

from __future__ import annotations

import subprocess
import sys

import pytest
from textlens.agent.models.base import Completion, Request
from textlens.errors import InputError, encoding_error


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"max_tokens": 0}, "max_tokens is 0"),
        ({"temperature": -1.0}, "temperature is -1"),
        ({"temperature": float("nan")}, "temperature is nan"),
        ({"seed": -1}, "seed is -1"),
        ({"stop": [""]}, "stop string is empty"),
        ({"stop": "$"}, "lists of texts"),
        ({"stop": ["$", "\ud83d"]}, "stop string or choice cannot be sent"),
        ({"choices": ["yes", "no\udfff"]}, "stop string or choice cannot be sent"),
        ({"choices": []}, "choices are"),
        ({"choices": ["a", "a"]}, "choices are"),
        ({"choices": ["a", ""]}, "choices are"),
    ],
)
def test_settings_no_model_can_follow_are_refused(changed, message):
    settings = {"max_tokens": 4, "stop": ["$"], "temperature": 0.0, "seed": 0, "choices": None, **changed}
    with pytest.raises(InputError, match=message):
        Request(**settings)


def test_only_half_a_surrogate_pair_cannot_be_sent():
    assert encoding_error("") is None
    assert encoding_error("\x00\ufffd é 🐱") is None
    assert encoding_error("\ud7ff\ue000") is None  # the neighbours of the surrogates
    message = encoding_error("🐱 a\ud83d\ude00")
    assert "the prompt cannot be sent: character 4, '\\ud83d'," in message
    assert message.isascii()


def test_the_first_stop_mark_in_the_text_ends_it():
    request = Request(4, ["\n", "$"], 0.0, 0, None)
    assert request.before_stop("yes$ no\n") == "yes"
    assert request.before_stop("yes") is None


def test_max_answer_tokens_are_enough_for_every_choice():
    assert Request(1, [], 0.0, 0, ["a", "né"]).max_answer_tokens == 4
    assert Request(7, [], 0.0, 0, None).max_answer_tokens == 7


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
