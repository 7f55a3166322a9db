"""Plots in Unicode braille: eight dots a character, one colour a character."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from jaxtyping import ArrayLike, Int
from rich.text import Text

__all__ = ["Bars", "Canvas", "Curve", "Range", "bottom", "framed", "sparkline"]

_BLANK = 0x2800
_DOTS = np.array([[0x01, 0x08], [0x02, 0x10], [0x04, 0x20], [0x40, 0x80]])  # of a character, by row and column
_AXIS = "dim"
_EIGHTHS = "▁▂▃▄▅▆▇█"


class Range(NamedTuple):
    """From `low` to `high` of an axis."""

    low: float
    high: float

    def covering(self, values: ArrayLike, step: float) -> "Range":
        """Widened to whole multiples of `step` so that it covers the finite ones of `values`.

        >>> Range(40.0, 45.0).covering([38.0, 61.0], 5.0)
        Range(low=35.0, high=65.0)
        """
        known = np.asarray(values)[np.isfinite(values)]
        if not known.size:
            return self
        low, high = step * np.floor(known.min() / step), step * np.ceil(known.max() / step)
        return Range(min(self.low, float(low)), max(self.high, float(high)))


class Curve(NamedTuple):
    """A line through points; a value that is not finite breaks it. Shapes: (points,)."""

    x: np.ndarray
    y: np.ndarray
    style: str


class Bars(NamedTuple):
    """Upright bars. Shapes: (bars,)."""

    x: np.ndarray
    low: np.ndarray
    high: np.ndarray
    style: str


class Canvas:
    """Dots on `width` by `height` characters; what is drawn later colours the characters that it touches.

    >>> canvas = Canvas(2, 1, Range(0.0, 3.0), Range(0.0, 3.0))
    >>> canvas.draw(Curve(np.array([0.0, 3.0]), np.array([0.0, 3.0]), "green"))
    >>> canvas.lines()[0].plain
    '⡠⠊'
    """

    def __init__(self, width: int, height: int, x: Range, y: Range) -> None:
        self._x, self._y = x, y
        self._dots = np.zeros((4 * height, 2 * width), bool)
        self._styles: list[list[str]] = [[""] * width for _ in range(height)]

    def draw(self, shape: Curve | Bars) -> None:
        """Draw one shape."""
        if isinstance(shape, Bars):
            columns = self._place(shape.x, self._x, self._dots.shape[1])
            low, high = (self._place(value, self._y, self._dots.shape[0]) for value in (shape.low, shape.high))
            for column, first, last in zip(columns.tolist(), low.tolist(), high.tolist(), strict=True):
                self._column(column, first, last, shape.style)
            return
        columns = np.arange(self._dots.shape[1])
        at = self._x.low + (self._x.high - self._x.low) * columns / columns[-1]
        rows = self._place(np.interp(at, shape.x, shape.y, np.nan, np.nan), self._y, self._dots.shape[0])
        before = -1
        for column, row in zip(columns.tolist(), rows.tolist(), strict=True):
            if row >= 0:
                joined = row if before < 0 else before + (row > before) - (row < before)
                self._column(column, min(joined, row), max(joined, row), shape.style)
            before = row

    def lines(self) -> list[Text]:
        """The picture, from the top line down."""
        height, width = len(self._styles), len(self._styles[0])
        cells = self._dots[::-1].reshape(height, 4, width, 2)
        codes = _BLANK + np.einsum("hrwc,rc->hw", cells, _DOTS)
        lines = []
        for line_codes, styles in zip(codes.tolist(), self._styles, strict=True):
            line = Text()
            for code, style in zip(line_codes, styles, strict=True):
                line.append(" " if code == _BLANK else chr(code), style)
            lines.append(line)
        return lines

    def _column(self, column: int, first: int, last: int, style: str) -> None:
        """Dots of one column, rows counted from below; -1 is outside."""
        if column < 0 or first < 0 or last < 0:
            return
        self._dots[first : last + 1, column] = True
        height = len(self._styles)
        for row in range(first // 4, last // 4 + 1):
            self._styles[height - 1 - row][column // 2] = style

    @staticmethod
    def _place(values: ArrayLike, axis: Range, dots: int) -> Int[np.ndarray, " values"]:
        """Dot of each value, -1 outside of the axis."""
        share = (np.asarray(values) - axis.low) / (axis.high - axis.low)
        inside = (share >= 0.0) & (share <= 1.0)
        return np.where(inside, np.rint(np.where(inside, share, 0.0) * (dots - 1)), -1).astype(np.int64)


def framed(canvas: Canvas, y: Range) -> list[Text]:
    """The drawn canvas with its left axis: labels at the top, in the middle and at the bottom."""
    lines = canvas.lines()
    last = len(lines) - 1
    named = {row: y.high - (y.high - y.low) * row / last for row in (0, last // 2, last)}
    return [
        Text.assemble((f"{named[row]:4.0f} ┤" if row in named else "     │", _AXIS), line)
        for row, line in enumerate(lines)
    ]


def bottom(x: Range, labels: Sequence[tuple[float, str]], width: int) -> list[Text]:
    """The lower axis of a framed canvas of this width: a line, and under it labels, each centred on its x."""
    below = [" "] * width
    for value, label in labels:
        centre = round((value - x.low) / (x.high - x.low) * (width - 1))
        start = min(max(centre - len(label) // 2, 0), width - len(label))
        if all(character == " " for character in below[max(start - 1, 0) : start + len(label) + 1]):
            below[start : start + len(label)] = label
    return [Text("     └" + "─" * width, _AXIS), Text("      " + "".join(below), _AXIS)]


def sparkline(values: Sequence[float], width: int, top: float) -> str:
    """The last `width` values as blocks an eighth high to a full one, on a scale from 0 to `top`.

    >>> sparkline([0.0, 0.5, 1.0, float("nan")], 10, 1.0)
    '▁▅█ '
    """
    last = np.asarray(values[-width:], np.float64)
    level = np.clip(np.nan_to_num(last / top, nan=-1.0) * 8.0, -1.0, 7.0)
    return "".join(
        " " if not known else _EIGHTHS[int(eighth)] for known, eighth in zip(np.isfinite(last), level, strict=True)
    )
