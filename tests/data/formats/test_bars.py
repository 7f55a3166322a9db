"""Bars and volatility indices: of which underlying they are, and which of the two; what cannot be told is refused."""

from datetime import UTC, datetime

import pytest

from tests.data.formats.messages import (
    T0,
    canonical,
    only,
    read,
    rows_of,
)
from volgrad.data.formats.underlying import underlying_of
from volgrad.data.reasons import Reason
from volgrad.data.schema import Dataset, SourceKind
from volgrad.errors import ForeignError, InputError, UnitsError

BARS = {"open": [1.0, 2.0], "high": [3.0, 2.5], "low": [0.5, 1.5], "close": [2.0, 2.0]}
INDEX = {"date": ["2021-11-09", "2025-11-12"], "open": [86.69, None], "high": [87.72, None], "low": [84.33, None]}
INDEX |= {"close": [84.68, 44.87]}


def test_a_single_price_is_no_volatility_index():
    for close in (60_000.0, 0.6):
        with pytest.raises(UnitsError, match="median"):
            canonical(read({"date": ["2021-11-09"]} | {name: [close] for name in BARS}, "btc_dvol.csv"))


@pytest.mark.parametrize("clock", [["2024-04-16 01:00:00+00:00"] * 2, [1713229200000] * 2, [1713229200] * 2])
def test_bars_with_any_clock(clock):
    piece = read({"timestamp": clock, **BARS, "volume": [1.0, 2.0]}, "some/folder/ethusdt_1h.csv.gz")
    assert piece.dataset is Dataset.BARS
    first = rows_of(canonical(piece).table)[0]
    assert (first["ts"], first["ccy"], first["symbol"]) == (datetime(2024, 4, 16, 1, tzinfo=UTC), "ETH", "ETHUSDT")
    assert any("taken from the file's name" in note for note in piece.notes)


def test_the_underlying_is_that_of_the_symbol_then_of_the_name_then_of_the_user():
    rows = {"timestamp": [T0] * 2, **BARS, "volume": [1.0, 2.0]}
    by_symbol = read(rows | {"symbol": ["ETHUSDT", "ETH-PERPETUAL"]}, "hourly.csv")
    assert [row["ccy"] for row in rows_of(by_symbol.table)] == ["ETH", "ETH"]
    assert by_symbol.notes == ()
    by_name = read(rows, "btcusdt.csv", "btc")
    assert [row["ccy"] for row in rows_of(by_name.table)] == ["BTC", "BTC"]
    by_user = read(rows, "hourly.csv", "eth")
    assert [row["ccy"] for row in rows_of(by_user.table)] == ["ETH", "ETH"]
    mixed = read(rows | {"symbol": ["BTCUSDT", "ETH/USDT"]}, "btc_eth.csv")
    assert [row["ccy"] for row in rows_of(mixed.table)] == ["BTC", "ETH"]
    unknown = read(rows | {"symbol": ["x17", None]}, "hourly.csv", "eth")
    assert [row["ccy"] for row in rows_of(unknown.table)] == ["ETH", "ETH"]


@pytest.mark.parametrize(
    ("name", "symbol", "underlying", "told"),
    [
        ("ethusdt_1h.csv", None, "BTC", "its name says ETH and --underlying says BTC"),
        ("pepeusdt_1h.csv", None, "BTC", "its name says PEPE and --underlying says BTC"),
        ("hourly.csv", "ETHUSDT", "BTC", r"symbol says ETH \('ETHUSDT'\) and --underlying says BTC"),
        ("btc_1h.csv", "ETHUSDT", None, r"symbol says ETH \('ETHUSDT'\) and its name says BTC"),
    ],
)
def test_underlyings_that_contradict_each_other_are_refused(name, symbol, underlying, told):
    rows = {"timestamp": [T0] * 2, **BARS, "volume": [1.0, 2.0]}
    if symbol:
        rows["symbol"] = [symbol] * 2
    with pytest.raises(InputError, match=told):
        read(rows, name, underlying)


