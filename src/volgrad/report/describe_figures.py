"""The pictures of a description: what there is, how alike it is, what it is worth, how stale it is."""

import math
from typing import Any

import numpy as np

from volgrad.report.figure import BAD, GRID, INK, MUTED, Figure, axis, line, numbers
from volgrad.tasks.description import Description
from volgrad.tasks.description.inventory import Gap
from volgrad.tasks.description.likeness import Likeness
from volgrad.tasks.description.words import MEANING, duration

__all__ = [
    "autocorrelation_figures",
    "content_figure",
    "likeness_figures",
    "standing_figure",
    "survival_figure",
    "worth_figure",
]

_COLOURS = ("#e0812b", "#4d68d8", "#2a9d8f", "#b9459f", "#8a6d3b", "#6b7280")
_OF_QUANTITY = dict(zip(MEANING, ("#e0812b", "#b9459f", "#4d68d8", "#2a9d8f", "#6b7280"), strict=True))
_HEAT = [[0, "--card"], [0.5, "#f2b84b"], [1, "#dd5476"]]
_MOST_LAGS = 160  # that are drawn
_NORMAL_95 = 1.96


def content_figure(found: Description) -> Figure:
    """Quotes and chains of each day (or hour), and the gaps."""
    inventory = found.inventory
    names = [one.underlying for one in inventory.underlyings]
    data: list[dict[str, Any]] = []
    for place, name in enumerate(names):
        own = [one for one in inventory.periods if one.underlying == name]
        data.append({
            "type": "bar", "name": name, "x": [one.begins[:-1] for one in own], "y": [one.quotes for one in own],
            "customdata": [one.chains for one in own], "marker": {"color": _COLOURS[place % len(_COLOURS)]},
            "width": inventory.period_hours * 3.6e6 * 0.85, "offset": 0,
            "hovertemplate": f"{name}, %{{x}}<br>%{{y:,}} quotes of %{{customdata}} chains<extra></extra>",
        })  # fmt: skip
    unit = "hour" if inventory.period_hours == 1 else "day"
    told = " Red: gaps of more than three times the usual distance." if inventory.gaps else " There is no gap."
    layout = {
        "barmode": "stack", "showlegend": len(names) > 1, "shapes": [_band(gap) for gap in inventory.gaps],
        "xaxis": axis("time, UTC", type="date"), "yaxis": axis(f"quotes used, a {unit}", rangemode="tozero"),
    }  # fmt: skip
    return Figure("What there is", f"Quotes used of each {unit}, by underlying.{told}", data, layout, height=300)


def _band(gap: Gap) -> dict[str, Any]:
    return {
        "type": "rect", "xref": "x", "yref": "paper", "x0": gap.begins[:-1], "x1": gap.ends[:-1], "y0": 0, "y1": 1,
        "fillcolor": BAD, "opacity": 0.16, "line": {"width": 0}, "layer": "below",
    }  # fmt: skip


def likeness_figures(found: Description) -> list[Figure]:
    """Intraclass correlation and design effect of each quantity, with intervals."""
    correlation = Figure(
        "Correlation of quotes within a snapshot",
        "Intraclass correlation, with 95 % intervals from blocks of snapshots: 0 if quotes of a snapshot were no more "
        "alike than others, 1 if they were all the same.",
        _dots(found, "correlation", "%{x:.3f}"),
        {"xaxis": axis("intraclass correlation", rangemode="tozero", zeroline=True, zerolinecolor=MUTED), **_names()},
        height=320,
    )
    effect = Figure(
        "Design effect",
        "1 + (m − 1) ρ: so many quotes of whole snapshots tell as much of a mean as one independent quote.",
        _dots(found, "design_effect", "one in %{x:.3g}"),
        {"xaxis": axis("rows for one independent row", type="log", tickformat="~g", **_decades(found)), **_names()},
        height=320,
    )
    return [correlation, effect]


def _decades(found: Description) -> dict[str, Any]:
    ends = [end for one in found.likeness for end in (one.design_effect, one.design_effect_high) if math.isfinite(end)]
    most = max([10.0, *ends])
    return {"range": [-0.15, round(math.log10(most) + 0.1, 3)], "dtick": 1 if most > 30.0 else None}


def _names() -> dict[str, Any]:
    places = list(range(len(MEANING)))
    rows = axis("", tickvals=places, ticktext=list(MEANING), range=[len(places) - 0.5, -0.5], zeroline=False)
    return {"yaxis": rows, "showlegend": True, "margin": {"l": 84, "r": 14, "t": 12, "b": 46}}


