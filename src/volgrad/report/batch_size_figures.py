"""The pictures of a batch-size choice: how noisy gradients are, what follows from it, and what branches did."""

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from volgrad.report.batch_size_marks import BLUE, ORANGE, TEAL, Told, dots, number, rows_axis, rule, size_text
from volgrad.report.batch_size_words import (
    chosen_rung,
    clusters_text,
    count_text,
    favourite_rung,
    seconds_text,
    times_text,
)
from volgrad.report.figure import GOOD, INK, MUTED, Figure, axis, expiry_colours, line, numbers
from volgrad.report.training_figures import value_axis

__all__ = ["branch_figures", "noise_figure", "predicted_figure", "relative_times", "sharpness_figure"]

_TIE = 1.02  # ratio of predicted times below which they are alike
_MANY = 1_000  # clusters, from which on they are told in thousands


def relative_times(told: Told, noise: float) -> list[float | None]:
    """Predicted time of each rung, were the noise scale so many clusters, in that of the chosen one; None where it does
    not fit.

    `(1 + B_c / B) t(B)` (McCandlish et al. 2018, eq. 5 [paper]); of infinite noise the limit.
    """

    def cost(rung: Told) -> float | None:
        step, size = rung["step_s_median"], rung["clusters"]
        if step is None:
            return None
        return step / size if math.isinf(noise) else (1.0 + noise / size) * step

    base = cost(chosen_rung(told))
    costs = [cost(rung) for rung in told["ladder"]]
    return [None if found is None or not base else found / base for found in costs]


def predicted_figure(told: Told) -> Figure:
    """Predicted time to the target by size, with what the noise scale's interval leaves open."""
    title, noise = "Predicted time to the target", told["noise"]
    says = (
        "In times that of the chosen size. Steps to the target fall as 1 + noise scale / batch, and each takes the "
        "time that was measured: small batches waste steps, large ones waste data."
    )
    own = [rung for rung in told["ladder"] if rung["predicted_s"] is not None]
    chosen, best = chosen_rung(told), favourite_rung(told)
    ratios = np.array([rung["predicted_s"] / chosen["predicted_s"] for rung in own])
    data = _band(told)
    if data:
        says += " Band: the noise scale at either end of its 95 % interval."
    hover = [
        f"{size_text(rung)}<br>{seconds_text(rung['predicted_s'])}, {times_text(ratio)} times the chosen one's<br>"
        f"{count_text(rung['predicted_samples'])} clusters to be seen"
        for rung, ratio in zip(own, ratios, strict=True)
    ]
    x = [rung["rows"] for rung in own]
    data.append(dots(x, ratios, BLUE, "predicted", hover, [rung["measured"] for rung in own], line=True))
    marks = [("chosen", GOOD, "star", chosen)]
    if best["predicted_s"] < chosen["predicted_s"] / _TIE:
        marks.append(("least predicted", ORANGE, "diamond", best))
    for name, colour, symbol, rung in marks:
        ratio = rung["predicted_s"] / chosen["predicted_s"]
        mark = dots(
            [rung["rows"]],
            [ratio],
            colour,
            f"{name}: {clusters_text(rung['clusters'])}",
            [f"{name}: {size_text(rung)}"],
        )
        data.append({**mark, "marker": {"size": 15, "color": colour, "symbol": symbol}})
    heights = np.concatenate([np.asarray([value for value in trace["y"] if value], float) for trace in data])
    layout = {"xaxis": rows_axis(told), "yaxis": value_axis("times the chosen size", heights), "showlegend": True}
    key = "noise scale " + (
        f"{count_text(noise['rows'])} rows" if noise["significant"] else f"at least {count_text(noise['lo'])} rows"
    )
    return Figure(title, says, data, layout, height=420, key=key)


