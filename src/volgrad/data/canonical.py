"""One source's table, of whatever kind, as the canonical one: the same names, types and units for all."""

from dataclasses import dataclass, field

import numpy as np
import pyarrow as pa
from jaxtyping import Bool, Float, Int

from volgrad.data import columns
from volgrad.data.reasons import Reason
from volgrad.data.schema import (
    CANONICAL,
    TICKER_NAMES,
    VOLATILITIES,
    Column,
    ColumnKind,
    SourceKind,
    recognise,
)
from volgrad.data.units import as_fraction, bad_values, check_median
from volgrad.market.instruments import InstrumentKind, parse_options

__all__ = ["Canonical", "canonicalise", "wanted_columns"]

_LATEST_MS = 1e14  # the year 5138: later stamps are damage
_CALL_PUT = {"c": "C", "call": "C", "p": "P", "put": "P"}


@dataclass(frozen=True)
class Canonical:
    """A source in canonical columns.

    Attributes:
        table: canonical columns only; stamps us UTC, text dictionary-encoded, numbers float64, volatilities
            fractions.
        reason: :class:`Reason` codes of what is wrong with a row already here (0: nothing).
        kind: how the source was recognised.
        extra: columns of the source that were ignored.
        notes: sentences on what had to be assumed.
        bad_values: column -> what -> values that are no volatility.
    """

    table: pa.Table
    reason: Int[np.ndarray, " rows"]
    kind: SourceKind
    extra: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()
    bad_values: dict[str, dict[str, int]] = field(default_factory=dict)


def wanted_columns() -> set[str]:
    """Names that any kind of source may have use for (a Parquet reader skips the others)."""
    return {c.name for c in CANONICAL} | set(TICKER_NAMES.values()) | {"instrument_name", "timestamp_ms", "instrument"}


def canonicalise(table: pa.Table, source: str, names: tuple[str, ...] | None = None) -> Canonical:
    """Bring one source's table into canonical columns.

    Args:
        table: rows of one source.
        source: its name, for messages.
        names: all column names of the source where `table` holds only those of use.

    Raises:
        SchemaError: a column is missing, renamed or of a type that cannot be read.
        UnitsError: volatilities cannot be in the unit of this kind of source.

    >>> from datetime import datetime, timezone
    >>> now, then = datetime(2026, 1, 1, tzinfo=timezone.utc), datetime(2026, 3, 27, 8, tzinfo=timezone.utc)
    >>> quotes = pa.table({"ts": [now], "ccy": ["BTC"], "expiry": [then], "strike": [9e4], "cp": ["C"],
    ...                    "bid": [0.05], "ask": [0.0]})
    >>> canonicalise(quotes, "quotes").table["ask"].to_pylist()
    [None]
    """
    names = names or tuple(table.column_names)
    kind = recognise(names, source)
    work = _Work(table, source, kind)
    if kind is SourceKind.TICKER5M:
        _from_tickers(work)
    else:
        for column in CANONICAL:
            if column.name in table.column_names:
                work.take(column, column.name)
        _settlement_of_instruments(work)
    _check_rows(work)
    _check_volatilities(work)
    order = [c.name for c in CANONICAL if c.name in work.out]
    used = {c.name for c in CANONICAL}
    if work.tickers:
        used = {"ts", "instrument_name", "timestamp_ms"} | set(TICKER_NAMES.values())
    return Canonical(
        table=pa.table({name: work.out[name] for name in order}),
        reason=work.reason,
        kind=kind,
        extra=tuple(name for name in names if name not in used),
        notes=tuple(dict.fromkeys(work.notes)),
        bad_values=work.bad,
    )


class _Work:
    """The canonical columns of one source while they are collected."""

    def __init__(self, table: pa.Table, source: str, kind: SourceKind) -> None:
        self.table, self.source, self.kind = table, source, kind
        self.tickers = kind is SourceKind.TICKER5M
        self.out: dict[str, pa.ChunkedArray | pa.Array] = {}
        self.reason = np.zeros(table.num_rows, np.int8)
        self.notes: list[str] = []
        self.bad: dict[str, dict[str, int]] = {}
        self.nulls: dict[str, Bool[np.ndarray, " rows"]] = {}

    def take(self, column: Column, name: str) -> None:
        """Read the source's column `name` as the canonical `column`."""
        raw = self.table[name]
        if column.kind is ColumnKind.TEXT:
            self.out[column.name] = columns.text(raw, name, self.source)
        elif column.kind is ColumnKind.STAMP:
            self.out[column.name], note = columns.stamp(raw, name, self.source)
            self.notes += [note] if note else []
        else:
            values, nulls = columns.number(raw, name, self.source)
            self.put(column.name, values, nulls)

    def put(self, name: str, values: Float[np.ndarray, " rows"], nulls: Bool[np.ndarray, " rows"]) -> None:
        """Store a number column: volatilities as fractions (NaN stays, to be counted), no price as null."""
        if name in VOLATILITIES:
            values = as_fraction(values, self.kind)
        elif name in ("bid", "ask"):
            nulls = (values == 0) | np.isnan(values)  # tickers write 0 where there is no quote
        else:
            nulls = np.isnan(values)
        self.nulls[name] = nulls
        self.out[name] = pa.array(values, pa.float64(), mask=nulls)

    def number(self, name: str) -> Float[np.ndarray, " rows"]:
        """A number column collected before, NaN where null (all NaN where there is none)."""
        if name not in self.out:
            return np.full(self.table.num_rows, np.nan)
        return self.out[name].to_numpy(zero_copy_only=False)

    def flag(self, mask: Bool[np.ndarray, " rows"], reason: Reason) -> None:
        """Give `reason` to the rows of `mask` that have none yet."""
        np.copyto(self.reason, np.int8(reason), where=(self.reason == 0) & mask)


