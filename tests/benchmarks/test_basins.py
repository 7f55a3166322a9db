"""The basins benchmark: its smiles, its polisher and its counts; the study itself in little."""

import numpy as np
import pytest

from benchmarks import basins


@pytest.fixture(scope="module")
def event() -> basins.Problem:
    return basins.problem("event", seed=0, quotes=32)


def test_the_smiles_are_a_slice_and_a_hump_and_come_from_the_seed(event):
    smile = basins.problem("smile", seed=0, quotes=32).data.rows
    assert np.argmin(smile.mid_vol) not in (0, 31)
    assert np.argmax(event.data.rows.mid_vol) not in (0, 31)
    for row in (smile, event.data.rows):
        assert (row.mid_vol > 0.2).all()
        assert (row.mid_vol < 2.0).all()
    again, other = (basins.problem("event", seed, quotes=32).data.rows.mid_vol for seed in (0, 1))
    np.testing.assert_array_equal(again, event.data.rows.mid_vol)
    assert not np.array_equal(other, again)


def test_implied_volatility_of_one_outcome_is_its_own():
    strikes = np.exp(np.linspace(-0.2, 0.2, 5))
    calls = basins._call(1.0, strikes, 0.06)
    assert calls[2] == pytest.approx(2.0 * 0.5119664734141127 - 1.0, abs=1e-12)  # Phi(.03): scipy.stats.norm.cdf
    assert (np.diff(calls) < 0.0).all()
    assert (np.diff(calls, 2)[1:-1] > -1e-3).all()


def test_the_polisher_never_goes_up_and_the_hump_has_more_than_one_basin(event):
    begins = basins.starts(12, seed=3)
    at, loss = basins.polish(event, begins)
    again = basins.polish(event, at)[1]
    assert (again <= loss * (1.0 + 1e-9)).all()
    assert loss.max() > loss.min() * (1.0 + basins.TOLERANCE)


def test_wilson_and_the_sign_test_agree_with_their_tables():
    # scipy.stats.binomtest(7, 20).proportion_ci(method="wilson"), and binomtest(2, 10).pvalue
    assert basins.wilson(7, 20) == pytest.approx((0.1811918, 0.5671457), abs=1e-6)
    assert basins.wilson(20, 20)[1] == 1.0
    assert basins.sign_test(2, 8) == pytest.approx(0.109375)
    assert basins.sign_test(0, 0) == 1.0


def test_the_rate_of_lowest_mean_loss_is_taken_and_a_run_that_blew_up_counts():
    assert basins.tuned(np.array([[1.0, 3.0], [1.5, 1.5], [0.1, np.inf]])) in (1, 2)
    assert basins.tuned(np.array([[1.0, 3.0], [1.5, 1.5], [0.1, 9.0]])) == 1


def test_a_study_in_little_counts_every_cell_and_its_figure_has_every_line(monkeypatch, event):
    monkeypatch.setattr(basins, "SIZES", (8, 32))
    monkeypatch.setattr(basins, "RATES", {"sgd": (0.003, 0.01)})
    monkeypatch.setattr(basins, "BUDGETS", {"steps": 8})
    # the curvature has tests of its own: a length stands in, to compile less
    monkeypatch.setattr(basins, "_curvature", lambda: lambda task, data, at: (at**2).sum(-1))
    told = basins.study(event, seed=0, count=12, tuning=2)
    steps = {(cell["budget"], cell["size"]): cell["steps"] for cell in told["figures"]}
    assert steps == {("steps", 8): 8, ("steps", 32): 8}
    for cell in told["figures"]:
        assert cell["rate_at_end"]
        assert min(cell["polished_over_best"]) >= 1.0
        assert cell["best"]["share"] <= cell["near"]["share"]
        for kind in ("best", "near"):
            assert cell[kind]["interval"][0] <= cell[kind]["share"] <= cell[kind]["interval"][1]
            assert cell[kind]["won"] + cell[kind]["lost"] <= 12
            if cell["size"] == 32:
                assert (cell[kind]["won"], cell[kind]["lost"], cell[kind]["p"]) == (0, 0, 1.0)
    losses = [basin["loss"] for basin in told["basins"]]
    assert losses == sorted(losses)
    assert losses[0] == told["best_loss"]
    result = {"studies": [told]}
    assert [line["label"] for line in basins.figure(result)] == ["event, sgd, steps"]
    assert basins.figure(result)[0]["size"] == [8, 32]
    assert "polisher alone" in basins.table(result)
