"""Which chains of a source are asked for: a window of time and a set of underlyings."""

import datetime
import re
from collections.abc import Iterable
from dataclasses import dataclass, replace

import numpy as np
import pyarrow as pa

from volgrad.data.canonical import Canonical
from volgrad.data.columns import NO_STAMP, compute, stamp_us, text_codes
from volgrad.errors import InputError

__all__ = ["Extent", "When", "Window", "chain_stamps"]

When = str | datetime.date | datetime.datetime | np.datetime64 | None
_DAY_US = 86_400_000_000
_BARE_DATE = re.compile(r"\d{4}-\d{2}-\d{2}")


def chain_stamps(table: pa.Table) -> pa.ChunkedArray:
    """Stamp of each row's chain in a canonical table: `cycle` where there is one, else `ts`."""
    if "cycle" not in table.column_names:
        return table["ts"]
    return compute("coalesce", table["cycle"], table["ts"])


@dataclass(frozen=True)
class Window:
    """Chain stamps from `from_us` to `to_us` (both included, us UTC) of `underlying` (upper case); None =
    any.
    """

    from_us: int | None = None
    to_us: int | None = None
    underlying: frozenset[str] | None = None

    @classmethod
    def of(cls, from_: When, to: When, underlying: str | Iterable[str] | None) -> "Window":
        """Read the three options as a user writes them.

        Raises:
            InputError: a time that cannot be read, or a window that ends before it starts.

        >>> Window.of("2026-01-05", "2026-01-05", "btc,ETH").describe()
        'from 2026-01-05T00:00:00 to 2026-01-05T23:59:59.999999 UTC for BTC, ETH'
        """
        from_us, to_us = _micros(from_, "from", False), _micros(to, "to", True)
        if from_us is not None and to_us is not None and from_us > to_us:
            raise InputError(f"from {from_} lies after to {to}: the window is empty; exchange them.")
        names = [underlying] if isinstance(underlying, str) else list(underlying or [])
        wanted = frozenset(part.strip().upper() for name in names for part in name.split(",") if part.strip())
        return cls(from_us, to_us, wanted or None)

    def keep(self, part: Canonical) -> Canonical:
        """The rows of `part` that are asked for. Rows without a stamp or underlying stay, to be counted."""
        if self == Window():
            return part
        stamp = stamp_us(chain_stamps(part.table))
        kept = np.ones(len(stamp), bool)
        if self.from_us is not None:
            kept &= (stamp >= self.from_us) | (stamp == NO_STAMP)
        if self.to_us is not None:
            kept &= stamp <= self.to_us
        if self.underlying is not None:
            values, codes = text_codes(part.table["ccy"])
            kept &= np.array([v.upper() in self.underlying for v in values] + [True])[codes]
        if kept.all():
            return part
        return replace(part, table=part.table.filter(pa.array(kept)), reason=part.reason[kept])

    def describe(self) -> str:
        """The window in words."""
        words = []
        if self.from_us is not None:
            words.append(f"from {_words(self.from_us)}")
        if self.to_us is not None:
            words.append(f"to {_words(self.to_us)}")
        if words:
            words.append("UTC")
        if self.underlying is not None:
            words.append(f"for {', '.join(sorted(self.underlying))}")
        return " ".join(words)


@dataclass(frozen=True)
class Extent:
    """What underlyings and stamps some quotes have; in words for a message."""

    underlyings: frozenset[str]
    from_us: int | None = None
    to_us: int | None = None

    @classmethod
    def of(cls, table: pa.Table) -> "Extent":
        """Of a canonical table."""
        stamp = stamp_us(chain_stamps(table))
        stamp = stamp[stamp != NO_STAMP]
        names = frozenset(text_codes(table["ccy"])[0])
        return cls(names, int(stamp.min()), int(stamp.max())) if len(stamp) else cls(names)

    @classmethod
    def over(cls, parts: Iterable["Extent"]) -> "Extent":
        """Of all `parts` together."""
        known = list(parts)
        stamps = [stamp for part in known for stamp in (part.from_us, part.to_us) if stamp is not None]
        names = frozenset(name for part in known for name in part.underlyings)
        return cls(names, min(stamps, default=None), max(stamps, default=None))

    def __str__(self) -> str:
        names = ", ".join(sorted(self.underlyings)) or "no underlying"
        if self.from_us is None or self.to_us is None:
            return names
        return f"{names} from {_words(self.from_us)} to {_words(self.to_us)} UTC"


def _words(micros: int) -> str:
    return str(np.datetime64(micros, "us")).removesuffix(".000000")


def _micros(when: When, name: str, whole_day: bool) -> int | None:
    """Microseconds UTC; the end of the day for a bare date where `whole_day`."""
    if when is None:
        return None
    if isinstance(when, np.datetime64):
        return int(when.astype("datetime64[us]").astype(np.int64))
    bare = isinstance(when, str) and _BARE_DATE.fullmatch(when.strip())
    bare = bare or (isinstance(when, datetime.date) and not isinstance(when, datetime.datetime))
    try:
        moment = datetime.datetime.fromisoformat(when.strip() if isinstance(when, str) else when.isoformat())
    except ValueError:
        raise InputError(
            f"{name}: {when!r} is no time; write 2026-01-31, 2026-01-31T08:00 or 2026-01-31T08:00:00Z."
        ) from None
    if moment.tzinfo is None:
        moment = moment.replace(tzinfo=datetime.UTC)
    micros = (moment - datetime.datetime(1970, 1, 1, tzinfo=datetime.UTC)) // datetime.timedelta(microseconds=1)
    return micros + _DAY_US - 1 if bare and whole_day else micros
