"""Chains out of a stream of single updates: at each multiple of a step of time, the latest row of every option.

A ticker feed, a recorded session or a Tardis file says one thing about one option at a time. The chain at a time is
what was known then: of each option that still lives, its latest row, unless that is too old.

>>> Drawing.of("5m")
Drawing(every_us=300000000, oldest_us=900000000)
"""

from copy import copy
from dataclasses import dataclass, replace

import numpy as np
import pyarrow as pa
from jaxtyping import Int

from volgrad.data.columns import NO_STAMP, STAMP_TYPE, stamp_us, text_codes
from volgrad.data.filters import Window
from volgrad.data.schema import SourceKind
from volgrad.market.duration import parse_duration

__all__ = ["Drawing", "Drawn", "Snapshots"]

# How old a row may be: in steps, and at least. Assumption: the exchange sends a ticker whenever the forward moves, so
# that a quarter of an hour without one is a gap and not a quiet option.
_OLDEST_STEPS, _OLDEST_US = 3, 15 * 60 * 1_000_000
# How far out of order rows may be before they are late: half a step, at most this. Assumption: feeds are out of order
# by milliseconds, day files that overlap by seconds.
_SLACK_US = 10 * 1_000_000
_DAY_US = 86_400_000_000
_BEFORE_ALL = np.iinfo(np.int64).min

_Option = tuple[int, float, str, str]


@dataclass(frozen=True)
class Drawing:
    """When chains are drawn from a stream of updates.

    Attributes:
        every_us: from one chain to the next, microseconds; chains stand at its multiples since 1970 UTC.
        oldest_us: age beyond which an option's latest row is left out.
    """

    every_us: int = 300_000_000
    oldest_us: int = _OLDEST_US

    @classmethod
    def of(cls, every: str, what: str = "every") -> "Drawing":
        """Read the step as a user writes it, such as 100ms, 5m or 1h.

        Args:
            every: the step.
            what: the option's name, for the message.

        Raises:
            InputError: not a length of time.
        """
        step = parse_duration(every, what)
        return cls(step, max(_OLDEST_STEPS * step, _OLDEST_US))

    def of_kind(self, kind: SourceKind) -> "Drawing":
        """The rule for one kind of stream: where rows tell changes only, a quote stands until the next, for a day."""
        return replace(self, oldest_us=max(self.oldest_us, _DAY_US)) if kind is SourceKind.UPDATES else self

    def window(self, chains: Window) -> Window:
        """The updates that chains within a window are drawn from."""
        early, late = chains.from_us, chains.to_us
        return replace(
            chains,
            from_us=None if early is None else early - self.oldest_us - self.every_us,
            to_us=None if late is None else late + self.every_us,
        )


@dataclass(frozen=True)
class Drawn:
    """Rows of chains that are complete.

    Attributes:
        table: canonical rows: `cycle` is the chain's stamp, `ts` the row's own time. A row that stands in several
            chains is there several times. Rows that were wrong by themselves pass once, to be counted.
        reason: codes of what was wrong with a row by itself.
        superseded: rows that a later one of the same option replaced before a chain was drawn.
        stale: options dropped because no row came for too long, or because they expired without another.
        late: rows that came after their chain had been drawn; they wait for the next one.
    """

    table: pa.Table
    reason: Int[np.ndarray, " rows"]
    superseded: int = 0
    stale: int = 0
    late: int = 0


