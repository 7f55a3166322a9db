"""Option contracts: settlement, exchange names, and the expiry clock.

Two contracts share a name grammar and nothing else.  An *inverse* option is quoted, margined and paid in
the coin itself; a *linear* option (`_USDC`) in dollars.  They are two unrelated classes here: neither has
the other's methods, money arguments are keyword-only and carry their unit in the name, and
`require_inverse` and `require_linear` turn one passed for the other into an error that names the option.
"""

import datetime
import enum
import math
import re
from collections.abc import Iterable
from dataclasses import dataclass
from typing import ClassVar, NamedTuple

import numpy as np
from jaxtyping import Bool, Float64, Int8, Int64, Shaped

from volgrad.errors import InstrumentNameError, UnitsError

#: Every option expires at this hour of its day (measured: 980 of 980 options of `get_instruments`).
EXPIRY_HOUR_UTC = 8
#: One ACT/365 year in microseconds (measured: with it the exchange's own Greeks are reproduced).
YEAR_US = 365 * 86_400 * 1_000_000

_HOUR_US = 3_600_000_000
_DAY_US = 24 * _HOUR_US
_FIRST_US, _LAST_US = (
    946_684_800_000_000,
    4_102_444_800_000_000,
)  # 2000-01-01 and 2100-01-01: the two-digit years
_Numbers = float | Float64[np.ndarray, "..."]
_EPOCH = datetime.datetime(1970, 1, 1, tzinfo=datetime.UTC)
_MONTHS = ("JAN", "FEB", "MAR", "APR", "MAY", "JUN", "JUL", "AUG", "SEP", "OCT", "NOV", "DEC")
_PAIR = r"(?P<base>[A-Z0-9]+)(?:_(?P<quote>[A-Z0-9]+))?"
_DATE = rf"(?P<day>\d{{1,2}})(?P<month>{'|'.join(_MONTHS)})(?P<year>\d{{2}})"
_OPTION = re.compile(rf"{_PAIR}-{_DATE}-(?P<strike>\d+(?:[dD]\d+)?)-(?P<side>[CP])", re.ASCII)
_FUTURE = re.compile(rf"{_PAIR}-{_DATE}", re.ASCII)
_PERPETUAL = re.compile(rf"{_PAIR}-PERPETUAL", re.ASCII)
_COMBO = re.compile(rf"{_PAIR}-(?!PERPETUAL)[A-Z]+[0-9]*-[A-Z0-9_dD.\-]+", re.ASCII)
_SPOT = re.compile(r"[A-Z0-9]+_[A-Z0-9]+", re.ASCII)
_LINEAR_QUOTE = "USDC"


class Settlement(enum.Enum):
    """What an option is quoted and paid in: `INVERSE` = the coin itself, `LINEAR` = dollars."""

    INVERSE = "inverse"
    LINEAR = "linear"


class InstrumentKind(enum.IntEnum):
    """What a name of the exchange stands for.  Only `OPTION` is priced here; the rest is refused by name."""

    OPTION = 0
    FUTURE = 1
    PERPETUAL = 2
    COMBO = 3
    SPOT = 4
    UNKNOWN = 5


@dataclass(frozen=True, slots=True)
class InverseOption:
    """A coin-settled option: premium in coin per coin, payoff `max(+-(S - K), 0) / S` coin at settlement `S`.

    Units: `expiry_us` microseconds since 1970 UTC, `strike_usd` dollars per coin.

    >>> option = parse_option("BTC-26JUN26-100000-C")
    >>> float(option.payoff_coin(settlement_usd=125_000.0))
    0.2
    >>> float(option.premium_usd(premium_coin=0.05, forward_usd=98_000.0))
    4900.0
    """

    base: str
    expiry_us: int
    strike_usd: float
    is_call: bool
    settlement: ClassVar[Settlement] = Settlement.INVERSE

    def __post_init__(self) -> None:
        _check_contract(self.base, self.expiry_us, self.strike_usd)

    def payoff_coin(self, *, settlement_usd: _Numbers) -> Float64[np.ndarray, "..."]:
        """Coin paid per option when the delivery price is `settlement_usd` (dollars, > 0).

        An inverse call never pays more than one coin; an inverse put has no upper bound in coin.
        """
        price_usd = np.asarray(settlement_usd, np.float64)
        return _intrinsic_usd(price_usd, self.strike_usd, self.is_call) / price_usd

    def premium_usd(self, *, premium_coin: _Numbers, forward_usd: _Numbers) -> Float64[np.ndarray, "..."]:
        """Dollar premium of a coin premium: times the forward of the option's own expiry, not the index."""
        return np.asarray(premium_coin, np.float64) * np.asarray(forward_usd, np.float64)

    def premium_coin(self, *, premium_usd: _Numbers, forward_usd: _Numbers) -> Float64[np.ndarray, "..."]:
        """Coin premium of a dollar premium: the inverse of `premium_usd`."""
        return np.asarray(premium_usd, np.float64) / np.asarray(forward_usd, np.float64)

    @property
    def name(self) -> str:
        """The exchange's name, e.g. `BTC-26JUN26-100000-C`; `parse_option` reads it back."""
        return _format(self.base, self.expiry_us, self.strike_usd, self.is_call)