def _from_tickers(work: _Work) -> None:
    """5-minute files: prices and stamps under the exchange's names, the contract from its name."""
    for column in CANONICAL:
        theirs = TICKER_NAMES.get(column.name, "")
        if theirs in work.table.column_names:
            work.take(column, theirs)
    millis, missing = columns.number(work.table["timestamp_ms"], "timestamp_ms", work.source)
    missing |= ~(np.abs(millis) < _LATEST_MS)
    micros = (np.where(missing, 0, millis) * 1000).astype(np.int64)
    work.out["ts"] = pa.array(micros, pa.int64(), mask=missing).cast(columns.STAMP_TYPE)
    entries, rows = _names(work, "instrument_name")
    contracts = parse_options(entries)
    is_option = contracts.kind == InstrumentKind.OPTION
    unreadable = contracts.kind == InstrumentKind.UNKNOWN
    work.flag(unreadable[rows], Reason.BAD_INSTRUMENT)
    work.flag(~is_option[rows], Reason.NOT_AN_OPTION)
    work.out["strike"] = pa.array(contracts.strike_usd[rows], from_pandas=True)
    expiry = pa.array(contracts.expiry_us[rows], mask=~is_option[rows])
    work.out["expiry"] = expiry.cast(columns.STAMP_TYPE)
    work.out["cp"] = _coded(["C", "P"], np.where(contracts.is_call[rows], 0, 1), ~is_option[rows])
    work.out["settlement"] = _coded(["inverse", "linear"], contracts.is_linear[rows].astype(int))
    if "ccy" not in work.out:
        base = [name.split("-")[0].split("_")[0] for name in entries]
        work.out["ccy"] = columns.text(pa.chunked_array([pa.array(base)]).take(pa.array(rows)), "ccy", work.source)
    work.notes.append(f"{work.source}: chains are the collection cycles; time to expiry counts from the cycle's stamp")


def _names(work: _Work, column: str) -> tuple[list[str], Int[np.ndarray, " rows"]]:
    """Distinct instrument names and each row's position among them; the last, empty one means no name."""
    entries, codes = columns.text_codes(columns.text(work.table[column], column, work.source))
    return [*entries, ""], np.where(codes < 0, len(entries), codes)


def _settlement_of_instruments(work: _Work) -> None:
    """A snapshot that names its instruments says by the name (`BTC_USDC-...`) which of them are linear."""
    if "settlement" in work.out or "instrument" not in work.table.column_names:
        return
    entries, rows = _names(work, "instrument")
    if not any("_" in entry.split("-")[0] for entry in entries):
        return
    linear = parse_options(entries).is_linear[rows]
    work.out["settlement"] = _coded(["inverse", "linear"], linear.astype(int))
    work.notes.append(f"{work.source}: {int(linear.sum())} rows are linear (USDC-settled) by their instrument's name")


def _coded(
    values: list[str], codes: Int[np.ndarray, " rows"], nulls: Bool[np.ndarray, " rows"] | None = None
) -> pa.Array:
    return pa.DictionaryArray.from_arrays(pa.array(codes, pa.int32(), mask=nulls), pa.array(values, pa.string()))


def _check_rows(work: _Work) -> None:
    """Flag what is wrong with a row whatever its chain: no key, no contract."""
    stamp = work.out["cycle"] if work.tickers else work.out["ts"]
    if not work.tickers and "cycle" in work.out:
        stamp = columns.compute("coalesce", work.out["cycle"], work.out["ts"])
    work.flag(_null(stamp), Reason.BAD_TIMESTAMP)
    work.flag(_null(work.out["ccy"]), Reason.BAD_UNDERLYING)
    work.flag(_null(work.out["expiry"]), Reason.BAD_EXPIRY)
    strike = work.number("strike")
    work.flag(~((strike > 0) & (strike < np.inf)), Reason.BAD_STRIKE)
    if not work.tickers:
        _call_or_put(work)
    if "settlement" in work.out:
        values, codes = columns.text_codes(_chunked(work.out["settlement"]))
        known = np.array([v in ("inverse", "linear") for v in values] + [True])
        work.flag(~known[codes], Reason.BAD_SETTLEMENT)


def _call_or_put(work: _Work) -> None:
    values, codes = columns.text_codes(_chunked(work.out["cp"]))
    known = [_CALL_PUT.get(value.strip().lower()) for value in values]
    renamed = [value for value, taken in zip(values, known, strict=True) if taken not in (None, value)]
    if renamed:
        work.notes.append(f"{work.source}: cp {', '.join(renamed)} taken as C or P")
    lookup = np.array([{"C": 0, "P": 1}.get(k or "", -1) for k in known] + [-1])
    side = lookup[codes]
    work.flag(side < 0, Reason.BAD_TYPE)
    work.out["cp"] = _coded(["C", "P"], np.maximum(side, 0), side < 0)


def _check_volatilities(work: _Work) -> None:
    bid, ask = work.number("bid"), work.number("ask")
    liquid = (bid > 0) & (ask > bid) & (work.reason == 0)
    for name in VOLATILITIES:
        if name not in work.out:
            continue
        values = work.number(name)
        if wrong := bad_values(values, work.nulls[name]):
            work.bad[name] = wrong
        check_median(values, liquid, name, work.source, work.kind)


def _chunked(column: pa.ChunkedArray | pa.Array) -> pa.ChunkedArray:
    return column if isinstance(column, pa.ChunkedArray) else pa.chunked_array([column])


def _null(column: pa.ChunkedArray | pa.Array) -> Bool[np.ndarray, " rows"]:
    return np.asarray(_chunked(column).is_null().to_numpy())
