"""Held-out items: by key, never among those of training."""

import numpy as np
import pytest
from textlens.train.data.held_out import Split, key_hashes


def _keys(first, last):
    return [b"%d.jpg" % number for number in range(first, last)]


@pytest.mark.parametrize("share", [0.02, 0.3, 0.9])
def test_training_rows_are_all_but_the_held_out_ones(share):
    hashes = [key_hashes(_keys(0, 400)), key_hashes(_keys(400, 1000))]
    split = Split(hashes, share, 1000)
    seen = [split.position(row) for row in range(split.size)]
    assert sorted([*seen, *split.held.tolist()]) == list(range(1000))
    assert seen == sorted(seen)
    assert abs(split.held.size - 1000 * share) < 50
    assert split.rows_before(np.array([0, 1000])).tolist() == [0, split.size]
    assert [split.rows_before(np.array([place]))[0] for place in seen[:50]] == list(range(50))


def test_what_is_held_out_stays_so_when_items_are_added():
    before, after = (Split([key_hashes(_keys(0, number))], 0.1, number) for number in (500, 800))
    assert before.held.tolist() == [place for place in after.held.tolist() if place < 500]


def test_items_of_one_key_are_on_one_side():
    split = Split([key_hashes(_keys(0, 100) * 2)], 0.3, 200)
    held = set(split.held.tolist())
    assert {place + 100 for place in held if place < 100} == {place for place in held if place >= 100} != set()


def test_few_items_hold_out_one_and_a_single_one_is_trained_on():
    assert Split([key_hashes(_keys(0, 9))], 0.001, 9).held.size == 1
    assert Split([key_hashes(_keys(0, 9))], 0.0, 9).held.size == 0
    assert Split([key_hashes(_keys(0, 1))], 0.5, 1).size == 1
