"""Figures of the benchmark of normalisation, as SVG: lines in panels with logarithmic axes, written by hand."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

COLOURS = {
    "plain": "#444444",
    "batch": "#d1495b",
    "ghost": "#e39b2d",
    "renorm": "#1f77b4",
    "layer": "#8a63d2",
    "stream": "#2a9d6f",
}
WIDTH, HEIGHT, LEFT, TOP, GAP = 250.0, 180.0, 52.0, 34.0, 62.0


class Line(NamedTuple):
    """A line and, where `low` and `high` are given, a band around it."""

    label: str
    x: Sequence[float]
    y: Sequence[float]
    low: Sequence[float] | None = None
    high: Sequence[float] | None = None


class Panel(NamedTuple):
    """One pair of axes; `y` is logarithmic, `x` where told."""

    title: str
    x_name: str
    lines: list[Line]
    logarithmic: bool = True


def draw(told: dict[str, Any], folder: Path) -> list[Path]:
    """Every figure that the results have something for."""
    folder.mkdir(parents=True, exist_ok=True)
    made = []
    for side, found in told.items():
        for name, panels in (
            ("rates", _rates(found)),
            ("curves", _curves(found)),
            ("regimes", _regimes(found)),
        ):
            if panels and not (side == "recorded" and name != "regimes"):
                path = folder / f"normalisation-{side}-{name}.svg"
                columns = len(found["regimes"][0]["chains"]) if name == "regimes" else 3
                path.write_text(figure(panels, columns), encoding="utf-8")
                made.append(path)
    return made


def _rates(found: dict[str, Any]) -> list[Panel]:
    panels: dict[str, list[Line]] = {}
    for one in found.get("rates", []):
        ends = {float(rate): values for rate, values in one["ends"].items()}
        spread = [[pick(values) for values in ends.values()] for pick in (np.median, min, max)]
        panels.setdefault(one["group"], []).append(Line(one["kind"], list(ends), *spread))
    return [Panel(group, "learning rate", lines) for group, lines in panels.items()]


def _curves(found: dict[str, Any]) -> list[Panel]:
    panels: dict[str, list[Line]] = {}
    for one in found.get("rates", []):
        steps = 25.0 * np.arange(1, len(one["curve"]) + 1)
        panels.setdefault(one["group"], []).append(Line(one["kind"], steps.tolist(), one["curve"]))
    return [Panel(group, "steps", lines) for group, lines in panels.items()]


def _regimes(found: dict[str, Any]) -> list[Panel]:
    panels: dict[str, list[Line]] = {}
    for one in found.get("regimes", []):
        for side, losses in one["chains"].items():
            smooth = np.convolve(losses, np.ones(20) / 20.0, mode="valid")
            line = Line(one["kind"], (np.arange(smooth.size) + 20.0).tolist(), smooth.tolist())
            panels.setdefault(f"{one['target']}, {side}", []).append(line)
    return [Panel(name, "chains served (mean of 20)", lines, False) for name, lines in panels.items()]


def figure(panels: Sequence[Panel], columns: int = 3) -> str:
    """The panels in rows, with one legend."""
    rows = -(-len(panels) // columns)
    width = LEFT + min(len(panels), columns) * (WIDTH + GAP)
    height = 24.0 + rows * (HEIGHT + GAP + TOP)
    labels = list(dict.fromkeys(line.label for panel in panels for line in panel.lines))
    body = [_legend(labels)]
    for number, panel in enumerate(panels):
        across, down = number % columns, number // columns
        at = f"translate({LEFT + across * (WIDTH + GAP):.0f} {24 + TOP + down * (HEIGHT + GAP + TOP):.0f})"
        body.append(f'<g transform="{at}">{_panel(panel)}</g>')
    head = f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width:.0f} {height:.0f}" font-family="sans-serif" '
    return head + 'font-size="11"><rect width="100%" height="100%" fill="white"/>' + "\n".join(body) + "</svg>\n"


def _legend(labels: Sequence[str]) -> str:
    made = []
    for number, label in enumerate(labels):
        x = LEFT + 90.0 * number
        made.append(f'<path d="M{x:.0f} 14h18" stroke="{_colour(label)}" stroke-width="2.5"/>')
        made.append(f'<text x="{x + 23:.0f}" y="18">{label}</text>')
    return "".join(made)


def _panel(panel: Panel) -> str:
    y_all = np.array([y for line in panel.lines for y in (*line.y, *(line.low or ())) if np.isfinite(y) and y > 0])
    x_all = np.array([x for line in panel.lines for x in line.x])
    y_low, y_high = np.log10(y_all.min() / 1.1), np.log10(min(y_all.max(), 100.0) * 1.1)
    x_at = _axis(x_all.min(), x_all.max(), WIDTH, panel.logarithmic)

    def y_at(y: float) -> float:
        share = (np.log10(min(max(y, 1e-12), 1e6)) - y_low) / (y_high - y_low)
        return HEIGHT * (1.0 - float(np.clip(share, -0.02, 1.02)))

    body = [f'<text x="0" y="-10" font-weight="bold">{panel.title}</text>']
    body.append(f'<rect width="{WIDTH:.0f}" height="{HEIGHT:.0f}" fill="none" stroke="#bbb"/>')
    for tick in _ticks(10.0**y_low, 10.0**y_high):
        body.append(f'<path d="M0 {y_at(tick):.1f}h{WIDTH:.0f}" stroke="#eee"/>')
        body.append(f'<text x="-5" y="{y_at(tick) + 4:.1f}" text-anchor="end">{tick:g}</text>')
    marks = _ticks(x_all.min(), x_all.max()) if panel.logarithmic else np.linspace(0.0, x_all.max(), 5).round().tolist()
    for tick in marks:
        if x_all.min() <= tick * 1.0001 and tick <= x_all.max():
            body.append(f'<text x="{x_at(tick):.1f}" y="{HEIGHT + 15:.0f}" text-anchor="middle">{tick:g}</text>')
    body.append(f'<text x="{WIDTH / 2:.0f}" y="{HEIGHT + 31:.0f}" text-anchor="middle">{panel.x_name}</text>')
    return "".join([*body, *(_line(line, x_at, y_at) for line in panel.lines)])


def _line(line: Line, x_at: Callable[[float], float], y_at: Callable[[float], float]) -> str:
    def points(values: Sequence[float], backwards: bool = False) -> list[str]:
        made = [f"{x_at(x):.1f},{y_at(y if np.isfinite(y) else 1e6):.1f}" for x, y in zip(line.x, values, strict=True)]
        return made[::-1] if backwards else made

    colour, body = _colour(line.label), ""
    if line.low is not None and line.high is not None:
        around = " ".join(points(line.low) + points(line.high, True))
        body += f'<polygon points="{around}" fill="{colour}" opacity="0.13"/>'
    return body + f'<polyline points="{" ".join(points(line.y))}" fill="none" stroke="{colour}" stroke-width="1.8"/>'


def _axis(low: float, high: float, length: float, logarithmic: bool) -> Callable[[float], float]:
    def place(value: float) -> float:
        if logarithmic:
            return length * float(np.log(value / low) / np.log(high / low))
        return length * (value - low) / (high - low)

    return place


def _ticks(low: float, high: float) -> list[float]:
    """1, 3, 10, 30, ... within bounds; 1, 2, 3, 5, 7 where few fit."""
    powers = 10.0 ** np.arange(np.floor(np.log10(low)), np.ceil(np.log10(high)) + 1)
    for steps in ((1.0,), (1.0, 3.0), (1.0, 2.0, 3.0, 5.0, 7.0)):
        found = [float(f"{power * step:.3g}") for power in powers for step in steps]
        found = [tick for tick in found if low * 0.999 <= tick <= high * 1.001]
        if len(found) >= 3:
            break
    return found


def _colour(label: str) -> str:
    return COLOURS.get(label.split(" ", maxsplit=1)[0], "#999999")
