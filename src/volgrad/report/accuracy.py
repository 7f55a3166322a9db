"""How far the surface is from its quotes, from the truth, and how it got there."""

import numpy as np

from volgrad.report.figure import BAD, GOOD, INK, Figure, axis, line, log_days, numbers, tenor_axis
from volgrad.report.shown import Shown

__all__ = ["learning_figure", "residual_figures", "truth_figures"]

_LEAST_LIMIT, _MOST_LIMIT = 2.0, 6.0  # half-spreads that a residual axis shows
_X = np.linspace(-2.5, 2.5, 61)
_LEVEL = 100.0  # vol points in one


def residual_figures(shown: Shown) -> list[Figure]:
    """Residuals in half-spreads, by moneyness and by tenor."""
    residual = shown.residual
    limit = float(np.clip(1.15 * np.quantile(np.abs(residual), 0.99), _LEAST_LIMIT, _MOST_LIMIT))
    beyond = int(np.sum(np.abs(residual) > limit))
    edge = f" {beyond} beyond the axis {'is' if beyond == 1 else 'are'} drawn at its edge." if beyond else ""
    inside = f"{100.0 * float(np.mean(np.abs(residual) <= 1.0)):.1f} % of the quotes."
    by_moneyness = Figure(
        "Residuals by moneyness",
        f"Model less middle of the quote, in half-spreads: the band holds what lies within bid and ask, {inside}{edge}",
        [_points(shown, shown.standardised, limit)],
        {"xaxis": axis("moneyness, at-the-money standard deviations"), **_residual_axis(limit)},
        height=300,
    )
    # Within an expiry low strikes stand to the left and high ones to the right.
    spread = 0.028 * np.clip(shown.standardised, -2.5, 2.5)
    data = [_points(shown, log_days(shown.fitted.chain.row_expiry_years) + spread, limit)]
    for place, colour in enumerate(shown.colours):
        low, high = np.quantile(residual[shown.place == place], [0.25, 0.75])
        at = float(log_days(shown.years[place]))
        data.append(line([at, at], [low, high], colour, width=7, opacity=0.5))
    by_tenor = Figure(
        "Residuals by tenor",
        "The same by expiry: low strikes to the left, high ones to the right; thick bars hold the middle half.",
        data,
        {"xaxis": tenor_axis(shown.years[0], shown.years[-1]), **_residual_axis(limit)},
        height=300,
    )
    return [by_moneyness, by_tenor]


def _points(shown: Shown, x: np.ndarray, limit: float) -> dict:
    chain = shown.fitted.chain
    y = np.clip(shown.residual, -limit, limit)
    colours = [shown.colours[place] for place in shown.place.tolist()]
    text = [
        f"{shown.labels[place]}, strike {strike:,.6g}"
        for place, strike in zip(shown.place.tolist(), chain.strike_usd.tolist(), strict=True)
    ]
    trace = line(x, y, INK, mode="markers", text=text, hover="%{text}<br>%{y:.2f} half-spreads")
    return {**trace, "marker": {"size": 4.5, "color": colours, "opacity": 0.8}}


def _residual_axis(limit: float) -> dict:
    band = {"type": "rect", "xref": "paper", "x0": 0, "x1": 1, "y0": -1, "y1": 1, "layer": "below"}
    band |= {"fillcolor": GOOD, "opacity": 0.1, "line": {"width": 0}}
    zero = {"type": "line", "xref": "paper", "x0": 0, "x1": 1, "y0": 0, "y1": 0, "layer": "below"}
    zero |= {"line": {"color": GOOD, "width": 1}}
    title = "model − middle, half-spreads"
    edge = round(1.05 * limit, 3)
    return {"yaxis": axis(title, range=[-edge, edge]), "shapes": [band, zero]}


