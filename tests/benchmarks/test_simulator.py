"""The simulator's benchmark: its statistics on cases that are known, and that it can be told."""

import json
from datetime import timedelta

import numpy as np
import pytest

from benchmarks import market_dynamics, market_statistics, simulator


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Three hours of 5-minute chains."""
    where = tmp_path_factory.mktemp("day")
    return where, simulator.write(where, 3, timedelta(minutes=5), 36)


@pytest.fixture(scope="module")
def told(folder):
    return simulator.measured(sorted(folder[0].glob("quotes-*")), often=True)


def test_both_underlyings_are_measured_from_the_files(folder, told):
    _, quotes = folder
    assert set(told) == {"BTC", "ETH"}
    assert sum(side["quotes"]["options_a_chain"] * 36 for side in told.values()) == pytest.approx(quotes)
    for side in told.values():
        listing = side["quotes"]
        assert listing["chains"] == 36
        assert 11.0 < listing["expiries_a_chain"] < 15.0
        assert sum(bucket["share"] for bucket in listing["by_delta"].values()) == pytest.approx(1.0)
        assert side["lasting"]["own_middle_inside"] > 0.8
        assert side["lasting"]["error_acf"]["1"] > side["lasting"]["error_acf"]["12"]
        assert side["market"]["7 d"]["spot_correlation"] < 0.0


def test_everything_can_be_told(told):
    made = {"day_0": told, "day_1": told}
    lines = simulator.table({}, json.loads(json.dumps(made)))
    assert any(line.startswith("| ETH: lasting / prices_unchanged") for line in lines)
    widths = {line.count("|") for line in lines if line}
    assert len(widths) == 1


def test_flat_names_every_figure():
    nested = {"a": {"b": 1.0, "c": [1.0, 2.0, 3.0]}, "d": None, "e": 4.0}
    assert simulator.flat(nested) == {
        "a | b": 1.0,
        "a | c | p10": 1.0,
        "a | c | p50": 2.0,
        "a | c | p90": 3.0,
        "e": 4.0,
    }


@pytest.mark.parametrize("share", [0.0, 0.3, 0.8])
def test_intraclass_correlation_is_found(share):
    random = np.random.default_rng(1)
    group = np.repeat(np.arange(4000), random.integers(2, 12, 4000))
    common = random.standard_normal(4000)[group]
    values = np.sqrt(share) * common + np.sqrt(1.0 - share) * random.standard_normal(group.size)
    assert market_statistics.intraclass(values, group) == pytest.approx(share, abs=0.02)


def test_lags_are_between_the_same_options():
    values = np.arange(12.0)
    table = np.array([[0, 1, 2], [3, -1, 4], [5, 6, 7]])
    pairs = []
    market_dynamics._by_lag(table, values, lambda one, other: pairs.append((one.tolist(), other.tolist())))
    assert pairs == [([0.0, 2.0, 3.0, 4.0], [3.0, 4.0, 5.0, 7.0]), ([0.0, 1.0, 2.0], [5.0, 6.0, 7.0])]


def test_recorded_figures_are_those_of_the_datas_own_account(shared_data):
    """Its README, all three months: two-sided 92.1 %, none crossed, forwards apart in 14.9 % of pairs."""
    months = [market_statistics.read_rows([file]) for file in sorted(shared_data.glob("deribit_snap_*.parquet"))]
    sides = [rows for month in months for rows in month.values()]
    weight = np.array([rows.chain.size for rows in sides], float)
    two_sided = np.array([rows.two_sided.mean() for rows in sides])
    assert np.average(two_sided, weights=weight) == pytest.approx(0.921, abs=0.015)
    assert max(np.mean(rows.number["bid"] > rows.number["ask"]) for rows in sides) == 0.0
    apart = [market_statistics._forwards(rows)["pairs_apart"] for rows in sides]
    assert np.average(apart, weights=weight) == pytest.approx(0.149, abs=0.015)


def test_without_records_that_side_is_left_out(monkeypatch, tmp_path):
    monkeypatch.setenv("VOLGRAD_DATA", str(tmp_path))
    assert simulator.recorded_sides() == {}