@dataclass(frozen=True, slots=True)
class LinearOption:
    """A dollar-settled option (`_USDC`): premium in dollars per coin, payoff `max(+-(S - K), 0)` dollars.

    It has no coin premium and no coin payoff: code written for an `InverseOption` does not run on it.

    >>> option = parse_option("XRP_USDC-30JUN23-0d625-C")
    >>> option.strike_usd, option.settlement.value
    (0.625, 'linear')
    >>> float(option.payoff_usd(settlement_usd=0.75))
    0.125
    """

    base: str
    expiry_us: int
    strike_usd: float
    is_call: bool
    settlement: ClassVar[Settlement] = Settlement.LINEAR

    def __post_init__(self) -> None:
        _check_contract(self.base, self.expiry_us, self.strike_usd)

    def payoff_usd(self, *, settlement_usd: _Numbers) -> Float64[np.ndarray, "..."]:
        """Dollars paid per option when the delivery price is `settlement_usd` (dollars)."""
        return _intrinsic_usd(np.asarray(settlement_usd, np.float64), self.strike_usd, self.is_call)

    @property
    def name(self) -> str:
        """The exchange's name, e.g. `XRP_USDC-30JUN23-0d625-C`; `parse_option` reads it back."""
        return _format(f"{self.base}_{_LINEAR_QUOTE}", self.expiry_us, self.strike_usd, self.is_call)


Option = InverseOption | LinearOption


def require_inverse(option: Option) -> InverseOption:
    """The same option, if it is coin-settled.

    Raises:
        UnitsError: it is linear; its dollar figures must not be read as coin.
        TypeError: it is not an option at all.
    """
    if isinstance(option, InverseOption):
        return option
    raise _refusal(option, "an inverse (coin-settled)", "coin")


def require_linear(option: Option) -> LinearOption:
    """The same option, if it is dollar-settled.

    Raises:
        UnitsError: it is inverse; its coin figures must not be read as dollars.
        TypeError: it is not an option at all.
    """
    if isinstance(option, LinearOption):
        return option
    raise _refusal(option, "a linear (dollar-settled)", "dollars")


def normalised_premium(quoted: _Numbers, forward_usd: _Numbers, settlement: Settlement) -> Float64[np.ndarray, "..."]:
    """Premium as a fraction of the forward, the unit of all the mathematics: `N(d1) - e^k N(d2)` for a call.

    Args:
        quoted: premium as the exchange quotes it: coin for inverse, dollars for linear.
        forward_usd: forward of the option's expiry, dollars, > 0.
        settlement: the enum member; a string is refused, so that nothing is guessed.

    Raises:
        TypeError: `settlement` is not a `Settlement`.

    >>> normalised_premium(np.array([5.0]), np.array([100.0]), Settlement.LINEAR)
    array([0.05])
    """
    if _checked(settlement) is Settlement.INVERSE:
        return np.array(quoted, np.float64)
    return np.asarray(quoted, np.float64) / np.asarray(forward_usd, np.float64)


def quoted_premium(normalised: _Numbers, forward_usd: _Numbers, settlement: Settlement) -> Float64[np.ndarray, "..."]:
    """The inverse of `normalised_premium`: coin for inverse, dollars for linear."""
    if _checked(settlement) is Settlement.INVERSE:
        return np.array(normalised, np.float64)
    return np.asarray(normalised, np.float64) * np.asarray(forward_usd, np.float64)


def expiry_stamp_us(year: int, month: int, day: int) -> int:
    """Expiry of an option dated that day: 08:00:00 UTC, in microseconds since 1970.

    Raises:
        ValueError: there is no such day.

    >>> expiry_stamp_us(2026, 6, 26)
    1782460800000000
    """
    stamp = datetime.datetime(year, month, day, EXPIRY_HOUR_UTC, tzinfo=datetime.UTC)
    return (stamp - _EPOCH) // datetime.timedelta(microseconds=1)


