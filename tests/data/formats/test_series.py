"""Side series and other exchanges' tickers in tables: told by their columns; what cannot be told is refused."""

from datetime import UTC, datetime

import pyarrow as pa
import pytest

from tests.data.formats.messages import T0, canonical, only, reasons, rows_of
from tests.data.formats.test_documents import BINANCE_TICKER, BYBIT, OKX_TICKER, SUMMARY, at, bybit, okx
from volgrad.data.formats import tabular
from volgrad.data.formats.epochs import stamp_column
from volgrad.data.formats.side import SIDE_COLUMNS
from volgrad.data.formats.underlying import underlying_of
from volgrad.data.reasons import Reason
from volgrad.data.schema import Dataset, SourceKind
from volgrad.errors import InputError, UnitsError

BARS = {"open": [1.0, 2.0], "high": [3.0, 2.5], "low": [0.5, 1.5], "close": [2.0, 2.0]}
INDEX = {"date": ["2021-11-09", "2025-11-12"], "open": [86.69, None], "high": [87.72, None], "low": [84.33, None]}
INDEX |= {"close": [84.68, 44.87]}


def read(columns, name, underlying=None):
    reader = tabular(list(columns), name, underlying)
    assert reader is not None
    return reader(pa.table(columns))


def table_of(*records):
    return {name: [record.get(name) for record in records] for name in records[0]}


def test_trades_under_short_and_long_names():
    short = {"q": [0.6], "p": [0.0165], "s": ["TRADE"], "t": [1641005912220], "trade_id": [197400889], "iv": [61.54]}
    short |= {"instrument_name": ["BTC-2JAN22-47000-P"], "index_price": [46786.0], "direction": ["sell"]}
    names = {"q": "amount", "p": "price", "t": "timestamp"}
    long = {names.get(name, name): values for name, values in short.items() if name != "s"}
    left, right = read(short, "trades.csv"), read(long, "trades.csv")
    assert left.extra == ("s",)
    (row,) = rows_of(canonical(left).table)
    assert rows_of(canonical(right).table) == [row]
    assert list(row) == [column.name for column in SIDE_COLUMNS[Dataset.TRADES]]
    assert (row["trade_id"], row["amount"], row["direction"], row["settlement"]) == (
        "197400889",
        0.6,
        "sell",
        "inverse",
    )
    assert row["ts"] == datetime(2022, 1, 1, 2, 58, 32, 220000, UTC)


def test_trades_of_tardis():
    trades = {"exchange": ["deribit"] * 2, "symbol": ["BTC-2JAN22-47000-P", "BTC-PERPETUAL"]}
    trades |= {"timestamp": [1641005912220000] * 2, "local_timestamp": [1641005912230000] * 2, "id": ["1", "2"]}
    piece = read(trades | {"side": ["sell", "buy"], "price": [0.0165, 46786.0], "amount": [0.6, 10.0]}, "trades.csv")
    done = canonical(piece)
    assert done.reason.tolist() == [Reason.USED, Reason.NOT_AN_OPTION]
    first = rows_of(done.table)[0]
    assert (first["ts"], first["direction"], first["iv"]) == (at(1641005912220), "sell", None)
    assert any("as us since 1970" in note for note in done.notes)


def test_a_trade_without_a_price_is_rejected():
    trades = {"price": [0.01, None, -1.0, float("inf")], "timestamp": [T0] * 4, "trade_id": ["1", "2", "3", "4"]}
    done = canonical(read(trades | {"instrument_name": ["BTC-2JAN22-47000-P"] * 4}, "trades.csv"))
    assert reasons(done) == {Reason.USED: 1, Reason.BAD_PRICE: 3}


@pytest.mark.parametrize("clock", [["2024-04-16 01:00:00+00:00"] * 2, [1713229200000] * 2, [1713229200] * 2])
def test_bars_with_any_clock(clock):
    piece = read({"timestamp": clock, **BARS, "volume": [1.0, 2.0]}, "some/folder/ethusdt_1h.csv.gz")
    assert piece.dataset is Dataset.BARS
    first = rows_of(canonical(piece).table)[0]
    assert (first["ts"], first["ccy"], first["symbol"]) == (datetime(2024, 4, 16, 1, tzinfo=UTC), "ETH", "ETHUSDT")
    assert any("taken from the file's name" in note for note in piece.notes)


def test_the_underlying_said_by_the_user_wins():
    piece = read({"timestamp": [T0] * 2, **BARS, "volume": [1.0, 2.0]}, "btcusdt.csv", "eth")
    assert set(rows_of(piece.table)[0].items()) >= {("ccy", "ETH")}
    assert piece.notes == ()


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


@pytest.mark.parametrize(
    ("document", "rows"),
    [(okx(OKX_TICKER), [OKX_TICKER]), (bybit(BYBIT), [BYBIT | {"time": 1672376592395}])],
    ids=["okx", "bybit"],
)
def test_another_exchange_in_a_table_is_what_it_is_as_json(document, rows):
    (expected,) = rows_of(canonical(only(document)).table)
    piece = read(table_of(*rows), "export.csv")
    (row,) = rows_of(canonical(piece).table)
    assert row == {name: value for name, value in expected.items() if name != "cycle"}


def test_names_in_a_table_that_are_no_option_are_counted():
    piece = read(table_of(BINANCE_TICKER, BINANCE_TICKER | {"symbol": "BTCUSDT"}, {"symbol": None}), "export.csv")
    assert (piece.table.num_rows, piece.malformed) == (1, 2)
    assert piece.kind is SourceKind.BINANCE


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


@pytest.mark.parametrize(
    ("values", "unit"),
    [([1.641e9], "s"), ([1.641e12], None), ([1.641e15], "us"), ([1.641e18], "ns"), (["1641000000"], "s")],
)
def test_the_unit_of_a_clock_is_told_unless_it_is_milliseconds(values, unit):
    column, note = stamp_column(pa.chunked_array([values]), "t", "x")
    assert column[0].as_py() == datetime.fromtimestamp(1.641e9, UTC)
    assert note == (unit and f"t is taken as {unit} since 1970 by its size")
