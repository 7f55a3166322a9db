"""A session's frames: every one accounted for, channels, state between frames."""

import json
from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.data.formats.messages import OPTION, T0, book, canonical, frame, pieces_of, rows_of, ticker
from volgrad.data.formats.session import SessionDecoder
from volgrad.data.reasons import Reason
from volgrad.data.schema import Dataset, SourceKind
from volgrad.errors import EmptyInputError


def session_of(*frames):
    session = SessionDecoder("feed")
    for raw in frames:
        session.frame(raw)
    return session


def quotes(session):
    return [row for piece in session.drain() if piece.dataset is Dataset.QUOTES for row in rows_of(piece.table)]


def balanced(account):
    return account.frames == account.used.total() + account.skipped.total() + account.malformed


def test_a_ticker_is_a_row_in_the_units_of_the_exchange():
    (row,) = quotes(session_of(frame(f"ticker.{OPTION}.100ms", ticker())))
    assert row["ts"] == datetime(2023, 11, 10, 5, 18, 31, 632000, UTC)
    assert row["instrument"] == OPTION
    expected = {"bid": 0.2155, "ask": 0.2185, "mark": 0.2169, "mark_iv": 60.86, "underlying": 39165.86}
    expected |= {"bid_iv": 60.1, "ask_iv": 61.7, "bid_size": 12.0, "ask_size": 3.5, "oi": 1234.5}
    assert {name: row[name] for name in expected} == expected


def test_percent_become_fractions_and_a_price_of_zero_is_no_price():
    missing = ticker(best_bid_price=0.0, best_bid_amount=0.0, bid_iv=0.0)
    (piece,) = session_of(frame(f"ticker.{OPTION}.raw", missing)).drain()
    assert piece.kind is SourceKind.SESSION
    (row,) = rows_of(canonical(piece).table)
    assert row["bid"] is None
    assert row["mark_iv"] == pytest.approx(0.6086, rel=1e-15)
    assert (row["ccy"], row["strike"], row["cp"], row["settlement"]) == ("BTC", 40000.0, "C", "inverse")
    assert row["expiry"] == datetime(2024, 9, 27, 8, tzinfo=UTC)


def test_a_linear_option_is_linear_by_its_name():
    name = "XRP_USDC-30JUN23-0d625-C"
    (piece,) = session_of(frame(f"ticker.{name}.raw", ticker(instrument_name=name))).drain()
    (row,) = rows_of(canonical(piece).table)
    assert (row["ccy"], row["strike"], row["settlement"]) == ("XRP", 0.625, "linear")


def test_futures_and_combos_are_counted_as_such():
    names = ["BTC-PERPETUAL", "BTC-25MAR23", "BTC-FS-25DEC26_PERP", "nonsense"]
    (piece,) = session_of(*(frame(f"ticker.{n}.raw", ticker(instrument_name=n)) for n in names)).drain()
    no = Reason.NOT_AN_OPTION
    assert canonical(piece).reason.tolist() == [no, no, no, Reason.BAD_INSTRUMENT]


def test_an_incremental_ticker_is_merged():
    changed = {"type": "change", "timestamp": T0 + 100, "instrument_name": OPTION, "best_bid_price": 0.216}
    session = session_of(
        frame(f"incremental_ticker.{OPTION}", ticker(type="snapshot")),
        frame(f"incremental_ticker.{OPTION}", changed),
        frame(f"incremental_ticker.{OPTION}", {**changed, "best_ask_price": None, "timestamp": T0 + 200}),
    )
    rows = quotes(session)
    assert [row["bid"] for row in rows] == [0.2155, 0.216, 0.216]
    assert [row["ask"] for row in rows] == [0.2185, 0.2185, None]
    assert {row["mark_iv"] for row in rows} == {60.86}


def test_a_change_without_its_snapshot_is_no_row():
    changed = {"type": "change", "timestamp": T0, "instrument_name": OPTION, "best_bid_price": 0.216}
    session = session_of(frame(f"incremental_ticker.{OPTION}", changed))
    assert quotes(session) == []
    assert session.account.skipped.total() == 1
    session.frame(frame(f"incremental_ticker.{OPTION}", ticker(type="snapshot")))
    session.connected()
    session.frame(frame(f"incremental_ticker.{OPTION}", changed))
    assert [row["bid"] for row in quotes(session)] == [0.2155, None]
    assert balanced(session.account)


