"""Volatilities in the unit that their source declares: converted to fractions, and refused where that cannot
be right.

The kind of source says percent or fraction; nothing is ever guessed from the numbers. They can only
contradict it.
"""

import numpy as np
from jaxtyping import Bool, Float

from volgrad.data.schema import SourceKind
from volgrad.errors import UnitsError

__all__ = ["as_fraction", "bad_values", "check_against_prices", "check_median", "check_premiums", "usable_volatility"]

# Plausible medians of a chain's implied volatilities, as fractions. Assumption: no traded option market has a
# median below 3 % or above 500 %; crypto options have 30-150 % (measured on the recorded months), and a wrong
# unit is a factor of 100.
MEDIAN_LOW, MEDIAN_HIGH = 0.03, 5.0
# The exchange's cap, 999 % as its tickers show it, less float32 rounding
IV_CAP = 9.99 * (1 - 1e-6)
# A volatility in a file and the one implied by its price: a wrong unit is a factor of 100, anything else is
# far nearer to 1
RATIO_LOW, RATIO_HIGH = 0.1, 10.0
# An option within 2 % of the forward and a week to live is worth a thousandth of it at 10 % volatility; a
# coin premium of .05 taken for dollars is less than a ten-thousandth of any forward above 500.
_LEAST_PREMIUM = 1e-4


def as_fraction(values: Float[np.ndarray, " rows"], kind: SourceKind) -> Float[np.ndarray, " rows"]:
    """Volatilities of a source of this kind as fractions.

    >>> as_fraction(np.array([65.0]), SourceKind.SNAPSHOT).tolist()
    [0.65]
    """
    return values / 100.0 if kind.percent else values


def bad_values(fraction: Float[np.ndarray, " rows"], nulls: Bool[np.ndarray, " rows"]) -> dict[str, int]:
    """Count the values that are no volatility, by name: not a number, negative, zero, at the exchange's cap.

    >>> bad_values(np.array([0.5, 0.0, np.nan, 9.99, np.nan]), np.array([False] * 4 + [True]))
    {'nan': 1, 'zero': 1, 'cap': 1}
    """
    if np.all(nulls | ((fraction > 0) & (fraction < IV_CAP))):
        return {}
    given = fraction[~nulls]
    counts = {
        "nan": int(np.isnan(given).sum()),
        "negative": int((given < 0).sum()),
        "zero": int((given == 0).sum()),
        "cap": int((given >= IV_CAP).sum()),
    }
    return {what: count for what, count in counts.items() if count}


def usable_volatility(fraction: Float[np.ndarray, " rows"], kind: SourceKind) -> Bool[np.ndarray, " rows"]:
    """Rows whose volatility may speak for the unit of its column: positive, finite, below the cap in percent
    sources.
    """
    return (fraction > 0) & (fraction < (IV_CAP if kind.percent else np.inf))


def check_median(fraction: Float[np.ndarray, " rows"], column: str, source: str, kind: SourceKind) -> None:
    """Refuse a column whose median over `fraction` cannot be a volatility.

    Args:
        fraction: usable volatilities as fractions by the unit of `kind`, at least one.
        column, source, kind: for the message.

    Raises:
        UnitsError: the median lies outside [0.03, 5].
    """
    median = float(np.median(fraction))
    if MEDIAN_LOW <= median <= MEDIAN_HIGH:
        return
    _refuse(column, source, kind, f"has median {median * (100 if kind.percent else 1):.6g} over {len(fraction)} rows")


def check_against_prices(
    given: Float[np.ndarray, " rows"],
    implied: Float[np.ndarray, " rows"],
    column: str,
    source: str,
    kind: SourceKind,
) -> float | None:
    """Median ratio of a file's volatilities to those implied by its prices (None with fewer than 3 such
    rows).

    Args:
        given, implied: fractions; NaN where there is none.
        column, source, kind: for the message.

    Raises:
        UnitsError: the two differ by a factor of 10 or more.
    """
    both = (given > 0) & (implied > 0) & np.isfinite(given) & np.isfinite(implied)
    if both.sum() < 3:
        return None
    ratio = float(np.median(given[both] / implied[both]))
    if not RATIO_LOW < ratio < RATIO_HIGH:
        _refuse(
            column,
            source,
            kind,
            f"is {ratio:.3g} times the volatility implied by the prices ({both.sum()} rows)",
        )
    return ratio


def check_premiums(source: str, *, above_bound: int, used: int, near_linear: Float[np.ndarray, " quotes"]) -> None:
    """Refuse premiums in the other settlement's unit: dollars taken for coin, or coin taken for dollars.

    Args:
        source: for the message.
        above_bound: two-sided quotes of inverse options at or above the bound (a call is worth at most one
            coin).
        used: usable quotes of inverse options.
        near_linear: asks of the linear options used within 2 % of the forward and with a week or more to
            live, as fractions of the forward.

    Raises:
        UnitsError: most inverse premiums exceed the bound, or linear options at the money are worth next
        to nothing.
    """
    if above_bound > 10 and above_bound > 10 * used:
        raise UnitsError(
            f"{source}: {above_bound} quotes lie above one coin and only {used} below: bid and ask are "
            "dollars; give a column settlement = 'linear' if the options are dollar-settled, else divide "
            "them by the forward.",
            file=source,
        )
    if len(near_linear) and (largest := float(near_linear.max())) < _LEAST_PREMIUM:
        raise UnitsError(
            f"{source}: linear options at the money cost at most {largest:.2g} of the forward: bid and ask "
            "are not dollars; give settlement = 'inverse' if they are coin premiums.",
            file=source,
        )


def check_ratios(source: str, ratio: Float[np.ndarray, " quotes"]) -> None:
    """Refuse strikes and forwards that are not of one unit: the middle of listed strikes is near the forward.

    Args:
        source: for the message.
        ratio: strikes over the forwards printed beside them.

    Raises:
        UnitsError: the median of more than ten lies outside [0.1, 10] (assumption: it is near 1 on all recorded months;
            a wrong unit is a factor of 100 or 1,000, and a few options may lie anywhere).

    >>> check_ratios("q", np.array([0.8, 1.0, 1.3]))
    """
    if len(ratio) > 10 and not RATIO_LOW <= (middle := float(np.median(ratio))) <= RATIO_HIGH:
        raise UnitsError(
            f"{source}: strikes are {middle:.3g} times the forwards beside them in the median: strike and underlying "
            "(or forward) are not of one unit; both are dollars.",
            file=source,
        )


def _refuse(column: str, source: str, kind: SourceKind, finding: str) -> None:
    unit, other, mend = ("percent", "fractions", "multiply") if kind.percent else ("a fraction", "percent", "divide")
    raise UnitsError(
        f"{source}: {column} {finding}, but a {kind.value} source holds volatilities as {unit}. "
        f"If they are {other}, {mend} the column by 100; or leave it out (prices are what is fitted).",
        file=source,
    )
