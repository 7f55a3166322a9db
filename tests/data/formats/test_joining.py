"""Answers that say different things about the same options are joined by name, and by name alone."""

import pytest

from tests.data.formats.messages import canonical, pieces_of, rows_of
from tests.data.formats.test_documents import OKX_SUMMARY, OKX_TICKER, lines, okx


def okx_of(coin, ms=0):
    """Tickers and summaries of one underlying, asked for together."""
    rows = (OKX_TICKER, OKX_SUMMARY | {"fwdPx": {"BTC": "39000", "ETH": "2600", "SOL": "90"}[coin]})
    named = [row | {"instId": row["instId"].replace("BTC", coin), "ts": str(int(row["ts"]) + ms)} for row in rows]
    return [okx(row) for row in named]


@pytest.mark.parametrize("order", [(0, 2, 1, 3), (0, 2, 3, 1), (2, 0, 1, 3), (0, 1, 2, 3), (1, 3, 0, 2)])
def test_answers_of_several_underlyings_are_joined_by_name_in_any_order(order):
    answers = [*okx_of("BTC"), *okx_of("ETH")]
    later = [*okx_of("BTC", 20_000), *okx_of("ETH", 20_000)]
    pieces = pieces_of(lines(*(answers[i] for i in order), *(later[i] for i in order)))
    rows = [row for piece in pieces for row in rows_of(canonical(piece).table)]
    assert len(rows) == 4
    assert {(row["ccy"], row["underlying"], row["ask"], row["mark_iv"]) for row in rows} == {
        ("BTC", 39000.0, 0.2, 1.5551965233045728),
        ("ETH", 2600.0, 0.2, 1.5551965233045728),
    }
    assert len({row["cycle"] for row in rows}) == 2


def test_answers_that_share_no_name_are_not_joined():
    strange = OKX_SUMMARY | {"instId": "BTC-USD-220309-39000-C"}
    quotes, marks = pieces_of(lines(okx(OKX_TICKER), okx(strange)))
    assert (quotes.table["mark_iv"].null_count, marks.table["ask"].null_count) == (1, 1)
