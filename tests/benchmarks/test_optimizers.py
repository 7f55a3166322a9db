"""The race of optimisers: targets are counted as documented, and the runs are those of the public step."""

import numpy as np
import pytest

from benchmarks import chains, optimizers
from benchmarks.optimizers import NEVER, Case, Method


@pytest.fixture(scope="module")
def case() -> Case:
    return optimizers.prepare(chains.simulated(3, 1))[0]


def test_the_optimum_is_where_levenberg_marquardt_ends(case):
    losses = optimizers.curve(case, Method("lm", 0), seed=1)
    assert losses.min() == pytest.approx(case.best)
    assert optimizers.steps_to(case, losses, Method("lm", 0), 0.01) < 10


def test_steps_are_counted_to_the_first_look_within_the_target(case):
    losses = case.best * np.array([9.0, 1.2, 1.05, 1.2, 1.005])
    method = Method("adam", 16, 0.1)
    counted = [optimizers.steps_to(case, losses, method, target) for target in (0.5, 0.1, 0.01, 0.001)]
    assert counted == [10.0, 20.0, 40.0, NEVER]


def test_a_walk_in_parts_is_the_walk_in_one(case):
    walk, state = optimizers._walk("sgd", 16), optimizers._begin(case, Method("sgd", 16, 0.01), seed=2)
    whole = walk(case.task, case.data, state, 0, 25)
    for first in (0, 10, 20):
        state = walk(case.task, case.data, state, first, min(10, 25 - first))
    np.testing.assert_array_equal(whole.variables, state.variables)
    assert whole.samples == state.samples


def test_rates_scale_the_first_step(case):
    moved = [
        optimizers._walk("sgd", 16)(case.task, case.data, optimizers._begin(case, Method("sgd", 16, rate), 0), 0, 1)
        for rate in (0.01, 0.02)
    ]
    np.testing.assert_allclose(2.0 * moved[0].variables, moved[1].variables, rtol=1e-12)


def test_the_median_counts_chains_that_never_arrive():
    assert optimizers._median(np.array([3.0, 1.0, NEVER])) == 3.0
    assert optimizers._median(np.array([3.0, NEVER, NEVER])) is None
    assert optimizers._median(np.array([3.0, 1.0])) == 2.0


def test_the_table_names_every_method():
    figures = {"share": 0.5, "steps": None, "epochs": None, "ms": None}
    told = {"ms_a_step": 1.0, "loss_over_optimum": 1.1, "within_10%": figures, "within_1%": figures}
    methods = [Method("lm", 0), Method("adam", 4, 0.1)]
    rows = [told | {"label": m.label, "rate": m.rate} for m in methods]
    text = optimizers.table({"chains": "2 chains", "figures": rows})
    assert all(words in text for words in ("lm, whole chain", "adam, 4 quotes", "never"))
