"""Captions of known truth come out in their order, and the command prints what it measured."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import textlens
import typer
from textlens.errors import InputError
from textlens.scenes.evals.better_captions import captioner_facts
from textlens.scenes.evals.better_captions.captioner_facts import FLOOR, evaluate
from textlens.scenes.facts import KINDS
from typer.testing import CliRunner

COCA = Path(textlens.__file__).parent / "weights" / "scenes" / "coca"


@pytest.fixture(scope="module")
def measured():
    return evaluate({"coca": str(COCA)}, 60)


def test_styles_tell_what_they_are_for(measured):
    scores, words = measured
    web, short, descriptive = (scores[f"true captions: {style}"] for style in captioner_facts.STYLES)
    assert all(descriptive[kind].precision == descriptive[kind].recall == 1 for kind in KINDS)
    assert short["noun"].recall == short["colour"].recall == 1
    assert short["place"].recall == short["background"].recall == 0
    assert web["noun"].precision < 1
    assert web["noun"].recall < 0.6
    assert words["true captions: short"] < words["true captions: descriptive"]


def test_a_captioner_stands_between_floor_and_truth(measured):
    scores, words = measured
    assert scores[FLOOR]["noun"].f1 + 0.4 < scores["coca"]["noun"].f1 <= 1
    assert words["coca"] > 5


def test_the_command(measured):
    app = typer.Typer()
    app.command()(captioner_facts.main)
    result = CliRunner().invoke(app, [f"coca={COCA}", "--number", "60", "--json"])
    assert result.exit_code == 0, result.output
    rows = json.loads(result.stdout)
    assert rows["coca"]["noun"]["recall"] == measured[0]["coca"]["noun"].recall
    table = CliRunner().invoke(app, ["--number", "5"]).stdout
    assert table.splitlines()[0] == f"| precision / recall | {' | '.join(KINDS)} | words |"
    assert "true captions: descriptive | 1.00 / 1.00" in table
    with pytest.raises(InputError, match="expected NAME=FOLDER"):
        CliRunner().invoke(app, ["coca"], catch_exceptions=False)
