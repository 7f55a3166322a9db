"""A figure as plotly.js takes it, built as plain data, and the few things that all figures share.

Figures are dictionaries rather than `plotly.graph_objects`: nothing is validated twice, and the page brings one
layout for all of them. A string that begins with "--" names a colour of the page's style sheet, which the page puts in
when it draws, so that a figure follows the reader's light or dark theme.
"""

import math
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

__all__ = [
    "BAD",
    "CARD",
    "GOOD",
    "GRID",
    "INK",
    "MUTED",
    "Figure",
    "axis",
    "expiry_colours",
    "line",
    "log_days",
    "numbers",
    "tenor_axis",
    "tenor_text",
]

INK, MUTED, GRID, CARD, GOOD, BAD = "--ink", "--muted", "--grid", "--card", "--good", "--bad"

# From the nearest expiry to the farthest: even steps in hue, of middling lightness, so that every colour reads on
# white and on black.
_PALETTE = ("#ef9b28", "#ee7a4c", "#dd5476", "#b9459f", "#8a4fc6", "#5b62d8", "#3d86d6", "#2aa5b8")
_TENORS = (
    (1 / 24, "1 h"), (0.25, "6 h"), (1, "1 d"), (2, "2 d"), (4, "4 d"), (7, "1 w"), (14, "2 w"), (30, "1 m"),
    (61, "2 m"), (122, "4 m"), (243, "8 m"), (365, "1 y"), (730, "2 y"), (1825, "5 y"),
)  # fmt: skip


@dataclass(frozen=True)
class Figure:
    """One drawing and what it says.

    Attributes:
        title: of the card that holds it.
        says: a sentence for a reader who sees such a drawing for the first time.
        data: traces of plotly.js.
        layout: what differs from the page's layout.
        height: pixels.
        key: HTML-free text of the card's right upper corner.
        bar: whether plotly's tool bar is offered.
    """

    title: str
    says: str
    data: list[dict[str, Any]]
    layout: dict[str, Any] = field(default_factory=dict)
    height: int = 340
    key: str = ""
    bar: bool = True


def numbers(values: ArrayLike, digits: int = 5) -> list[Any]:
    """Nested lists with `digits` significant digits; None where not finite.

    >>> numbers([1 / 3, float("nan"), 2.0]), numbers([[12345678.9]])
    ([0.33333, None, 2], [[12346000]])
    """
    array = np.asarray(values, np.float64)
    if array.ndim > 1:
        return [numbers(row, digits) for row in array]
    return [_short(value, digits) for value in array.ravel().tolist()]


def _short(value: float, digits: int) -> float | int | None:
    if not math.isfinite(value):
        return None
    rounded = float(f"{value:.{digits}g}")
    return int(rounded) if rounded.is_integer() else rounded


def expiry_colours(count: int) -> list[str]:
    """A colour for each of `count` expiries, nearest first.

    >>> expiry_colours(1), expiry_colours(8)[-1]
    (['#ef9b28'], '#2aa5b8')
    """
    anchors = np.array([[int(colour[at : at + 2], 16) for at in (1, 3, 5)] for colour in _PALETTE], np.float64)
    places = np.linspace(0.0, len(_PALETTE) - 1.0, count)
    channels = [np.interp(places, np.arange(len(_PALETTE)), anchors[:, channel]) for channel in range(3)]
    return ["#" + "".join(f"{round(part):02x}" for part in colour) for colour in zip(*channels, strict=True)]


def axis(title: str, **more: Any) -> dict[str, Any]:
    """An axis with its title."""
    return {"title": {"text": title}, **more}


def log_days(expiry_years: ArrayLike) -> np.ndarray:
    """Where a tenor stands on a `tenor_axis`: the decimal logarithm of days."""
    return np.log10(365.0 * np.asarray(expiry_years, np.float64))


def tenor_axis(least_years: float, most_years: float, title: str = "time to expiry") -> dict[str, Any]:
    """A logarithmic axis of tenors with readable ticks; coordinates are `log_days`."""
    low, high = float(log_days(least_years)), float(log_days(most_years))
    room = 0.04 * max(high - low, 0.5)
    ticks = [(math.log10(days), text) for days, text in _TENORS if low - room <= math.log10(days) <= high + room]
    if not ticks:
        ticks = [(0.5 * (low + high), tenor_text(10 ** (0.5 * (low + high)) / 365.0))]
    return axis(
        title,
        range=[round(low - room, 4), round(high + room, 4)],
        tickvals=[round(place, 4) for place, _ in ticks],
        ticktext=[text for _, text in ticks],
    )


def tenor_text(expiry_years: float) -> str:
    """Time to expiry in words.

    >>> tenor_text(0.5 / 365), tenor_text(3.2 / 365), tenor_text(0.5)
    ('12 h', '3.2 d', '182 d')
    """
    days = 365.0 * expiry_years
    if days < 1.0:
        return f"{24.0 * days:.2g} h"
    return f"{days:.1f} d" if days < 10.0 else f"{days:.0f} d"


def line(x: ArrayLike, y: ArrayLike, colour: str, **more: Any) -> dict[str, Any]:
    """A line trace; `width`, `dash` and `hover` (its template) are taken from `more`, the rest is passed on."""
    style = {"color": colour, "width": more.pop("width", 2)}
    if "dash" in more:
        style["dash"] = more.pop("dash")
    hover = more.pop("hover", None)
    shown = {"hoverinfo": "skip"} if hover is None else {"hovertemplate": hover + "<extra></extra>"}
    return {"type": "scatter", "mode": "lines", "x": numbers(x), "y": numbers(y), "line": style, **shown, **more}
