"""The page of a learning-rate range test: one self-contained HTML file."""

import math
from collections.abc import Mapping
from html import escape
from pathlib import Path
from typing import Any

import numpy as np

import volgrad
from volgrad.data.write import replacing
from volgrad.learning.training.range_test import RangeTest
from volgrad.report.cards import card
from volgrad.report.figure import BAD, GOOD, INK, MUTED, Figure, axis, line, numbers
from volgrad.report.header import run_line, tile
from volgrad.report.page import document
from volgrad.report.training_figures import thinned, value_axis

__all__ = ["range_figure", "range_html", "write_range_test"]

_DECADE = 10.0  # range of the loss from which on its axis is logarithmic


def write_range_test(
    path: str | Path, found: RangeTest, *, title: str, summary: Mapping[str, Any] | None = None
) -> Path:
    """Write the page of a range test, that loads nothing from anywhere. The same arguments give the same page.

    Args:
        path: the file; replaced whole or not at all.
        found: what was found.
        title: of the page.
        summary: used are "version", "generated", "command", "wall_s"; all may be missing.

    Raises:
        WorkError: the file cannot be written.
    """
    text = range_html(found, title=title, summary=summary)
    with replacing(path) as stream:
        stream.write(text.encode(errors="replace"))
    return Path(path)


def range_html(found: RangeTest, *, title: str, summary: Mapping[str, Any] | None = None) -> str:
    """The page that `write_range_test` writes."""
    summary = summary or {}
    version = escape(str(summary.get("version", volgrad.__version__)))
    why = escape(f"{found.why[:1].upper()}{found.why[1:]}.")
    curve = card(range_figure(found)).replace('class="card', 'class="card whole', 1)
    body = f"""<header class="top" id="top"><p class="kicker">volgrad {version} · learning-rate range test</p>
<h1>{escape(title)}</h1><p class="lead">{why}</p><dl class="tiles">{_tiles(found)}</dl>{run_line(summary)}</header>
<section id="curve"><h2>Loss by learning rate</h2><div class="pair">{curve}</div></section>
<section id="recipe"><h2>For the recipe</h2>{_advice(found)}</section>"""
    links = ("top", "Summary"), ("curve", "Loss by learning rate"), ("recipe", "For the recipe")
    return document(title, "".join(f'<a href="#{anchor}">{name}</a>' for anchor, name in links), body)


def range_figure(found: RangeTest) -> Figure:
    """The loss of each step as dots, its moving average as a line, and the rates that matter."""
    says = (
        "Dots: the loss of each batch before the step at that rate. Line: their moving average over about ten steps. "
        "The rate rises from step to step; nothing that was learned is kept."
    )
    if not found.rates.size:
        hidden = {"xaxis": {"visible": False}, "yaxis": {"visible": False}}
        return Figure("Range test", f"{says} No loss was finite.", [], hidden, height=40, bar=False)
    low, high, log = _window(found)
    data = [_dots(found), _average(found)]
    for name, rate, colour, dash in (
        ("steepest", found.steepest, "#e0812b", "dot"),
        ("largest stable", found.largest_stable, BAD, "dash"),
        ("suggestion", found.suggestion, GOOD, "solid"),
    ):
        if rate is not None:
            told = f"{name} {rate:.3g}"
            mark = line([rate, rate], [low, high], colour, dash=dash, width=2.2, hover=told, name=told)
            data.append({**mark, "x": [rate, rate], "y": [low, high]})
    above = int((found.losses > high).sum())
    if above:
        says += f" {above:,} dot{' lies' if above == 1 else 's lie'} above the picture."
    if log:
        loss = value_axis("loss", np.array([low, high])) | {"range": [math.log10(low), math.log10(high)]}
    else:
        loss = axis("loss", range=[low, high], exponentformat="power")
    layout = {
        "xaxis": axis("learning rate", type="log", exponentformat="power", dtick=1),
        "yaxis": loss,
        "showlegend": True,
    }  # fmt: skip
    return Figure("Range test", says, data, layout, height=460)


def _dots(found: RangeTest) -> dict[str, Any]:
    kept = thinned(found.losses)
    return {
        "type": "scatter", "mode": "markers", "name": "loss", "x": numbers(found.rates[kept]),
        "y": numbers(found.losses[kept]), "marker": {"size": 4.5, "color": MUTED, "opacity": 0.7},
        "hovertemplate": "loss %{y:.5g} at %{x:.3g}<extra></extra>",
    }  # fmt: skip


def _average(found: RangeTest) -> dict[str, Any]:
    kept = thinned(found.smoothed)
    hover = "average %{y:.5g} at %{x:.3g}"
    return line(found.rates[kept], found.smoothed[kept], INK, width=2.4, hover=hover, name="moving average")


def _window(found: RangeTest) -> tuple[float, float, bool]:
    """Least and largest loss of the picture, and whether its axis is logarithmic: what runs away must not flatten the
    fall before it.
    """
    least = int(np.argmin(found.smoothed))
    fall = np.concatenate([found.losses[: least + 1], found.smoothed[: least + 1]])
    low, high = float(min(fall.min(), found.losses.min())), float(fall.max())
    if not found.significant:  # noise: all of it but what runs away
        lower, upper = np.quantile(found.losses, (0.25, 0.75))
        high = max(high, float(min(found.losses.max(), upper + 3.0 * (upper - lower))))
    if low > 0.0 and high > _DECADE * low:
        room = (high / low) ** 0.35
        return low / room**0.25, high * room, True
    room = max(high - low, 1e-3 * abs(high), 1e-12)
    return low - 0.1 * room, high + (0.6 if found.significant else 0.1) * room, False


def _tiles(found: RangeTest) -> str:
    tried = f"{found.rates[0]:.2g} to {found.rates[-1]:.2g}" if found.rates.size else "–"
    known = found.suggestion is not None
    return "".join([
        tile("suggestion", _rate(found.suggestion), "steepest, at most half of the largest stable one" if known
             else "none: the loss did not fall by more than its noise", "good" if known else "warn"),
        tile("steepest", _rate(found.steepest), "where the loss falls fastest"),
        tile("largest stable", _rate(found.largest_stable), "beyond it the loss rises for good"
             if found.largest_stable is not None else "not found"),
        tile("a tenth of the least", _rate(found.tenth), "another customary choice"),
        tile("rates tried", tried, f"{found.rates.size:,} steps with a finite loss"),
    ])  # fmt: skip


def _advice(found: RangeTest) -> str:
    if found.suggestion is None:
        return f"<p>Nothing yet: {escape(found.why)}.</p>"
    value = _rate(found.suggestion)
    text = escape(f"[optimizer]\nlearning_rate = {value}")
    return (
        f'<p>Put this in, or give <code>--set optimizer.learning_rate={value}</code>:</p><figure class="card table">'
        f'<pre style="margin:6px 0"><code>{text}</code></pre></figure><p style="margin-top:10px">It is the top of the '
        "schedule, for batches of the size that was tested, and judged by the first steps of training only: test again "
        "after a change of the batch size, the optimizer or the network.</p>"
    )


def _rate(rate: float | None) -> str:
    """A rate as a recipe takes it.

    >>> _rate(0.0123456), _rate(None)
    ('0.012', '–')
    """
    return "–" if rate is None else f"{rate:.2g}"
