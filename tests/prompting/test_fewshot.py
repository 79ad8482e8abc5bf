from __future__ import annotations

from collections import Counter

import pytest
from textlens.errors import InputError
from textlens.prompting.fewshot import STRATEGIES, fit_prompt, pseudo_shots, select_shots
from textlens.prompting.templates import Context, Shot
from textlens.prompting.vqa import VQATemplate

SHOTS = [Shot((Context(f"words {i}"),), f"question {i}?", f"class {i % 3}", id=str(i)) for i in range(30)]
TEMPLATE = VQATemplate()


def ids(shots: list[Shot]) -> list[str]:
    return [shot.id for shot in shots]


def count_words(text: str) -> int:
    return len(text.split())


def test_fixed_shots_hang_on_the_seed_alone() -> None:
    drawn = ids(select_shots(SHOTS, 4, seed=7))
    assert (
        drawn
        == ids(select_shots(SHOTS, 4, seed=7, query_id="q1"))
        == ids(select_shots(SHOTS, 4, seed=7, query_id="q2"))
    )
    assert drawn == ["22", "18", "17", "4"]
    assert drawn != ids(select_shots(SHOTS, 4, seed=8))


def test_fewer_fixed_shots_are_the_first_of_more() -> None:
    assert ids(select_shots(SHOTS, 16, seed=7))[:4] == ids(select_shots(SHOTS, 4, seed=7))


def test_random_shots_are_redrawn_for_each_query_and_repeatable() -> None:
    draws = {q: ids(select_shots(SHOTS, 4, strategy="random", seed=42, query_id=q)) for q in ("q1", "q2", "q3")}
    assert len({tuple(draw) for draw in draws.values()}) == 3
    assert draws["q2"] == ids(select_shots(SHOTS, 4, strategy="random", seed=42, query_id="q2"))
    assert draws["q2"] != ids(select_shots(SHOTS, 4, strategy="random", seed=43, query_id="q2"))


@pytest.mark.parametrize("strategy", ["random", "nearest"])
def test_a_query_is_never_its_own_demonstration(strategy: str) -> None:
    scores = [1.0 if shot.id == "5" else 0.0 for shot in SHOTS]
    drawn = select_shots(SHOTS, 29, strategy=strategy, seed=3, query_id="5", similarity=scores)
    assert len(drawn) == 29
    assert "5" not in ids(drawn)


def test_the_most_similar_shot_comes_last() -> None:
    scores = [-abs(i - 20.2) for i in range(30)]
    assert ids(select_shots(SHOTS, 3, strategy="nearest", similarity=scores)) == ["19", "21", "20"]
    by_function = select_shots(SHOTS, 3, strategy="nearest", similarity=lambda shot: -abs(int(shot.id) - 20.2))
    assert ids(by_function) == ["19", "21", "20"]


def test_of_equally_similar_shots_the_first_counts_as_nearer() -> None:
    assert ids(select_shots(SHOTS, 3, strategy="nearest", similarity=[0.5] * 30)) == ["2", "1", "0"]


def test_balanced_shots_have_as_many_of_each_class() -> None:
    rare = [Shot(answer="rare", id="r1"), Shot(answer="Rare", id="r2"), *SHOTS]
    drawn = select_shots(rare, 10, strategy="balanced", seed=11)
    assert Counter(str(shot.answer).lower() for shot in drawn)["rare"] == 2
    assert sorted(Counter(str(shot.answer).lower() for shot in drawn).values()) == [2, 2, 3, 3]
    assert ids(drawn) == ids(select_shots(rare, 10, strategy="balanced", seed=11))
    assert ids(drawn) != ids(select_shots(rare, 10, strategy="balanced", seed=12))


def test_errors_say_what_was_expected() -> None:
    with pytest.raises(InputError, match="fixed, random, nearest, balanced"):
        select_shots(SHOTS, 4, strategy="newest")
    with pytest.raises(InputError, match="needs a query_id"):
        select_shots(SHOTS, 4, strategy="random")
    with pytest.raises(InputError, match="needs similarity"):
        select_shots(SHOTS, 4, strategy="nearest")
    with pytest.raises(InputError, match="3 similarities for 30 candidates"):
        select_shots(SHOTS, 4, strategy="nearest", similarity=[1, 2, 3])
    with pytest.raises(InputError, match="0 or more"):
        select_shots(SHOTS, -1)
    for strategy in STRATEGIES:
        with pytest.raises(InputError, match="only 30 candidates"):
            select_shots(SHOTS, 31, strategy=strategy, query_id="q", similarity=[0.0] * 30)


def test_pseudo_shots_lose_their_image_alone() -> None:
    drawn = pseudo_shots(SHOTS, seed=5)
    real = select_shots(SHOTS, 4, seed=5)
    assert [(shot.context, shot.question, shot.answer) for shot in drawn] == [((), s.question, s.answer) for s in real]


def test_all_shots_stay_where_there_is_room() -> None:
    fitted = fit_prompt(TEMPLATE, SHOTS[0], SHOTS[1:5], count_tokens=count_words, max_tokens=1000)
    assert (fitted.dropped, fitted.note, fitted.shots) == (0, None, tuple(SHOTS[1:5]))
    assert fitted.prompt == TEMPLATE.render(SHOTS[0], SHOTS[1:5])
    assert fitted.num_tokens == count_words(fitted.prompt)


@pytest.mark.parametrize("dropped", [1, 2, 3, 4])
def test_shots_are_dropped_from_the_far_end_and_it_is_said(dropped: int) -> None:
    room = count_words(TEMPLATE.render(SHOTS[0], SHOTS[1 + dropped : 5]))
    fitted = fit_prompt(TEMPLATE, SHOTS[0], SHOTS[1:5], count_tokens=count_words, max_tokens=room)
    assert fitted.shots == tuple(SHOTS[1 + dropped : 5])
    assert fitted.dropped == dropped
    assert fitted.note == f"{dropped} of 4 shots dropped: more than {room} tokens"
    assert fitted.num_tokens == room


def test_a_query_that_does_not_fit_by_itself_is_refused() -> None:
    with pytest.raises(InputError, match="the query alone takes 16 tokens, and 15 are to be had"):
        fit_prompt(TEMPLATE, SHOTS[0], SHOTS[1:5], count_tokens=count_words, max_tokens=15)
