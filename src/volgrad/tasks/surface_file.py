"""The file of surfaces: one row an expiry, the parameters of its model to the last bit."""

import json
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from jaxtyping import Float64

from volgrad.data import write_table
from volgrad.errors import InputError
from volgrad.models.grid import NODES
from volgrad.models.slices import CARRIED, PUBLISHED, SlicedSurface
from volgrad.models.ssvi_surface import EssviSurface, SsviSurface
from volgrad.models.surface import ListedSurface
from volgrad.models.svi import SviSurface

__all__ = ["Entry", "read_entries", "write_entries"]

_FORMAT = "3"
_Rows = Float64[np.ndarray, "expiries numbers"]


class Entry(NamedTuple):
    """One published surface and what it is found by; `expiry_us`: its expiries, microseconds since 1970 UTC."""

    ts_us: int
    ccy: str
    split: str | None
    settlement: str
    surface: ListedSurface
    expiry_us: np.ndarray


class _Kind(NamedTuple):
    """How a kind of surface is written: its name, those of its numbers, and the way there and back."""

    model: str
    names: tuple[str, ...]
    rows: Callable[[Any], _Rows]
    surface: Callable[[dict[str, Any], _Rows], ListedSurface]


def _sliced_rows(surface: SlicedSurface) -> _Rows:
    count = surface.expiry_years.size
    reach = surface.reach if surface.reach.size else np.full(count - 1, CARRIED)
    return np.column_stack([np.append(reach, CARRIED), surface.variance])


def _ssvi_rows(surface: SsviSurface) -> _Rows:
    shared = np.broadcast_to([surface.rho, surface.eta, surface.gamma], (surface.theta.size, 3))
    return np.column_stack([surface.theta, shared])


_KINDS: dict[type, _Kind] = {
    SlicedSurface: _Kind(
        "local-vol",
        ("reach", "total_variance at volgrad.nodes"),
        _sliced_rows,
        lambda listed, rows: SlicedSurface(reach=rows[:-1, 0].copy(), variance=rows[:, 1:].copy(), **listed),
    ),
    EssviSurface: _Kind(
        "essvi",
        ("theta", "rho", "psi"),
        lambda surface: np.column_stack([surface.theta, surface.rho, surface.psi]),
        lambda listed, rows: EssviSurface(theta=rows[:, 0], rho=rows[:, 1], psi=rows[:, 2], **listed),
    ),
    SsviSurface: _Kind(
        "ssvi",
        ("theta", "rho", "eta", "gamma"),
        _ssvi_rows,
        lambda listed, rows: SsviSurface(
            theta=rows[:, 0], rho=float(rows[0, 1]), eta=float(rows[0, 2]), gamma=float(rows[0, 3]), **listed
        ),
    ),
    SviSurface: _Kind(
        "svi",
        ("a", "b", "rho", "m", "sigma"),
        lambda surface: surface.parameters,
        lambda listed, rows: SviSurface(parameters=rows, **listed),
    ),
}
_BY_MODEL = {kind.model: kind for kind in _KINDS.values()}
_SCHEMA = pa.schema(
    [
        ("ts", pa.timestamp("us", "UTC")),
        ("ccy", pa.string()),
        ("split", pa.string()),
        ("settlement", pa.string()),
        ("model", pa.string()),
        ("expiry", pa.timestamp("us", "UTC")),
        ("expiry_years", pa.float64()),
        ("forward", pa.float64()),
        ("quoted_low", pa.float64()),
        ("quoted_high", pa.float64()),
        ("parameters", pa.list_(pa.float64())),
    ],
    metadata={
        "volgrad.surfaces": _FORMAT,
        "volgrad.nodes": json.dumps(NODES[PUBLISHED].tolist()),
        "volgrad.parameters": json.dumps({kind.model: kind.names for kind in _KINDS.values()}),
    },
)


def write_entries(path: str | Path, entries: Iterable[Entry]) -> None:
    """Write surfaces to one Parquet file, a row an expiry (atomically)."""
    columns: dict[str, list[Any]] = {name: [] for name in _SCHEMA.names}
    for one in entries:
        surface, count = one.surface, one.expiry_us.size
        kind = _KINDS[type(surface)]
        for name, value in zip(("ts", "ccy", "split", "settlement"), one[:4], strict=True):
            columns[name] += [value] * count
        columns["model"] += [kind.model] * count
        columns["expiry"] += one.expiry_us.tolist()
        columns["expiry_years"] += surface.expiry_years.tolist()
        columns["forward"] += surface.forward_usd.tolist()
        columns["quoted_low"] += surface.quoted[:, 0].tolist()
        columns["quoted_high"] += surface.quoted[:, 1].tolist()
        columns["parameters"] += kind.rows(surface).tolist()
    arrays = [pa.array(columns[field.name], field.type) for field in _SCHEMA]
    write_table(path, pa.Table.from_arrays(arrays, schema=_SCHEMA))


def read_entries(path: Path) -> Iterator[Entry]:
    """The surfaces of a file that `write_entries` made.

    Raises:
        InputError: no such file, not such a file, or one of another version.
    """
    try:
        table = pq.read_table(path, page_checksum_verification=True)
    except FileNotFoundError as error:
        raise InputError(f"{path}: no such file; `volgrad fit QUOTES --out DIR` writes DIR/surfaces.parquet") from error
    except (pa.ArrowException, OSError) as error:
        why = (str(error).splitlines() or [type(error).__name__])[0]
        raise InputError(f"{path}: not a readable Parquet file ({why}); fit the quotes again", file=path) from error
    metadata = table.schema.metadata or {}
    if metadata.get(b"volgrad.surfaces") != _FORMAT.encode():
        raise InputError(
            f"{path}: holds no surfaces of this version; give the surfaces.parquet of `volgrad fit`",
            file=path,
        )
    if not np.array_equal(json.loads(metadata[b"volgrad.nodes"]), NODES[PUBLISHED]):
        raise InputError(f"{path}: written on another grid of log-moneyness; fit the quotes again", file=path)
    if unknown := set(table["model"].to_pylist()) - set(_BY_MODEL):
        raise InputError(f"{path}: holds surfaces of model {min(unknown)!r}, which this version has not", file=path)
    return _entries(table)


def _entries(table: pa.Table) -> Iterator[Entry]:
    stamps = table["expiry"].cast(pa.int64()).to_numpy()
    number = {name: table[name].to_numpy() for name in ("expiry_years", "forward", "quoted_low", "quoted_high")}
    ts = table["ts"].cast(pa.int64()).to_pylist()
    names = (table[name].to_pylist() for name in ("ccy", "split", "settlement", "model"))
    keys = list(zip(ts, *names, strict=True))
    starts = [row for row in range(len(keys)) if row == 0 or keys[row] != keys[row - 1]]
    for first, last in zip(starts, [*starts[1:], len(keys)][: len(starts)], strict=True):
        rows = slice(first, last)
        ts_us, ccy, split, settlement, model = keys[first]
        listed = {
            "ts_us": ts_us,
            "expiry_years": number["expiry_years"][rows],
            "forward_usd": number["forward"][rows],
            "quoted": np.stack([number["quoted_low"][rows], number["quoted_high"][rows]], axis=1),
        }
        parameters = np.array(table["parameters"][first:last].to_pylist(), np.float64)
        yield Entry(ts_us, ccy, split, settlement, _BY_MODEL[model].surface(listed, parameters), stamps[rows])
