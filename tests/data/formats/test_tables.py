"""Other exchanges' tickers in tables: told by their columns, the same as in a document."""

import pytest

from tests.data.formats.messages import (
    T0,
    canonical,
    only,
    read,
    rows_of,
    table_of,
)
from tests.data.formats.test_documents import BINANCE_TICKER, BYBIT, OKX_TICKER, SUMMARY, at, bybit, okx
from volgrad.data.formats import tabular
from volgrad.data.schema import SourceKind
from volgrad.errors import InputError


@pytest.mark.parametrize(
    ("document", "rows"),
    [(okx(OKX_TICKER), [OKX_TICKER]), (bybit(BYBIT), [BYBIT | {"time": 1672376592395}])],
    ids=["okx", "bybit"],
)
def test_another_exchange_in_a_table_is_what_it_is_as_json(document, rows):
    (expected,) = rows_of(canonical(only(document)).table)
    piece = read(table_of(*rows), "export.csv")
    (row,) = rows_of(canonical(piece).table)
    assert row == expected


def test_names_in_a_table_that_are_no_option_are_counted():
    rows = [BINANCE_TICKER | {"time": T0}, BINANCE_TICKER | {"symbol": "BTCUSDT"}, {"symbol": None}]
    piece = read(table_of(*rows), "export.csv")
    assert (piece.table.num_rows, piece.malformed) == (1, 2)
    assert piece.kind is SourceKind.BINANCE


def test_a_table_of_quotes_without_any_time_is_refused():
    with pytest.raises(InputError, match=r"nothing states a time for its 1 quotes.*add a column"):
        read(table_of(BYBIT), "export.csv")


def test_summaries_in_a_table():
    piece = read(table_of(SUMMARY), "export.csv")
    (row,) = rows_of(canonical(piece).table)
    assert (row["ts"], row["mark_iv"], row["ask"]) == (at(1749938299495), pytest.approx(0.3788), None)


def test_ccxt_in_a_table_finds_time_and_volatility_in_info():
    info = "{'mark_iv': 37.88, 'creation_timestamp': 1749938299495, 'x': '1'}"
    entry = {"info": info, "symbol": "BTC/USD:BTC-250616-111000-P", "timestamp": None, "bidPrice": 0.1}
    piece = read(table_of(entry | {"askPrice": None, "impliedVolatility": None}), "chain.csv")
    (row,) = rows_of(canonical(piece).table)
    assert (row["ts"], row["mark_iv"], row["bid"], row["strike"]) == (
        at(1749938299495),
        pytest.approx(0.3788),
        0.1,
        111000.0,
    )


def test_other_tables_are_not_ours():
    assert tabular(["a", "b"], "x.csv") is None
    assert tabular(["timestamp", "open", "close"], "x.csv") is None
    assert tabular(["timestamp", "timestamp", "open", "high", "low", "close"], "btcusdt.csv") is None