def learning_figure(shown: Shown) -> Figure:
    """Loss against quotes seen, logarithmic."""
    fitted = shown.fitted
    seen, loss = np.array(fitted.curve, np.float64).reshape(-1, 2).T
    loss = np.where(loss > 0.0, loss, np.nan)  # a logarithmic axis has no zero
    trace = line(seen, loss, "--accent", mode="lines+markers", hover="%{x:,} quotes seen<br>loss %{y:.4g}")
    trace["marker"] = {"size": 6 if seen.size <= 60 else 3}
    passes = f"{fitted.iterations} {'pass' if fitted.iterations == 1 else 'passes'}"
    begun = "from the previous surface" if fitted.warm else "from nothing but the at-the-money levels"
    says = f"Mean loss a quote after each pass over the chain, begun {begun}: {passes}, {fitted.status} ({fitted.why})."
    layout = {
        "xaxis": axis("quotes seen", rangemode="tozero"),
        "yaxis": axis("loss", type="log", tickformat="~g", dtick=1 if _decades(loss) > 1 else None),
    }
    return Figure("Learning curve", says, [trace], layout, height=300)


def _decades(loss: np.ndarray) -> float:
    known = loss[np.isfinite(loss)]
    return float(np.log10(known.max() / known.min())) if known.size else 0.0


def truth_figures(shown: Shown) -> list[Figure]:
    """Fitted less true volatility, over the whole surface and by expiry."""
    years = np.unique(np.concatenate([np.geomspace(shown.years[0], shown.years[-1], 40), shown.years]))
    if years.size < 2:
        years = shown.years[0] * np.array([1.0, 1.2])
    error = _error(shown, years)
    limit = max(0.1, float(np.nanquantile(np.abs(error), 0.98)))
    scale = [[0, "#2b6fd6"], [0.5, "--card"], [1, "#e2543e"]]
    sheet = {
        "type": "heatmap", "x": numbers(_X), "y": numbers(log_days(years)), "z": numbers(error, 3), "zmid": 0,
        "zmin": round(-limit, 3), "zmax": round(limit, 3), "colorscale": scale, "zsmooth": "best",
        "colorbar": {"thickness": 10, "outlinewidth": 0, "len": 0.92, "y": 0, "yanchor": "bottom"},
        "hovertemplate": "x %{x:.2f}<br>%{z:.2f} vol points<extra></extra>",
    }  # fmt: skip
    near = np.abs(shown.standardised) <= _X[-1]
    places = log_days(shown.fitted.chain.row_expiry_years[near])
    dots = line(shown.standardised[near], places, INK, mode="markers")
    dots["marker"] = {"size": 2, "color": INK, "opacity": 0.35}
    whole = Figure(
        "Error against the truth",
        "Fitted less true volatility, in vol points: at the quotes (dots) and at all that lies between them (root mean "
        f"square {np.sqrt(np.nanmean(error**2)):.2f}).",
        [sheet, dots],
        {
            "xaxis": axis("moneyness, at-the-money standard deviations", range=[-2.5, 2.5]),
            "yaxis": tenor_axis(years[0], years[-1]),
        },
    )
    at_expiries = _error(shown, shown.years)
    data = [
        line(_X, row, colour, width=1.7, hover=f"{label}<br>x %{{x:.2f}}<br>%{{y:.2f}} vol points")
        for row, colour, label in zip(at_expiries, shown.colours, shown.labels, strict=True)
    ]
    layout = {
        "xaxis": axis("moneyness, at-the-money standard deviations", range=[-2.5, 2.5]),
        "yaxis": axis("fitted − true, vol points", zeroline=True, zerolinecolor=BAD),
    }
    says = (
        f"The same at the listed expiries, one curve each (root mean square {np.sqrt(np.nanmean(at_expiries**2)):.2f})."
    )
    return [whole, Figure("Error by expiry", says, data, layout)]


def _error(shown: Shown, years: np.ndarray) -> np.ndarray:
    deviation = np.sqrt(shown.surface.total_variance(np.zeros(years.size), years))
    k = _X[None, :] * deviation[:, None]
    return _LEVEL * (shown.surface.implied_vol(k, years[:, None]) - shown.true_vol(k, years[:, None]))
