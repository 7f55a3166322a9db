"""A collection of published surfaces: asked by time and underlying, written to one file and read back."""

import datetime
import json
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from jaxtyping import ArrayLike, Float64

from volgrad.data import write_table
from volgrad.errors import InputError
from volgrad.market.black import Greeks
from volgrad.models.grid import NODES
from volgrad.models.slices import PUBLISHED, SlicedSurface
from volgrad.tasks.fitted import FittedChain

__all__ = ["Surfaces", "load_surfaces"]

_FORMAT = "1"
_When = int | datetime.datetime | np.datetime64 | str
_SCHEMA = pa.schema(
    [
        ("ts", pa.timestamp("us", "UTC")),
        ("ccy", pa.string()),
        ("split", pa.string()),
        ("expiry", pa.timestamp("us", "UTC")),
        ("expiry_years", pa.float64()),
        ("forward", pa.float64()),
        ("quoted_low", pa.float64()),
        ("quoted_high", pa.float64()),
        ("reach", pa.float64()),
        ("total_variance", pa.list_(pa.float64())),
    ],
    metadata={"volgrad.surfaces": _FORMAT, "volgrad.nodes": json.dumps(NODES[PUBLISHED].tolist())},
)


class Surfaces:
    """Published surfaces by time and underlying (and split).

    Every method takes `ts` as microseconds since 1970 UTC, a datetime (UTC if naive), a numpy datetime or ISO text; it
    must be the time of a surface. Log-moneyness `k = ln(K/F)` and `tau` (ACT/365 years) broadcast.
    """

    def __init__(self, entries: Iterable[tuple[int, str, str | None, SlicedSurface, np.ndarray]]) -> None:
        """Entries: time (microseconds), underlying, split, surface, expiry stamps (microseconds)."""
        self._entries = {(ts, ccy, split): (surface, stamps) for ts, ccy, split, surface, stamps in entries}

    @classmethod
    def of(cls, fitted: Iterable[FittedChain]) -> "Surfaces":
        """The surfaces of fitted chains; refused ones have none."""
        found = [one for one in fitted if one.surface is not None]
        return cls(
            (
                one.chain.ts_us,
                one.chain.ccy,
                one.chain.split,
                one.surface,
                np.unique(one.chain.expiry_us[one.chain.expiry_index]),
            )
            for one in found
            if one.surface is not None
        )

    def __len__(self) -> int:
        """Number of surfaces."""
        return len(self._entries)

    def __iter__(self) -> Iterator[tuple[int, str, str | None]]:
        """Keys in order of time: (microseconds, underlying, split)."""
        return iter(sorted(self._entries, key=lambda key: (key[0], key[1], key[2] or "")))

    def surface(self, ts: _When, ccy: str, split: str | None = None) -> SlicedSurface:
        """One surface.

        Raises:
            InputError: there is none; the message names the nearest time.
        """
        stamp = _microseconds(ts)
        if (stamp, ccy, split) in self._entries:
            return self._entries[stamp, ccy, split][0]
        of_ccy = [key for key in self if key[1] == ccy]
        if split is None:
            whole = [key for key in of_ccy if key[0] == stamp]
            for preferred in ("full", "interp"):
                if (stamp, ccy, preferred) in self._entries:
                    return self._entries[stamp, ccy, preferred][0]
            if whole:
                return self._entries[whole[0]][0]
        if not of_ccy:
            have = ", ".join(sorted({key[1] for key in self})) or "none"
            raise InputError(f"no surface of {ccy!r}; underlyings here: {have}")
        near = min(of_ccy, key=lambda key: abs(key[0] - stamp))
        raise InputError(
            f"no surface of {ccy} at {_text(stamp)}{'' if split is None else f', split {split}'}; "
            f"the nearest is {_text(near[0])}{'' if near[2] is None else f', split {near[2]}'}"
        )

    def implied_vol(
        self, ts: _When, ccy: str, k: ArrayLike, tau: ArrayLike, split: str | None = None
    ) -> Float64[np.ndarray, "..."]:
        """Annual implied volatility, a fraction."""
        return self.surface(ts, ccy, split).implied_vol(k, tau)

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
        surface = self.surface(ts, ccy, split)
        return surface.greeks(surface.forward(tau), k, tau, is_call)

    def write(self, path: str | Path) -> None:
        """Write all surfaces to one Parquet file, a row an expiry (atomically)."""
        columns: dict[str, list[Any]] = {name: [] for name in _SCHEMA.names}
        for ts, ccy, split in self:
            surface, stamps = self._entries[ts, ccy, split]
            count = stamps.size
            reach = surface.reach if surface.reach.size else np.full(max(count - 1, 0), np.inf)
            columns["ts"] += [ts] * count
            columns["ccy"] += [ccy] * count
            columns["split"] += [split] * count
            columns["expiry"] += stamps.tolist()
            columns["expiry_years"] += surface.expiry_years.tolist()
            columns["forward"] += surface.forward_usd.tolist()
            columns["quoted_low"] += surface.quoted[:, 0].tolist()
            columns["quoted_high"] += surface.quoted[:, 1].tolist()
            columns["reach"] += [*reach.tolist(), None][:count]
            columns["total_variance"] += surface.variance.tolist()
        arrays = [pa.array(columns[field.name], field.type) for field in _SCHEMA]
        write_table(path, pa.Table.from_arrays(arrays, schema=_SCHEMA))


