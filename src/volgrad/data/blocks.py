"""One block of a source while it is brought into canonical columns, and what is wrong with each of its rows."""

import numpy as np
import pyarrow as pa
from jaxtyping import Bool, Float

from volgrad.data import columns
from volgrad.data.checks import CellCheck, MedianCheck, PremiumCheck
from volgrad.data.contracts import ContractRows, Contracts
from volgrad.data.layouts import Layout
from volgrad.data.reasons import Reason
from volgrad.data.schema import VOLATILITIES, Column, ColumnKind
from volgrad.data.stamps import EXPECTED, stamps
from volgrad.data.units import as_fraction, bad_values

__all__ = ["BlockWork", "check_premiums", "check_rows", "check_volatilities", "take_contracts"]

_CALL_PUT = {"c": "C", "call": "C", "p": "P", "put": "P"}
_SAMPLE, _WEEK_US = 4096, 7 * 86_400_000_000
_NUMBER = "a number (an empty cell is a missing one)"


class BlockWork:
    """The canonical columns of one block while they are collected."""

    def __init__(self, table: pa.Table, source: str, layout: Layout, cells: CellCheck, start: int) -> None:
        self.table, self.source, self.layout = table, source, layout
        self.out: dict[str, pa.ChunkedArray | pa.Array] = {}
        self.reason = np.zeros(table.num_rows, np.int8)
        self.notes: list[str] = []
        self.bad: dict[str, dict[str, int]] = {}
        self.nulls: dict[str, Bool[np.ndarray, " rows"]] = {}
        self.values: dict[str, Float[np.ndarray, " rows"]] = {}
        self._cells, self._start = cells, start

    def take(self, column: Column, name: str) -> None:
        """Read the source's column `name` as the canonical `column`."""
        raw = self.table[name]
        if column.kind is ColumnKind.TEXT:
            self.out[column.name] = columns.text(raw, name, self.source)
        elif column.kind is ColumnKind.STAMP:
            read = stamps(raw, name, self.source, self.layout.epoch.get(column.name))
            self._cells.add(name, len(raw) - raw.null_count, read.bad, self._start, (read.first_bad, EXPECTED))
            self.out[column.name] = read.column
            self.notes += [read.note] if read.note else []
        else:
            values, nulls, bad, first = columns.numbers(raw, name, self.source)
            self._cells.add(name, len(raw) - raw.null_count, bad, self._start, (first, _NUMBER))
            if bad is not None:
                self.flag(bad, Reason.BAD_NUMBER)
                nulls = nulls | bad
            self.put(column.name, values, nulls)

    def put(self, name: str, values: Float[np.ndarray, " rows"], nulls: Bool[np.ndarray, " rows"]) -> None:
        """Store a number column: volatilities as fractions (NaN stays, to be counted), no price as null."""
        if name in VOLATILITIES:
            values = as_fraction(values, self.layout.kind)
        elif name in ("bid", "ask"):
            nulls = (values == 0) | np.isnan(values)  # tickers write 0 where there is no quote
            values = np.where(nulls, np.nan, values)
        else:
            nulls = np.isnan(values)
        self.nulls[name], self.values[name] = nulls, values
        self.out[name] = pa.array(values, pa.float64(), mask=nulls if nulls.any() else None)

    def number(self, name: str) -> Float[np.ndarray, " rows"]:
        """A number column collected before, NaN where null."""
        return self.values[name]

    def flag(self, mask: Bool[np.ndarray, " rows"], reason: Reason) -> None:
        """Give `reason` to the rows of `mask` that have none yet."""
        np.copyto(self.reason, np.int8(reason), where=(self.reason == 0) & mask)


def take_contracts(work: BlockWork, known: Contracts) -> None:
    """What the exchange's name of the contract says and no column does."""
    name = work.layout.instrument or ""
    column = columns.text(work.table[name], name, work.source)
    if not work.layout.named:
        entries = columns.text_entries(column)[0]
        if "settlement" not in work.out and any("_" in (entry or "") for entry in entries):
            work.out["settlement"] = _settlements(known.of(column))
            work.notes.append(f"{work.source}: rows of {name}s such as BTC_USDC-... are linear (dollar-settled)")
        return
    rows = known.of(column)
    if work.layout.venue is not None:
        values, codes = columns.text_codes(columns.text(work.table[work.layout.venue], "exchange", work.source))
        elsewhere = np.array([value != "deribit" for value in values] + [True])[codes]
        work.flag(elsewhere, Reason.BAD_INSTRUMENT)
    is_option = rows.is_option
    work.flag(rows.unreadable, Reason.BAD_INSTRUMENT)
    work.flag(~is_option, Reason.NOT_AN_OPTION)
    strike, is_call = rows.take("strike_usd"), rows.take("is_call")
    expiry = pa.array(rows.take("expiry_us"), mask=~is_option).cast(columns.STAMP_TYPE)
    if "strike" in work.out:
        work.flag(is_option & (np.abs(work.number("strike") - strike) > 1e-6 * strike), Reason.BAD_INSTRUMENT)
    else:
        work.put("strike", strike, ~is_option)
    if "expiry" in work.out:
        differs = columns.compute("not_equal", columns.chunked(work.out["expiry"]).combine_chunks(), expiry).fill_null(
            False
        )
        work.flag(is_option & np.asarray(differs), Reason.BAD_INSTRUMENT)
    else:
        work.out["expiry"] = expiry
    if "cp" in work.out:
        _call_or_put(work)
        side = columns.text_entries(columns.chunked(work.out["cp"]))[1]
        work.flag(is_option & (side >= 0) & ((side == 0) != is_call), Reason.BAD_INSTRUMENT)
    else:
        work.out["cp"] = columns.coded(["C", "P"], np.where(is_call, 0, 1), ~is_option)
    work.out.setdefault("settlement", _settlements(rows))
    work.out.setdefault("ccy", rows.underlyings)


