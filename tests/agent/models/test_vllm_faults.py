"""Faults between us and a real vLLM server: the right error or a successful retry, no answer lost or doubled."""

from __future__ import annotations

import random
import threading
from dataclasses import replace
from typing import Any

import pytest
from textlens.agent.models.server import API_KEY, ServerModel, ServerSettings

from .faulty_proxy import CUT, GARBLED, FaultyProxy, faulty_proxy

GREEDY: dict[str, Any] = {"temperature": 0.0, "seed": 0}
QUICK = ServerSettings(timeout_seconds=120)


@pytest.mark.parametrize("fault", [500, 503, 429, *CUT, *GARBLED])
def test_a_passing_fault_is_retried(vllm_address, fault):
    with faulty_proxy(vllm_address, [fault, fault]) as proxy:
        (made,) = ServerModel(proxy.address, settings=QUICK).complete(["a red"], max_tokens=3, **GREEDY)
    assert made.error is None
    assert proxy.delivered == [("a red", made.text)]
    assert proxy.asked == ["a red"] * 3


@pytest.mark.parametrize("fault", [500, 429, *CUT, *GARBLED])
def test_a_lasting_fault_is_an_error_after_all_attempts(vllm_address, fault):
    with faulty_proxy(vllm_address, [fault] * 3) as proxy:
        bad = ServerModel(proxy.address, settings=replace(QUICK, attempts=3, concurrency=1))
        first, second = bad.complete(["a red", "a dog"], max_tokens=3, **GREEDY)
    assert (first.text, first.finish_reason) == ("", "error")
    assert proxy.address in first.error
    assert str(fault) in first.error if isinstance(fault, int) else "3 attempts" in first.error
    assert proxy.asked == ["a red"] * 3 + ["a dog"]
    assert proxy.delivered == [("a dog", second.text)]


@pytest.mark.parametrize("fault", [400, 401, 404, 422])
def test_a_refusal_is_final_and_never_tells_the_key(vllm_address, monkeypatch, fault):
    monkeypatch.setenv(API_KEY, "a-secret-key")
    tries = 2 if fault == 404 else 1  # where /completions is not there, /chat/completions may be
    with faulty_proxy(vllm_address, [fault] * tries) as proxy:
        (made,) = ServerModel(proxy.address, settings=QUICK).complete(["a red"], max_tokens=3, **GREEDY)
    assert f"answered {fault}" in made.error
    assert "no, Bearer ***" in made.error
    assert "a-secret-key" not in repr(made)
    assert proxy.asked == ["a red"] * tries
    assert proxy.keys == {"Bearer a-secret-key"}


def test_a_slow_answer_is_asked_for_anew(vllm_address):
    with faulty_proxy(vllm_address, ["slow"]) as proxy:
        proxy.delay = 30.0
        slow = ServerModel(proxy.address, settings=replace(QUICK, timeout_seconds=8))
        made = slow.complete(["a red", "a dog"], max_tokens=3, **GREEDY)
        assert [one.error for one in made] == [None, None]
        assert [one.prompt for one in made] == ["a red", "a dog"]
        assert len(proxy.asked) == 3
        assert sorted(proxy.delivered) == sorted((one.prompt, one.text) for one in made)


def test_a_server_that_is_not_up_yet_is_waited_for(vllm_address):
    proxy = FaultyProxy(vllm_address)  # refuses connections until it is opened
    opening = threading.Timer(0.5, proxy.open)
    opening.start()
    patient = ServerSettings(attempts=6)
    try:
        (made,) = ServerModel(proxy.address, settings=patient).complete(["a red"], max_tokens=3, **GREEDY)
    finally:
        opening.join()
        proxy.close()
    assert made.error is None
    assert proxy.delivered == [("a red", made.text)]


def test_an_old_server_that_ignores_choices_is_found_out(vllm_address, capsys):
    with faulty_proxy(vllm_address) as proxy:
        proxy.drop = ("structured_outputs", "guided_choice")
        old = ServerModel(proxy.address, settings=QUICK)
        made, again = (
            old.complete(["a red"], max_tokens=1, choices=["not written unless one must"], **GREEDY)[0] for _ in "12"
        )
    assert made.finish_reason == again.finish_reason == "error"
    assert "none of the choices" in made.error
    assert len(proxy.asked) == 4  # three ways, then the last one alone
    assert [("a red", made.text), ("a red", again.text)] == proxy.delivered[2:]
    assert capsys.readouterr().err.count("does not hold answers to choices") == 1


def test_under_many_faults_no_answer_is_lost_or_doubled(vllm_address, own_tokenizer, counted):
    draw = random.Random(7)
    kinds = [500, 503, 429, *CUT, *GARBLED]
    faults = [draw.choice(kinds) if draw.random() < 0.4 else None for _ in range(200)]
    with faulty_proxy(vllm_address, faults) as proxy:
        made = ServerModel(proxy.address, settings=replace(QUICK, attempts=20)).complete(
            counted, max_tokens=3, **GREEDY
        )
    assert [one.error for one in made] == [None] * 40
    assert [one.prompt_tokens for one in made] == [len(own_tokenizer(prompt).input_ids) for prompt in counted]
    assert sorted(proxy.delivered) == sorted((one.prompt, one.text) for one in made)
    assert len(proxy.asked) > 50
