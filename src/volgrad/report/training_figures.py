"""The pictures of a training run: losses, other metrics, learning rate and batch size, gradient norm, throughput."""

from collections.abc import Sequence
from typing import Any

import numpy as np
from jaxtyping import Float64, Int64

from volgrad.report.figure import BAD, INK, MUTED, Figure, axis, line, numbers
from volgrad.report.run_record import RunRecord, as_number

__all__ = [
    "MOST_POINTS",
    "gradient_figure",
    "loss_figure",
    "metric_figures",
    "pace_figure",
    "rate_figure",
    "thinned",
    "value_axis",
]

MOST_POINTS = 2_000  # of a curve
_MOST_METRICS = 48  # figures of validation metrics
_MANY = 1_000  # samples, from which on they are told in thousands
_MOST_SIZES = 6  # of batches that are named on an axis
_FEW_DECADES = 0.7, 2.5  # on an axis: below the first all ticks are even, below the second at 1, 2 and 5
_MOST_RULES = 60  # lines that mark events
_TRAINING, _VALIDATION, _RATE, _OTHER = "#4d68d8", "#e0812b", "#2a9d8f", "#b9459f"
_MARKS = {
    "roll-back": (BAD, "x"), "gave up": (BAD, "square"), "remedy": ("#b9459f", "diamond"),
    "rate cut": ("#2a9d8f", "triangle-down"), "batch size": (INK, "triangle-up"), "note": (MUTED, "circle-open"),
}  # fmt: skip


