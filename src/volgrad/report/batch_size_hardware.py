"""The pictures of what a step costs, by size: seconds, throughput, memory."""

import numpy as np
from jaxtyping import Float64

from volgrad.report.batch_size_marks import BLUE, ORANGE, TEAL, Told, dots, named_axis, rows_axis, rule, size_text
from volgrad.report.batch_size_words import bytes_text, seconds_text
from volgrad.report.figure import BAD, MUTED, Figure, axis, line, numbers

__all__ = ["linear_fit", "memory_figure", "pace_figure", "step_figure"]


def linear_fit(rows: Float64[np.ndarray, " rungs"], seconds: Float64[np.ndarray, " rungs"]) -> tuple[float, float]:
    """Seconds a step as `a + b rows`, `a` and `b` at least 0, by least squares of relative errors.

    >>> a, b = linear_fit(np.array([1.0, 10.0, 100.0]), np.array([3.0, 12.0, 102.0]))
    >>> round(a, 9), round(b, 9)
    (2.0, 1.0)
    """
    table = np.stack([1.0 / seconds, rows / seconds], axis=1)
    tried = []
    for columns in ([0, 1], [0], [1]):
        found = np.zeros(2)
        found[columns] = np.linalg.lstsq(table[:, columns], np.ones(len(rows)), rcond=None)[0]
        if (found >= 0.0).all():
            tried.append((float(((table @ found - 1.0) ** 2).sum()), tuple(found.tolist())))
    return min(tried)[1]


def step_figure(told: Told) -> Figure:
    """Measured seconds a step, and the straight line through them."""
    own = [rung for rung in told["ladder"] if rung["step_s_median"] is not None]
    timed = [rung for rung in own if rung["measured"]]
    drawn = [rung for rung in own if not rung["measured"]]
    rows, steps, spread = (
        np.array([rung[name] for rung in timed], float) for name in ("rows", "step_s_median", "step_s_iqr")
    )
    data, key, heights = [], "", np.array([rung["step_s_median"] for rung in own])
    if len(timed) > 1:
        fixed, each = linear_fit(rows, steps)
        ends = np.geomspace(own[0]["rows"], own[-1]["rows"], 60)
        fitted = fixed + each * ends
        data.append(line(ends, fitted, MUTED, dash="dash", width=1.6, name="a + b rows"))
        key = f"a = {seconds_text(fixed)}, b = {seconds_text(each)} a row"
        heights = np.concatenate([heights, fitted])
    hover = [
        f"{size_text(rung)}<br>{seconds_text(rung['step_s_median'])} a step, IQR {seconds_text(rung['step_s_iqr'])}"
        for rung in timed
    ]
    bars = {
        "type": "data", "symmetric": False, "array": numbers(0.5 * spread),
        "arrayminus": numbers(np.minimum(0.5 * spread, 0.9 * steps)), "color": BLUE, "thickness": 1.5, "width": 4,
    }  # fmt: skip
    data.append({**dots(rows, steps, BLUE, "median", hover), "error_y": bars})
    if drawn:
        hover = [f"{size_text(rung)}<br>{seconds_text(rung['step_s_median'])} a step, not timed" for rung in drawn]
        values = [rung["step_s_median"] for rung in drawn]
        data.append(dots([rung["rows"] for rung in drawn], values, BLUE, "drawn on", hover, [False] * len(drawn)))
    says = "Median over interleaved rounds, bars the interquartile range; compiling is never in it. Dashed: a + b rows."
    if drawn:
        says += " Hollow: not timed, drawn on."
    layout = {
        "xaxis": rows_axis(told), "yaxis": named_axis("a step", heights, seconds_text),
        "shapes": [rule(told)],
    }  # fmt: skip
    return Figure("Seconds a step", says, data, layout, height=300, key=key)


def pace_figure(told: Told) -> Figure:
    """Rows a second."""
    own = [rung for rung in told["ladder"] if rung["step_s_median"] is not None and rung["measured"]]
    pace = np.array([rung["rows"] / rung["step_s_median"] for rung in own])
    hover = [f"{size_text(rung)}<br>{value:,.0f} rows/s" for rung, value in zip(own, pace, strict=True)]
    layout = {
        "xaxis": rows_axis(told), "yaxis": axis("rows a second", rangemode="tozero", tickformat="~s"),
        "shapes": [rule(told)],
    }  # fmt: skip
    data = [dots([rung["rows"] for rung in own], pace, TEAL, "rows a second", hover, line=True)]
    says = "Where throughput is at its best is not where a run is: what counts is the way that those rows take it."
    return Figure("Throughput", says, data, layout, height=300)


def memory_figure(told: Told) -> Figure:
    """Memory of a compiled step, and the sizes that do not fit."""
    own = [rung for rung in told["ladder"] if rung["bytes"]]
    fit = [rung for rung in own if rung["fits"]]
    lost = [rung for rung in told["ladder"] if not rung["fits"]]
    says = "What the compiled step needs, by the compiler's account: arguments, results and scratch."
    data = [
        dots(
            [rung["rows"] for rung in fit], [rung["bytes"] for rung in fit], ORANGE, "needed",
            [f"{size_text(rung)}<br>{bytes_text(rung['bytes'])}" for rung in fit], [rung["measured"] for rung in fit],
            line=True,
        )
    ] if fit else []  # fmt: skip
    heights = np.array([rung["bytes"] for rung in own], float)
    if lost:
        says += " Crosses: does not fit."
        top = float(heights.max()) if heights.size else 1.0
        at = [rung["bytes"] or top for rung in lost]
        mark = dots(
            [rung["rows"] for rung in lost],
            at,
            BAD,
            "does not fit",
            [f"{size_text(rung)}<br>does not fit" for rung in lost],
        )
        data.append({**mark, "marker": {"size": 10, "color": BAD, "symbol": "x"}})
    if not own and not lost:
        hidden = {"xaxis": {"visible": False}, "yaxis": {"visible": False}}
        return Figure("Memory", f"{says} This compiler does not say.", [], hidden, height=40, bar=False)
    layout = {"xaxis": rows_axis(told), "yaxis": named_axis("memory", heights, bytes_text), "shapes": [rule(told)]}
    return Figure("Memory", says, data, layout, height=300)
