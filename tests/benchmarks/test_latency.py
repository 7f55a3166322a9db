"""The latency benchmark: what it draws, that it measures what it says, and that it can be told."""

import json

import numpy as np
import pytest

from benchmarks import chains, latency


@pytest.fixture(scope="module")
def known() -> list[chains.Sourced]:
    return chains.simulated(5, 3)


def test_every_chain_is_paired_with_the_one_before_it(known):
    drawn = latency.pairs(known, seed=0, count=9)
    assert len(drawn) == 2
    assert all(pair.before.ts_us < pair.chain.ts_us and pair.before.ccy == pair.chain.ccy for pair in drawn)
    assert latency.pairs(known[::-1], seed=0, count=9) == []


def test_the_same_seed_draws_the_same_pairs(known):
    first, again = (latency.pairs(known, seed=4, count=1) for _ in range(2))
    assert first[0].chain is again[0].chain


def test_the_rival_fits_every_expiry(known):
    chain = known[0][1]
    answer = latency.rival(chain)()
    quoted = np.unique(chain.expiry_index).size
    k = np.zeros(quoted)
    assert np.all(answer(np.arange(quoted), k) > 0.0)


def test_one_chain_is_measured_and_told(known):
    told = {"chains": "1 chain"} | latency.measure(latency.pairs(known, seed=0, count=1), turns=1)
    assert set(told["ms"]) == set(latency.PARTS)
    assert all(figures["p50"] >= 0.0 for figures in told["ms"].values())
    assert told["cold"]["clean"] == told["warm"]["clean"] == told["warm"]["began_warm"] == 1.0
    assert told["cold"]["began_warm"] == 0.0
    report = {"latency": [told], "month": {"file": "x", "failed": "exit code 2"}}
    assert "cold, all in" in latency.table(json.loads(json.dumps(report)))


def test_without_records_the_market_is_simulated(monkeypatch, tmp_path):
    monkeypatch.setenv("VOLGRAD_DATA", str(tmp_path))
    assert chains.recorded_files() == []
    assert {source for source, _ in chains.mixed(0, 2)} == {"simulated"}
