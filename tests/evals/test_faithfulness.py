from __future__ import annotations

import json
from pathlib import Path

import pytest
from textlens.errors import InputError
from textlens.evals.faithfulness import RewritePair, confusion, evaluate, load_pairs

REWRITES = Path(__file__).parent.parent / "prompting" / "rewrites.jsonl"


def test_precision_and_recall_of_both_classes() -> None:
    pairs = [RewritePair("a", "kept", True)] * 3 + [RewritePair("a", "lost", False)] * 2
    figures = confusion([*pairs, RewritePair("a", "kept", False)], lambda _, rewritten: rewritten == "kept").as_json()
    assert figures == {
        "pairs": 6,
        "right": 5,
        "broken_precision": 1.0,
        "broken_recall": 0.667,
        "faithful_precision": 0.75,
        "faithful_recall": 1.0,
    }


def test_kinds_splits_and_floors_are_told_apart() -> None:
    pairs = [RewritePair("a", "b", True, "count", "tuned"), RewritePair("a", "b", False, "colour", "held_out")]
    figures = evaluate(pairs, lambda *_: True)
    assert {"all", "kind count", "kind colour", "split tuned", "split held_out"} < set(figures)
    assert figures["kind count"]["right"] == 1
    assert figures["floor: always broken"]["broken_recall"] == 1.0


@pytest.mark.parametrize("split", ["tuned", "held_out"])
def test_the_check_on_the_rewrites_by_kind(split: str) -> None:
    figures = evaluate([pair for pair in load_pairs(REWRITES) if pair.split == split])["all"]
    assert figures["pairs"] >= 150
    assert min(figures["broken_precision"], figures["broken_recall"], figures["faithful_recall"]) >= 0.93


def test_a_malformed_line_is_named(tmp_path: Path) -> None:
    path = tmp_path / "pairs.jsonl"
    path.write_text(json.dumps({"original": "a", "rewritten": "b", "faithful": True}) + "\n{}\n")
    with pytest.raises(InputError, match="line 2"):
        load_pairs(path)
