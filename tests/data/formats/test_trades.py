"""Trades: of this exchange, in its units, whatever blocks they come in."""

from datetime import UTC, datetime

import pytest

from tests.data.formats.messages import (
    T0,
    canonical,
    in_blocks,
    read,
    reasons,
    rows_of,
)
from tests.data.formats.test_documents import at
from volgrad.data.formats.side import SIDE_COLUMNS
from volgrad.data.reasons import Reason
from volgrad.data.schema import Dataset
from volgrad.errors import UnitsError


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


def test_trades_of_another_exchange_are_rejected():
    trades = {"exchange": ["bybit-options", None, "deribit"], "symbol": ["BTC-27DEC24-60000-C"] * 3}
    trades |= {"timestamp": [1733000000000000] * 3, "id": ["1", "2", "3"], "price": [37250.0, 1.0, 0.38]}
    done = canonical(read(trades | {"amount": [0.5] * 3, "side": ["buy"] * 3}, "trades.csv"))
    assert done.reason.tolist() == [Reason.BAD_INSTRUMENT, Reason.BAD_INSTRUMENT, Reason.USED]


def trades(prices, ivs=None, name="BTC-27DEC24-60000-C"):
    many = len(prices)
    table = {"instrument_name": [name] * many, "timestamp": [T0] * many, "trade_id": list(map(str, range(many)))}
    return table | {"price": prices, "iv": ivs or [60.0] * many}


@pytest.mark.parametrize("block", [100, 999, 5000])
def test_dollars_taken_for_coin_are_refused_in_trades_in_blocks_of_any_size(block):
    dollars = read(trades([37250.0] * 2000), "trades.csv")
    with pytest.raises(UnitsError, match="trades of calls cost one coin or more"):
        in_blocks(dollars, block)
    for name in ("BTC-27DEC24-60000-P", "BTC_USDC-27DEC24-60000-C"):
        in_blocks(read(trades([37250.0] * 2000, name=name), "trades.csv"), block)
    in_blocks(read(trades(([0.37] + [1.5] * 9) * 200), "trades.csv"), block)


@pytest.mark.parametrize("block", [1, 10, 5000])
def test_a_trade_in_the_wings_is_no_wrong_unit_and_a_wrong_unit_is_found_in_any_blocks(block):
    in_blocks(read(trades([0.0005], [612.0]), "trades.csv"), block)
    in_blocks(read(trades([0.0005] * 100, [612.0] * 40 + [60.0] * 60), "trades.csv"), block)
    with pytest.raises(UnitsError, match="iv has median"):
        in_blocks(read(trades([0.05] * 100, [0.6] * 100), "trades.csv"), block)
    with pytest.raises(UnitsError, match="over 1000 rows"):
        in_blocks(read(trades([0.05] * 3000, [60.0] * 1000 + [0.6] * 1000 + [60.0] * 1000), "trades.csv"), block)


def test_a_trade_without_a_price_is_rejected():
    trades = {"price": [0.01, None, -1.0, float("inf")], "timestamp": [T0] * 4, "trade_id": ["1", "2", "3", "4"]}
    done = canonical(read(trades | {"instrument_name": ["BTC-2JAN22-47000-P"] * 4}, "trades.csv"))
    assert reasons(done) == {Reason.USED: 1, Reason.BAD_PRICE: 3}