def _series(found: Description) -> list[tuple[str, str, list[Likeness]]]:
    """Name, colour and estimates of all underlyings together and, where there are several, of each."""
    names = [one.underlying for one in found.inventory.underlyings]
    groups: list[tuple[str, str, list[Likeness]]] = []
    if len(names) > 1:
        groups.append(("all together", INK, [one for one in found.likeness if one.underlying is None]))
    for place, name in enumerate(names):
        own = [one for one in found.likeness if one.underlying == name]
        groups.append((name, _COLOURS[place % len(_COLOURS)], own))
    return groups


def _dots(found: Description, field: str, hover: str) -> list[dict[str, Any]]:
    traces, quantities, groups = [], list(MEANING), _series(found)
    for place, (name, colour, own) in enumerate(groups):
        value = np.array([getattr(one, field) for one in own])
        low, high = (np.array([getattr(one, f"{field}_{end}") for one in own]) for end in ("low", "high"))
        beside = 0.18 * (place - 0.5 * (len(groups) - 1))  # one under the other, none hidden
        traces.append({
            "type": "scatter", "mode": "markers", "name": name, "x": numbers(value),
            "y": numbers([quantities.index(one.quantity) + beside for one in own]),
            "text": [f"{name}, {one.quantity}" for one in own],
            "error_x": {
                "type": "data", "symmetric": False, "array": numbers(np.maximum(high - value, 0.0)),
                "arrayminus": numbers(np.maximum(value - low, 0.0)), "color": colour, "thickness": 1.5, "width": 4,
            },
            "marker": {"size": 8, "color": colour}, "hovertemplate": f"%{{text}}<br>{hover}<extra></extra>",
        })  # fmt: skip
    return traces


def autocorrelation_figures(found: Description) -> list[Figure]:
    """Autocorrelation of snapshot means: of changes, and of levels."""
    changes = _autocorrelation(
        found, ("innovation", "surprise"), "Memory of changes", "Autocorrelation of the mean of each snapshot."
    )
    levels = _autocorrelation(
        found, ("level", "gradient"), "Memory of levels", "The same of what an average surface leaves."
    )
    return [changes, levels]


def _autocorrelation(found: Description, quantities: tuple[str, ...], title: str, says: str) -> Figure:
    data, shapes, told, shown = [], [], [], 1.0
    for quantity in quantities:
        one, colour = found.of(quantity), _OF_QUANTITY[quantity]
        if not math.isfinite(one.autocorrelation_time):
            continue
        hours = one.step_hours * np.arange(len(one.autocorrelation))
        data.append({
            **line(hours[:_MOST_LAGS], one.autocorrelation[:_MOST_LAGS], colour, mode="lines+markers", width=1.6,
                   hover=f"{quantity}, %{{x:.3g}} h apart<br>%{{y:.2f}}", connectgaps=True),
            "name": quantity, "marker": {"size": 4, "color": colour},
        })  # fmt: skip
        end = one.step_hours * one.window
        shapes.append(_rule(end, colour))
        shown = max(shown, min(3.0 * end, float(hours[-1])), 12.0 * one.step_hours)
        least = "" if one.resolved else "at least "
        told.append(f"{quantity} {least}{duration(one.autocorrelation_hours)}")
    if not data:
        return Figure(
            title, f"{says} Nothing can be said: {found.of(quantities[0]).why}", [], {}, height=120, bar=False
        )
    band = _NORMAL_95 / math.sqrt(found.of(quantities[0]).clusters)
    shapes.append({
        "type": "rect", "xref": "paper", "x0": 0, "x1": 1, "y0": -band, "y1": band, "fillcolor": GRID, "opacity": 0.6,
        "line": {"width": 0}, "layer": "below",
    })  # fmt: skip
    layout = {
        "xaxis": axis("hours apart", range=[-0.02 * shown, round(shown, 4)]), "yaxis": axis("autocorrelation"),
        "shapes": shapes, "showlegend": True,
    }  # fmt: skip
    says += (
        f" Integrated autocorrelation time: {', '.join(told)}. Dotted: the end of the window that is summed; "
        "grey: where 95 % of a series without memory would lie."
    )
    return Figure(title, says, data, layout, height=320)


def _rule(at: float, colour: str) -> dict[str, Any]:
    style = {"color": colour, "width": 1.4, "dash": "dot"}
    return {"type": "line", "yref": "paper", "x0": at, "x1": at, "y0": 0, "y1": 1, "line": style}


