"""Whatever bytes come in: an error that says what is wrong, or pieces in which all is accounted for."""

import io
import json

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.data.formats.messages import T0, canonical, frame, pieces_of, ticker
from tests.data.formats.test_documents import (
    BINANCE_MARK,
    BINANCE_TICKER,
    BYBIT,
    OKX_SUMMARY,
    OKX_TICKER,
    SUMMARY,
    bybit,
    ccxt,
    lines,
    okx,
)
from volgrad.data.formats.lines import blocks
from volgrad.errors import InputError

TRADE = {"trade_id": "1", "timestamp": T0, "price": 0.1, "instrument_name": "BTC-2JAN22-47000-P", "iv": 60.0}
DOCUMENTS = [
    [SUMMARY],
    ticker(),
    [TRADE],
    okx(OKX_TICKER),
    okx(OKX_SUMMARY),
    bybit(BYBIT),
    [BINANCE_TICKER],
    [BINANCE_MARK],
    [ccxt("BTC/USD:BTC-250616-111000-P", SUMMARY)],
    {"result": {"data": [[T0, 80.0, 81.0, 79.0, 80.5]], "continuation": None}},
]
ODD = (
    st.none()
    | st.booleans()
    | st.sampled_from(
        [10**19, -(10**30), 10**400, 1e308, "", "x", "nan", "1_0", "9" * 5000, "\ud800", [], {}, [[]], "∞"]
    )
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(max_size=8)
)
JSON = st.recursive(
    ODD, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=9), inner, max_size=3)
)


def places(value, path=()):
    """Paths of all parts of a decoded document."""
    yield path
    parts = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for name, part in parts:
        yield from places(part, (*path, name))


def replaced(value, path, other):
    if not path:
        return other
    copy = dict(value) if isinstance(value, dict) else list(value)
    copy[path[0]] = replaced(value[path[0]], path[1:], other)
    return copy


def survives(content):
    """Read it to the end, canonical columns included; only errors of input are allowed."""
    message = ""
    try:
        for piece in pieces_of(content, "file", "BTC"):
            done = canonical(piece)
            assert done.table.num_rows == len(done.reason) == piece.table.num_rows
    except InputError as error:
        message = str(error)
    assert "\n" not in message


@given(st.data(), st.sampled_from(DOCUMENTS), JSON)
@settings(max_examples=300)
def test_any_part_of_a_document_may_be_anything(data, document, other):
    path = data.draw(st.sampled_from(list(places(document))))
    survives(json.dumps(replaced(document, path, other)).encode())


@given(st.sampled_from(DOCUMENTS), st.sampled_from(DOCUMENTS), st.integers(0, 400), st.binary(max_size=5))
def test_documents_may_break_off_and_go_on(first, second, cut, noise):
    survives(json.dumps(first).encode()[:cut] + noise + b"\n" + json.dumps(second).encode())


@given(st.binary(max_size=200), st.sampled_from([b"", b"{", b"[", b"1626993723.8: {", b"wss://h <-> 1626993723\n"]))
def test_any_bytes(noise, start):
    survives(start + noise)


@given(st.data(), JSON)
@settings(max_examples=200)
def test_any_part_of_a_frame_may_be_anything(data, other):
    message = json.loads(frame("ticker.BTC-27SEP24-40000-C.raw", ticker()))
    path = data.draw(st.sampled_from(list(places(message))))
    changed = json.dumps(replaced(message, path, other)).encode()
    survives(b"\n".join([json.dumps(message).encode(), changed, json.dumps(message).encode()]))


@given(st.lists(st.sampled_from([DOCUMENTS[0], DOCUMENTS[2], DOCUMENTS[5], DOCUMENTS[8]]), min_size=1, max_size=6))
def test_lines_of_any_exchanges_lose_no_record(documents):
    assert sum(piece.table.num_rows for piece in pieces_of(lines(*documents))) == len(documents)


@pytest.mark.parametrize("deep", [b"[" * 200_000, b'{"data":' * 200_000, b'{"instrument_name":' + b"[" * 200_000])
def test_deep_nesting_is_an_error_of_input(deep):
    survives(deep)
    survives(json.dumps([SUMMARY]).encode() + b"\n" + deep)


def test_records_too_deep_are_not_looked_for():
    with pytest.raises(InputError):
        pieces_of(b'{"data":' * 50 + json.dumps([SUMMARY]).encode() + b"}" * 50)


@given(st.lists(st.binary(max_size=30).filter(lambda line: b"\n" not in line), max_size=20), st.integers(1, 40))
def test_lines_are_the_same_in_blocks_of_any_size(content, size):
    whole = b"\n".join(content)
    read = [line for block in blocks(io.BytesIO(whole), size) for line in block.lines]
    expected = whole.removeprefix(b"\xef\xbb\xbf").split(b"\n") if size >= 3 else whole.split(b"\n")
    if size >= 3 or not whole.startswith(b"\xef"):
        assert read == (expected[:-1] if expected[-1] == b"" else expected)


def test_a_line_beyond_bounds_is_dropped_and_counted(monkeypatch):
    monkeypatch.setattr("volgrad.data.formats.lines.LARGEST", 100)
    content = b"a" * 50 + b"\n" + b"b" * 500 + b"\n" + b"c" * 30 + b"\n" + b"d" * 101
    read = list(blocks(io.BytesIO(content), 40))
    assert [line[:1] for block in read for line in block.lines] == [b"a", b"c"]
    assert sum(block.overlong for block in read) == 2