def load_surfaces(path: str | Path) -> Surfaces:
    """Surfaces from the file that `Surfaces.write` made, or from a folder that holds `surfaces.parquet`.

    Raises:
        InputError: no such file, not such a file, or one of another grid.
    """
    path = Path(path)
    path = path / "surfaces.parquet" if path.is_dir() else path
    try:
        table = pq.read_table(path)
    except FileNotFoundError as error:
        raise InputError(f"{path}: no such file; `volgrad fit QUOTES --out DIR` writes DIR/surfaces.parquet") from error
    except pa.ArrowInvalid as error:
        raise InputError(f"{path}: not a readable Parquet file ({str(error).splitlines()[0]})", file=path) from error
    metadata = table.schema.metadata or {}
    if metadata.get(b"volgrad.surfaces") != _FORMAT.encode():
        raise InputError(
            f"{path}: holds no surfaces of this version; give the surfaces.parquet of `volgrad fit`",
            file=path,
        )
    if not np.array_equal(json.loads(metadata[b"volgrad.nodes"]), NODES[PUBLISHED]):
        raise InputError(f"{path}: written on another grid of log-moneyness; fit the quotes again", file=path)
    return Surfaces(_entries(table))


def _entries(table: pa.Table) -> Iterator[tuple[int, str, str | None, SlicedSurface, np.ndarray]]:
    ts = table["ts"].cast(pa.int64()).to_numpy()
    stamps = table["expiry"].cast(pa.int64()).to_numpy()
    ccy, split = table["ccy"].to_pylist(), table["split"].to_pylist()
    variance = np.array(table["total_variance"].to_pylist()).reshape(table.num_rows, -1)
    number = {
        name: table[name].to_numpy() for name in ("expiry_years", "forward", "quoted_low", "quoted_high", "reach")
    }
    keys = list(zip(ts.tolist(), ccy, split, strict=True))
    starts = [row for row in range(len(keys)) if row == 0 or keys[row] != keys[row - 1]]
    for first, last in zip(starts, [*starts[1:], len(keys)], strict=True):
        rows = slice(first, last)
        surface = SlicedSurface(
            ts_us=keys[first][0],
            expiry_years=number["expiry_years"][rows],
            forward_usd=number["forward"][rows],
            variance=variance[rows],
            quoted=np.stack([number["quoted_low"][rows], number["quoted_high"][rows]], axis=1),
            reach=number["reach"][rows][:-1].astype(np.float64),
        )
        yield (*keys[first], surface, stamps[rows])


def _microseconds(when: _When) -> int:
    if isinstance(when, int | np.integer):
        return int(when)
    if isinstance(when, datetime.datetime):
        aware = when if when.tzinfo else when.replace(tzinfo=datetime.UTC)
        return round(aware.timestamp() * 1e6)
    try:
        moment = np.datetime64(when.removesuffix("Z")) if isinstance(when, str) else when
        return int(moment.astype("datetime64[us]").astype(np.int64))
    except (ValueError, TypeError) as error:
        raise InputError(
            f"{when!r} is no time: give microseconds, a datetime or text like 2026-01-01T09:18:35.173"
        ) from error


def _text(stamp: int) -> str:
    return f"{np.datetime64(stamp, 'us')}Z"
