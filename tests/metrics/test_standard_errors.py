import math
import statistics

import numpy as np
import pytest
from textlens.metrics.standard_errors import bootstrap_error, mean_and_error

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


def test_the_bootstrap_of_a_mean_is_near_its_closed_form():
    values = np.random.default_rng(1).normal(5, 2, (400, 1))
    found = bootstrap_error(lambda sums: sums[..., 0] / 400, values)
    assert found == pytest.approx(mean_and_error(values[:, 0].tolist())[1], rel=0.1)
    assert found == bootstrap_error(lambda sums: sums[..., 0] / 400, values)
    assert found != bootstrap_error(lambda sums: sums[..., 0] / 400, values, seed=1)
    assert math.isnan(bootstrap_error(lambda sums: sums[..., 0], values[:1]))
