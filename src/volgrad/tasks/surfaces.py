"""A collection of published surfaces: asked by time and underlying, written to one file and read back."""

import datetime
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import ArrayLike, Float64

from volgrad.errors import InputError
from volgrad.market.black import Greeks
from volgrad.market.chain import Chain
from volgrad.market.instruments import YEAR_US
from volgrad.models.surface import ListedSurface
from volgrad.tasks.fitted import FittedChain
from volgrad.tasks.summary import stamp_text
from volgrad.tasks.surface_file import Entry, read_entries, write_entries

__all__ = ["Surfaces", "load_surfaces"]

_LARGEST_K, _LONGEST = 6.0, 10.0  # no listed strike is 400 times its forward, no option runs ten years
_When = int | datetime.datetime | np.datetime64 | str
# which split answers where none is named: never the one that saw the held-out quotes while another is there
_PREFERRED = (None, "interp", "wing", "expiry", "full")
_EPOCH = datetime.datetime(1970, 1, 1, tzinfo=datetime.UTC)


class Surfaces:
    """Published surfaces by time and underlying (and split).

    Every method takes `ts` as microseconds since 1970 UTC, a datetime (UTC if naive), a numpy datetime or ISO text; it
    must be the time of a surface. Log-moneyness `k = ln(K/F)` and `tau` (ACT/365 years) broadcast. Where `split` is not
    named, the surface without one answers, else the first there is of interp, wing, expiry, full; inverse options go
    before linear ones.

    Attributes:
        summary: what `summary.json` holds of the fit that made these; empty for surfaces that were loaded.
    """

    def __init__(self, entries: Iterable[Entry], summary: Mapping[str, Any] | None = None) -> None:
        """Keep the entries, each under its time, underlying, split and settlement."""
        self._entries = {(one.ts_us, one.ccy, one.split, one.settlement): one for one in entries}
        self.summary = dict(summary or {})

    @classmethod
    def of(cls, fitted: Iterable[FittedChain], summary: Mapping[str, Any] | None = None) -> "Surfaces":
        """The surfaces of fitted chains; refused ones have none."""
        return cls((_entry(one.chain, one.surface) for one in fitted if one.surface is not None), summary)

    def __len__(self) -> int:
        """Number of surfaces."""
        return len(self._entries)

    def __iter__(self) -> Iterator[tuple[int, str, str | None]]:
        """Names in order of time: (microseconds, underlying, split)."""
        return ((one.ts_us, one.ccy, one.split) for one in self._sorted())

    def __repr__(self) -> str:
        """How many there are, of what, and from when to when."""
        if not self._entries:
            return "Surfaces(none)"
        stamps = [key[0] for key in self._entries]
        names = ", ".join(sorted({key[1] for key in self._entries}))
        return f"Surfaces({len(self)} of {names}, {stamp_text(min(stamps))} to {stamp_text(max(stamps))})"

    def _sorted(self) -> list[Entry]:
        return [self._entries[key] for key in sorted(self._entries, key=lambda key: (*key[:2], key[2] or "", key[3]))]

    def surface(self, ts: _When, ccy: str, split: str | None = None) -> ListedSurface:
        """One surface.

        Raises:
            InputError: there is none; the message names the nearest time.
        """
        stamp = _microseconds(ts)
        if ccy not in {key[1] for key in self._entries} and ccy.upper() in {key[1] for key in self._entries}:
            ccy = ccy.upper()
        others = sorted({key[2] for key in self._entries if key[2] not in _PREFERRED and key[2]})
        for wanted in (*_PREFERRED, *others) if split is None else (split,):
            for settlement in ("inverse", "linear"):
                if found := self._entries.get((stamp, ccy, wanted, settlement)):
                    return found.surface
        of_ccy = [key for key in self if key[1] == ccy]
        if not of_ccy:
            have = ", ".join(sorted({key[1] for key in self})) or "none"
            raise InputError(f"no surface of {ccy!r}; underlyings here: {have}")
        near = min(of_ccy, key=lambda key: abs(key[0] - stamp))
        raise InputError(
            f"no surface of {ccy} at {stamp_text(stamp)}{'' if split is None else f', split {split}'}; "
            f"the nearest is {stamp_text(near[0])}{'' if near[2] is None else f', split {near[2]}'}"
        )

    def implied_vol(
        self, ts: _When, ccy: str, k: ArrayLike, tau: ArrayLike, split: str | None = None
    ) -> Float64[np.ndarray, "..."]:
        """Annual implied volatility, a fraction."""
        _check(k, tau)
        return self.surface(ts, ccy, split).implied_vol(k, tau)

    def forward(self, ts: _When, ccy: str, tau: ArrayLike, split: str | None = None) -> Float64[np.ndarray, "..."]:
        """Forward that the surface was fitted with, dollars: log-linear between expiries, flat outside them.

        A strike's log-moneyness is `np.log(strike_usd / surfaces.forward(ts, ccy, tau))`.
        """
        _check(0.0, tau)
        return self.surface(ts, ccy, split).forward(tau)

    def price(
        self,
        ts: _When,
        ccy: str,
        k: ArrayLike,
        tau: ArrayLike,
        is_call: ArrayLike = True,
        split: str | None = None,
    ) -> Float64[np.ndarray, "..."]:
        """Premium as a fraction of the forward: the coin premium of an inverse option."""
        _check(k, tau, is_call)
        return self.surface(ts, ccy, split).price(k, tau, is_call)

    def greeks(
        self,
        ts: _When,
        ccy: str,
        k: ArrayLike,
        tau: ArrayLike,
        is_call: ArrayLike = True,
        split: str | None = None,
    ) -> Greeks:
        """Greeks in the exchange's convention, at the surface's own forward for `tau`."""
        _check(k, tau, is_call)
        surface = self.surface(ts, ccy, split)
        return surface.greeks(surface.forward(tau), k, tau, is_call)

    def write(self, path: str | Path) -> None:
        """Write all surfaces to one Parquet file, a row an expiry (atomically)."""
        write_entries(path, self._sorted())