def test_a_row_of_a_book_carries_the_ticker_but_no_volatility_of_another_price():
    session = session_of(
        frame(f"ticker.{OPTION}.raw", ticker()),
        book("snapshot", 1, bids=[["new", 0.2155, 12.0]], asks=[["new", 0.218, 1.0]], stamp=T0 + 50),
    )
    row = quotes(session)[1]
    assert (row["bid"], row["ask"], row["ask_size"]) == (0.2155, 0.218, 1.0)
    assert (row["underlying"], row["mark"], row["mark_iv"], row["oi"]) == (39165.86, 0.2169, 60.86, 1234.5)
    assert (row["bid_iv"], row["ask_iv"]) == (60.1, None)


def test_a_ticker_too_old_is_not_carried():
    late = T0 + 300_001
    session = session_of(frame(f"ticker.{OPTION}.raw", ticker()), book("snapshot", 1, stamp=late))
    row = quotes(session)[1]
    assert row["underlying"] is row["mark_iv"] is None


def test_changes_below_the_top_write_no_row():
    session = session_of(
        book("snapshot", 1, bids=[["new", 0.05, 1.0]], asks=[["new", 0.06, 1.0]]),
        book("change", 2, 1, bids=[["new", 0.04, 7.0]]),
        book("change", 3, 2, bids=[["change", 0.05, 2.0]]),
        book("change", 4, 3, bids=[["delete", 0.05, 0.0]]),
    )
    assert [(row["bid"], row["bid_size"]) for row in quotes(session)] == [(0.05, 1.0), (0.05, 2.0), (0.04, 7.0)]
    assert session.account.used == {"book snapshot": 1, "book change": 3}


def test_a_gap_drops_that_book_alone_until_its_next_snapshot():
    other = "BTC-27SEP24-50000-C"
    session = session_of(
        book("snapshot", 1, bids=[["new", 0.05, 1.0]]),
        book("snapshot", 2, bids=[["new", 0.03, 1.0]], name=other),
        book("change", 9, 8, bids=[["new", 0.055, 1.0]]),
        book("change", 10, 9, bids=[["new", 0.056, 1.0]]),
        book("change", 3, 2, bids=[["new", 0.035, 1.0]], name=other),
        book("snapshot", 20, bids=[["new", 0.052, 1.0]]),
    )
    rows = quotes(session)
    assert [row["bid"] for row in rows] == [0.05, 0.03, None, 0.035, 0.052]
    assert [row["instrument"] for row in rows] == [OPTION, other, OPTION, other, OPTION]
    assert dict(session.account.gaps) == {OPTION: 1}
    assert balanced(session.account)
    assert any("1 gaps in the order books of 1 instruments" in note for note in session.notes())


def test_a_broken_change_loses_its_book():
    session = session_of(
        book("snapshot", 1, bids=[["new", 0.05, 1.0]]),
        book("change", 2, 1, bids=[["sideways", 0.06, 1.0]]),
        book("change", 3, 2, bids=[["new", 0.055, 1.0]]),
    )
    assert [row["bid"] for row in quotes(session)] == [0.05, None]
    assert session.account.malformed == 1
    assert balanced(session.account)


def test_grouped_books_have_levels_without_an_action():
    raw = {"timestamp": T0, "instrument_name": OPTION, "change_id": 5, "bids": [[0.05, 2.0]], "asks": [[0.06, 1.0]]}
    channel = f"book.{OPTION}.none.10.100ms"
    (row,) = quotes(session_of(frame(channel, raw), frame(channel, raw | {"timestamp": T0 + 100, "change_id": 9})))
    assert (row["bid"], row["ask_size"]) == (0.05, 1.0)


