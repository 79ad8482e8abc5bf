import math
import statistics

import pytest
from textlens.metrics.standard_errors import mean_and_error

VALUES = [1.0, 0.0, 0.0, 1.0, 1.0, 0.0, 0.0]


def test_without_groups_it_is_the_usual_one():
    error = statistics.stdev(VALUES) / math.sqrt(len(VALUES))
    assert mean_and_error(VALUES) == pytest.approx((3 / 7, error))


def test_repeated_values_of_a_group_tell_nothing_new():
    mean, error = mean_and_error(VALUES)
    doubled = mean_and_error(VALUES * 2, [*range(7), *range(7)])
    assert doubled == pytest.approx((mean, error))
    assert mean_and_error(VALUES * 2)[1] < error


def test_one_group_has_no_error():
    assert math.isnan(mean_and_error([1.0, 0.0], ["a", "a"])[1])
