"""What the pictures of a batch-size choice share: marks, axes, the line at the chosen size."""

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from volgrad.report.batch_size_words import clusters_text
from volgrad.report.figure import GOOD, axis, numbers

__all__ = ["BLUE", "ORANGE", "TEAL", "Told", "dots", "named_axis", "number", "rows_axis", "rule", "size_text"]

#: What `batch-size.json` holds, or a part of it.
Told = Mapping[str, Any]

BLUE, ORANGE, TEAL = "#4d68d8", "#e0812b", "#2a9d8f"

_APART = 1.45  # ratio of rows under which two ticks would overlap
_MOST_TICKS = 9


def dots(
    x: ArrayLike,
    y: ArrayLike,
    colour: str,
    name: str,
    hover: Sequence[str],
    filled: Sequence[bool] | None = None,
    *,
    line: bool = False,
) -> dict[str, Any]:
    """Marks with a text each, joined where `line`; hollow where not `filled`."""
    symbols = "circle" if filled is None or all(filled) else ["circle" if full else "circle-open" for full in filled]
    return {
        "type": "scatter", "mode": "lines+markers" if line else "markers", "name": name, "x": numbers(x, 15),
        "y": numbers(y), "text": list(hover), "marker": {"size": 8, "color": colour, "symbol": symbols},
        "line": {"color": colour, "width": 2}, "hovertemplate": "%{text}<extra></extra>",
    }  # fmt: skip


def rule(told: Told) -> dict[str, Any]:
    """A line at the chosen size."""
    at = told["chosen"]["rows"]
    style = {"color": GOOD, "width": 1.4, "dash": "dot"}
    return {"type": "line", "yref": "paper", "x0": at, "x1": at, "y0": 0, "y1": 1, "line": style, "layer": "below"}


def rows_axis(told: Told) -> dict[str, Any]:
    """Rows a batch, with ticks at sizes of the ladder."""
    rows = [rung["rows"] for rung in told["ladder"]]
    apart: list[int] = []
    for value in rows:
        if not apart or value >= _APART * apart[-1]:
            apart.append(value)
    every = -(-len(apart) // _MOST_TICKS)
    ticks = apart[::every]
    room = 0.06 * max(math.log10(rows[-1] / rows[0]), 0.3)
    ends = [round(math.log10(rows[0]) - room, 4), round(math.log10(rows[-1]) + room, 4)]
    return axis("rows a batch", type="log", tickvals=ticks, ticktext=[_brief(value) for value in ticks], range=ends)


def _brief(value: int) -> str:
    """A number on an axis.

    >>> _brief(512), _brief(16_384), _brief(131_072), _brief(3_000_000)
    ('512', '16,384', '131k', '3M')
    """
    for unit, name in ((1e6, "M"), (1e5, "k")):
        if value >= unit:
            return f"{value / (1e3 if name == 'k' else unit):.3g}{name}"
    return f"{value:,}"


def named_axis(title: str, heights: np.ndarray, text: Callable[[float], str]) -> dict[str, Any]:
    """A logarithmic axis whose ticks are told in units: 1 ms, 10 MB."""
    low, high = float(heights.min()), float(heights.max())
    parts = (1.0,) if high > 30.0 * low else (1.0, 2.0, 5.0)
    decades = range(math.floor(math.log10(low)), math.ceil(math.log10(high)) + 1)
    ticks = [part * 10.0**decade for decade in decades for part in parts]
    return axis(title, type="log", tickvals=ticks, ticktext=[text(tick) for tick in ticks])


def size_text(rung: Told) -> str:
    """A size in rows and clusters."""
    return f"{rung['rows']:,} rows ({clusters_text(rung['clusters'])})"


def number(value: float | None) -> float:
    """A value of the file as a float: NaN for null."""
    return math.nan if value is None else float(value)
