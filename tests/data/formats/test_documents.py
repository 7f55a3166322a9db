"""Documents: book summaries, tickers, and the option tickers of other exchanges, by content alone."""

import json
from datetime import UTC, datetime

import pytest

from tests.data.formats.messages import OPTION, T0, canonical, only, pieces_of, reasons, rows_of, ticker
from volgrad.data.reasons import Reason
from volgrad.data.schema import Dataset, SourceKind
from volgrad.errors import ForeignError, InputError, UnitsError

SUMMARY = {
    "high": None, "low": None, "last": None, "instrument_name": "BTC-16JUN25-111000-P", "bid_price": 0.0435,
    "ask_price": None, "open_interest": 2.0, "mark_price": 0.05334793, "creation_timestamp": 1749938299495,
    "mark_iv": 37.88, "underlying_price": 105390.25, "underlying_index": "SYN.BTC-16JUN25", "base_currency": "BTC",
}  # fmt: skip
# the examples of the exchanges' documentation
OKX_TICKER = {
    "instType": "OPTION", "instId": "BTC-USD-220309-33000-C", "last": "", "lastSz": "", "askPx": "0.2", "askSz": "10",
    "bidPx": "", "bidSz": "", "ts": "1646733631000",
}  # fmt: skip
OKX_SUMMARY = {
    "askVol": "3.7207056835937498", "bidVol": "0", "delta": "0.8310206676289528", "deltaBS": "0.9857332101544538",
    "fwdPx": "39016.8143629068452065", "gammaBS": "0.000011933182397798109", "instId": "BTC-USD-220309-33000-C",
    "instType": "OPTION", "lever": "0", "markVol": "1.5551965233045728", "ts": "1646733631242", "uly": "BTC-USD",
}  # fmt: skip
BYBIT = {
    "symbol": "BTC-30DEC22-18000-C", "bid1Price": "0", "bid1Size": "0", "bid1Iv": "0", "ask1Price": "435",
    "ask1Size": "0.66", "ask1Iv": "5", "lastPrice": "435", "markPrice": "0.00000009", "indexPrice": "16600.55",
    "markIv": "0.7567", "underlyingPrice": "16590.42", "openInterest": "6.3", "delta": "0.00000001",
}  # fmt: skip
BINANCE_TICKER = {
    "symbol": "BTC-200730-9000-C", "priceChange": "-16.2038", "lastPrice": "1000", "bidPrice": "999.34",
    "askPrice": "1000.23", "openTime": 1592317127349, "closeTime": 1592380593516, "strikePrice": "9000",
    "exercisePrice": "3000.3356",
}  # fmt: skip
BINANCE_MARK = {
    "symbol": "BTC-200730-9000-C", "markPrice": "1343.2883", "bidIV": "1.40000077", "askIV": "1.50000153",
    "markIV": "1.45000000", "delta": "0.55937056", "riskFreeInterest": "0.1",
}  # fmt: skip
T_BYBIT = 1672376592395
TOO_MANY = {"jsonrpc": "2.0", "error": {"code": 10028, "message": "too_many_requests"}, "usOut": 1733000000000000}


def okx(*rows):
    return {"code": "0", "msg": "", "data": list(rows)}


def bybit(*rows):
    result = {"category": "option", "list": list(rows)}
    return {"retCode": 0, "retMsg": "SUCCESS", "result": result, "retExtInfo": {}, "time": T_BYBIT}


def lines(*values):
    return b"\n".join(json.dumps(value).encode() for value in values)


def the_row(content):
    piece = only(content)
    (row,) = rows_of(canonical(piece).table)
    return piece, row


def at(ms):
    return datetime.fromtimestamp(ms / 1000, UTC)


@pytest.mark.parametrize("wrapped", [False, True])
def test_book_summaries_are_one_chain_at_the_time_of_the_latest(wrapped):
    records = [SUMMARY, SUMMARY | {"creation_timestamp": 1749938299503, "instrument_name": "BTC-25JUL25-86000-P"}]
    answer = {"jsonrpc": "2.0", "result": records, "usIn": 1, "usOut": 1749938299510123, "usDiff": 1}
    piece = only(answer if wrapped else records)
    assert piece.kind is SourceKind.BOOK_SUMMARY
    assert "high" in piece.extra
    first, second = rows_of(canonical(piece).table)
    assert first["cycle"] == second["cycle"] == at(1749938299510 if wrapped else 1749938299503)
    assert first["ts"] == at(1749938299495)
    assert (first["bid"], first["ask"], first["mark_iv"]) == (0.0435, None, pytest.approx(0.3788))


