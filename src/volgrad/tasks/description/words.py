"""What the quantities are called, and how numbers of a description are written."""

import math

__all__ = ["MEANING", "at_least", "at_most", "count", "duration", "interval", "share"]

#: Quantity -> what it is, for a reader who sees it for the first time.
MEANING = {
    "innovation": "change of ln implied volatility of the same option from one chain to the next",
    "surprise": "the same change in half-spreads, cut at 2.5: the residual that a model of the chain before meets",
    "level": "ln implied volatility less the underlying's average surface: what a model sees that does not know the "
    "moment",
    "gradient": "gradient of a coarse surface of 20 tents at that average: nearest to a network's, and what a choice "
    "of batch size should start from",
    "residual": "middle less a smooth smile of the same expiry, in half-spreads: what is left once a model has "
    "followed the snapshot",
}

_HOURS = ((24.0 * 365.0, "y"), (24.0, "d"), (1.0, "h"), (1 / 60, "min"), (1 / 3600, "s"))


def count(value: float) -> str:
    """A count to three figures, "–" where it is not known.

    >>> count(74882), count(3.349), count(float("nan"))
    ('74,900', '3.35', '–')
    """
    if not math.isfinite(value):
        return "–"
    if abs(value) >= 100.0:
        digits = max(len(str(int(abs(value)))) - 3, 0)
        return f"{round(value, -digits):,.0f}"
    return f"{value:.3g}"


def interval(value: float, low: float, high: float, digits: int = 3) -> str:
    """A value and its interval.

    >>> interval(0.054, 0.039, 0.059), interval(0.3, float("nan"), float("nan"))
    ('0.054 (0.039 to 0.059)', '0.300')
    """
    if not math.isfinite(value):
        return "–"
    if not (math.isfinite(low) and math.isfinite(high)):
        return f"{value:.{digits}f}"
    return f"{value:.{digits}f} ({low:.{digits}f} to {high:.{digits}f})"


def at_least(text: str, resolved: bool) -> str:
    """Mark a lower bound: an autocorrelation time of a series that is too short for it."""
    return text if resolved or text == "–" else f"≥ {text}"


def at_most(text: str, resolved: bool) -> str:
    """Mark an upper bound: what such a series is worth."""
    return text if resolved or text == "–" else f"≤ {text}"


def duration(hours: float) -> str:
    """A length of time in the largest unit of which it is one or more.

    >>> duration(0.0833333), duration(6.136), duration(132.5), duration(float("nan"))
    ('5 min', '6.1 h', '5.5 d', '–')
    """
    if not math.isfinite(hours):
        return "–"
    scale, unit = next(((scale, unit) for scale, unit in _HOURS if hours >= 0.999 * scale), _HOURS[-1])
    return f"{hours / scale:.1f}".removesuffix(".0") + f" {unit}"


def share(value: float) -> str:
    """A share in percent.

    >>> share(0.1557), share(0.0005), share(float("nan"))
    ('15.6 %', '0.05 %', '–')
    """
    if not math.isfinite(value):
        return "–"
    percent = 100.0 * value
    return f"{percent:.1f} %" if percent >= 0.1 or percent == 0.0 else f"{percent:.2f} %"