def noise_figure(told: Told) -> Figure:
    """The noise scale along the pilot, in rows, with intervals and what other estimates say."""
    moments = told["moments"]
    places = np.array([one["samples"] for one in moments], float)
    data: list[dict[str, Any]] = []
    for name, field, colour, symbol in (
        ("rows taken for independent", "per_row", ORANGE, "diamond"),
        ("micro-batches", "micro_batch", TEAL, "square"),
    ):  # fmt: skip
        value = np.array([number(one[field]) for one in moments])
        value[~(value > 0.0)] = np.nan
        if np.isfinite(value).any():
            hover = f"{name}: %{{y:,.4g}} rows"
            trace = line(places, value, colour, dash="dot", width=1.4, mode="lines+markers", hover=hover, name=name)
            data.append({**trace, "marker": {"size": 6, "color": colour, "symbol": symbol}, "connectgaps": True})
    data += _noise_traces(moments, places)
    finite = [value for trace in data for value in _reach(trace) if value is not None and value > 0.0]
    says = (
        "Measured on the way through the beginning of a run, with 95 % intervals. It grows as the gradient shrinks: "
        "the choice goes by the later half. Beside it, estimates that others use."
    )
    if any(not one["significant"] for one in moments):
        says += " Triangles: at least so much, as the gradient is not distinct from noise."
    layout = {
        "xaxis": axis("clusters seen", tickformat="~s" if places[-1] >= _MANY else "~g"),
        "yaxis": value_axis("noise scale, rows", np.array(finite, float)), "showlegend": True,
    }  # fmt: skip
    return Figure("Gradient noise scale along the pilot", says, data, layout, height=400)


def branch_figures(told: Told) -> list[Figure]:
    """What sizes did from one state: loss by seconds, and by size with replicates joined."""
    branches = told["branches"]
    colours, before = expiry_colours(len(branches)), branches[0]["loss_before"]
    by_time, heights = [], [before]
    for branch, colour in zip(branches, colours, strict=True):
        for part, loss in enumerate(branch["losses"]):
            if loss is None:
                continue
            name, heights = clusters_text(branch["clusters"]), [*heights, loss]
            told_of = f"{name}, replicate {part + 1}<br>loss %{{y:.5g}} after %{{x:.3g}} s, {branch['steps']:,} steps"
            trace = line(
                [0.0, branch["seconds"]], [before, loss], colour, width=1.8, mode="lines+markers", hover=told_of
            )
            by_time.append({
                **trace, "name": name, "legendgroup": name, "showlegend": part == 0,
                "marker": {"size": [0, 8], "color": colour},
            })  # fmt: skip
    known = np.array([value for value in heights if value is not None], float)
    loss_axis = value_axis("loss", known)
    rounds = max(branch["rounds"] for branch in branches)
    seconds = Figure(
        "Loss by seconds",
        "From the loss of the common state to where each branch ended, of each replicate; seconds by the measured "
        "ladder. The worse half of the sizes dropped out after each round.",
        by_time,
        {"xaxis": axis("seconds", rangemode="tozero"), "yaxis": loss_axis, "showlegend": True},
        height=340,
    )
    return [seconds, _paired(branches, rounds, before, loss_axis, told)]


def sharpness_figure(told: Told) -> Figure:
    """What a small shove costs where branches ended, by size."""
    found = told["sharpness"]
    data = []
    for name, field, colour in (
        ("mean of the shoves", "neighbourhood", BLUE), ("worst of them", "worst", ORANGE),
    ):  # fmt: skip
        hover = [f"{size_text(one)}<br>{name}: loss + {number(one[field]):.4g}" for one in found]
        value = np.array([number(one[field]) for one in found])
        data.append(dots([one["rows"] for one in found], value, colour, name, hover, line=True))
    heights = np.array([value for trace in data for value in trace["y"] if value is not None], float)
    radius = next((one["radius"] for one in found if one["radius"] is not None), math.nan)
    says = f"Rise of the loss when every array of weights is moved by {100.0 * radius:.3g} % of its length, at random."
    layout = {"xaxis": rows_axis(told), "yaxis": value_axis("rise of the loss", heights), "showlegend": True}
    return Figure("Sharpness of where branches ended", says, data, layout, height=300)


