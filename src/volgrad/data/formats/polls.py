"""Polls that were written to a table, one after the other: which rows were asked for together, and when.

A table does not say where a poll ends. A new one begins, for each underlying apart, with a row

- whose instrument is in the poll already, at another time;
- that would make the poll last longer than ten minutes (`build.POLL_MS`, as in a document);
- that lies a minute or more from the rest of the poll, unless the times are those of the instruments' own last changes,
  which may differ by more (assumption: a poll does not pause for a minute).

Its time is that of its latest row. A poll is given when it is over, whatever blocks its rows come in.
"""

import numpy as np
import pyarrow as pa
from jaxtyping import Int

from volgrad.data.columns import NO_STAMP, STAMP_TYPE, compute, stamp_us, text, text_entries
from volgrad.data.formats.build import POLL_MS

__all__ = ["Polls"]

_POLL_US = 1000 * POLL_MS
_PAUSE_US = 60_000_000


class _Poll:
    """The rows of one underlying that were asked for together: what decides whether one more is of them."""

    __slots__ = ("earliest", "latest", "number", "stamps")

    def __init__(self, number: int) -> None:
        self.number = number
        self.stamps: dict[str, int] = {}
        self.earliest = self.latest = int(NO_STAMP)

    def excludes(self, name: str | None, stamp_us: int, own_clock: bool) -> bool:
        """Whether a row cannot be of this poll."""
        before = None if name is None else self.stamps.get(name)
        if before is not None and (own_clock or before != stamp_us):
            return True
        if stamp_us == NO_STAMP or self.latest == NO_STAMP:
            return False
        if max(self.latest, stamp_us) - min(self.earliest, stamp_us) > _POLL_US:
            return True
        return not own_clock and max(stamp_us - self.latest, self.earliest - stamp_us) >= _PAUSE_US

    def take(self, name: str | None, stamp_us: int) -> None:
        """Count a row in."""
        if name is not None:
            self.stamps[name] = stamp_us
        if stamp_us == NO_STAMP:
            return
        if self.latest == NO_STAMP:
            self.earliest = self.latest = stamp_us
        else:
            self.earliest, self.latest = min(self.earliest, stamp_us), max(self.latest, stamp_us)


class Polls:
    """Blocks in, whole polls out, each with its time in `cycle`.

    >>> stamps = pa.array([0, 5, 300_000_000, 300_000_007]).cast(STAMP_TYPE)
    >>> rows = pa.table({"ts": stamps, "instrument": ["BTC-A", "BTC-B"] * 2})
    >>> polls = Polls("polls.csv", own_clock=False)
    >>> [table["cycle"].cast(pa.int64()).to_pylist() for table in (polls.add(rows), polls.finish())]
    [[5, 5], [300000007, 300000007]]
    """

    def __init__(self, source: str, *, own_clock: bool) -> None:
        """Begin before the first row of `source`.

        Args:
            source: for messages.
            own_clock: whether a row's time is that of its instrument's last change, not of the answer.
        """
        self._source, self._own_clock = source, own_clock
        self._open: dict[str, _Poll] = {}
        self._begun = self._back = 0
        self._held: list[tuple[pa.Table, Int[np.ndarray, " rows"]]] = []
        self._closed: dict[int, int] = {}

    def add(self, table: pa.Table) -> pa.Table:
        """The polls that are over, of rows with `ts` and the name `instrument`."""
        entries, codes = text_entries(text(table["instrument"], "instrument", self._source))
        heads = [(entry or "").partition("-")[0] for entry in entries]
        numbers = np.empty(table.num_rows, np.int64)
        stamps = stamp_us(_chunked(table["ts"])).tolist()
        for row, (code, stamp) in enumerate(zip(codes.tolist(), stamps, strict=True)):
            name, head = (None, "") if code < 0 else (entries[code], heads[code])
            poll = self._open.get(head)
            if poll is None or poll.excludes(name, stamp, self._own_clock):
                poll = self._begin(head, poll, stamp)
            poll.take(name, stamp)
            numbers[row] = poll.number
        self._held.append((table, numbers))
        return self._over()

    def finish(self) -> pa.Table:
        """The polls that are left."""
        for poll in self._open.values():
            self._closed[poll.number] = poll.latest
        self._open.clear()
        return self._over()

    def notes(self) -> tuple[str, ...]:
        """A sentence where the rows do not follow each other in time."""
        if not self._back:
            return ()
        note = f"{self._source}: {self._back} times a poll lies before the one above it; sort the table by time"
        return (f"{note}, so that polls can be told apart",)

    def _begin(self, head: str, before: _Poll | None, stamp: int) -> _Poll:
        if before is not None:
            self._closed[before.number] = before.latest
            self._back += NO_STAMP != stamp < before.earliest
        self._begun += 1
        self._open[head] = _Poll(self._begun)
        return self._open[head]

    def _over(self) -> pa.Table:
        """The held rows whose poll is over; the others stay."""
        done, kept = [], []
        for table, numbers in self._held:
            present, places = np.unique(numbers, return_inverse=True)
            over = np.array([number in self._closed for number in present.tolist()], bool)[places]
            latest = [self._closed.get(number, int(NO_STAMP)) for number in present.tolist()]
            cycles = np.array(latest, np.int64)[places][over]
            done.append(_with_cycle(table.filter(pa.array(over)), cycles))
            if not over.all():
                kept.append((table.filter(pa.array(~over)), numbers[~over]))
        self._held = kept
        self._closed.clear()
        return pa.concat_tables(done, promote_options="default") if done else pa.table({})


def _with_cycle(table: pa.Table, cycles: Int[np.ndarray, " rows"]) -> pa.Table:
    """Rows with the time of their poll, which is also that of rows without one."""
    cycle = pa.chunked_array([pa.array(cycles, pa.int64(), mask=cycles == NO_STAMP).cast(STAMP_TYPE)])
    ts = compute("coalesce", _chunked(table["ts"]), cycle)
    return table.set_column(table.column_names.index("ts"), "ts", ts).append_column("cycle", cycle)


def _chunked(column: pa.ChunkedArray | pa.Array) -> pa.ChunkedArray:
    return column if isinstance(column, pa.ChunkedArray) else pa.chunked_array([column])
