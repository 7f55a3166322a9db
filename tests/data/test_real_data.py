"""Recorded months: every row is accounted for, and the chains are those of the public scoring protocol."""

import subprocess
import sys

import numpy as np
import pytest

from volgrad.data import build, locate, locate_grid, read_grid, read_query, read_quotes

FILES = (
    "deribit_snap_202601.parquet",
    "deribit_snap_202603.parquet",
    "deribit_snap_202605.parquet",
    "deribit_ticker5m_20230412.parquet",
    "deribit_ticker5m_20230414.parquet",
)
FEWEST_QUOTES = 6  # an expiry with fewer is not scored
FEWEST_EXPIRIES = 3  # nor is a chain with fewer expiries of a day or more


@pytest.mark.parametrize("name", FILES)
def test_every_row_is_used_or_left_out_by_a_reason(shared_data, name):
    quotes = read_quotes(shared_data / name)
    result = build(quotes)
    assert result.rejections.used == sum(chain.n_rows for chain in result.chains)
    assert result.rejections.used + result.rejections.total == quotes.rows
    in_chains = sum(chain.n_rows + sum(chain.left_out.values()) for chain in result.chains)
    refused = sum(sum(chain.left_out.values()) for chain in result.refused)
    assert in_chains + refused == quotes.rows
    assert result.rejections.used > 0.3 * quotes.rows


@pytest.fixture(scope="module")
def prepare(shared_data, tmp_path_factory):
    """The scoring script's `prepare` on a few snapshots of a file."""
    pytest.importorskip("polars")
    script = shared_data.parent / "benchmarks" / "score_surface.py"
    if not script.is_file():
        pytest.skip(f"no scoring script at {script}")

    def run(name):
        out = tmp_path_factory.mktemp("prepared")
        command = [sys.executable, str(script), "prepare", str(shared_data / name), "--out", str(out)]
        subprocess.run([*command, "--max-snapshots", "6"], check=True, capture_output=True)
        return out

    return run


def quotes_of(chains):
    """All quotes of expiries that are scored: (stamp, ccy, expiry, strike, call) -> what is known of them."""
    found = {}
    for chain in chains:
        scored = np.bincount(chain.expiry_index, minlength=chain.n_expiries) >= FEWEST_QUOTES
        if (scored & (chain.expiry_years >= 1 / 365)).sum() < FEWEST_EXPIRIES:
            continue
        for i in np.flatnonzero(scored[chain.expiry_index]):
            expiry = chain.expiry_index[i]
            key = (
                chain.ts_us,
                chain.ccy,
                int(chain.expiry_us[expiry]),
                chain.strike_usd[i],
                bool(chain.is_call[i]),
            )
            found[key] = (
                *(chain.forward_usd[expiry], chain.expiry_years[expiry], chain.log_moneyness[i]),
                *(chain.bid[i], chain.ask[i], chain.bid_iv[i], chain.ask_iv[i]),
            )
    return found


@pytest.mark.parametrize("name", [FILES[0], FILES[3]])
def test_chains_of_raw_files_are_those_of_the_scoring_protocol(shared_data, prepare, name):
    folder = prepare(name)
    prepared = build(read_quotes(folder / "train.parquet"))
    full = [chain for chain in prepared.chains if chain.split == "full"]
    stamps = {chain.ts_us for chain in full}
    raw = [chain for chain in build(read_quotes(shared_data / name)).chains if chain.ts_us in stamps]
    theirs, ours = quotes_of(full), quotes_of(raw)
    assert ours.keys() == theirs.keys()
    np.testing.assert_allclose([ours[key] for key in theirs], list(theirs.values()), rtol=1e-9, atol=1e-12)


def test_prepared_rows_are_all_used_and_every_question_finds_its_block(prepare):
    folder = prepare(FILES[0])
    quotes = read_quotes(folder / "train.parquet")
    result = build(quotes)
    assert (result.rejections.used, result.refused) == (quotes.rows, ())
    query = read_query(folder / "query.parquet")
    located = locate(query, result.chains)
    assert located.reasons() == {}
    assert [result.chains[i].split for i in located.chain] == query.table["split"].to_pylist()
    np.testing.assert_array_equal(located.log_moneyness, query.table["log_moneyness"].to_numpy())
    grid = locate_grid(read_grid(folder / "grid.parquet"), result.chains)
    assert {result.chains[i].split for i in np.unique(grid.chain)} == {"interp"}