def _settlements(rows: ContractRows) -> pa.Array:
    return columns.coded(["inverse", "linear"], rows.take("is_linear").astype(np.int32))


def check_rows(work: BlockWork) -> None:
    """Flag what is wrong with a row whatever its chain: no key, no contract."""
    stamp = work.out["ts"]
    if "cycle" in work.out:
        stamp = work.out["cycle"]
        if not work.layout.cycle:
            stamp = columns.compute("coalesce", work.out["cycle"], work.out["ts"])
    work.flag(columns.missing(stamp), Reason.BAD_TIMESTAMP)
    work.flag(columns.missing(work.out["ccy"]), Reason.BAD_UNDERLYING)
    work.flag(columns.missing(work.out["expiry"]), Reason.BAD_EXPIRY)
    strike = work.number("strike")
    work.flag(~((strike > 0) & (strike < np.inf)), Reason.BAD_STRIKE)
    _call_or_put(work)
    if "settlement" in work.out:
        values, codes = columns.text_entries(columns.chunked(work.out["settlement"]))
        known = np.array([v in ("inverse", "linear") for v in values] + [True])
        if not known.all():
            work.flag(~known[codes], Reason.BAD_SETTLEMENT)


def _call_or_put(work: BlockWork) -> None:
    """`cp` as C and P, whatever it was called."""
    values, codes = columns.text_entries(columns.chunked(work.out["cp"]))
    if values == ["C", "P"]:
        work.flag(codes < 0, Reason.BAD_TYPE)
        return
    known = [_CALL_PUT.get(value.strip().lower()) if value else None for value in values]
    seen = set(np.unique(codes).tolist())
    renamed = sorted(
        v for i, (v, taken) in enumerate(zip(values, known, strict=True)) if i in seen and taken not in (None, v)
    )
    if renamed and not work.layout.named:
        work.notes.append(f"{work.source}: cp {', '.join(renamed)} taken as C or P")
    lookup = np.array([{"C": 0, "P": 1}.get(k or "", -1) for k in known] + [-1], np.int32)
    side = lookup[codes]
    work.flag(side < 0, Reason.BAD_TYPE)
    work.out["cp"] = columns.coded(["C", "P"], np.maximum(side, 0), side < 0)


def check_volatilities(work: BlockWork, medians: MedianCheck) -> None:
    """Count values that are no volatility, and refuse another unit.

    Raises:
        UnitsError: volatilities cannot be in the unit of this kind of source.
    """
    given = [name for name in VOLATILITIES if name in work.out]
    if not given:
        return
    bid, ask = work.number("bid"), work.number("ask")
    liquid = (bid > 0) & (ask > bid) & (work.reason == 0)
    for name in given:
        values = work.number(name)
        if wrong := bad_values(values, work.nulls[name]):
            work.bad[name] = wrong
        medians.add(name, values, liquid)


def check_premiums(work: BlockWork, premiums: PremiumCheck) -> None:
    """Refuse dollars taken for coin, or coin for dollars.

    Raises:
        UnitsError: bid and ask cannot be in the unit of their settlement.
    """
    bid, ask = work.number("bid"), work.number("ask")
    rows = np.flatnonzero((bid > 0) & (ask > bid) & (work.reason == 0))
    rows = rows[:: max(1, len(rows) // _SAMPLE)]
    forward = next((work.number(name)[rows] for name in ("underlying", "forward") if name in work.out), None)
    if forward is not None:
        premiums.add_ratios(work.number("strike")[rows] / np.where(forward > 0, forward, np.nan))
    call = columns.holds(work.out["cp"], "C")[rows]
    if "settlement" not in work.out or not (linear := columns.holds(work.out["settlement"], "linear")[rows]).any():
        premiums.add_inverse(ask[rows[call]])
        return
    premiums.add_inverse(ask[rows[call & ~linear]])
    if forward is not None:
        life = np.subtract(*(columns.stamp_us(columns.chunked(work.out[name]))[rows] for name in ("expiry", "ts")))
        near = linear & (life >= _WEEK_US) & (np.abs(np.log(work.number("strike")[rows] / forward)) < 0.02)
        premiums.add_linear(ask[rows[near]] / forward[near])