def expiry_years(
    expiry_us: int | Int64[np.ndarray, "..."], ts_us: int | Int64[np.ndarray, "..."]
) -> Float64[np.ndarray, "..."]:
    """Time from `ts_us` to `expiry_us` in ACT/365 years; zero or negative once expired.

    Both in integer microseconds since 1970 UTC; subtracted as integers, so seconds before expiry stay exact.

    >>> float(expiry_years(expiry_stamp_us(2027, 6, 26), expiry_stamp_us(2026, 6, 26)))
    1.0
    """
    return (np.asarray(expiry_us, np.int64) - np.asarray(ts_us, np.int64)) / YEAR_US


def instrument_kind(name: str) -> InstrumentKind:
    """What the name stands for, by its form alone (dates and strikes are not checked here).

    >>> [instrument_kind(n).name for n in ("BTC-25MAR23", "BTC-PERPETUAL", "BTC-FS-25DEC26_PERP", "BTC_USDC")]
    ['FUTURE', 'PERPETUAL', 'COMBO', 'SPOT']
    """
    for kind, pattern in _KINDS:
        if pattern.fullmatch(name):
            return kind
    return InstrumentKind.UNKNOWN


def parse_option(name: str) -> Option:
    """Read one option name of the exchange: `BASE[_USDC]-DMMMYY-STRIKE-C|P`, where `d` is a decimal point.

    Source: the exchange's documentation; 16,143 recorded names are read and written back (measured).

    Raises:
        InstrumentNameError: the name is of another kind (the message and `.kind` say which), or its date,
            strike or quote currency does not exist.

    >>> parse_option("ETH-3JAN25-3400-P").strike_usd
    3400.0
    >>> parse_option("BTC-PERPETUAL")
    Traceback (most recent call last):
        ...
    volgrad.errors.InstrumentNameError: 'BTC-PERPETUAL' is a perpetual, not an option: leave it out
    """
    match = _OPTION.fullmatch(name)
    if match is None:
        kind = instrument_kind(name)
        known = None if kind is InstrumentKind.UNKNOWN else kind.name.lower()
        raise InstrumentNameError(f"{name!r} {_ADVICE[kind]}", kind=known)
    base, quote, day, month, year, strike, side = match.group("base", "quote", "day", "month", "year", "strike", "side")
    strike_usd = float(strike.replace("d", ".").replace("D", "."))
    if not (0 < strike_usd < math.inf):
        raise InstrumentNameError(f"{name!r} has strike {strike_usd:g}: a strike must be positive and finite")
    try:
        expiry_us = expiry_stamp_us(2000 + int(year), _MONTHS.index(month) + 1, int(day))
    except ValueError as error:
        raise InstrumentNameError(f"{name!r} has no such expiry day: {day}{month}{year} ({error})") from error
    if quote not in (None, _LINEAR_QUOTE):
        raise InstrumentNameError(
            f"{name!r} is quoted in {quote!r}: known are none (coin-settled) and _{_LINEAR_QUOTE}"
        )
    contract = InverseOption if quote is None else LinearOption
    return contract(base, expiry_us, strike_usd, side == "C")


class OptionColumns(NamedTuple):
    """Option names of a column, taken apart: one entry a row.

    `kind` holds `InstrumentKind` codes.  Rows that are no option have `expiry_us` 0, `strike_usd` NaN,
    `base` "" and False elsewhere: failure is data here, so that a reader can count it by kind.
    """

    kind: Int8[np.ndarray, " rows"]
    base: Shaped[np.ndarray, " rows"]
    is_linear: Bool[np.ndarray, " rows"]
    expiry_us: Int64[np.ndarray, " rows"]
    strike_usd: Float64[np.ndarray, " rows"]
    is_call: Bool[np.ndarray, " rows"]

    def take(self, indices: Int64[np.ndarray, " more"]) -> "OptionColumns":
        """These rows in this order, e.g. a dictionary-encoded column from its parsed dictionary."""
        return OptionColumns(*(column[indices] for column in self))