def test_summaries_gathered_from_several_calls_keep_their_own_times():
    late = SUMMARY | {"creation_timestamp": 1749938299495 + 3_600_000}
    piece = only([SUMMARY, late])
    assert piece.table["cycle"].null_count == 2
    assert len(set(piece.table["ts"].to_pylist())) == 2


def test_a_poll_a_line_is_a_chain_a_line():
    later = {"result": [SUMMARY | {"creation_timestamp": 1749938899495}], "usOut": 1749938899500000}
    both = pieces_of(lines([SUMMARY], later))
    assert [piece.table["cycle"].to_pylist() for piece in both] == [[at(1749938299495)], [at(1749938899500)]]


def test_mark_iv_may_be_absent_and_futures_are_counted():
    early = {name: value for name, value in SUMMARY.items() if name != "mark_iv"}
    piece = only(
        [early, early | {"instrument_name": "BTC-PERPETUAL"}, early | {"instrument_name": "BTC-FS-25DEC26_PERP"}]
    )
    done = canonical(piece)
    assert done.table["mark_iv"].null_count == 3
    assert reasons(done) == {Reason.USED: 1, Reason.NOT_AN_OPTION: 2}


def test_records_that_cannot_be_read_are_counted():
    wrong = [7, None, SUMMARY | {"bid_price": "dear"}, SUMMARY | {"bid_price": True}, SUMMARY | {"mark_iv": [1]}]
    piece = only([SUMMARY, *wrong, SUMMARY | {"creation_timestamp": 1749938299}])
    assert (piece.table.num_rows, piece.malformed) == (1, 6)


def test_percent_and_fractions_are_not_mixed_up():
    with pytest.raises(UnitsError, match="percent"):
        canonical(only([SUMMARY | {"mark_iv": 0.3788}] * 5))
    with pytest.raises(UnitsError, match="fraction"):
        canonical(only(bybit(BYBIT | {"markIv": "75.67"})))


@pytest.mark.parametrize("wrap", [lambda t: t, lambda t: {"jsonrpc": "2.0", "id": 1, "result": t, "usOut": 5}])
def test_tickers_as_lines(wrap):
    order_book = ticker(
        bids=[[0.2155, 12.0]], asks=[], change_id=5, best_ask_price=0.0, best_ask_amount=0.0, ask_iv=0.0
    )
    piece = only(lines(wrap(ticker()), wrap(order_book), {"timestamp": T0, "instrument_name": OPTION, "bid_iv": "x"}))
    assert (piece.kind, piece.malformed) == (SourceKind.TICKER, 1)
    first, second = rows_of(canonical(piece).table)
    assert (first["ask"], second["ask"], second["bid"]) == (0.2185, None, 0.2155)
    assert first["ts"] == at(T0)
    assert "cycle" not in first


def test_tickers_as_one_document_are_the_same():
    left, right = only([ticker(), ticker()]), only(lines(ticker(), ticker()))
    assert rows_of(canonical(left).table) == rows_of(canonical(right).table)
    pretty = json.dumps([ticker(), ticker()], indent=1).encode()
    assert only(pretty).table.equals(left.table)
    one_a_line = b"[\n" + b",\n".join(json.dumps(ticker()).encode() for _ in range(2)) + b"\n]"
    assert only(one_a_line).table.equals(left.table)


def test_okx_prices_are_coin_and_volatilities_fractions():
    piece, row = the_row(lines(okx(OKX_TICKER), okx(OKX_SUMMARY)))
    assert piece.kind is SourceKind.OKX
    assert (row["ccy"], row["strike"], row["cp"], row["settlement"]) == ("BTC", 33000.0, "C", "inverse")
    assert row["expiry"] == datetime(2022, 3, 9, 8, tzinfo=UTC)
    assert (row["bid"], row["ask"], row["bid_size"]) == (None, 0.2, None)
    assert (row["mark_iv"], row["ask_iv"], row["underlying"]) == (
        1.5551965233045728,
        3.7207056835937498,
        39016.81436290684,
    )
    assert row["ts"] == row["cycle"] == at(1646733631000)
    assert any("contracts of OKX" in note for note in piece.notes)


def test_answers_a_minute_apart_are_not_joined():
    late = OKX_SUMMARY | {"ts": "1646733700000"}
    quotes, marks = pieces_of(lines(okx(OKX_TICKER), okx(late)))
    assert quotes.table["mark_iv"].null_count == 1
    assert marks.table["ask"].null_count == 1