def test_bars_of_options_among_others_are_left_out_and_counted():
    rows = {"timestamp": [T0] * 2, **BARS, "volume": [1.0, 2.0], "symbol": ["BTC-27DEC24-60000-C", "BTC-PERPETUAL"]}
    piece = read(rows, "bars.csv")
    assert (piece.table.num_rows, piece.malformed) == (1, 1)
    assert any("bars of 1 options, such as BTC-27DEC24-60000-C" in note for note in piece.notes)
    with pytest.raises(ForeignError, match="bars of the option"):
        read({"timestamp": [T0] * 2, **BARS, "volume": [1.0, 2.0]}, "BTC-27DEC24-60000-C.csv")


@pytest.mark.parametrize("name", ["hourly.csv", "btc_eth.csv", "history_2024.csv", "usd.csv"])
def test_an_underlying_that_cannot_be_told_is_asked_for(name):
    with pytest.raises(InputError, match="--underlying"):
        read({"timestamp": [T0] * 2, **BARS, "volume": [1.0, 2.0]}, name)


@pytest.mark.parametrize(
    ("name", "coin"),
    [("BTC.csv", "BTC"), ("deribit-xbt-usd.csv", "BTC"), ("dogeusdt_1m.csv", "DOGE"), ("btc_usd.csv", "BTC")],
)
def test_the_underlying_in_a_name(name, coin):
    assert underlying_of(f"some/eth/folder/{name}", None)[0] == coin


def test_a_volatility_index_is_in_percent():
    piece = read(INDEX, "btc_dvol_daily.csv.gz")
    assert (piece.dataset, piece.kind) == (Dataset.VOLATILITY_INDEX, SourceKind.TICKER)
    first, last = rows_of(canonical(piece).table)
    assert (first["close"], last["close"], last["open"]) == (pytest.approx(0.8468), pytest.approx(0.4487), None)
    assert first["ts"] == datetime(2021, 11, 9, tzinfo=UTC)


def test_our_own_columns_are_in_our_own_units():
    own = {"ts": [datetime(2025, 1, 1, tzinfo=UTC)] * 2, "ccy": ["BTC"] * 2} | {n: [0.5, 0.6] for n in BARS}
    assert canonical(read(own, "dvol.parquet")).table["close"].to_pylist() == [0.5, 0.6]


def test_bars_that_could_be_either_are_refused():
    with pytest.raises(InputError, match="nothing says which"):
        read(INDEX, "btc_daily.csv")


def test_a_price_is_no_volatility_nor_a_fraction_a_percentage():
    for scale in (700.0, 0.01):
        wrong = {
            name: values if name == "date" else [v and v * scale for v in values] for name, values in INDEX.items()
        }
        with pytest.raises(UnitsError, match="median"):
            canonical(read(wrong, "btc_dvol.csv"))


def test_bars_that_contradict_themselves_are_rejected():
    wrong = BARS | {"high": [3.0, 1.0], "close": [0.0, 2.0]}
    done = canonical(read({"timestamp": [T0] * 2, **wrong, "volume": [1.0, 1.0]}, "btc.csv"))
    assert done.reason.tolist() == [Reason.BAD_PRICE, Reason.BAD_PRICE]


def test_answers_of_charts_and_indices():
    rows = [[1598019300000, 89.7, 89.9, 89.5, 89.6], [1598019360000, "x"], 5]
    index = only({"jsonrpc": "2.0", "result": {"data": rows, "continuation": None}}, "dvol.json", "BTC")
    assert (index.dataset, index.malformed) == (Dataset.VOLATILITY_INDEX, 2)
    assert canonical(index).table["close"].to_pylist() == [pytest.approx(0.896)]
    chart = {"ticks": [1598019300000], "open": [1.0], "high": [2.0], "low": [0.5], "close": [1.5], "volume": [3.0]}
    bars = only({"result": chart | {"status": "ok"}}, "btc_usd.json")
    assert rows_of(canonical(bars).table)[0]["volume"] == 3.0
