"""The surface itself: in three dimensions, at the money through time, and as densities."""

import numpy as np

from volgrad.models.certificate import grid_g
from volgrad.report.figure import GRID, INK, MUTED, Figure, axis, line, log_days, numbers, tenor_axis
from volgrad.report.shown import Shown

__all__ = ["density_figure", "surface_figure", "term_figure"]

_X = np.linspace(-2.5, 2.5, 51)  # standardised moneyness
_TIMES = 44
_WIDE = np.linspace(-4.0, 4.0, 161)


def surface_figure(shown: Shown) -> Figure:
    """Implied volatility over standardised moneyness and time to expiry, with the quotes' middles on it."""
    years = np.unique(np.concatenate([np.geomspace(shown.years[0], shown.years[-1], _TIMES), shown.years]))
    if years.size < 2:  # one expiry: a ribbon as wide as a fifth of it
        years = shown.years[0] * np.array([1.0, 1.2])
    deviation = np.sqrt(shown.surface.total_variance(np.zeros(years.size), years))
    vol = 100.0 * shown.surface.implied_vol(_X[None, :] * deviation[:, None], years[:, None])
    hover = "x %{x:.2f}<br>volatility %{z:.2f} %<extra></extra>"
    sheet = {
        "type": "surface", "x": numbers(_X), "y": numbers(log_days(years)), "z": numbers(vol, 4), "opacity": 0.94,
        "colorscale": [[0, "#2b3a8c"], [0.25, "#3d86d6"], [0.5, "#5cc3b0"], [0.75, "#f2b84b"], [1, "#e2543e"]],
        "colorbar": {"thickness": 10, "len": 0.7, "ticksuffix": " %", "outlinewidth": 0, "x": 1.0},
        "lighting": {"ambient": 0.75, "diffuse": 0.45, "specular": 0.08, "roughness": 0.9}, "hovertemplate": hover,
    }  # fmt: skip
    near = np.abs(shown.standardised) <= _X[-1]
    chain = shown.fitted.chain
    quotes = {
        "type": "scatter3d", "mode": "markers", "x": numbers(shown.standardised[near]),
        "y": numbers(log_days(chain.row_expiry_years[near])), "z": numbers(100.0 * chain.mid_iv[near], 4),
        "marker": {"size": 2.1, "color": INK, "opacity": 0.75},
        "hovertemplate": "quote, middle<br>x %{x:.2f}<br>%{z:.2f} %<extra></extra>",
    }  # fmt: skip
    scene = {
        "xaxis": axis("moneyness, st. dev."),
        "yaxis": tenor_axis(years[0], years[-1], "expiry"),
        "zaxis": axis("implied vol", ticksuffix=" %"),
        "camera": {"eye": {"x": -1.6, "y": -1.55, "z": 0.95}, "center": {"x": -0.07, "y": 0.04, "z": -0.27}},
        "aspectratio": {"x": 1.1, "y": 1.1, "z": 1.0},
    }
    says = (
        "Implied volatility over moneyness in at-the-money standard deviations, ln(K/F) / (σ√τ), and time to expiry; "
        "dots are the middles of the quotes. Drag to turn, scroll to zoom."
    )
    layout = {"scene": scene, "margin": {"l": 0, "r": 0, "t": 0, "b": 0}}
    return Figure("Implied volatility", says, [sheet, quotes], layout, height=560)


def term_figure(shown: Shown) -> Figure:
    """At-the-money volatility: the listed expiries and the curve that is carried between them."""
    first, last = shown.years[0] / 1.6, shown.years[-1] * 1.3
    years = np.unique(np.concatenate([np.geomspace(first, last, 240), shown.years]))
    vol = 100.0 * shown.surface.implied_vol(np.zeros(years.size), years)
    data = [line(log_days(years), vol, INK, width=1.6, hover="%{y:.2f} %")]
    if shown.truth is not None:
        true = 100.0 * shown.true_vol(np.zeros(years.size), years)
        data.append(line(log_days(years), true, MUTED, dash="dot", width=1.6))
    at = 100.0 * shown.deviation / np.sqrt(shown.years)
    labels = [f"{label}, {tenor}" for label, tenor in zip(shown.labels, shown.tenors, strict=True)]
    marks = line(log_days(shown.years), at, INK, mode="markers", text=labels, hover="%{text}<br>%{y:.2f} %")
    data.append({**marks, "marker": {"size": 9, "color": shown.colours, "line": {"color": "--card", "width": 1.5}}})
    says = (
        "At-the-money volatility: dots are listed expiries, the line is what the surface says of every other date "
        "(variance passes more slowly at weekends)." + (" Dotted: the truth." if shown.truth is not None else "")
    )
    layout = {"xaxis": tenor_axis(first, last), "yaxis": axis("at-the-money volatility", ticksuffix=" %")}
    return Figure("Term structure", says, data, layout, height=250)


def density_figure(shown: Shown) -> Figure:
    """Risk-neutral densities, each in its own standard deviations, beside the normal."""
    k = _WIDE[None, :] * shown.deviation[:, None]
    density = _density(shown, k) * shown.deviation[:, None]
    normal = np.exp(-0.5 * _WIDE**2) / np.sqrt(2.0 * np.pi)
    data = [{**line(_WIDE, normal, "rgba(0,0,0,0)", fill="tozeroy"), "fillcolor": GRID}]
    for place, colour in enumerate(shown.colours):
        hover = f"{shown.labels[place]}<br>x %{{x:.2f}}<br>density %{{y:.3f}}"
        data.append(line(_WIDE[1:-1], density[place], colour, width=1.7, hover=hover))
    says = (
        "What the options say of the price at expiry: density of ln(S/F) in at-the-money standard deviations, one "
        "curve an expiry. Grey: the normal. A density below zero would be arbitrage."
    )
    layout = {
        "xaxis": axis("ln(S/F), at-the-money standard deviations", range=[-4, 4]),
        "yaxis": axis("density", rangemode="tozero"),
    }
    return Figure("Risk-neutral density", says, data, layout, height=250)


def _density(shown: Shown, k: np.ndarray) -> np.ndarray:
    """Density of log-moneyness at the inner points of each row of `k`: `g n(d2) / sqrt(w)`.

    As `Surface.density`, but by the differences of the grid, which numpy has at once and JAX would have to compile.
    Source: Gatheral and Jacquier 2014, Lemma 2.2 [paper].
    """
    variance = shown.surface.total_variance(k, shown.years[:, None])
    g = np.concatenate([grid_g(row, one[None, :]) for row, one in zip(k, variance, strict=True)])
    deviation = np.sqrt(variance[:, 1:-1])
    lower = -k[:, 1:-1] / deviation - 0.5 * deviation  # d2
    return g * np.exp(-0.5 * lower**2) / (np.sqrt(2.0 * np.pi) * deviation)