def thinned(y: Float64[np.ndarray, " points"], most: int = MOST_POINTS) -> Int64[np.ndarray, " kept"]:
    """Places of at most `most` points that draw the same curve: of each stretch the lowest and the highest, and the two
    ends. `y` is finite, `most` at least 4.

    >>> thinned(np.array([0.0, 1.0, 9.0, 1.0, 2.0, 3.0, -5.0, 4.0]), most=6).tolist()
    [0, 2, 6, 7]
    """
    if y.size <= most:
        return np.arange(y.size)
    kept = [np.array([0, y.size - 1])]
    for stretch in np.array_split(np.arange(y.size), (most - 2) // 2):
        kept.append(stretch[[np.argmin(y[stretch]), np.argmax(y[stretch])]])
    return np.unique(np.concatenate(kept))


def loss_figure(run: RunRecord) -> Figure:
    """Training and validation loss by samples, and what happened."""
    samples = run.column("samples")
    training = np.where(run.taken_back, np.nan, run.column("loss"))
    validation = run.column("validation_loss")
    says = (
        "Training: mean over the steps of a segment, while the weights move. Validation: of held-out data, as the run "
        "would serve."
    )
    data = _series(samples, training, _TRAINING, "training", "%{y:.5g}", width=1.4)
    data += _series(samples, validation, _VALIDATION, "validation", "%{y:.5g}", mode="lines+markers")
    if not data:
        return _nothing("Training and validation loss", says)
    best = run.best
    if best is not None and np.isfinite(at := [as_number(best.get("samples")), as_number(best.get("loss"))]).all():
        data.append(_points([at[0]], [at[1]], "best", _VALIDATION, "star", [f"best validation loss {at[1]:.5g}"]))
    drawn = training if np.isfinite(training).any() else validation
    data += _event_marks(run, samples, drawn)
    layout = {
        "xaxis": _samples_axis(run),
        "yaxis": value_axis("loss", _heights(data)),
        "showlegend": True,
        "shapes": _rules(run),
    }
    back = int(run.taken_back.sum())
    if back:
        says += f" Left out: {back} segment{'' if back == 1 else 's'} whose steps were taken back."
    return Figure("Training and validation loss", says, data, layout, height=400)


def metric_figures(run: RunRecord) -> list[Figure]:
    """One small figure of each validation metric but the loss; the key is its value where the loss was best."""
    samples, best, figures = run.column("samples"), run.best or {}, []
    for name in [name for name in run.validation if name != "loss"][:_MOST_METRICS]:
        data = _series(samples, run.column(f"validation_{name}"), _OTHER, name, "%{y:.5g}", mode="lines+markers")
        if not data:
            continue
        value = as_number(best.get(name))
        key = f"{value:.4g} at the best loss" if np.isfinite(value) else ""
        layout = {"xaxis": _samples_axis(run), "yaxis": value_axis("", _heights(data))}
        figures.append(Figure(name, "", data, layout, height=220, key=key, bar=False))
    return figures


def rate_figure(run: RunRecord) -> Figure:
    """Learning rate, and the size of a batch where it changes."""
    samples, batch = run.column("samples"), run.column("batch")
    title, says = "Learning rate", "Of the last step of each segment."
    rate = run.column("lr")
    kept = rate if run.taken_back.all() else np.where(run.taken_back, np.nan, rate)
    data = _series(samples, kept, _RATE, "learning rate", "%{y:.4g}")
    if not data:
        return _nothing(title, says)
    layout: dict[str, Any] = {
        "xaxis": _samples_axis(run), "yaxis": axis("learning rate", rangemode="tozero", exponentformat="power"),
    }  # fmt: skip
    sizes = np.unique(batch[np.isfinite(batch)])
    if sizes.size == 1:
        says += f" Batches are of {sizes[0]:,.0f} cluster{'' if sizes[0] == 1 else 's'} throughout."
    elif sizes.size:
        title = "Learning rate and batch size"
        steps = _series(samples, batch, MUTED, "clusters a batch", "%{y:,} clusters", width=1.6)
        data += [{**one, "yaxis": "y2", "line": {**one["line"], "shape": "vh", "dash": "dot"}} for one in steps]
        right: dict[str, Any] = {"overlaying": "y", "side": "right", "rangemode": "tozero", "showgrid": False}
        if sizes.size <= _MOST_SIZES:
            right["tickvals"] = sizes.tolist()
        layout |= {"yaxis2": axis("clusters a batch", **right), "showlegend": True}
        layout["margin"] = {"l": 58, "r": 58, "t": 12, "b": 46}
    return Figure(title, says, data, layout, height=300)


def gradient_figure(run: RunRecord) -> Figure:
    """Norm of the gradient, before clipping."""
    says = "Of the last step of each segment, before clipping."
    norm = np.where(run.taken_back, np.nan, run.column("gradient_norm"))
    data = _series(run.column("samples"), norm, _TRAINING, "gradient norm", "%{y:.4g}", width=1.4)
    if not data:
        return _nothing("Gradient norm", says)
    layout: dict[str, Any] = {"xaxis": _samples_axis(run), "yaxis": value_axis("norm", _heights(data))}
    clip = as_number(run.setting("optimizer", "clip_norm"))
    if clip > 0.0:
        says += f" Dotted: what longer ones are cut to, {clip:g}."
        layout["shapes"] = [_level(clip)]
    return Figure("Gradient norm", says, data, layout, height=300)


def pace_figure(run: RunRecord) -> Figure:
    """Rows a second."""
    says = "Rows looked at a second on the wall, of each segment; compiling, evaluating and storing not counted."
    pace = run.column("rows_per_s")
    data = _series(run.column("samples"), pace, _OTHER, "rows a second", "%{y:,.0f} rows/s", width=1.4)
    if not data:
        return _nothing("Throughput", says)
    median = float(np.median(pace[np.isfinite(pace)]))
    layout = {
        "xaxis": _samples_axis(run), "yaxis": axis("rows a second", rangemode="tozero", tickformat="~s"),
        "shapes": [_level(median)],
    }  # fmt: skip
    return Figure("Throughput", f"{says} Dotted: the median.", data, layout, height=300)


def _series(
    samples: np.ndarray, y: np.ndarray, colour: str, name: str, hover: str, **more: Any
) -> list[dict[str, Any]]:
    """One line through what is finite, thinned; none where nothing is."""
    known = np.flatnonzero(np.isfinite(samples) & np.isfinite(y))
    if not known.size:
        return []
    kept = known[thinned(y[known])]
    if kept.size == 1 or more.get("mode") == "lines+markers":  # a line through one point is not seen
        more |= {"mode": "lines+markers", "marker": {"size": 4 if kept.size < 150 else 2.5, "color": colour}}
    shown = _plain(name)
    told = f"{shown}: {hover}<br>%{{x:,}} samples"
    trace = line(samples[kept], y[kept], colour, hover=told, name=shown, **more)
    return [{**trace, "x": numbers(samples[kept], 15)}]


def _points(
    x: Sequence[float], y: Sequence[float], name: str, colour: str, symbol: str, told: Sequence[str]
) -> dict[str, Any]:
    """Marks with a sentence each."""
    return {
        "type": "scatter", "mode": "markers", "name": name, "x": numbers(x, 15), "y": numbers(y), "text": list(told),
        "marker": {"size": 10, "color": colour, "symbol": symbol}, "cliponaxis": False,
        "hovertemplate": "%{text}<br>%{x:,} samples<extra></extra>",
    }  # fmt: skip


def _event_marks(run: RunRecord, samples: np.ndarray, drawn: np.ndarray) -> list[dict[str, Any]]:
    """A mark on the curve for each event, by kind."""
    known = np.isfinite(samples) & np.isfinite(drawn)
    marks = []
    for kind, (colour, symbol) in _MARKS.items():
        own = [event for event in run.events if event.kind == kind and np.isfinite(event.samples)]
        own = own[-MOST_POINTS:]
        if own:
            height = np.interp([event.samples for event in own], samples[known], drawn[known])
            told = [_wrapped(event.text) for event in own]
            marks.append(_points([event.samples for event in own], height.tolist(), kind, colour, symbol, told))
    return marks


def _wrapped(text: str, most: int = 300) -> str:
    """A sentence for a hover, in lines."""
    text = text if len(text) <= most else text[:most] + " …"
    return _plain(text).replace(": ", ":<br>").replace("; ", ";<br>")


def _plain(text: str) -> str:
    """Text that plotly shows as it is: it reads some mark-up."""
    return text.replace("&", "&amp;").replace("<", "&lt;")


def _rules(run: RunRecord) -> list[dict[str, Any]]:
    found = [event for event in run.events if np.isfinite(event.samples)][:_MOST_RULES]
    return [
        {
            "type": "line", "yref": "paper", "x0": event.samples, "x1": event.samples, "y0": 0, "y1": 1,
            "line": {"color": _MARKS[event.kind][0], "width": 1, "dash": "dot"}, "opacity": 0.5, "layer": "below",
        }
        for event in found
    ]  # fmt: skip


def _level(at: float) -> dict[str, Any]:
    style = {"color": MUTED, "width": 1.2, "dash": "dot"}
    return {"type": "line", "xref": "paper", "x0": 0, "x1": 1, "y0": at, "y1": at, "line": style}


def _samples_axis(run: RunRecord) -> dict[str, Any]:
    many = bool((run.column("samples") >= _MANY).any())
    return axis("samples (clusters seen)", rangemode="tozero", tickformat="~s" if many else "~g")


def _nothing(title: str, says: str) -> Figure:
    hidden = {"xaxis": {"visible": False}, "yaxis": {"visible": False}}
    return Figure(title, f"{says} There is nothing to draw: no finite value has been told.", [], hidden, 40, bar=False)


def _heights(data: Sequence[dict[str, Any]]) -> Float64[np.ndarray, " points"]:
    return np.array([value for trace in data for value in trace["y"] if value is not None], np.float64)


def value_axis(title: str, values: Float64[np.ndarray, " points"]) -> dict[str, Any]:
    """An axis for these finite values: logarithmic where all are positive, with ticks that can be read.

    >>> value_axis("loss", np.array([0.1, 0.2]))["type"], "type" in value_axis("loss", np.array([-0.1, 0.2]))
    ('log', False)
    """
    if not values.size or values.min() <= 0.0:
        return axis(title, exponentformat="power")
    decades = np.log10(values.max() / values.min())
    if decades < _FEW_DECADES[0]:
        return axis(title, type="log", tickformat="~g", nticks=6)
    if decades < _FEW_DECADES[1]:
        return axis(title, type="log", tickformat="~g", dtick="D2")
    return axis(title, type="log", exponentformat="power", dtick=max(1, round(decades / 8.0)))
