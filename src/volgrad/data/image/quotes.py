"""Quotes -> a training image: a cluster a chain, a row a usable quote.

>>> [feature.name for feature in QUOTE_FEATURES][:4]
['log_moneyness', 'root_years', 'clock_years', 'mid_iv']
"""

import hashlib
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float32

from volgrad.data.chains import build
from volgrad.data.files import expand
from volgrad.data.filters import When, Window
from volgrad.data.image.features import Feature
from volgrad.data.image.image import Image
from volgrad.data.image.writer import ImageWriter
from volgrad.data.read import Quotes, read_quotes
from volgrad.data.schema import Dataset
from volgrad.data.store import Store, is_store
from volgrad.errors import EmptyInputError, InputError
from volgrad.market.chain import Chain
from volgrad.market.clock import clock_years
from volgrad.market.instruments import Settlement

__all__ = ["QUOTE_FEATURES", "quote_image", "quote_rows"]

#: The columns of an image of quotes. A feature that is computed in another way gets a new version.
QUOTE_FEATURES = (
    Feature("log_moneyness", "1"),  # ln(strike / forward)
    Feature("root_years", "sqrt(years)"),  # square root of ACT/365 time to expiry
    Feature("clock_years", "years"),  # time to expiry in the variance clock
    Feature("mid_iv", "1"),  # middle of the bid's and ask's implied volatility, annual, a fraction
    Feature("half_spread_iv", "1"),  # half their distance
    Feature("expiry_index", "1"),  # which expiry of the chain, from 0
    Feature("log_forward_ratio", "1"),  # ln(forward / forward of the chain's first expiry)
    Feature("is_call", "1"),
    Feature("nearest_iv", "1"),  # mid_iv of the expiry's quote that is nearest the forward
    Feature("hour_utc", "hours"),  # of the stamp: 0 to 24
    Feature("weekday_utc", "days"),  # of the stamp, Monday 0
    Feature("underlying_id", "1"),  # position in `provenance["underlyings"]`
    Feature("is_linear", "1"),  # premiums in dollars rather than in the coin
)

_DERIVATION = "quotes 1"
_DAY_US, _HOUR_US = 86_400_000_000, 3_600_000_000
_PIECE = 1 << 22


