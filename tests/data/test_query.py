"""Questions: keys come back as they were asked, rows find their chain whatever the encoding, nothing is
guessed.
"""

from datetime import timedelta

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from tests.data.tables import DAYS, FORWARDS, NOW, chain_rows, expiry, quote, table_of, ticker_rows
from volgrad.data import (
    build,
    build_chains,
    locate,
    locate_grid,
    read_grid,
    read_query,
    read_quotes,
    write_grid,
    write_predictions,
)
from volgrad.errors import EmptyInputError, InputError, SchemaError, WorkError

KEYS = ("ts", "ccy", "expiry", "strike", "cp")


def chains_of(rows, **changes):
    return build_chains(read_quotes(table_of(rows, **changes)))


def query_of(rows, **changes):
    return read_query(table_of(rows, drop=("bid", "ask", "underlying"), **changes))


def split_chains():
    rows = chain_rows()
    return chains_of(rows * 3, split=[s for s in ("full", "interp", "wing") for _ in rows])


def test_rows_find_their_chain_forward_and_time():
    chains = chains_of(chain_rows() + chain_rows("ETH"))
    rows = [quote(days=24, ratio=1.07, ccy=ccy) for ccy in ("ETH", "BTC", "ETH")]
    located = locate(query_of(rows), chains)
    assert [chains[i].ccy for i in located.chain] == ["ETH", "BTC", "ETH"]
    np.testing.assert_allclose(located.log_moneyness, np.log(1.07), rtol=1e-12)
    np.testing.assert_allclose(located.expiry_years, chains[0].expiry_years[1], rtol=1e-15)
    assert located.reasons() == {}


@pytest.mark.parametrize("unit", ["ms", "us", "ns"])
def test_the_unit_of_stamps_does_not_matter(unit):
    chains = chains_of(chain_rows())
    query = query_of(chain_rows())
    table = query.table
    for name in ("ts", "expiry"):
        table = table.set_column(table.column_names.index(name), name, table[name].cast(pa.timestamp(unit, "UTC")))
    expected, located = locate(query, chains), locate(read_query(table), chains)
    np.testing.assert_array_equal(located.chain, expected.chain)
    np.testing.assert_array_equal(located.log_moneyness, expected.log_moneyness)


def test_given_moneyness_time_and_forward_are_used_as_they_are():
    chains, rows = chains_of(chain_rows()), [quote()] * 2
    given = locate(query_of(rows, log_moneyness=[0.25, None], tau_years=[0.5, None]), chains)
    assert (given.log_moneyness[0], given.expiry_years[0]) == (0.25, 0.5)
    assert given.log_moneyness[1] == pytest.approx(np.log(1.1))
    forward = locate(query_of(rows, forward=[99_000.0, 90_000.0]), chains)
    np.testing.assert_allclose(forward.log_moneyness, [0.0, np.log(1.1)], atol=1e-12)


def test_an_expiry_that_the_chain_lacks_has_a_forward_between_its_neighbours():
    rows = chain_rows(days=(10, 30))
    rising = [row["underlying"] * (1.1 if row["expiry"] == expiry(30) else 1.0) for row in rows]
    chains = chains_of(rows, underlying=rising)
    asked = [quote(days=d) for d in (5, 10, 20, 30, 90)]
    located = locate(query_of(asked), chains)
    forwards = np.array([row["strike"] for row in asked]) / np.exp(located.log_moneyness) / FORWARDS["BTC"]
    np.testing.assert_allclose(forwards[[0, 1, 3, 4]], [1.0, 1.0, 1.1, 1.1], rtol=1e-12)
    assert 1.0 < forwards[2] < 1.1


def test_what_cannot_be_answered_has_a_reason():
    result = build(read_quotes(table_of(chain_rows() + [row | {"bid": None} for row in chain_rows("ETH")])))
    sick = {
        "no_chain": quote() | {"ts": NOW + timedelta(seconds=1)},
        "chain_refused": quote(ccy="ETH"),
        "bad_strike": quote() | {"strike": -1.0},
        "expired": quote() | {"expiry": NOW},
    }
    located = locate(query_of([*sick.values(), quote()]), result.chains, result.refused)
    assert located.reasons() == dict.fromkeys(sick, 1)
    assert located.chain.tolist()[-1] == 0
    assert located.chain[:2].tolist() == [-1, -1]


def test_no_chains_at_all_answer_nothing():
    assert locate(query_of([quote()]), []).reasons() == {"no_chain": 1}


def test_splits_find_their_own_chain_and_a_grid_takes_interp():
    chains, rows = split_chains(), [quote()] * 3
    located = locate(query_of(rows, split=["wing", "full", "unheard"]), chains)
    assert [chains[i].split if i >= 0 else None for i in located.chain] == ["wing", "full", None]
    without = locate(query_of(rows), chains)
    assert {chains[i].split for i in without.chain} == {"interp"}
    grid = read_grid(pa.table({"ts": [NOW] * 2, "ccy": ["BTC", "SOL"], "tau_years": [0.1, 0.1], "k": [-0.2, 0.0]}))
    found = locate_grid(grid, chains)
    assert chains[found.chain[0]].split == "interp"
    assert found.reasons() == {"no_chain": 1}
    np.testing.assert_array_equal(found.log_moneyness, [-0.2, 0.0])


