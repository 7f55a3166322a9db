"""Option tickers of OKX, Bybit and Binance: their fields under canonical names.

Volatilities are fractions everywhere (documentation). Premiums are coin at OKX (its options settle in the coin) and
dollars at Bybit and Binance. A missing side is an empty text at OKX and 0 at the other two. None of this was checked
against the live exchanges.

OKX answers prices (`market/tickers`), volatilities with the forward (`public/opt-summary`) and marks
(`public/mark-price`) apart, Binance prices (`ticker`) and marks with volatilities (`mark`): see `documents.Joiner`.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
from jaxtyping import Bool

from volgrad.data import columns
from volgrad.data.formats.build import cycle_of, numbers, others, stamps_ms, told
from volgrad.data.formats.epochs import stamp_column
from volgrad.data.formats.names import NameParser, contract_columns, parse_binance, parse_bybit, parse_okx
from volgrad.data.formats.records import Record, Shape, fields_of, number, stamp_ms, words
from volgrad.data.piece import Piece
from volgrad.data.schema import Dataset, SourceKind

__all__ = ["VENUES", "Venue"]


@dataclass(frozen=True)
class Venue:
    """How one exchange writes option tickers.

    Attributes:
        kind: says the unit of volatilities.
        name: field with the option's name.
        parse: what a name says.
        fields: canonical number -> field there.
        stamp: field with the row's own time in milliseconds (None: only the answer has one).
        last_trade: field that bounds the time from below where neither row nor answer has one.
        roles: a field of each kind of answer, by which they are told apart and joined.
        note: what a reader of the figures should know.
    """

    kind: SourceKind
    name: str
    parse: NameParser
    fields: Mapping[str, str]
    roles: tuple[tuple[str, ...], ...]
    stamp: str | None = None
    last_trade: str | None = None
    note: str | None = None

    def role(self, record: Record) -> int:
        """Which kind of answer a record comes from."""
        return next((i for i, names in enumerate(self.roles) if not record.keys().isdisjoint(names)), 0)

    def piece(self, records: Sequence[Any], source: str, stamp: int | None, *, answer: bool) -> Piece:
        """Rows of one poll; `stamp` is its time where known, `answer` whether it surely is one poll."""
        readers = {self.name: words} | dict.fromkeys(self.fields.values(), number)
        times = [name for name in (self.stamp, self.last_trade) if name]
        read, malformed = fields_of(records, readers | dict.fromkeys(times, stamp_ms))
        contracts, readable = contract_columns(read[self.name], self.parse)
        own = read[self.stamp] if self.stamp else [None] * len(readable)
        notes = [self.note, _unread(read[self.name], readable)]
        if stamp is None and self.last_trade and (traded := [t for t in read[self.last_trade] if t]):
            stamp = max(traded)
            notes.append("the time of the latest trade in an answer stands for the time of its quotes")
        cycle = cycle_of(own, stamp, answer=answer)
        table = {
            "ts": stamps_ms([time or stamp for time in own]),
            **contracts,
            "cycle": stamps_ms([cycle] * len(own)),
            **{ours: numbers(read[theirs]) for ours, theirs in self.fields.items()},
        }
        extra = others(records, {self.name, *times, *self.fields.values()})
        malformed += int((~readable).sum())
        return Piece(
            Dataset.QUOTES, self.kind, pa.table(table).filter(pa.array(readable)), extra, malformed, told(source, notes)
        )

    def of_table(self, table: pa.Table, source: str) -> Piece:
        """Rows of a table that has the exchange's fields as columns."""
        names, codes = columns.text_codes(columns.text(table[self.name], self.name, source))
        contracts, readable = contract_columns([*names, None], self.parse)
        places = np.where(codes < 0, len(names), codes)
        own = next((name for name in (self.stamp, *_CLOCKS) if name in table.column_names), None)
        stamps, assumed = (pa.nulls(table.num_rows, columns.STAMP_TYPE), None)
        if own is not None:
            stamps, assumed = stamp_column(table[own], own, source)
        out: dict[str, Any] = {"ts": stamps, "instrument": table[self.name]}
        out |= {ours: column.take(pa.array(places)) for ours, column in contracts.items()}
        nothing = pa.nulls(table.num_rows, pa.float64())
        for ours, theirs in self.fields.items():
            out[ours] = table[theirs] if theirs in table.column_names else nothing
        here = readable[places]
        used = {self.name, own, *self.fields.values()}
        return Piece(
            Dataset.QUOTES,
            self.kind,
            pa.table(out).filter(pa.array(here)),
            tuple(name for name in table.column_names if name not in used),
            int((~here).sum()),
            told(source, [self.note, assumed, _unread(names, readable[:-1])]),
        )


def _unread(names: Sequence[str | None], readable: Bool[np.ndarray, " names"]) -> str | None:
    bad = [name for name, good in zip(names, readable, strict=True) if not good]
    return f"{len(bad)} names are no option's, such as {bad[0]!r}; their rows are left out" if bad else None


# a column of a table that says when its rows were asked for
_CLOCKS = ("ts", "timestamp", "time", "datetime")

VENUES: dict[Shape, Venue] = {
    Shape.OKX: Venue(
        SourceKind.OKX,
        "instId",
        parse_okx,
        {
            "bid": "bidPx", "ask": "askPx", "underlying": "fwdPx", "mark": "markPx", "mark_iv": "markVol",
            "bid_iv": "bidVol", "ask_iv": "askVol", "bid_size": "bidSz", "ask_size": "askSz", "oi": "oi",
        },
        roles=(("bidPx", "askPx"), ("markVol", "fwdPx"), ("markPx",)),
        stamp="ts",
        note="bid_size and ask_size are contracts of OKX, not coins",
    ),
    Shape.BYBIT: Venue(
        SourceKind.BYBIT,
        "symbol",
        parse_bybit,
        {
            "bid": "bid1Price", "ask": "ask1Price", "underlying": "underlyingPrice", "mark": "markPrice",
            "mark_iv": "markIv", "bid_iv": "bid1Iv", "ask_iv": "ask1Iv", "bid_size": "bid1Size",
            "ask_size": "ask1Size", "oi": "openInterest",
        },
        roles=(("bid1Price",),),
    ),
    Shape.BINANCE: Venue(
        SourceKind.BINANCE,
        "symbol",
        parse_binance,
        {
            "bid": "bidPrice", "ask": "askPrice", "mark": "markPrice", "mark_iv": "markIV", "bid_iv": "bidIV",
            "ask_iv": "askIV",
        },
        roles=(("bidPrice", "askPrice"), ("markPrice", "markIV")),
        last_trade="closeTime",
        note="exercisePrice is the index and no forward: the forward is left to put-call parity",
    ),
}  # fmt: skip