def test_polls_of_two_answers_each_are_joined_two_by_two():
    second = [row | {"ts": "1646733641000"} for row in (OKX_TICKER, OKX_SUMMARY)]
    both = pieces_of(lines(okx(OKX_TICKER), okx(OKX_SUMMARY), okx(second[0]), okx(second[1])))
    assert [piece.table["cycle"].to_pylist() for piece in both] == [[at(1646733631000)], [at(1646733641000)]]
    assert all(piece.table["mark_iv"].null_count == 0 for piece in both)


def test_bybit_prices_are_dollars_and_the_time_is_the_answers():
    piece, row = the_row(bybit(BYBIT))
    assert piece.kind is SourceKind.BYBIT
    assert (row["ccy"], row["strike"], row["cp"], row["settlement"]) == ("BTC", 18000.0, "C", "linear")
    assert row["ts"] == row["cycle"] == at(T_BYBIT)
    assert (row["bid"], row["ask"], row["mark_iv"], row["underlying"]) == (None, 435.0, 0.7567, 16590.42)
    assert (row["bid_size"], row["ask_size"], row["oi"]) == (0.0, 0.66, 6.3)


def test_bybit_names_of_both_ages():
    names = ["BTC-27DEC24-60000-C", "BTC-27DEC24-60000-C-USDT", "XRP-27DEC24-0.5-P-USDT", "BTCUSDT", "BTC-31FEB24-1-C"]
    piece = only(bybit(*(BYBIT | {"symbol": name} for name in names)))
    assert piece.table["strike"].to_pylist() == [60000.0, 60000.0, 0.5]
    assert set(piece.table["settlement"].to_pylist()) == {"linear"}
    assert piece.malformed == 2
    assert any("2 names are no option's, such as 'BTCUSDT'" in note for note in piece.notes)


@pytest.mark.parametrize("together", [True, False])
def test_binance_tickers_and_marks_are_joined_by_name(together):
    other = BINANCE_MARK | {"symbol": "BTC-200730-9500-C"}
    parts = [BINANCE_TICKER], [other, BINANCE_MARK]
    piece = only({"ticker": parts[0], "mark": parts[1]} if together else lines(*parts))
    rows = {row["strike"]: row for row in rows_of(canonical(piece).table)}
    assert (rows[9000.0]["bid"], rows[9000.0]["ask"], rows[9000.0]["mark_iv"]) == (999.34, 1000.23, 1.45)
    assert (rows[9500.0]["bid"], rows[9500.0]["bid_iv"]) == (None, 1.40000077)
    assert {row["settlement"] for row in rows.values()} == {"linear"}
    assert rows[9000.0]["ts"] == at(1592380593516)
    assert any("latest trade" in note for note in piece.notes)
    assert "underlying" not in rows[9000.0]


def test_a_time_around_the_answer_is_taken():
    piece, row = the_row({"time": 1592380600000, "data": [BINANCE_TICKER | {"askPrice": "0"}]})
    assert (row["ts"], row["ask"]) == (at(1592380600000), None)
    assert not any("latest trade" in note for note in piece.notes)


def test_records_on_lines_of_their_own_are_gathered():
    piece = only(lines(*(SUMMARY | {"creation_timestamp": 1749938299495 + i} for i in range(50))))
    assert piece.table.num_rows == 50
    two = pieces_of(lines(SUMMARY, BINANCE_TICKER, SUMMARY))
    assert sorted(piece.kind.value for piece in two) == ["binance", "book_summary", "book_summary"]


def ccxt(symbol, info, **unified):
    entry = {"info": info, "currency": "BTC", "symbol": symbol, "timestamp": None, "datetime": None}
    return entry | {"impliedVolatility": None, "bidPrice": 0.1, "askPrice": 0.2, "markPrice": 0.15} | unified


@pytest.mark.parametrize("listed", [True, False])
def test_ccxt_deribit_is_read_from_info(listed):
    symbol = "BTC/USD:BTC-250616-111000-P"
    entry = ccxt(symbol, SUMMARY)
    piece, row = the_row([entry] if listed else {symbol: entry})
    assert piece.kind is SourceKind.CCXT
    assert (row["bid"], row["mark_iv"], row["settlement"]) == (0.0435, pytest.approx(0.3788), "inverse")
    assert row["ts"] == at(1749938299495)