def load_surfaces(path: str | Path) -> Surfaces:
    """Surfaces from the file that `Surfaces.write` made, or from a folder that holds `surfaces.parquet`.

    Raises:
        InputError: no such file, not such a file, or one of another version.
    """
    path = Path(path)
    path = path / "surfaces.parquet" if path.is_dir() else path
    return Surfaces(read_entries(path))


def _entry(chain: Chain, surface: ListedSurface) -> Entry:
    stamps = chain.expiry_us[np.unique(chain.expiry_index)]
    if surface.expiry_years.size != stamps.size:  # it has expiries that the chain does not show
        stamps = chain.ts_us + np.rint(surface.expiry_years * YEAR_US).astype(np.int64)
    return Entry(chain.ts_us, chain.ccy, chain.split, chain.settlement.value, surface, stamps)


def _check(k: ArrayLike, tau: ArrayLike, is_call: ArrayLike = True) -> None:
    """Refuse what cannot be meant: a strike for its log-moneyness, days for years, a letter for a truth value."""
    for name, values, most, meant in (
        ("k", k, _LARGEST_K, "log-moneyness ln(K/F), not the strike: np.log(strike / surfaces.forward(ts, ccy, tau))"),
        ("tau", tau, _LONGEST, "years (ACT/365), not days: divide by 365"),
    ):
        size = np.abs(np.asarray(values, np.float64))
        if np.any(size > most):
            raise InputError(f"{name} = {float(np.nanmax(size)):g} is beyond {most:g}: {name} is {meant}")
    if np.asarray(is_call).dtype != np.bool_:
        raise InputError(f"is_call = {is_call!r}: give True for calls and False for puts")


def _microseconds(when: Any) -> int:
    if hasattr(when, "as_py"):  # a scalar of pyarrow
        when = when.as_py()
    if isinstance(when, int | np.integer):
        return int(when)
    try:
        if isinstance(when, np.datetime64) and not np.isnat(when):
            return int(when.astype("datetime64[us]").astype(np.int64))
        moment = datetime.datetime.fromisoformat(when) if isinstance(when, str) else when
        if isinstance(moment, datetime.datetime):
            aware = moment if moment.tzinfo else moment.replace(tzinfo=datetime.UTC)
            return (aware - _EPOCH) // datetime.timedelta(microseconds=1)
    except ValueError:
        pass
    raise InputError(f"{when!r} is no time: give microseconds, a datetime or text like 2026-01-01T09:18:35.173")