def _paired(
    branches: Sequence[Told], rounds: int, before: float | None, loss_axis: dict[str, Any], told: Told
) -> Figure:
    last = [branch for branch in branches if branch["rounds"] == rounds]
    count = max(len(branch["losses"]) for branch in branches)
    data = []
    for part in range(count):
        hover = [f"{size_text(branch)}<br>replicate {part + 1}" for branch in last]
        losses = [number(branch["losses"][part]) for branch in last]
        colour = (BLUE, ORANGE, TEAL)[part % 3]
        data.append(
            dots([branch["rows"] for branch in last], losses, colour, f"replicate {part + 1}", hover, line=True)
        )
    out = [branch for branch in branches if branch["rounds"] < rounds]
    if out:
        hover = [f"{size_text(branch)}<br>dropped out after round {branch['rounds']}" for branch in out]
        mark = dots(
            [branch["rows"] for branch in out], [number(branch["loss"]) for branch in out], MUTED, "dropped out", hover
        )
        data.append({**mark, "marker": {"size": 9, "color": MUTED, "symbol": "x"}})
    shapes = [rule(told)]
    if before is not None:
        style = {"color": MUTED, "width": 1.2, "dash": "dot"}
        shapes.append({"type": "line", "xref": "paper", "x0": 0, "x1": 1, "y0": before, "y1": before, "line": style})
    says = (
        "At the end of the same seconds. Sizes that went on to the end are joined within a replicate, which saw the "
        "same data. Dotted: the loss of the common state."
    )
    layout = {"xaxis": rows_axis(told), "yaxis": loss_axis, "showlegend": True, "shapes": shapes}
    return Figure("Loss by size", says, data, layout, height=340)


def _band(told: Told) -> list[dict[str, Any]]:
    """What the noise scale's interval leaves open: an area between two curves."""
    noise = told["noise"]
    if noise["clusters_lo"] is None:
        return []
    low = relative_times(told, max(noise["clusters_lo"], 0.0))
    high = relative_times(told, math.inf if noise["clusters_hi"] is None else noise["clusters_hi"])
    own = [
        (rung["rows"], a, b)
        for rung, a, b in zip(told["ladder"], low, high, strict=True)
        if a is not None and b is not None
    ]
    rows, one, other = (list(part) for part in zip(*own, strict=True))
    style = {"type": "scatter", "mode": "lines", "hoverinfo": "skip", "line": {"width": 0, "color": BLUE}, "x": rows}
    lower = {**style, "y": numbers(np.minimum(one, other)), "showlegend": False, "name": "band"}
    upper = {**style, "y": numbers(np.maximum(one, other)), "fill": "tonexty", "fillcolor": "rgba(77,104,216,0.16)"}
    return [lower, {**upper, "name": "95 % interval of the noise"}]


def _noise_traces(moments: Sequence[Told], places: np.ndarray) -> list[dict[str, Any]]:
    """By whole clusters: points with intervals, and lower bounds where more is not known."""
    data = []
    sure = [at for at, one in enumerate(moments) if one["significant"] and one["rows"] is not None]
    if sure:
        value, low, high = (np.array([number(moments[at][name]) for at in sure]) for name in ("rows", "lo", "hi"))
        hover = [
            f"{count_text(one['rows'])} rows ({count_text(one['lo'])} to {count_text(one['hi'])})"
            f"<br>{count_text(one['clusters'])} clusters, after {one['samples']:,}"
            for one in (moments[at] for at in sure)
        ]
        trace = dots(places[sure], value, INK, "whole clusters", hover, line=True)
        trace["error_y"] = {
            "type": "data", "symmetric": False, "array": numbers(np.maximum(high - value, 0.0)),
            "arrayminus": numbers(np.clip(value - low, 0.0, 0.999 * value)), "color": INK, "thickness": 1.5, "width": 5,
        }  # fmt: skip
        data.append(trace)
    open_ = [at for at, one in enumerate(moments) if not one["significant"] and one["lo"] and one["lo"] > 0.0]
    if open_:
        hover = [
            f"at least {count_text(moments[at]['lo'])} rows<br>after {moments[at]['samples']:,} clusters"
            for at in open_
        ]
        trace = dots(places[open_], [moments[at]["lo"] for at in open_], INK, "at least", hover)
        data.append({**trace, "marker": {"size": 11, "color": INK, "symbol": "triangle-up-open"}})
    return data


def _reach(trace: Mapping[str, Any]) -> list[float | None]:
    """All heights that a trace comes to, error bars included."""
    own = list(trace["y"])
    bars = trace.get("error_y")
    if bars:
        own += [y + up for y, up in zip(trace["y"], bars["array"], strict=True) if None not in (y, up)]
        own += [y - down for y, down in zip(trace["y"], bars["arrayminus"], strict=True) if None not in (y, down)]
    return own