def test_ccxt_of_several_exchanges_in_one_file():
    chain = [
        ccxt("BTC/USD:BTC-250616-111000-P", SUMMARY),
        ccxt("BTC/USDC:USDC-221230-18000-C", BYBIT, timestamp=T_BYBIT, impliedVolatility=0.7567),
        ccxt("BTC/USD:BTC-220309-33000-C", OKX_SUMMARY),
        "noise",
    ]
    kinds = {piece.kind: piece for piece in pieces_of(chain)}
    assert set(kinds) == {SourceKind.CCXT, SourceKind.BYBIT, SourceKind.OKX}
    assert sum(piece.malformed for piece in kinds.values()) == 1
    assert kinds[SourceKind.BYBIT].table["ts"].to_pylist() == [at(T_BYBIT)]


@pytest.mark.parametrize(
    ("symbol", "settlement"),
    [("BTC/USD:BTC-240927-60000-C", "inverse"), ("BTC/USDC:USDC-240927-60000-C", "linear")],
)
def test_ccxt_of_an_unknown_exchange_has_prices_and_no_volatility(symbol, settlement):
    entry = ccxt(symbol, {"some": "thing"}, timestamp=T0, impliedVolatility=0.6)
    piece, row = the_row({symbol: entry})
    assert (row["bid"], row["ask"], row["settlement"], row["ts"]) == (0.1, 0.2, settlement, at(T0))
    assert "mark_iv" not in row
    assert any("does not say its unit" in note for note in piece.notes)


def test_ccxt_settled_in_a_third_coin_is_left_out():
    assert only([ccxt("BTC/USD:ETH-240927-60000-C", {}, timestamp=T0)]).malformed == 1


def test_a_line_that_is_cut_is_counted():
    content = lines([SUMMARY], [SUMMARY]) + b"\n" + json.dumps([SUMMARY]).encode()[:50]
    assert sum(piece.malformed for piece in pieces_of(content)) == 1
    first_cut = json.dumps([SUMMARY]).encode()[:50] + b"}\n" + lines([SUMMARY])
    assert sum(piece.malformed for piece in pieces_of(first_cut)) == 1


def test_trades_of_an_answer():
    trade = {
        "trade_seq": 234,
        "trade_id": "197400889",
        "timestamp": 1641005912220,
        "tick_direction": 3,
        "price": 0.0165,
    }
    trade |= {"mark_price": 0.0166, "iv": 61.54, "instrument_name": "BTC-2JAN22-47000-P", "index_price": 46786.0}
    trade |= {"direction": "sell", "amount": 0.6}
    piece = only({"jsonrpc": "2.0", "result": {"trades": [trade, trade | {"price": {}}], "has_more": True}})
    assert (piece.dataset, piece.malformed) == (Dataset.TRADES, 1)
    (row,) = rows_of(canonical(piece).table)
    assert (row["trade_id"], row["iv"], row["price"]) == ("197400889", pytest.approx(0.6154), 0.0165)


def test_a_record_of_another_kind_in_an_array_is_counted_and_is_no_row():
    trade = {"instrument_name": OPTION, "timestamp": T0, "trade_id": "1", "price": 0.1, "amount": 1.0, "iv": 55.0}
    for content in ([ticker(), trade, SUMMARY], lines(ticker(), trade, {"result": SUMMARY})):
        pieces = pieces_of(content)
        assert sum(piece.table.num_rows for piece in pieces) == 1
        assert sum(piece.malformed for piece in pieces) == 2


def test_a_ticker_without_a_quote_is_a_row():
    nothing = ticker(best_bid_price=None, best_ask_price=None, best_bid_amount=None, best_ask_amount=None)
    assert only(lines(nothing, {"result": nothing})).table.num_rows == 2


def test_bars_of_an_option_are_refused():
    chart = {"ticks": [1733000000000], "open": [0.35], "high": [0.37], "low": [0.34], "close": [0.36], "volume": [1.0]}
    with pytest.raises(ForeignError, match="bars of the option BTC-27DEC24-60000-C"):
        pieces_of({"result": chart}, "charts/BTC-27DEC24-60000-C.json")
    with pytest.raises(ForeignError, match="bars of the option"):
        pieces_of({"instrument_name": "BTC-27DEC24-60000-C", "result": chart}, "btc.json")
    named = only({"instrument_name": "ETH-PERPETUAL", "result": chart}, "chart.json")
    assert rows_of(named.table)[0]["ccy"] == "ETH"
    with pytest.raises(InputError, match=r"says ETH .* says BTC"):
        pieces_of({"instrument_name": "ETH-PERPETUAL", "result": chart}, "chart.json", "BTC")
