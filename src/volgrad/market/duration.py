"""Lengths of time as users write them: 100ms, 1s, 5m, 1h, 1d.

Exact: a length is a whole number of microseconds, read in decimal and never by way of a float.

>>> parse_duration("5m"), parse_duration("1.5h"), format_duration(5_400_000_000)
(300000000, 5400000000, '90m')
"""

import re
from fractions import Fraction

from volgrad.errors import InputError

__all__ = ["format_duration", "parse_duration"]

_UNITS_US = {
    "us": 1,
    "ms": 1_000,
    "s": 1_000_000,
    "m": 60_000_000,
    "h": 3_600_000_000,
    "d": 86_400_000_000,
    "w": 604_800_000_000,
}
_DURATION = re.compile(r"(?P<count>[0-9]{1,19}(?:\.[0-9]{1,15})?) ?(?P<unit>us|ms|[smhdw])", re.ASCII)
_LONGEST_US = 2**63 - 1  # what a time stamp's integer holds


def parse_duration(text: str, what: str = "duration") -> int:
    """Microseconds of a length such as `100ms`, `1s`, `5m` (minutes), `1h`, `1d` or `1w`, above zero.

    Args:
        text: a decimal number and one of the units us, ms, s, m, h, d, w.
        what: what is being read, for the message ("--every").

    Raises:
        InputError: it is no such length, is zero, is finer than a microsecond or longer than a time stamp.

    >>> parse_duration("100ms")
    100000
    >>> parse_duration("5 minutes", "--every")
    Traceback (most recent call last):
    volgrad.errors.InputError: --every is '5 minutes': write a number and a unit (us, ms, s, m = minutes, h, d, w),
    such as 100ms, 5m or 1d.
    """
    match = _DURATION.fullmatch(text.strip())
    if match is None:
        raise InputError(
            f"{what} is {text!r}: write a number and a unit (us, ms, s, m = minutes, h, d, w), such as 100ms, 5m or 1d."
        )
    exact = Fraction(match["count"]) * _UNITS_US[match["unit"]]
    if exact.denominator != 1 or not 0 < exact <= _LONGEST_US:
        raise InputError(
            f"{what} is {text!r}: give a whole number of microseconds, above zero and below 292,000 years."
        )
    return int(exact)


def format_duration(duration_us: int) -> str:
    """The shortest way to write a length: `parse_duration` reads it back.

    >>> format_duration(100_000), format_duration(300_000_000), format_duration(604_800_000_000)
    ('100ms', '5m', '1w')
    """
    unit = next(name for name in reversed(_UNITS_US) if duration_us % _UNITS_US[name] == 0)
    return f"{duration_us // _UNITS_US[unit]}{unit}"