def worth_figure(found: Description) -> Figure:
    """Rows, what they are worth by the design effect, and by memory besides."""
    own = [one for one in found.likeness if one.underlying is None and one.quantity != "residual"]
    names = [one.quantity for one in own]
    steps = (
        ("rows", GRID, [one.rows for one in own]),
        ("worth if snapshots were independent", "#3d86d6", [one.rows_within for one in own]),
        ("worth, memory included", "#e0812b", [one.rows_effective for one in own]),
    )
    data: list[dict[str, Any]] = [
        {
            "type": "bar", "name": name, "x": names, "y": numbers(values, 3), "marker": {"color": colour},
            "hovertemplate": f"%{{x}}<br>{name}: %{{y:,}}<extra></extra>",
        }
        for name, colour, values in steps
    ]  # fmt: skip
    worth = np.array(steps[2][2], np.float64)
    low, high = (np.array([getattr(one, f"rows_effective_{end}") for one in own]) for end in ("low", "high"))
    data[2]["error_y"] = {
        "type": "data", "symmetric": False, "array": numbers(high - worth), "arrayminus": numbers(worth - low),
        "color": INK, "thickness": 1.2, "width": 4,
    }  # fmt: skip
    layout = {
        "yaxis": axis("rows", type="log", tickformat="~s", dtick=1), "xaxis": axis("", type="category"),
        "barmode": "group", "showlegend": True, "legend": {"orientation": "h", "x": 0, "y": 1.02, "yanchor": "bottom"},
    }  # fmt: skip
    says = (
        "What the rows are worth as independent ones, all underlyings together: first shared shocks of a snapshot, "
        "then snapshots that resemble those before. Bars are 95 % intervals."
    )
    return Figure("What it is worth", says, data, layout, height=360)


def standing_figure(found: Description) -> Figure:
    """Share of quotes unchanged from one chain to the next, by delta and time to expiry."""
    stale = found.staleness
    shares = np.array(stale.table_unchanged)
    text = [["" if math.isnan(value) else f"{100 * value:.0f} %" for value in row] for row in shares.tolist()]
    sheet = {
        "type": "heatmap", "x": list(stale.deltas), "y": list(stale.tenors), "z": numbers(100.0 * shares, 3),
        "text": text, "texttemplate": "%{text}", "colorscale": _HEAT, "zmin": 0, "zmax": 100, "xgap": 2, "ygap": 2,
        "customdata": [[f"{pairs:,}" for pairs in row] for row in stale.table_pairs],
        "hovertemplate": "|delta| %{x}, %{y}<br>%{z:.1f} % unchanged of %{customdata} quotes<extra></extra>",
        "showscale": False,
    }  # fmt: skip
    layout = {
        "xaxis": axis("|delta|", type="category"), "yaxis": axis("", type="category"),
        "margin": {"l": 96, "r": 14, "t": 12, "b": 46},
    }  # fmt: skip
    says = f"Share of quotes whose bid and ask are what they were one chain before. {stale.why}"
    return Figure("Quotes that stand", says.strip(), [sheet], layout, height=340)


def survival_figure(found: Description) -> Figure:
    """How long a quote stands."""
    stale = found.staleness
    if not stale.survival or not stale.survival[0].share:
        return Figure("How long they stand", stale.why or "No quote was seen to begin.", [], {}, height=120, bar=False)
    data, longest = [], 1
    colours = (INK, *("#ef9b28", "#ee7a4c", "#dd5476", "#b9459f", "#5b62d8", "#3d86d6"))
    ordered = {"all": 0, **{name: place + 1 for place, name in enumerate(stale.tenors)}}
    for one in stale.survival:
        share = [1.0, *one.share]
        chains = np.arange(len(share))
        longest = max(longest, len(one.share))
        colour = colours[ordered[one.bucket] % len(colours)]
        width = 2.6 if one.bucket == "all" else 1.4
        hover = f"{one.bucket}: after %{{x}} chains<br>%{{y:.2f}} % stand"
        shape = {"color": colour, "width": width, "shape": "hv"}
        data.append({
            **line(chains, 100.0 * np.array(share), colour, hover=hover), "name": one.bucket, "line": shape,
            "visible": True if one.bucket == "all" or len(one.share) > 2 else "legendonly",
        })  # fmt: skip
    again = line(stale.lags, 100.0 * np.array(stale.unchanged_after), MUTED, mode="lines+markers", dash="dot",
                 hover="any quote: %{y:.1f} % have the same prices %{x} chains later")  # fmt: skip
    data.append({**again, "name": "any quote, same prices", "marker": {"size": 5, "color": MUTED}})
    layout = {
        "xaxis": axis("chains later", range=[0, min(longest, 48)]),
        "yaxis": axis("quotes that stand", type="log", ticksuffix=" %", dtick=1, tickformat="~g"),
        "showlegend": True,
    }  # fmt: skip
    says = (
        "Of new quotes, how many stand so many chains later, by time to expiry (Kaplan and Meier: those lost from "
        "sight count as long as they were seen). Dotted: any quote, however long it has stood, with equal prices later."
    )
    return Figure("How long they stand", says, data, layout, height=340)