def quote_rows(chain: Chain, underlying_id: int = 0) -> Float32[np.ndarray, "rows features"]:
    """The features of a chain's quotes, in the order of `QUOTE_FEATURES`."""
    mid, expiry = chain.mid_iv, chain.expiry_index
    first = np.searchsorted(expiry, np.arange(chain.n_expiries))
    by_distance = np.lexsort((np.abs(chain.log_moneyness), expiry))
    nearest = np.zeros(chain.n_expiries)
    held = np.unique(expiry)
    nearest[held] = mid[by_distance[first[held]]]
    columns = (
        chain.log_moneyness,
        np.sqrt(chain.row_expiry_years),
        clock_years(chain.ts_us, chain.expiry_us)[expiry],
        mid,
        chain.half_spread_iv,
        expiry,
        np.log(chain.forward_usd / chain.forward_usd[0])[expiry],
        chain.is_call,
        nearest[expiry],
        chain.ts_us % _DAY_US / _HOUR_US,
        (chain.ts_us // _DAY_US + 3) % 7,  # the first of January 1970 was a Thursday
        underlying_id,
        chain.settlement is Settlement.LINEAR,
    )
    table = np.empty((chain.n_rows, len(QUOTE_FEATURES)), np.float32)
    for at, values in enumerate(columns):
        table[:, at] = values
    return table


def quote_image(
    sources: Any,
    folder: str | Path,
    *,
    from_: When = None,
    to: When = None,
    underlying: str | Iterable[str] | None = None,
    every: str = "5m",
    label_delay_us: int = 0,
) -> Image:
    """Derive an image from quotes, or open the one in `folder` where it was derived from the same.

    Stores are read a day at a time, whatever their size; files and tables all at once, as `volgrad fit` does.

    Args:
        sources, from_, to, underlying, every: see :func:`volgrad.data.read_quotes`.
        folder: of the image; one that is there and was derived from something else is replaced.
        label_delay_us: from a chain's stamp to when its quotes are known, 0 or more, microseconds.

    Raises:
        ForeignError: `folder` holds something else.
        EmptyInputError: no usable quote.
        InputError: as `read_quotes` and `build`.
        WorkError: the image cannot be written.
    """
    if label_delay_us < 0:
        raise InputError(f"label_delay_us is {label_delay_us}: labels cannot be known before the chain's stamp")
    paths = _paths(sources)
    asked = {"from": str(from_), "to": str(to), "underlying": _names(underlying), "every": every}
    asked["label_delay_us"] = label_delay_us
    key = None if paths is None else _key(paths, asked)
    if key is not None and (there := _same(Path(folder), key)) is not None:
        return there
    window = {"from_": from_, "to": to, "underlying": underlying, "every": every}
    reading = _read(sources, window) if paths is None else _read_paths(paths, window)
    underlyings: list[str] = []
    whole, left_out = True, 0
    with ImageWriter(folder, QUOTE_FEATURES) as writer:
        for quotes in reading:
            built = build(quotes)
            whole = whole and not quotes.quarantined
            left_out += quotes.rows
            for chain in built.chains:
                if chain.ccy not in underlyings:
                    underlyings.append(chain.ccy)
                rows = quote_rows(chain, underlyings.index(chain.ccy))
                writer.append(rows, [len(rows)], [chain.ts_us], [chain.ts_us + label_delay_us])
                left_out -= len(rows)
        told = {"key": key if whole else None, "underlyings": underlyings, "left_out_rows": left_out, "asked": asked}
        return writer.seal({"derivation": _DERIVATION, **told})


def _same(folder: Path, key: str) -> Image | None:
    """The image in a folder if it is sound and was derived from the same."""
    try:
        image = Image.open(folder, features=QUOTE_FEATURES)
    except InputError:
        return None  # none there, damaged, or of other features: derived anew; what is no image the writer refuses
    return image if image.provenance.get("key") == key else None


def _paths(sources: Any) -> list[Path] | None:
    """Files and stores; None where a table is among the sources."""
    listed = (
        [sources] if isinstance(sources, str | Path) else list(sources) if isinstance(sources, list | tuple) else []
    )
    if not listed or not all(isinstance(source, str | Path) for source in listed):
        return None
    return list(dict.fromkeys(path for source in listed for path in expand(source)))


def _names(underlying: str | Iterable[str] | None) -> list[str]:
    return sorted(Window.of(None, None, underlying).underlying or ())


def _key(paths: list[Path], asked: dict[str, Any]) -> str:
    """SHA-256 of what the image follows from: bytes of files, sources of stores, features, and what is asked for."""
    digest = hashlib.sha256(repr((_DERIVATION, QUOTE_FEATURES, sorted(asked.items()))).encode())
    for path in paths:
        if is_store(path):
            facts = [(one.entry.sha256, one.rows) for one in Store.open(path).sources]
            digest.update(repr(facts).encode())
            continue
        with path.open("rb") as stream:
            while piece := stream.read(_PIECE):
                digest.update(piece)
        digest.update(b"|")
    return digest.hexdigest()


def _read(sources: Any, window: dict[str, Any]) -> Iterator[Quotes]:
    yield read_quotes(sources, **window)


def _read_paths(paths: list[Path], window: dict[str, Any]) -> Iterator[Quotes]:
    """All at once, or a day at a time where there are stores only."""
    if not all(is_store(path) for path in paths):
        yield from _read(paths, window)
        return
    asked = Window.of(window["from_"], window["to"], window["underlying"])
    held = [
        one
        for path in paths
        for one in Store.open(path).describe()
        if one.dataset is Dataset.QUOTES and (asked.underlying is None or one.underlying in asked.underlying)
    ]
    if not held:
        yield from _read(paths, window)  # which says what there is
        return
    first = min(one.from_us for one in held) if asked.from_us is None else asked.from_us
    last = max(one.to_us for one in held) + _DAY_US  # the last chain of a stream may be drawn after its last update
    last = last if asked.to_us is None else min(last, asked.to_us)
    for day in range(first // _DAY_US, last // _DAY_US + 1):
        begin, end = day * _DAY_US, (day + 1) * _DAY_US - 1
        begin = begin if asked.from_us is None else max(begin, asked.from_us)
        end = end if asked.to_us is None else min(end, asked.to_us)
        stamps = {"from_": np.datetime64(begin, "us"), "to": np.datetime64(end, "us")}
        try:
            quotes = read_quotes(paths, **{**window, **stamps})
        except EmptyInputError:
            continue  # a day without quotes
        if quotes.rows:  # none where updates of the day before were looked at, and none is of this day
            yield quotes