def parse_options(names: Iterable[str]) -> OptionColumns:
    """Read a column of names; each distinct name is parsed once.

    Args:
        names: any iterable of strings (list, numpy array, `pyarrow` column by `to_pylist()`).  For a
            dictionary-encoded column pass the dictionary and use `OptionColumns.take`.

    >>> columns = parse_options(["BTC-26JUN26-100000-C", "BTC-PERPETUAL", "BTC-26JUN26-100000-C"])
    >>> columns.strike_usd
    array([100000.,     nan, 100000.])
    >>> [InstrumentKind(code).name for code in columns.kind]
    ['OPTION', 'PERPETUAL', 'OPTION']
    """
    position: dict[str, int] = {}
    indices = np.fromiter((position.setdefault(name, len(position)) for name in names), np.int64)
    parsed = [_parse_row(name) for name in position]
    kind, base, is_linear, expiry_us, strike_usd, is_call = zip(*parsed, strict=True) if parsed else ((),) * 6
    distinct = OptionColumns(
        np.array(kind, np.int8),
        np.array(base, np.str_),
        np.array(is_linear, np.bool_),
        np.array(expiry_us, np.int64),
        np.array(strike_usd, np.float64),
        np.array(is_call, np.bool_),
    )
    return distinct.take(indices)


def _parse_row(name: str) -> tuple[InstrumentKind, str, bool, int, float, bool]:
    try:
        option = parse_option(name)
    except InstrumentNameError:
        kind = instrument_kind(name)
        unreadable = InstrumentKind.UNKNOWN if kind is InstrumentKind.OPTION else kind
        return unreadable, "", False, 0, math.nan, False
    is_linear = option.settlement is Settlement.LINEAR
    return InstrumentKind.OPTION, option.base, is_linear, option.expiry_us, option.strike_usd, option.is_call


def _intrinsic_usd(
    price_usd: Float64[np.ndarray, "..."], strike_usd: float, is_call: bool
) -> Float64[np.ndarray, "..."]:
    return np.maximum(price_usd - strike_usd if is_call else strike_usd - price_usd, 0.0)


def _format(pair: str, expiry_us: int, strike_usd: float, is_call: bool) -> str:
    day = _EPOCH + datetime.timedelta(microseconds=expiry_us)
    strike = np.format_float_positional(strike_usd, trim="-").replace(".", "d")
    return f"{pair}-{day.day}{_MONTHS[day.month - 1]}{day.year % 100:02d}-{strike}-{'C' if is_call else 'P'}"


def _check_contract(base: str, expiry_us: int, strike_usd: float) -> None:
    if not (0 < strike_usd < math.inf):
        raise UnitsError(f"strike {strike_usd!r} of an option on {base}: give dollars per coin, positive and finite")
    if not (_FIRST_US <= expiry_us < _LAST_US and expiry_us % _DAY_US == EXPIRY_HOUR_UTC * _HOUR_US):
        raise UnitsError(
            f"expiry {expiry_us!r} of an option on {base} is no {EXPIRY_HOUR_UTC}:00 UTC of 2000-2099: "
            "give microseconds since 1970 (see expiry_stamp_us)"
        )


def _refusal(option: object, wanted: str, unit: str) -> Exception:
    if not isinstance(option, InverseOption | LinearOption):
        return TypeError(f"{option!r} is not an option: give an InverseOption or a LinearOption")
    return UnitsError(
        f"{option.name} is {option.settlement.value}, but {wanted} option is needed here: its figures are not in {unit}"
    )


def _checked(settlement: Settlement) -> Settlement:
    if not isinstance(settlement, Settlement):
        raise TypeError(f"settlement is {settlement!r}: give Settlement.INVERSE or Settlement.LINEAR")
    return settlement


_KINDS = (
    (InstrumentKind.OPTION, _OPTION),
    (InstrumentKind.FUTURE, _FUTURE),
    (InstrumentKind.PERPETUAL, _PERPETUAL),
    (InstrumentKind.COMBO, _COMBO),
    (InstrumentKind.SPOT, _SPOT),
)
_ADVICE = {
    InstrumentKind.FUTURE: "is a future, not an option: leave it out, or use its price as a forward",
    InstrumentKind.PERPETUAL: "is a perpetual, not an option: leave it out",
    InstrumentKind.COMBO: "is a combo of several instruments, not an option: give its legs' own names",
    InstrumentKind.SPOT: "is a spot pair, not an option: leave it out",
    InstrumentKind.UNKNOWN: "is no name of the exchange: an option reads BASE[_USDC]-DMMMYY-STRIKE-C "
    "or -P in capitals, e.g. BTC-26JUN26-100000-C or XRP_USDC-30JUN23-0d625-C",
}
