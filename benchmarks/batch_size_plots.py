"""Figures of the benchmark of batch sizes, as SVG: time to target by size, and every method's regret.

python -m benchmarks.batch_size_plots --json FILE [--json FILE ...] [--out docs/images]
"""

import json
import math
import sys
from pathlib import Path
from typing import Annotated, Any

import cyclopts
import numpy as np

from benchmarks.batch_size_report import LARGEST, OURS, summary

KNEE = "throughput knee"
COLOURS = {"easy": "#1f77b4", "hard": "#d1495b"}
MARKS = {OURS: "#2a9d6f", LARGEST: "#444444", KNEE: "#8a63d2"}
WIDTH, HEIGHT, LEFT, TOP, GAP, COLUMNS = 200.0, 140.0, 46.0, 44.0, 62.0, 4
MOST = 100.0  # times the best, beyond which nothing is drawn


def curves(told: list[dict[str, Any]]) -> str:
    """Time to both targets over that of the best size, a panel a workload."""
    rows = -(-len(told) // COLUMNS)
    width = LEFT + min(len(told), COLUMNS) * (WIDTH + GAP)
    body = [_legend()]
    for number, one in enumerate(told):
        across, down = number % COLUMNS, number // COLUMNS
        at = f"translate({LEFT + across * (WIDTH + GAP):.0f} {TOP + 18 + down * (HEIGHT + GAP + 10):.0f})"
        body.append(f'<g transform="{at}">{_panel(one)}</g>')
    return _page(width, TOP + rows * (HEIGHT + GAP + 10), body)


def bars(told: list[dict[str, Any]]) -> str:
    """Median and worst time of every method over that of the best size, on a logarithmic axis."""
    found = summary(told)
    length, step, label = 460.0, 26.0, 130.0
    body = ['<text x="8" y="20" font-weight="bold">time to target over that of the best size: median, and worst</text>']

    def at(times: float) -> float:
        return label + length * math.log(min(max(times, 1.0), MOST)) / math.log(MOST)

    for tick in (1, 2, 5, 10, 20, 50, 100):
        body.append(f'<path d="M{at(tick):.0f} 32v{step * len(found):.0f}" stroke="#ddd"/>')
        body.append(f'<text x="{at(tick):.0f}" y="{step * len(found) + 48:.0f}" text-anchor="middle">{tick}</text>')
    for place, (name, one) in enumerate(sorted(found.items(), key=lambda item: (item[0] != OURS, item[1]["median"]))):
        y = 36 + step * place
        middle, worst = 1.0 + one["median"], 1.0 + one["worst"]
        colour = MARKS[OURS] if name == OURS else "#9aa5b1"
        body.append(f'<text x="{label - 8:.0f}" y="{y + 13:.0f}" text-anchor="end">{name}</text>')
        wide = max(at(middle) - label, 1.5)
        body.append(f'<rect x="{label:.0f}" y="{y:.0f}" width="{wide:.1f}" height="17" fill="{colour}"/>')
        body.append(f'<path d="M{at(middle):.1f} {y + 8.5:.1f}H{at(worst):.1f}" stroke="{colour}" stroke-width="1.5"/>')
        text = f"{middle:.2f}, {'never' if math.isinf(worst) else f'{worst:.1f}'}"
        body.append(f'<text x="{at(worst) + 6:.0f}" y="{y + 13:.0f}">{text}</text>')
    return _page(label + length + 90, step * len(found) + 62, body)


def _panel(one: dict[str, Any]) -> str:
    sizes = sorted(int(size) for case in one["cases"] for size in case["times"])
    low, high = math.log(sizes[0]), math.log(max(sizes[-1], sizes[0] * 2))

    def x_at(size: float) -> float:
        return WIDTH * (math.log(size) - low) / (high - low)

    def y_at(times: float) -> float:
        return HEIGHT * (1.0 - math.log(min(max(times, 1.0), MOST)) / math.log(MOST))

    body = [f'<text x="0" y="-8" font-weight="bold">{one["workload"]}</text>']
    body.append(f'<rect width="{WIDTH:.0f}" height="{HEIGHT:.0f}" fill="none" stroke="#bbb"/>')
    for tick in (1, 3, 10, 30, 100):
        body.append(f'<path d="M0 {y_at(tick):.1f}h{WIDTH:.0f}" stroke="#eee"/>')
        body.append(f'<text x="-5" y="{y_at(tick) + 4:.1f}" text-anchor="end">{tick}</text>')
    for tick in [size for size in (1, 4, 16, 64, 256, 1024, 4096) if sizes[0] <= size <= sizes[-1]]:
        body.append(f'<text x="{x_at(tick):.1f}" y="{HEIGHT + 14:.0f}" text-anchor="middle">{tick}</text>')
    body.append(f'<text x="{WIDTH / 2:.0f}" y="{HEIGHT + 28:.0f}" text-anchor="middle">clusters a batch</text>')
    for case in one["cases"]:
        times = {int(size): value for size, value in case["times"].items()}
        least = min(times.values())
        points = [
            f"{x_at(size):.1f},{y_at(value / least):.1f}" for size, value in sorted(times.items()) if np.isfinite(value)
        ]
        colour = COLOURS[case["target"]]
        body.append(f'<polyline points="{" ".join(points)}" fill="none" stroke="{colour}" stroke-width="1.8"/>')
        for name, mark in MARKS.items():
            size = case["picks"].get(name)
            if size in times and np.isfinite(times[size]):
                place = f'cx="{x_at(size):.1f}" cy="{y_at(times[size] / least):.1f}"'
                body.append(f'<circle {place} r="{5 if name == OURS else 3.5}" fill="{mark}"/>')
    return "".join(body)


def _legend() -> str:
    made, x = [], LEFT
    for name, colour in COLOURS.items():
        made.append(f'<path d="M{x:.0f} 16h18" stroke="{colour}" stroke-width="2.5"/>')
        made.append(f'<text x="{x + 23:.0f}" y="20">{name}</text>')
        x += 70.0
    for name, colour in MARKS.items():
        made.append(
            f'<circle cx="{x + 8:.0f}" cy="16" r="4.5" fill="{colour}"/><text x="{x + 18:.0f}" y="20">{name}</text>'
        )
        x += 125.0
    made.append(f'<text x="{x:.0f}" y="20">vertical: time over that of the best size</text>')
    return "".join(made)


def _page(width: float, height: float, body: list[str]) -> str:
    head = f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width:.0f} {height:.0f}" font-family="sans-serif" '
    return head + 'font-size="11"><rect width="100%" height="100%" fill="white"/>' + "\n".join(body) + "</svg>\n"


def draw(told: list[dict[str, Any]], folder: Path) -> list[Path]:
    """Both figures."""
    folder.mkdir(parents=True, exist_ok=True)
    made = []
    for name, figure in (("times", curves), ("regret", bars)):
        path = folder / f"batch-size-{name}.svg"
        path.write_text(figure(told), encoding="utf-8")
        made.append(path)
    return made


def main(
    *, json_file: Annotated[list[Path], cyclopts.Parameter(name="--json")], out: Path = Path("docs/images")
) -> None:
    """Draw the figures of some reports, as if they were one.

    Args:
        json_file: written by `python -m benchmarks.batch_size`; several where the held-back workloads have their own.
        out: folder.
    """
    told = [one for file in json_file for one in json.loads(file.read_text(encoding="utf-8"))["workloads"]]
    for path in draw(told, out):
        print(path)


if __name__ == "__main__":
    app = cyclopts.App(name="benchmarks.batch_size_plots", help=__doc__)
    app.default(main)
    sys.exit(app())