@pytest.mark.parametrize("bare", [True, False])
def test_marks_are_fractions_and_never_hide_a_quote(bare):
    mark = {"timestamp": T0 + 10, "mark_price": 0.22, "iv": 0.9, "instrument_name": OPTION}
    other = mark | {"instrument_name": "BTC-27SEP24-50000-C"}
    session = session_of(
        frame(f"ticker.{OPTION}.raw", ticker()),
        frame("markprice.options.btc_usd", [mark, other] if bare else other),
        *([] if bare else [frame("markprice.options.btc_usd", mark)]),
        book("snapshot", 1, bids=[["new", 0.21, 1.0]], stamp=T0 + 20),
    )
    first, alone, from_book = quotes(session)
    assert (first["bid"], alone["bid"], alone["mark_iv"]) == (0.2155, 0.0, 90.0)
    assert (from_book["mark"], from_book["mark_iv"], from_book["underlying"]) == (0.22, 90.0, 39165.86)


def test_series_beside_the_quotes():
    trade = {"trade_id": "ETH-77", "timestamp": T0, "price": 0.0165, "amount": 0.6, "direction": "sell", "iv": 61.54}
    trade |= {"instrument_name": "ETH-27SEP24-4000-P", "index_price": 2000.5, "mark_price": 0.0166, "tick_direction": 3}
    session = session_of(
        frame("trades.option.ETH.100ms", [trade, trade | {"trade_id": 78, "instrument_name": "ETH-PERPETUAL"}]),
        frame("deribit_price_index.eth_usd", {"index_name": "eth_usd", "price": 2000.5, "timestamp": T0}),
        frame("deribit_volatility_index.eth_usd", {"volatility": 55.5, "timestamp": T0, "index_name": "eth_usd"}),
    )
    trades, bars, index = (canonical(piece) for piece in session.drain())
    assert trades.reason.tolist() == [Reason.USED, Reason.NOT_AN_OPTION]
    first = rows_of(trades.table)[0]
    assert (first["trade_id"], first["ccy"], first["strike"], first["cp"]) == ("ETH-77", "ETH", 4000.0, "P")
    assert (first["iv"], first["index_usd"], first["mark"]) == (pytest.approx(0.6154, rel=1e-15), 2000.5, 0.0166)
    assert rows_of(trades.table)[1]["trade_id"] == "78"
    assert [(r["ccy"], r["symbol"], r["close"], r["open"]) for r in rows_of(bars.table)] == [
        ("ETH", "eth_usd", 2000.5, None)
    ]
    assert [(r["ccy"], r["close"]) for r in rows_of(index.table)] == [("ETH", pytest.approx(0.555))]


SOUND = [
    frame(f"ticker.{OPTION}.raw", ticker()),
    book("snapshot", 1, bids=[["new", 0.05, 1.0]]),
    frame("deribit_price_index.btc_usd", {"index_name": "btc_usd", "price": 1.0, "timestamp": T0}),
]
OTHERS = [
    b'{"jsonrpc":"2.0","method":"heartbeat","params":{"type":"test_request"}}',
    b'{"jsonrpc":"2.0","id":1,"result":["a"],"usIn":1,"usOut":2,"usDiff":1,"testnet":false}',
    b'{"jsonrpc":"2.0","id":1,"error":{"code":10028,"message":"too_many_requests"}}',
    b'{"jsonrpc":"2.0","id":42,"method":"public/subscribe","params":{"channels":["a"]}}',
    frame("platform_state", {"maintenance": True}),
    frame("perpetual.BTC-PERPETUAL.raw", {"timestamp": "soon", "price": []}),
    b"{}",
]
BROKEN = [
    b"",
    b"{",
    b'{"jsonrpc":"2.0","method":"subscription","params":{"channel":"ticker.' + OPTION.encode(),
    frame(f"ticker.{OPTION}.raw", ticker(mark_iv="60.86")),
    frame(f"ticker.{OPTION}.raw", ticker(timestamp=None)),
    frame(f"ticker.{OPTION}.raw", ticker(timestamp=10**17)),
    frame(f"ticker.{OPTION}.raw", ticker(mark_price=1)).replace(b'"mark_price": 1', b'"mark_price": NaN'),
    frame(f"ticker.{OPTION}.raw", ticker(mark_price=1)).replace(b'"mark_price": 1', b'"mark_price": 1e999'),
    frame(f"ticker.{OPTION}.raw", ticker(mark_price=1)).replace(b'"mark_price": 1', b'"mark_price": ' + b"9" * 5000),
    frame("ticker", ticker(instrument_name=None)),
    frame(f"book.{OPTION}.raw", {"type": "snapshot", "timestamp": T0, "bids": [["new", -1.0, 1.0]]}),
    frame("trades.option.BTC.raw", {"timestamp": T0}),
    frame("deribit_price_index.btc_usd", {"price": None, "timestamp": T0}),
    b'{"params":' * 50_000 + b"1",
    b'{"method":"\xff"}',
]


