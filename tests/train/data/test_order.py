"""Orders of an epoch: every row once, another order each time, and shards read a few at a time."""

import numpy as np
import pytest
from textlens.train.data.order import ShardOrder, epoch_position

STARTS = np.cumsum([0, 7, 0, 20, 1, 12, 10, 0])


@pytest.mark.parametrize("window", [1, 3, 16, 50, 10_000])
def test_shards_show_every_row_once_an_epoch(window):
    order = ShardOrder(STARTS, window)
    epochs = [[order(index, 3) for index in range(first, first + 50)] for first in (0, 50, 100)]
    assert all(sorted(epoch) == list(range(50)) for epoch in epochs)
    assert epochs[0] != epochs[1] != epochs[2]
    assert [order(index, 4) for index in range(50)] != epochs[0]


def test_rows_are_read_within_a_window_of_neighbours():
    starts = np.arange(0, 10_001, 100)  # 100 shards of 100 rows
    order = ShardOrder(starts, 200)
    rows = np.array([order(index, 0) for index in range(10_000)])
    open_at_once = [len(set(rows[first : first + 100] // 100)) for first in range(0, 10_000, 100)]
    assert max(open_at_once) <= 6  # two windows of at most three shards each
    together = rows[:-1] // 100 == rows[1:] // 100
    assert 0.2 < together.mean() < 0.7  # and mixed with those of the neighbouring shards
    assert abs(np.corrcoef(np.arange(10_000), rows)[0, 1]) < 0.4  # the shards themselves are in no order


def test_a_seen_window_does_not_start_at_the_same_place_in_every_epoch():
    order = ShardOrder(np.array([0, 100]), 10)
    first = [frozenset(order(100 * epoch + index, 0) for index in range(10)) for epoch in range(5)]
    assert len(set(first)) > 1


@pytest.mark.parametrize("size", [1, 2, 5, 64, 1000])
def test_rows_of_a_table_come_once_an_epoch(size):
    for epoch in range(3):
        rows = [epoch_position(index, size, 9) for index in range(epoch * size, (epoch + 1) * size)]
        assert sorted(rows) == list(range(size))
