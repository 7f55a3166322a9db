"""`volgrad.fit`: any table in, surfaces out, and an account of what was left out."""

import subprocess
import sys

import numpy as np
import polars
import pyarrow.parquet as pq
import pytest

import volgrad
from tests.data.tables import FORWARDS, NOW, canonical_table, chain_rows, quote, table_of, volatility, years_to
from volgrad.errors import EmptyInputError, UnknownOptionError


@pytest.mark.parametrize("ccy", ["BTC", "ETH"])
def test_the_surface_goes_through_the_quotes(ccy):
    surfaces = volgrad.fit(canonical_table())
    for row in chain_rows(ccy):
        k, years = np.log(row["strike"] / FORWARDS[ccy]), years_to(row["expiry"])
        assert surfaces.implied_vol(NOW, ccy, k, years) == pytest.approx(float(volatility(k, years)), abs=0.01)


def test_tables_files_and_lists_of_them_are_the_same(tmp_path):
    table = canonical_table()
    pq.write_table(table, tmp_path / "quotes.parquet")
    path = tmp_path / "quotes.parquet"
    found = [volgrad.fit(form) for form in (table, polars.from_arrow(table), path, str(path), [path])]
    answers = [surfaces.implied_vol(NOW, "ETH", 0.05, 0.1) for surfaces in found]
    assert len(set(map(float, answers))) == 1


def test_what_was_left_out_is_told():
    summary = volgrad.fit(table_of([*chain_rows(), quote(ratio=1.05) | {"bid": None}])).summary
    assert summary["chains"][0]["left_out"]["one_sided"] == 1
    assert {"source": "table", "reason": "one_sided", "count": 1} in summary["rejections"]


def test_an_option_that_does_not_exist_is_refused_with_a_suggestion():
    with pytest.raises(UnknownOptionError, match="unknown option 'optimiser': did you mean 'optimizer'"):
        volgrad.fit(canonical_table(), optimiser="lm")
    with pytest.raises(UnknownOptionError, match="'adma'"):
        volgrad.fit(canonical_table(), optimizer="adma")


def test_quotes_of_which_none_is_usable_are_refused_with_the_reason():
    with pytest.raises(
        EmptyInputError, match=r"table: BTC 2026-01-06T09:18:35.*none of 36 quotes is usable: 36 one_si"
    ):
        volgrad.fit(table_of([row | {"ask": None} for row in chain_rows()]))
    with pytest.raises(EmptyInputError, match="the first of 2 chains"):
        volgrad.fit(canonical_table(ask=[None] * 72))


SINGLE_PRECISION = """
import jax, numpy as np, pyarrow.parquet as pq, sys
import volgrad
surfaces = volgrad.fit(pq.read_table(sys.argv[1]))
ts, ccy, _ = next(iter(surfaces))
vol = surfaces.implied_vol(ts, ccy, 0.05, 0.1)
found = [vol, surfaces.price(ts, ccy, 0.05, 0.1), *surfaces.greeks(ts, ccy, 0.05, 0.1)]
assert all(np.asarray(one).dtype == np.float64 for one in found)
assert jax.numpy.ones(1).dtype == np.float32
print(repr(float(vol)))
"""


def test_a_users_own_single_precision_stays_as_it_is_and_changes_no_answer(tmp_path):
    pq.write_table(canonical_table(), tmp_path / "q.parquet")
    command = [sys.executable, "-c", SINGLE_PRECISION, tmp_path / "q.parquet"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")
    here = volgrad.fit(canonical_table())
    ts, ccy, _ = next(iter(here))
    assert float(done.stdout) == pytest.approx(float(here.implied_vol(ts, ccy, 0.05, 0.1)), abs=1e-5)
