"""Chains in one document: the exchange's book summaries, lists of tickers, and the option chains of ccxt.

`public/get_book_summary_by_currency` (documentation, and a recorded answer): a missing side is null, `mark_iv` is in
percent and was absent in early 2024; futures and combos stand among the options and are counted as such. ccxt's
`fetchOptionChain` gives unified entries around the exchange's own record in `info`; it does not normalise units, and
leaves `impliedVolatility` None for Deribit. So `info` is what is read where it is an exchange's that is known; of other
exchanges the prices are read, in the unit of the symbol's settlement, and no volatility, whose unit nobody states.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import pyarrow as pa

from volgrad.data.formats.build import cycle_of, numbers, others, stamps_ms, texts, told
from volgrad.data.formats.fields import CCXT, SUMMARY, TICKER
from volgrad.data.formats.names import contract_columns, parse_ccxt
from volgrad.data.formats.records import Shape, fields_of, number, shape_of, stamp_ms, words
from volgrad.data.formats.venues import VENUES
from volgrad.data.piece import Piece
from volgrad.data.schema import Dataset, SourceKind

__all__ = ["chain_of_ccxt", "summaries", "tickers"]


def summaries(
    records: Sequence[Any],
    stamp: int | None,
    *,
    answer: bool,
    kind: SourceKind = SourceKind.BOOK_SUMMARY,
) -> Piece:
    """Book summaries of one call: a chain at the time of its latest row.

    >>> rows = [{"instrument_name": "BTC-16JUN25-111000-P", "bid_price": 0.0435, "ask_price": None,
    ...          "mark_iv": 37.88, "creation_timestamp": 1749938299495}]
    >>> summaries(rows, None, answer=False).table["ask"].to_pylist()
    [None]
    """
    read, own, malformed = _exchange_rows(records, SUMMARY, "creation_timestamp")
    cycle = cycle_of(own, stamp, answer=answer)
    own = [time or cycle for time in own]
    table = {"ts": stamps_ms(own), "cycle": stamps_ms([cycle] * len(own))} | read
    extra = others(records, {"instrument_name", "creation_timestamp", "underlying_index", *SUMMARY.values()})
    return Piece(Dataset.QUOTES, kind, pa.table(table), extra, malformed)


def tickers(records: Sequence[Any]) -> Piece:
    """Tickers or order books gathered in one document: each an event at its own time; 0 is a missing side."""
    read, own, malformed = _exchange_rows(records, TICKER, "timestamp")
    extra = others(records, {"instrument_name", "timestamp", "underlying_index", *TICKER.values()})
    return Piece(Dataset.QUOTES, SourceKind.TICKER, pa.table({"ts": stamps_ms(own)} | read), extra, malformed)


def chain_of_ccxt(entries: Sequence[Any], source: str, stamp: int | None) -> list[Piece]:
    """Entries of ccxt's option chains, a piece for each exchange among them."""
    groups: dict[Shape, list[Any]] = {}
    malformed = 0
    for entry in entries:
        if not isinstance(entry, dict):
            malformed += 1
            continue
        inside = shape_of(entry.get("info"))
        known = inside in VENUES or inside is Shape.SUMMARY
        groups.setdefault(inside if inside is not None and known else Shape.CCXT, []).append(entry)
    pieces = []
    for shape, members in groups.items():
        infos = [entry.get("info") for entry in members]
        if shape is Shape.SUMMARY:
            pieces.append(summaries(infos, stamp, answer=True, kind=SourceKind.CCXT))
        elif shape in VENUES:
            pieces.append(VENUES[shape].piece(infos, source, stamp or _latest(members), answer=True))
        else:
            pieces.append(_unified(members, source, stamp))
    if malformed and pieces:
        pieces[0] = pieces[0]._replace(malformed=pieces[0].malformed + malformed)
    return pieces


def _exchange_rows(
    records: Sequence[Any], fields: Mapping[str, str], clock: str
) -> tuple[dict[str, pa.Array], list[int | None], int]:
    readers = {"instrument_name": words, "underlying_index": words, clock: stamp_ms}
    read, malformed = fields_of(records, readers | dict.fromkeys(fields.values(), number))
    table = {"instrument": texts(read["instrument_name"]), "underlying_index": texts(read["underlying_index"])}
    return table | {ours: numbers(read[theirs]) for ours, theirs in fields.items()}, read[clock], malformed


def _latest(entries: Sequence[Mapping[str, Any]]) -> int | None:
    read, _ = fields_of(entries, {"timestamp": stamp_ms})
    return max((time for time in read["timestamp"] if time), default=None)


def _unified(entries: Sequence[Any], source: str, stamp: int | None) -> Piece:
    """Entries whose own record is not understood: prices only."""
    readers = {"symbol": words, "timestamp": stamp_ms, "impliedVolatility": number}
    read, malformed = fields_of(entries, readers | dict.fromkeys(CCXT.values(), number))
    contracts, readable = contract_columns(read["symbol"], parse_ccxt)
    own = read["timestamp"]
    cycle = cycle_of(own, stamp, answer=True)
    table = {"ts": stamps_ms([time or cycle for time in own]), "cycle": stamps_ms([cycle] * len(own)), **contracts}
    table |= {ours: numbers(read[theirs]) for ours, theirs in CCXT.items()}
    given = any(value is not None for value in read["impliedVolatility"])
    note = "impliedVolatility is left out: ccxt does not say its unit" if given else None
    return Piece(
        Dataset.QUOTES,
        SourceKind.CCXT,
        pa.table(table).filter(pa.array(readable)),
        others(entries, {"symbol", "timestamp", *CCXT.values()}),
        malformed + int((~readable).sum()),
        told(source, [note]),
    )
