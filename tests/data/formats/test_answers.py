"""Answers without records or times, of the test network, or beyond bounds: each says so."""

import json

import pytest

from tests.data.formats.messages import canonical, only, pieces_of, rows_of, ticker
from tests.data.formats.test_documents import (
    BINANCE_MARK,
    BYBIT,
    SUMMARY,
    T_BYBIT,
    TOO_MANY,
    at,
    bybit,
    lines,
    okx,
)
from volgrad.errors import DamagedError, EmptyInputError, ForeignError, InputError


@pytest.mark.parametrize("content", [[BINANCE_MARK], [BYBIT], bybit(BYBIT)["result"]], ids=["binance", "bare", "list"])
def test_quotes_without_any_time_are_refused_with_what_to_do(content):
    with pytest.raises(InputError, match=r"nothing states a time for its 1 quotes.*whole answer.*add a column"):
        pieces_of(content)


def test_one_answer_with_a_time_is_enough():
    rows = [row for piece in pieces_of(lines(bybit(BYBIT), [BYBIT])) for row in rows_of(canonical(piece).table)]
    assert [row["ts"] for row in rows] == [at(T_BYBIT), None]


@pytest.mark.parametrize(
    ("content", "error", "told"),
    [
        (b"PAR1", ForeignError, "neither JSON nor"),
        (b'{"hello": "world"}', ForeignError, "no format of quotes"),
        (b'{"a": 1}\n{"b": 2}', ForeignError, "lines of JSON"),
        (b"[]", EmptyInputError, "an answer without a record"),
        (b"[]\n[]\n", EmptyInputError, "an answer without a record"),
        (json.dumps({"result": [], "usOut": 5}).encode(), EmptyInputError, "an answer without a record"),
        (json.dumps(okx()).encode(), EmptyInputError, "an answer without a record"),
        (json.dumps(bybit()).encode(), EmptyInputError, "an answer without a record"),
        (json.dumps(TOO_MANY).encode(), EmptyInputError, "an error, 10028 too_many_requests"),
        (lines(TOO_MANY, TOO_MANY, []), EmptyInputError, "an error, 10028 too_many_requests"),
        (json.dumps({"code": "50011", "msg": "Too Many", "data": []}).encode(), EmptyInputError, "50011 Too Many"),
        (json.dumps({"retCode": 10006, "retMsg": "Too many visits!"}).encode(), EmptyInputError, "10006 Too many"),
        (json.dumps({"code": -1121, "msg": "Invalid symbol."}).encode(), EmptyInputError, "-1121 Invalid symbol"),
        (b"[1, 2, 3]", ForeignError, "no format of quotes"),
        (b'[{"instrument_name": "BTC", "tick_size": 1}]', ForeignError, "1 instruments without a price"),
        (json.dumps([SUMMARY, SUMMARY]).encode()[:-200], DamagedError, "breaks off"),
        (json.dumps([SUMMARY], indent=2).encode()[:-20], DamagedError, "breaks off"),
        (b"[" * 100_000, DamagedError, "breaks off"),
        (json.dumps({"jsonrpc": "2.0", "result": {"trades": []}}).encode(), EmptyInputError, "without a record"),
    ],
)
def test_what_is_no_document_says_so(content, error, told):
    with pytest.raises(error, match=told) as caught:
        pieces_of(content, "some.json")
    assert "some.json" in str(caught.value)


def test_an_empty_recording_of_answers_says_so():
    with pytest.raises(EmptyInputError):
        pieces_of(b'wss://h <- 1626993723.7: {"a": 1}')


@pytest.mark.parametrize(
    ("content", "told"),
    [
        ({"result": [SUMMARY], "testnet": True}, "1 answers are of the test network"),
        (lines(*[{"result": ticker(), "testnet": True}] * 3, ticker()), "3 answers are of the test network"),
        ([{"result": [SUMMARY], "testnet": True}] * 2, "2 answers are of the test network"),
        ({"result": [SUMMARY], "testnet": False}, None),
    ],
)
def test_the_test_network_is_told(content, told):
    notes = [note for piece in pieces_of(content) for note in piece.notes]
    assert any(told in note for note in notes) if told else not notes


def test_errors_and_empty_answers_between_others_are_told():
    pieces = pieces_of(lines([SUMMARY], TOO_MANY, {"result": []}, [SUMMARY], {"hello": 1}))
    assert sum(piece.malformed for piece in pieces) == 1
    notes = " ".join(note for piece in pieces for note in piece.notes)
    assert "errors: 1 times 10028 too_many_requests" in notes
    assert "1 answers without a record" in notes


def test_a_document_may_be_longer_than_a_line(monkeypatch):
    for module in ("lines", "decoding"):
        monkeypatch.setattr(f"volgrad.data.formats.{module}.LARGEST", 2000)
        monkeypatch.setattr(f"volgrad.data.formats.{module}.LARGEST_DOCUMENT", 20_000)
    assert only([SUMMARY] * 20).table.num_rows == 20
    assert only(json.dumps([SUMMARY] * 20, indent=1).encode()).table.num_rows == 20
    with pytest.raises(DamagedError, match=r"more than \d+ MiB.*a line may have \d+ MiB"):
        pieces_of([SUMMARY] * 100)
    long = [piece.malformed for piece in pieces_of(lines([SUMMARY], [SUMMARY] * 20, [SUMMARY]))]
    assert sum(long) == 1