@pytest.mark.parametrize("raw", OTHERS, ids=range(len(OTHERS)))
def test_what_is_no_data_is_skipped_by_name(raw):
    session = session_of(raw)
    assert (session.account.skipped.total(), session.account.malformed) == (1, 0)
    assert session.drain() == []


@pytest.mark.parametrize("raw", BROKEN, ids=range(len(BROKEN)))
def test_a_malformed_frame_is_counted_and_the_next_is_read(raw):
    session = session_of(raw, SOUND[0])
    assert session.account.malformed == 1
    (piece,) = session.drain()
    assert (piece.malformed, piece.table.num_rows) == (1, 1)


@given(st.lists(st.sampled_from(SOUND + OTHERS + BROKEN[:7]) | st.binary(max_size=60), max_size=40))
def test_every_frame_is_accounted_for(frames):
    session = session_of(*frames)
    assert session.account.frames == len(frames)
    assert balanced(session.account)
    told = sum(piece.malformed for piece in session.drain())
    assert told == session.account.malformed


@given(st.lists(st.text(max_size=20), max_size=200, unique=True))
def test_names_of_unknown_channels_do_not_fill_the_memory(names):
    session = session_of(*(frame(f"x{name}.y", {}) for name in names))
    assert len(session.account.skipped) <= 41
    assert balanced(session.account)


def test_recorded_lines_and_plain_lines_are_the_same():
    data = frame(f"ticker.{OPTION}.raw", ticker())
    recorded = b"\n".join(
        [
            b"wss://host/ws <-> 1626993723.424371",
            b'wss://host/ws <- 1626993723.7: {"jsonrpc":"2.0","id":0,"method":"public/subscribe","params":{}}',
            b"1626993723.8: " + data,
            b"",
            b"1626993723.9: " + data[:100],
        ]
    )
    left, right = pieces_of(recorded)[0], pieces_of(data + b"\r\n" + data[:100])[0]
    assert left.table.equals(right.table)
    assert left.malformed == right.malformed == 1
    assert left.notes == ("source: of 4 frames not used: 1 connections, 1 requests",)


def test_a_list_of_frames_is_a_session():
    frames = [json.loads(raw) for raw in SOUND]
    assert [piece.dataset for piece in pieces_of(frames)] == [Dataset.QUOTES, Dataset.BARS]


def test_a_session_without_data_says_so():
    with pytest.raises(EmptyInputError, match="2 frames, of which 1"):
        pieces_of(b"wss://host/ws <-> 1626993723.4\n1626993723.5: {broken")


def latest(session):
    """What stands at the end: the row of the latest time, canonical."""
    (piece,) = session.drain()
    rows = rows_of(canonical(piece).table)
    assert len({row["ts"] for row in rows}) == len(rows)
    return max(rows, key=lambda row: row["ts"])


def test_a_book_lost_to_a_gap_is_quoted_no_longer():
    frames = [
        frame(f"ticker.{OPTION}.raw", ticker()),
        book("snapshot", 1, bids=[["new", 0.05, 1.0]], asks=[["new", 0.06, 2.0]], stamp=T0 + 10),
        book("change", 9, 8, bids=[["new", 0.055, 1.0]], stamp=T0 + 20),
    ]
    row = latest(session_of(*frames))
    assert [row[name] for name in ("bid", "ask", "bid_size", "ask_size", "bid_iv", "ask_iv")] == [None] * 6
    assert (row["ts"].microsecond, row["underlying"]) == (652000, 39165.86)
    # the new snapshot bears the time of the book's last change, which lies before the gap was seen
    row = latest(session_of(*frames, book("snapshot", 9, bids=[["new", 0.055, 1.0]], stamp=T0 + 15)))
    assert row["bid"] == 0.055


