"""The certificate, drawn: Durrleman's function and the growth of total variance over the dense grid."""

import numpy as np

from volgrad.models.certificate import LEAST_G, LEAST_GROWTH, dense_moneyness, grid_g
from volgrad.models.joining import certificate_times
from volgrad.report.figure import BAD, GOOD, INK, Figure, axis, line, log_days, numbers, tenor_axis
from volgrad.report.shown import Shown

__all__ = ["proof_figures"]

_POINTS = 121  # of the certificate's 401: what a screen can show
_MOST = 2.0  # values above are drawn as this
_LEAST = -0.5
_TICKS = (-2.0, -1.0, -0.5, -0.2, -0.05, 0.0, 0.05, 0.2, 0.5, 1.0, 2.0)
_ZERO = _LEAST / (_LEAST - _MOST)  # where zero stands on the colour scale
_SCALE = [[0, "#b3122b"], [_ZERO, "#f08a7a"], [_ZERO, "--pale"], [0.6, "#58b3a6"], [1, "#136f7f"]]


def proof_figures(shown: Shown) -> list[Figure]:
    """Heat maps of `g` and of the growth of variance, and the least of each by tenor."""
    certificate = shown.fitted.certificate
    assert certificate is not None, "the certificate is drawn only where there is one"
    years, reach = certificate_times(shown.surface.expiry_years), certificate.k_range[1]
    k = dense_moneyness(reach, _POINTS)
    variance = shown.surface.total_variance(k[None, :], years[:, None])
    g = grid_g(k, variance)
    slope = np.diff(np.log(variance), axis=0) / np.diff(np.log(years))[:, None]
    middle = np.sqrt(years[1:] * years[:-1])
    butterfly = _map(shown, k[1:-1], years, g, "g")
    calendar = _map(shown, k, middle, slope, "d ln w / d ln τ")
    tenors = tenor_axis(years[0], years[-1])
    layout = {"xaxis": _moneyness_axis(reach), "yaxis": tenors}
    none, found = "No", "There is"
    return [
        Figure(
            f"{none if certificate.min_g >= LEAST_G else found} butterfly arbitrage",
            "Durrleman's g over the dense grid: a negative value (red) would be a negative probability. "
            f"Least on the certificate's 401 points: {certificate.min_g:.2g}. White lines bound the quotes.",
            butterfly,
            layout,
        ),
        Figure(
            f"{none if certificate.min_calendar >= LEAST_GROWTH else found} calendar arbitrage",
            "Growth of total variance with time at fixed moneyness, d ln w / d ln τ: below zero (red) a longer option "
            f"would be worth less. Least growth between two times: {certificate.min_calendar:.2g}.",
            calendar,
            layout,
        ),
        _least(years, middle, g, slope),
    ]


def _map(shown: Shown, k: np.ndarray, years: np.ndarray, values: np.ndarray, name: str) -> list[dict]:
    """A heat map over warped log-moneyness and tenor, with the range that is quoted."""
    sheet = {
        "type": "heatmap", "x": numbers(_warped(k, _reach(shown))), "y": numbers(log_days(years)),
        "z": numbers(np.clip(values, _LEAST, _MOST), 3), "zmin": _LEAST, "zmax": _MOST, "colorscale": _SCALE,
        "hovertemplate": name + " %{z:.3g}<extra></extra>",
        "colorbar": {
            "thickness": 10, "outlinewidth": 0, "len": 0.92, "y": 0, "yanchor": "bottom",
            "tickvals": [_LEAST, 0, 1, _MOST], "ticktext": ["< 0", "0", "1", "≥ 2"],
        },
    }  # fmt: skip
    bounds = [
        line(_warped(side, _reach(shown)), log_days(shown.surface.expiry_years), "rgba(255,255,255,.9)", width=1.5)
        for side in shown.surface.quoted.T
    ]
    return [sheet, *bounds]


def _reach(shown: Shown) -> float:
    assert shown.fitted.certificate is not None
    return shown.fitted.certificate.k_range[1]


def _warped(k: np.ndarray | float, reach: float) -> np.ndarray:
    """The even places of `dense_moneyness`, which spaces its points densely at the money."""
    return np.arcsinh(np.asarray(k) / reach * np.sinh(4.0)) / 4.0


def _moneyness_axis(reach: float) -> dict:
    ticks = [tick for tick in _TICKS if abs(tick) <= reach]
    places = numbers(_warped(np.array(ticks), reach))
    return axis("log-moneyness k = ln(K/F), stretched at the money", range=[-1, 1], tickvals=places,
                ticktext=[f"{tick:g}".replace("-", "−") for tick in ticks])  # fmt: skip


def _least(years: np.ndarray, middle: np.ndarray, g: np.ndarray, slope: np.ndarray) -> Figure:
    data = [
        line(log_days(years), g.min(axis=1), GOOD, mode="lines+markers", name="least g",
             hover="least g %{y:.3g}", marker={"size": 5}),
        line(log_days(middle), slope.min(axis=1), INK, mode="lines+markers", name="least d ln w / d ln τ",
             hover="least growth %{y:.3g}", marker={"size": 5}),
    ]  # fmt: skip
    forbidden = {"type": "rect", "xref": "paper", "x0": 0, "x1": 1, "y0": -9, "y1": 0, "layer": "below"}
    forbidden |= {"fillcolor": BAD, "opacity": 0.14, "line": {"width": 0}}
    low = min(0.0, float(np.nanmin(g)), float(np.nanmin(slope)))
    high = max(float(np.nanmax(g.min(axis=1))), float(np.nanmax(slope.min(axis=1))), 0.1)
    layout = {
        "xaxis": tenor_axis(years[0], years[-1]),
        "yaxis": axis("least value over moneyness", range=numbers([low - 0.12 * (high - low), 1.08 * high], 3)),
        "shapes": [forbidden],
        "showlegend": True,
    }
    says = "The least of both at each tenor, between the expiries too: arbitrage would reach into the red."
    return Figure("Distance from arbitrage", says, data, layout, height=300)
