"""Laws of the choice of rows per cluster: two-stage sampling."""

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from volgrad.learning.batching.rows_choice import RowCost, choose_rows


class Noise:
    """What the choice needs of a noise scale."""

    def __init__(self, between, within):
        self.between, self.within = between, within
        self.intraclass = between / (between + within)


def test_rows_that_tell_the_same_are_drawn_once():
    assert choose_rows(Noise(1.0, 0.0), RowCost(1e-6, 1e-6), 64).rows_per_cluster == 1


def test_clusters_that_cost_nothing_are_drawn_thin():
    assert choose_rows(Noise(0.1, 0.9), RowCost(0.0, 1e-6), 64).rows_per_cluster == 1


def test_rows_that_are_independent_are_all_drawn_where_clusters_cost():
    found = choose_rows(Noise(0.0, 1.0), RowCost(1e-6, 1e-6), 48)
    assert found.rows_per_cluster == 48
    assert found.cheapest == math.inf


@given(st.floats(0.01, 1.0), st.floats(0.01, 1.0), st.floats(1e-8, 1e-4), st.integers(1, 200))
def test_the_choice_is_the_option_next_to_the_formula(between, within, cluster_s, most):
    found = choose_rows(Noise(between, within), RowCost(cluster_s, 1e-6), most)
    ideal = min(max(math.sqrt(cluster_s / 1e-6 * within / between), 1.0), most)
    assert ideal / 2.0 <= found.rows_per_cluster <= 2.0 * ideal
    assert min(found.relative) == pytest.approx(1.0)
    assert found.options[-1] == most
