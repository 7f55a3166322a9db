"""Charts over all chains: how well they are fitted, where volatility was, how long it took."""

from collections.abc import Callable, Sequence

from volgrad.report.figure import Figure, axis, numbers
from volgrad.report.shown import stamp_text
from volgrad.tasks.fitted import FittedChain

__all__ = ["overview_figures"]

_COLOURS = ("#e0812b", "#4d68d8", "#2a9d8f", "#b9459f", "#8a6d3b", "#6b7280")
_DASHES = ("solid", "dot", "dash", "longdash", "dashdot")
_MONTH = 30.0 / 365.0
_MOST_ASKED = 480  # surfaces of which the level is read; a screen shows no more
_Value = Callable[[FittedChain], float]


def overview_figures(fitted: Sequence[FittedChain]) -> list[Figure]:
    """Share inside and at-the-money level through time; none where all chains are of one time."""
    known = [one for one in fitted if one.surface is not None]
    if len({one.chain.ts_us for one in known}) < 2:
        return []
    series = _series(known)
    each = max(2, _MOST_ASKED // len(series))
    some = {key: chains[:: -(-len(chains) // each)] for key, chains in series.items()}
    inside = Figure(
        "Inside the spread",
        "Share of each chain's quotes whose model price lies between bid and ask.",
        _lines(series, lambda one: 100.0 * one.inside, "%{y:.1f} % inside"),
        {"yaxis": axis("quotes inside", ticksuffix=" %"), "showlegend": True, **_time(known)},
        height=270,
    )
    level = Figure(
        "Volatility through time",
        "At-the-money volatility thirty days out, as each surface says it.",
        _lines(some, _month_vol, "%{y:.2f} %"),
        {"yaxis": axis("30-day at-the-money volatility", ticksuffix=" %"), "showlegend": True, **_time(known)},
        height=270,
    )
    return [inside, level]


def _series(known: Sequence[FittedChain]) -> dict[tuple[str, str | None], list[FittedChain]]:
    series: dict[tuple[str, str | None], list[FittedChain]] = {}
    for one in sorted(known, key=lambda one: one.chain.ts_us):
        series.setdefault((one.chain.ccy, one.chain.split), []).append(one)
    return dict(sorted(series.items(), key=lambda item: (item[0][0], item[0][1] or "")))


def _time(known: Sequence[FittedChain]) -> dict:
    stamps = [one.chain.ts_us for one in known]
    room = max(1, round(0.02 * (max(stamps) - min(stamps))))
    ends = [stamp_text(min(stamps) - room, "s"), stamp_text(max(stamps) + room, "s")]
    return {"xaxis": axis("time, UTC", type="date", range=ends)}


def _month_vol(fitted: FittedChain) -> float:
    assert fitted.surface is not None
    return 100.0 * float(fitted.surface.implied_vol(0.0, _MONTH))


def _lines(series: dict[tuple[str, str | None], list[FittedChain]], value: _Value, hover: str) -> list[dict]:
    ccys = list(dict.fromkeys(ccy for ccy, _ in series))
    splits = list(dict.fromkeys(split for _, split in series))
    traces = []
    for (ccy, split), chains in series.items():
        colour = _COLOURS[ccys.index(ccy) % len(_COLOURS)]
        name = ccy if split is None else f"{ccy} {split}"
        traces.append({
            "type": "scatter", "mode": "lines+markers", "name": name,
            "x": [stamp_text(one.chain.ts_us, "s") for one in chains],
            "y": numbers([value(one) for one in chains]),
            "line": {"color": colour, "width": 1.4, "dash": _DASHES[splits.index(split) % len(_DASHES)]},
            "marker": {"size": 4, "color": colour},
            "hovertemplate": f"{hover}<br>%{{x|%-d %b %Y %H:%M}}",
        })  # fmt: skip
    return traces