def test_chains_without_split_serve_every_split():
    chains = chains_of(chain_rows())
    assert locate(query_of([quote()] * 2, split=["wing", None]), chains).chain.tolist() == [0, 0]


def test_settlement_is_matched_where_it_is_given():
    rows = chain_rows()
    chains = chains_of(rows + chain_rows(linear=True), settlement=["inverse"] * len(rows) + ["linear"] * len(rows))
    located = locate(query_of([quote()] * 3, settlement=["linear", "inverse", None]), chains)
    assert [chains[i].settlement.value for i in located.chain] == ["linear", "inverse", "inverse"]


def test_a_query_with_cycles_is_matched_by_them():
    chains = chains_of(ticker_rows())
    late = quote() | {"ts": NOW + timedelta(seconds=77)}
    assert locate(query_of([late], cycle=[NOW]), chains).chain.tolist() == [0]


def exotic_keys():
    """A query whose keys are encoded in every other way."""
    table = table_of([quote(days=d) for d in DAYS], drop=("bid", "ask", "underlying"), split=["interp"] * 3)
    kinds = {
        "split": pa.dictionary(pa.int8(), pa.string()),
        "ts": pa.timestamp("ns", "UTC"),
        "ccy": pa.dictionary(pa.uint32(), pa.large_string()),
        "expiry": pa.timestamp("ms"),
        "strike": pa.float32(),
        "cp": pa.large_string(),
    }
    for name, kind in kinds.items():
        table = table.set_column(table.column_names.index(name), name, table[name].cast(kind))
    return table.append_column("noise", pa.array([1, 2, 3]))


def test_predictions_copy_the_keys_in_value_and_type(tmp_path):
    table = exotic_keys()
    pq.write_table(table, tmp_path / "query.parquet")
    query = read_query(tmp_path / "query.parquet")
    write_predictions(tmp_path / "new" / "predictions.parquet", query, np.array([0.5, np.nan, 0.7]))
    written = pq.read_table(tmp_path / "new" / "predictions.parquet")
    assert written.column_names == ["split", *KEYS, "iv"]
    for name in ("split", *KEYS):
        assert written[name].type == query.table[name].type
        assert written[name].to_pylist() == table[name].to_pylist()
    assert written["iv"].type == pa.float64()
    assert written["iv"].null_count == 0


def test_polars_categories_can_be_written(tmp_path):
    polars = pytest.importorskip("polars")
    frame = polars.from_arrow(exotic_keys()).with_columns(polars.col("cp").cast(polars.Categorical))
    write_predictions(tmp_path / "p.parquet", read_query(frame), np.zeros(3))
    back = polars.read_parquet(tmp_path / "p.parquet")
    assert back.schema["cp"] == polars.Categorical
    assert back["cp"].to_list() == frame["cp"].to_list()


@pytest.mark.parametrize("filled", [False, True])
def test_grids_keep_all_columns_and_get_iv(tmp_path, filled):
    table = pa.table({"ts": [NOW], "iv": [None], "ccy": ["BTC"], "tau_years": [0.1], "k": [0.0], "in_range": [True]})
    grid = read_grid(table if filled else table.drop_columns("iv"))
    write_grid(tmp_path / "g.parquet", grid, np.array([0.6]))
    written = pq.read_table(tmp_path / "g.parquet")
    assert written.column_names == (table.column_names if filled else [*grid.table.column_names, "iv"])
    assert written["iv"].to_pylist() == [0.6]
    assert written["in_range"].to_pylist() == [True]


def test_a_failed_write_leaves_what_was_there(tmp_path):
    path, query = tmp_path / "p.parquet", query_of([quote()])
    write_predictions(path, query, np.array([0.5]))
    before = path.read_bytes()
    with pytest.raises(ValueError, match="iv has 2 rows, the table 1"):
        write_predictions(path, query, np.zeros(2))
    (tmp_path / "taken").write_text("a file")
    with pytest.raises(WorkError, match="could not be written"):
        write_predictions(tmp_path / "taken" / "p.parquet", query, np.array([0.5]))
    assert path.read_bytes() == before
    assert sorted(p.name for p in tmp_path.iterdir()) == ["p.parquet", "taken"]


def test_bad_questions_are_told(tmp_path):
    with pytest.raises(SchemaError, match="a query needs the column strike"):
        read_query(table_of([quote()], drop=("strike",)))
    (tmp_path / "grid.csv").write_text("ts,ccy\n2026-01-01T00:00:00Z,BTC\n")
    with pytest.raises(SchemaError, match=r"grid\.csv: a grid needs the columns tau_years, k"):
        read_grid(tmp_path / "grid.csv")
    with pytest.raises(EmptyInputError, match="a query without a row"):
        read_query(table_of([quote()]).slice(0, 0))
    with pytest.raises(InputError, match="is a directory"):
        read_query(tmp_path)
    with pytest.raises(InputError, match="no such file"):
        read_query(tmp_path / "missing.parquet")
    (tmp_path / "cut.parquet").write_bytes(b"PAR1 and no more")
    with pytest.raises(InputError, match=r"cut\.parquet: damaged or cut short"):
        read_query(tmp_path / "cut.parquet")