def test_a_connection_ends_what_was_known_by_changes():
    other = "BTC-27SEP24-50000-C"
    session = session_of(
        book("snapshot", 1, bids=[["new", 0.05, 1.0]]),
        frame(f"ticker.{other}.raw", ticker(instrument_name=other, timestamp=T0 + 700)),
    )
    session.connected()
    rows = quotes(session)
    assert [(row["instrument"], row["bid"]) for row in rows] == [(OPTION, 0.05), (other, 0.2155), (OPTION, None)]
    assert rows[2]["ts"] > rows[1]["ts"]
    session.frame(book("snapshot", 1, bids=[["new", 0.05, 1.0]]))
    (again,) = quotes(session)
    assert (again["bid"], again["ts"] > rows[2]["ts"]) == (0.05, True)
    session.connected()
    session.connected()
    assert len(quotes(session)) == 1


def test_a_grouped_book_is_written_again_after_a_connection():
    raw = {"timestamp": T0, "instrument_name": OPTION, "change_id": 5, "bids": [[0.05, 2.0]], "asks": [[0.06, 1.0]]}
    session = session_of(frame(f"book.{OPTION}.none.10.100ms", raw))
    session.connected()
    session.frame(frame(f"book.{OPTION}.none.10.100ms", raw))
    assert [row["bid"] for row in quotes(session)] == [0.05, None, 0.05]


def test_frames_of_the_test_network_are_told():
    answer = b'{"jsonrpc":"2.0","id":1,"result":["a"],"testnet":true}'
    session = session_of(answer, answer, answer.replace(b"true", b"false"), SOUND[0])
    assert session.account.testnet == 2
    assert any("2 frames are of the test network" in note for note in session.notes())
    assert not any("test network" in note for note in session_of(*SOUND, *OTHERS).notes())
    recorded = b"wss://test.deribit.com/ws/api/v2 <-> 1626993723.4\n1626993723.8: " + SOUND[0]
    assert any("1 frames are of the test network" in note for note in pieces_of(recorded)[0].notes)


@pytest.mark.parametrize("answers", [3, 1000])
def test_answers_before_the_first_frame_hide_nothing(answers):
    said = b"\n".join(b'{"jsonrpc":"2.0","id":%d,"result":["ticker.X"]}' % i for i in range(answers))
    piece = pieces_of(said + b"\n" + SOUND[0])[0]
    assert piece.table.num_rows == 1
    assert any(f"{answers} answers" in note for note in piece.notes)


@pytest.mark.parametrize(
    "wrap",
    [
        lambda message: {"ts": T0, "frame": message},
        lambda message: {"received": T0, "message": json.dumps(message)},
        lambda message: {"host": {"a": 1}, "record": {"ts": T0, "data": message}},
    ],
    ids=["object", "text", "deep"],
)
def test_frames_in_an_envelope_are_a_session(wrap):
    messages = [
        book("snapshot", 1, bids=[["new", 0.05, 1.0]]),
        book("change", 2, 1, bids=[["new", 0.055, 1.0]], stamp=T0 + 1),
        b'{"jsonrpc":"2.0","id":1,"result":["a"]}',
    ]
    plain = pieces_of(b"\n".join(messages))
    enveloped = b"\n".join(json.dumps(wrap(json.loads(message))).encode() for message in messages)
    assert [piece.table for piece in pieces_of(enveloped)] == [piece.table for piece in plain]
    assert pieces_of(enveloped)[0].notes == plain[0].notes
    assert pieces_of(enveloped + b'\n{"other": 7}')[0].malformed == plain[0].malformed


def test_arrays_of_frames_on_several_lines_are_one_session():
    first, second = book("snapshot", 1, bids=[["new", 0.05, 1.0]]), book("change", 2, 1, bids=[["new", 0.055, 1.0]])
    rows = [row["bid"] for piece in pieces_of(b"[" + first + b"]\n[" + second + b"]") for row in rows_of(piece.table)]
    assert rows == [0.05, 0.055]


def test_an_error_of_the_exchange_is_quoted():
    error = b'1626993723.8: {"jsonrpc":"2.0","id":1,"error":{"code":13009,"message":"unauthorized"}}'
    with pytest.raises(EmptyInputError, match="an error, 13009 unauthorized"):
        pieces_of(b"wss://host/ws <-> 1626993723.4\n" + error)
    notes = pieces_of(error + b"\n1626993723.9: " + SOUND[0])[0].notes
    assert notes == ("source: of 2 frames not used: 1 error answers (the first: 13009 unauthorized)",)
