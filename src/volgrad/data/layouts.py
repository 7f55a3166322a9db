"""How each kind of tabular source writes quotes: one declaration a kind, and recognition by column names.

============  =====================================================================  ============
kind          recognised by                                                          volatilities
============  =====================================================================  ============
``tardis``    ``exchange``, ``symbol``, ``timestamp`` and ``local_timestamp`` or     percent
              ``strike_price``
``ticker5m``  ``instrument_name`` and ``timestamp_ms`` or ``cycle``                   percent
``ticker``    ``instrument_name`` and ``best_bid_price`` or ``best_ask_price``        percent
``snapshot``  the canonical names, instrument, and one of index, delta, vega, vol24h percent
``prepared``  the canonical names with forward, tau_years, log_moneyness and         fraction
              ``bucket`` or ``tick_low``
``updates``   the canonical names with ``sequence`` and without ``cycle``             fraction
``canonical`` the canonical names                                                    fraction
============  =====================================================================  ============
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace

import pyarrow as pa

from volgrad.data.columns import TEXT_TYPE
from volgrad.data.schema import CANONICAL, REQUIRED, Column, ColumnKind, SourceKind, missing_columns
from volgrad.errors import ForeignError, SchemaError

__all__ = ["Layout", "canonical_layout", "recognise"]

_OWN_NAMES = {column.name: column.name for column in CANONICAL}
_SNAPSHOT_MARKS = {"index", "delta", "vega", "vol24h"}


@dataclass(frozen=True)
class Layout:
    """Where a kind of source keeps the canonical columns.

    Attributes:
        kind: the kind; it says the unit of volatilities.
        what: its name in messages.
        columns: canonical name -> name there.
        required: names there that it must have.
        epoch: canonical stamp -> unit of the integers that it is written in.
        instrument: column with the exchange's name of the contract; what `columns` does not give of the contract
            comes from there.
        named: whether a row whose name is no option's is rejected for it.
        venue: column that must say `deribit`, whose names alone are understood.
        cycle: whether the chain's stamp is `cycle` and nothing else.
        note: what a reader of the figures should know.
    """

    kind: SourceKind
    what: str
    columns: Mapping[str, str]
    required: tuple[str, ...]
    epoch: Mapping[str, str] = field(default_factory=dict)
    instrument: str | None = None
    named: bool = False
    venue: str | None = None
    cycle: bool = False
    note: str | None = None

    def of(self, names: Iterable[str]) -> "Layout":
        """The layout of a source that has just these columns."""
        found = set(names)
        columns = {ours: theirs for ours, theirs in self.columns.items() if theirs in found}
        return replace(self, columns=columns, instrument=self.instrument if self.instrument in found else None)

    def only(self, wanted: Iterable[str] | None) -> "Layout":
        """The layout without the optional canonical columns that are not `wanted` (None: all are)."""
        if wanted is None:
            return self
        kept = {*wanted, *REQUIRED, "cycle", "split", "settlement"}
        return replace(self, columns={ours: theirs for ours, theirs in self.columns.items() if ours in kept})

    @property
    def names(self) -> tuple[str, ...]:
        """Columns of the source that are read."""
        others = [name for name in (self.instrument, self.venue) if name]
        return tuple(dict.fromkeys([*self.columns.values(), *others]))

    def unused(self, names: Iterable[str]) -> list[str]:
        """Columns of the source that say nothing that is kept."""
        used = {*self.columns.values(), self.venue, self.instrument if self.named else None}
        used |= {"sequence"} if self.kind is SourceKind.UPDATES else set()
        return [name for name in names if name not in used]

    @property
    def cell_types(self) -> dict[str, pa.DataType]:
        """What the cells of a text file are read as; a column of text that holds stamps is read by its distinct
        values.
        """
        types = {name: TEXT_TYPE for name in (self.instrument, self.venue) if name}
        for column in CANONICAL:
            if theirs := self.columns.get(column.name):
                types[theirs] = _cell_type(column, self.epoch)
        return types


def _cell_type(column: Column, epoch: Mapping[str, str]) -> pa.DataType:
    if column.kind is ColumnKind.NUMBER:
        return pa.float64()
    return pa.int64() if column.name in epoch else TEXT_TYPE


_TARDIS = Layout(
    SourceKind.TARDIS,
    "a Tardis options_chain file",
    {
        "ts": "timestamp", "expiry": "expiration", "strike": "strike_price", "cp": "type", "bid": "bid_price",
        "ask": "ask_price", "bid_size": "bid_amount", "ask_size": "ask_amount", "bid_iv": "bid_iv", "ask_iv": "ask_iv",
        "mark": "mark_price", "mark_iv": "mark_iv", "underlying": "underlying_price",
        "underlying_index": "underlying_index", "oi": "open_interest",
    },
    ("exchange", "symbol", "timestamp", "type", "strike_price", "expiration", "bid_price", "ask_price"),
    epoch={"ts": "us", "expiry": "us"},
    instrument="symbol",
    named=True,
    venue="exchange",
)  # fmt: skip
_TICKER = Layout(
    SourceKind.TICKER,
    "a ticker or order-book file",
    {
        "ts": "timestamp", "bid": "best_bid_price", "ask": "best_ask_price", "bid_size": "best_bid_amount",
        "ask_size": "best_ask_amount", "bid_iv": "bid_iv", "ask_iv": "ask_iv", "mark": "mark_price",
        "mark_iv": "mark_iv", "underlying": "underlying_price", "underlying_index": "underlying_index",
        "oi": "open_interest",
    },
    ("instrument_name", "timestamp", "best_bid_price", "best_ask_price"),
    epoch={"ts": "ms"},
    instrument="instrument_name",
    named=True,
)  # fmt: skip
_TICKER5M = Layout(
    SourceKind.TICKER5M,
    "a 5-minute ticker file",
    {**_TICKER.columns, "ts": "timestamp_ms", "cycle": "cycle", "ccy": "ccy"},
    ("instrument_name", "timestamp_ms", "cycle", "best_bid_price", "best_ask_price"),
    epoch={"ts": "ms"},
    instrument="instrument_name",
    named=True,
    cycle=True,
    note="chains are the collection cycles; time to expiry counts from the cycle's stamp",
)


def canonical_layout(kind: SourceKind) -> Layout:
    """The canonical names, with volatilities in the unit of `kind`.

    >>> canonical_layout(SourceKind.OKX).columns["bid"]
    'bid'
    """
    return Layout(kind, "a quote table", _OWN_NAMES, REQUIRED, instrument="instrument")


def recognise(names: Sequence[str], source: str, kind: SourceKind | None = None) -> Layout:
    """Layout of the source whose columns are `names`.

    Args:
        names: column names.
        source: file (or other source) for the message.
        kind: what a table of canonical names is said to be (None: told by its columns).

    Raises:
        SchemaError: a column is missing or renamed; says what was expected, what was found, and the closest
            name.
        ForeignError: the same, of a table that has little in common with quotes.

    >>> recognise(["ts", "ccy", "expiry", "strike", "cp", "bid", "ask"], "quotes.csv").kind.value
    'canonical'
    """
    found = list(names)
    for name in found:
        if found.count(name) > 1:
            raise SchemaError(f"{source}: the column {name} is there {found.count(name)} times.", file=source)
    layout = _nearest(set(found), kind)
    try:
        missing_columns(found, layout.required, source, layout.what)
    except SchemaError as error:
        if len(set(layout.required) & set(found)) < min(5, len(layout.required) - 1):
            raise ForeignError(str(error), file=source) from None
        raise
    return layout.of(found)


def _nearest(found: set[str], kind: SourceKind | None) -> Layout:
    """The layout that a table with these columns is meant to have."""
    if kind is not None and set(REQUIRED) <= found:
        return canonical_layout(kind)
    if {"exchange", "symbol", "timestamp"} <= found and found & {"local_timestamp", "strike_price"}:
        return _TARDIS
    if "instrument_name" in found and found & {"timestamp_ms", "best_bid_price", "best_ask_price"}:
        return _TICKER5M if found & {"timestamp_ms", "cycle"} or "timestamp" not in found else _TICKER
    return canonical_layout(_canonical_kind(found))


def _canonical_kind(found: set[str]) -> SourceKind:
    if "instrument" in found and _SNAPSHOT_MARKS & found:
        return SourceKind.SNAPSHOT
    if {"forward", "tau_years", "log_moneyness"} <= found and {"bucket", "tick_low"} & found:
        return SourceKind.PREPARED
    return SourceKind.UPDATES if "sequence" in found and "cycle" not in found else SourceKind.CANONICAL
