"""The smiles of a chain, one small figure an expiry."""

from typing import Any

import numpy as np

from volgrad.report.figure import BAD, INK, MUTED, Figure, axis, line, numbers
from volgrad.report.shown import Shown

__all__ = ["smile_figures"]

_POINTS = 81
_BEYOND = 0.12  # of the quoted range, on either side


def smile_figures(shown: Shown) -> list[Figure]:
    """Bid-ask bars in implied volatility against log-moneyness, and the fitted curve; one figure an expiry."""
    return [_smile(shown, place) for place in range(shown.expiries.size)]


def _smile(shown: Shown, place: int) -> Figure:
    chain = shown.fitted.chain
    rows = chain.rows(int(shown.expiries[place]))
    k, bid, ask = chain.log_moneyness[rows], chain.bid_iv[rows], chain.ask_iv[rows]
    room = _BEYOND * max(float(k.max() - k.min()), 0.01)
    at = np.linspace(k.min() - room, k.max() + room, _POINTS)
    data, key, heights = _bars(shown, place, rows), f"{shown.tenors[place]} · {k.size} quotes", [bid, ask]
    if shown.truth is not None:
        true = shown.true_vol(at, shown.years[place])
        data.append(line(at, 100.0 * true, INK, dash="dot", width=1.2))
    if shown.fitted.surface is not None:
        curve = shown.surface.implied_vol(at, np.full(at.size, shown.years[place]))
        data.append(line(at, 100.0 * curve, shown.colours[place], width=2.2))
        heights.append(curve[np.isfinite(curve)])
        inside = np.abs(shown.residual[rows]) <= 1.0
        key += f" · {100.0 * float(np.mean(inside)):.0f} % inside"
    tall = 100.0 * np.concatenate(heights)
    margin = 0.06 * float(tall.max() - tall.min())
    layout = {
        "xaxis": axis("log-moneyness k = ln(K/F)", range=numbers([at[0], at[-1]]), nticks=6),
        "yaxis": axis("", range=numbers([tall.min() - margin, tall.max() + margin]), ticksuffix=" %", nticks=6),
        "margin": {"l": 46, "r": 10, "t": 6, "b": 40},
    }
    return Figure(shown.labels[place], "", data, layout, height=236, key=key, bar=False)


def _bars(shown: Shown, place: int, rows: slice) -> list[dict[str, Any]]:
    """Bars from bid to ask: muted where the model is within, in the warning colour where it is not."""
    chain = shown.fitted.chain
    k, bid, ask = chain.log_moneyness[rows], 100.0 * chain.bid_iv[rows], 100.0 * chain.ask_iv[rows]
    inside = np.ones(k.size, bool)
    model = np.full(k.size, np.nan)
    if shown.fitted.surface is not None:
        inside, model = np.abs(shown.residual[rows]) <= 1.0, 100.0 * shown.model_iv[rows]
    traces = []
    for which, colour, width in ((inside, MUTED, 1.6), (~inside, BAD, 2.2)):
        if which.any():
            x = np.stack([k[which], k[which], np.full(which.sum(), np.nan)], axis=1).ravel()
            y = np.stack([bid[which], ask[which], np.full(which.sum(), np.nan)], axis=1).ravel()
            traces.append(line(x, y, colour, width=width))
    hover = "strike %{customdata[0]:,.6~g}<br>bid %{customdata[1]:.2f} %<br>ask %{customdata[2]:.2f} %"
    hover += "<br>model %{customdata[3]:.2f} %" if shown.fitted.surface is not None else ""
    details = numbers(np.stack([chain.strike_usd[rows], bid, ask, model], axis=1), 6)
    marks = line(k, 0.5 * (bid + ask), shown.colours[place], mode="markers", customdata=details, hover=hover)
    return [*traces, {**marks, "marker": {"size": 7, "opacity": 0.0}}]