class Snapshots:
    """Draws chains while updates come in: blocks of any size, of one underlying or several.

    Rows of an underlying come in order of time, or nearly: a chain is drawn when a row half a step (at most 10 s) later
    has come. There is no chain at a step in which nothing was said about its underlying: a gap stays a gap.
    """

    def __init__(self, drawing: Drawing) -> None:
        """Begin before any row."""
        self._drawing = drawing
        self._streams: dict[str, _Stream] = {}

    def add(self, table: pa.Table, reason: Int[np.ndarray, " rows"]) -> Drawn:
        """Take a block and give the chains that are complete."""
        stamps = stamp_us(table["ts"])
        names, codes = text_codes(table["ccy"])
        sound = (reason == 0) & (stamps != NO_STAMP) & (codes >= 0)
        wrong = np.flatnonzero(~sound)
        every = self._drawing.every_us
        spoilt = _with_cycle(table.take(pa.array(wrong)), -(-stamps[wrong] // every) * every, stamps[wrong] == NO_STAMP)
        drawn = [Drawn(spoilt, reason[wrong])]
        for code, name in enumerate(names):
            rows = np.flatnonzero(sound & (codes == code))
            if rows.size:
                drawn += self._add(name, table if rows.size == table.num_rows else table.take(pa.array(rows)))
        return _together(drawn)

    def _add(self, name: str, table: pa.Table) -> list[Drawn]:
        one = self._streams.setdefault(name, _Stream(self._drawing))
        if not one.starts_again(table):
            return [one.add(table)]
        self._streams[name] = _Stream(self._drawing)  # its rows join the chains that are drawn already
        return [one.finish(), self._streams[name].add(table)]

    def fork(self) -> "Snapshots":
        """A copy for another source, which may follow in time or cover the same time again."""
        other = Snapshots(self._drawing)
        other._streams = {name: one.fork() for name, one in self._streams.items()}
        return other

    def finish(self) -> Drawn | None:
        """What is open, as if rows of a later time had come; None where there was no row."""
        return _together([one.finish() for one in self._streams.values()]) if self._streams else None


class _Stream:
    """The updates of one underlying."""

    def __init__(self, drawing: Drawing) -> None:
        self._drawing = drawing
        self._numbers: dict[_Option, int] = {}
        self._held: pa.Table | None = None  # latest rows as of the last chain, then the rows of the open step
        self._held_option = np.zeros(0, np.int64)
        self._held_step = np.zeros(0, np.int64)
        self._done = _BEFORE_ALL
        self._first_us, self._latest_us = np.iinfo(np.int64).max, _BEFORE_ALL
        self._between = False  # whether the next row is another source's first

    def fork(self) -> "_Stream":
        other = copy(self)  # arrays and tables are replaced, never changed
        other._numbers = dict(self._numbers)
        other._between = True
        return other

    def starts_again(self, table: pa.Table) -> bool:
        """Whether another source begins with a time that was seen already, and does not just overlap a little."""
        first = int(stamp_us(table["ts"]).min())
        back = first < self._latest_us - self._drawing.oldest_us or first <= self._first_us
        return self._between and back and first < self._latest_us

    def add(self, table: pa.Table) -> Drawn:
        every = self._drawing.every_us
        stamps = stamp_us(table["ts"])
        self._between = False
        option, step = self._options(table), -(-stamps // every)
        self._first_us = min(self._first_us, int(stamps.min()))
        self._latest_us = max(self._latest_us, int(stamps.max()))
        late = int((step <= self._done).sum())
        step = np.maximum(step, self._done)  # a late row is known from now on, but makes no chain
        kept = _latest(option, step, stamps)
        rows = table.take(pa.array(kept))
        self._held = rows if self._held is None else _joined([self._held, rows])
        self._held_option = np.append(self._held_option, option[kept])
        self._held_step = np.append(self._held_step, step[kept])
        drawn = self._draw(-(-(self._latest_us - min(every // 2, _SLACK_US)) // every))
        return replace(drawn, superseded=drawn.superseded + table.num_rows - kept.size, late=late)

    def finish(self) -> Drawn:
        return self._draw(np.iinfo(np.int64).max)

    def _options(self, table: pa.Table) -> Int[np.ndarray, " rows"]:
        """Number of the option of each row, the same in all blocks."""
        sides, side = text_codes(table["cp"])
        kinds, kind = ["inverse"], np.zeros(table.num_rows, np.int64)
        if "settlement" in table.column_names:
            named, codes = text_codes(table["settlement"])
            kinds, kind = [*kinds, *named], codes + 1
        expiries, expiry = np.unique(stamp_us(table["expiry"]), return_inverse=True)
        strikes, strike = np.unique(table["strike"].to_numpy(), return_inverse=True)
        shape = (expiries.size, strikes.size, len(sides), len(kinds))
        keys, inverse = np.unique(np.ravel_multi_index((expiry, strike, side, kind), shape), return_inverse=True)
        found = np.empty(keys.size, np.int64)
        for place, (e, k, c, s) in enumerate(np.stack(np.unravel_index(keys, shape), axis=1).tolist()):
            option = (int(expiries[e]), float(strikes[k]), sides[c], kinds[s])
            found[place] = self._numbers.setdefault(option, len(self._numbers))
        return found[inverse]

    def _draw(self, before: int) -> Drawn:
        """Chains of all steps below `before`, and what is held afterwards."""
        held = self._held
        assert held is not None
        stamps, expiries = stamp_us(held["ts"]), stamp_us(held["expiry"])
        latest = np.full(len(self._numbers), -1, np.int64)
        known = np.flatnonzero(self._held_step <= self._done)
        standing = known[_latest(self._held_option[known], np.zeros(known.size, np.int64), stamps[known])]
        latest[self._held_option[standing]] = standing
        every = np.flatnonzero((self._held_step > self._done) & (self._held_step < before))
        waiting = every[_latest(self._held_option[every], self._held_step[every], stamps[every])]
        waiting = waiting[np.argsort(self._held_step[waiting], kind="stable")]
        steps, first = np.unique(self._held_step[waiting], return_index=True)
        picked, cycles = [np.zeros(0, np.int64)], [np.zeros(0, np.int64)]
        superseded, stale = every.size - waiting.size + known.size - standing.size, 0
        for step, new in zip(steps.tolist(), np.split(waiting, first[1:]) if steps.size else (), strict=True):
            replaced = latest[self._held_option[new]]
            new = new[(replaced < 0) | (stamps[replaced] <= stamps[new])]
            superseded += replaced.size - new.size
            latest[self._held_option[new]] = new
            cycle = step * self._drawing.every_us
            rows = latest[latest >= 0]
            expired = (expiries[rows] <= cycle) & (self._held_step[rows] < step)  # a new row is told by its reason
            dead = (cycle - stamps[rows] > self._drawing.oldest_us) | expired
            stale += int(dead.sum())
            latest[self._held_option[rows[dead]]] = -1
            rows = rows[~dead]
            picked.append(rows)
            cycles.append(np.full(rows.size, cycle))
        chosen = np.concatenate(picked)
        drawn = _with_cycle(held.take(pa.array(chosen)), np.concatenate(cycles))
        self._keep(np.append(latest[latest >= 0], np.flatnonzero(self._held_step >= before)))
        self._done = max(self._done, before - 1)
        return Drawn(drawn, np.zeros(chosen.size, np.int8), superseded, stale)

    def _keep(self, rows: Int[np.ndarray, " some"]) -> None:
        assert self._held is not None
        self._held = self._held.take(pa.array(rows)).combine_chunks()
        self._held_option, self._held_step = self._held_option[rows], self._held_step[rows]


def _together(drawn: list[Drawn]) -> Drawn:
    return Drawn(
        _joined([one.table for one in drawn]),
        np.concatenate([one.reason for one in drawn]),
        sum(one.superseded for one in drawn),
        sum(one.stale for one in drawn),
        sum(one.late for one in drawn),
    )


def _latest(
    option: Int[np.ndarray, " rows"], step: Int[np.ndarray, " rows"], stamp: Int[np.ndarray, " rows"]
) -> Int[np.ndarray, " some"]:
    """The last row of each option in each step, in order of rows; of equal stamps the later row."""
    order = np.lexsort((stamp, option, step))
    ends = np.append((np.diff(option[order]) != 0) | (np.diff(step[order]) != 0), True)[: order.size]
    return np.sort(order[ends])


def _with_cycle(table: pa.Table, cycle_us: Int[np.ndarray, " rows"], missing: np.ndarray | None = None) -> pa.Table:
    column = pa.array(cycle_us, pa.int64(), mask=missing).cast(STAMP_TYPE)
    if "cycle" in table.column_names:
        return table.set_column(table.column_names.index("cycle"), "cycle", column)
    return table.append_column("cycle", column)


def _joined(tables: list[pa.Table]) -> pa.Table:
    return pa.concat_tables(tables, promote_options="default").unify_dictionaries()
