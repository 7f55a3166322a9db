"""Option names of other exchanges: underlying, expiry (08:00 UTC of its day), strike, side and settlement.

========  ==============================  =============================================================
exchange  example                         settlement
========  ==============================  =============================================================
OKX       ``BTC-USD-241227-60000-P``      ``USD``: the coin; ``USDT``, ``USDC``: dollars
Bybit     ``BTC-27DEC24-60000-C[-USDT]``  dollars
Binance   ``BTC-200730-9000-C``           dollars
ccxt      ``BTC/USD:BTC-240927-60000-C``  what stands after the colon: the underlying itself, or dollars
========  ==============================  =============================================================

Source: the exchanges' public documentation and that of ccxt; not checked against the live exchanges. That all of them
settle at 08:00 UTC is documented by each.
"""

import functools
import math
import re
from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np
import pyarrow as pa
from jaxtyping import Bool

from volgrad.data.columns import STAMP_TYPE
from volgrad.errors import InstrumentNameError
from volgrad.market.instruments import expiry_stamp_us, parse_option

__all__ = ["Contract", "NameParser", "contract_columns", "parse_binance", "parse_bybit", "parse_ccxt", "parse_okx"]

_DOLLARS = frozenset(("USD", "USDT", "USDC", "BUSD", "DAI", "FDUSD"))
_END = r"(?P<date>\d{6})-(?P<strike>\d+(?:[.d]\d+)?)-(?P<side>[CP])"
_OKX = re.compile(rf"(?P<base>[A-Z0-9]+)-(?P<quote>USD|USDT|USDC)-{_END}", re.ASCII)
_BYBIT = re.compile(r"(?P<base>[A-Z0-9]+)-(?P<rest>\d{1,2}[A-Z]{3}\d{2}-\d+(?:\.\d+)?-[CP])(?:-USDT|-USDC)?", re.ASCII)
_BINANCE = re.compile(rf"(?P<base>[A-Z0-9]+)-{_END}", re.ASCII)
_CCXT = re.compile(rf"(?P<base>[A-Z0-9]+)/(?P<quote>[A-Z0-9]+):(?P<settle>[A-Z0-9]+)-{_END}", re.ASCII)
# more than any exchange lists in a year; bounds what a file that makes up names can take
_REMEMBERED = 100_000


class Contract(NamedTuple):
    """What a name says; `expiry_us` microseconds since 1970 UTC, `settlement` "inverse" or "linear"."""

    ccy: str
    expiry_us: int
    strike_usd: float
    cp: str
    settlement: str


NameParser = Callable[[str], Contract | None]


@functools.lru_cache(_REMEMBERED)
def parse_okx(name: str) -> Contract | None:
    """A name of OKX; None where it is no option's.

    >>> parse_okx("BTC-USD-220309-33000-C")
    Contract(ccy='BTC', expiry_us=1646812800000000, strike_usd=33000.0, cp='C', settlement='inverse')
    """
    match = _OKX.fullmatch(name)
    return match and _contract(match, "inverse" if match["quote"] == "USD" else "linear")


@functools.lru_cache(_REMEMBERED)
def parse_bybit(name: str) -> Contract | None:
    """A name of Bybit; None where it is no option's.

    >>> parse_bybit("BTC-27DEC24-60000-C-USDT")
    Contract(ccy='BTC', expiry_us=1735286400000000, strike_usd=60000.0, cp='C', settlement='linear')
    """
    match = _BYBIT.fullmatch(name)
    if match is None:
        return None
    try:
        option = parse_option(f"{match['base']}_USDC-{match['rest'].replace('.', 'd')}")
    except InstrumentNameError:
        return None
    return Contract(option.base, option.expiry_us, option.strike_usd, "C" if option.is_call else "P", "linear")


@functools.lru_cache(_REMEMBERED)
def parse_binance(name: str) -> Contract | None:
    """A name of Binance; None where it is no option's.

    >>> parse_binance("BTC-200730-9000-C").settlement
    'linear'
    """
    match = _BINANCE.fullmatch(name)
    return match and _contract(match, "linear")


@functools.lru_cache(_REMEMBERED)
def parse_ccxt(name: str) -> Contract | None:
    """A unified symbol of ccxt; None where it is no option's, or settled in a third coin.

    >>> parse_ccxt("BTC/USD:BTC-240927-60000-C").settlement, parse_ccxt("BTC/USDC:USDC-240927-60000-C").settlement
    ('inverse', 'linear')
    """
    match = _CCXT.fullmatch(name)
    if match is None:
        return None
    if match["settle"] == match["base"]:
        return _contract(match, "inverse")
    return _contract(match, "linear") if match["settle"] in _DOLLARS else None


def contract_columns(
    names: Sequence[str | None], parse: NameParser
) -> tuple[dict[str, pa.Array], Bool[np.ndarray, " rows"]]:
    """Canonical columns of the contracts, and the rows whose name could be read (the others are null)."""
    contracts = [None if name is None else parse(name) for name in names]
    readable = np.array([contract is not None for contract in contracts], bool)
    columns = {
        "ccy": pa.array([c and c.ccy for c in contracts], pa.string()).dictionary_encode(),
        "expiry": pa.array([c and c.expiry_us for c in contracts], pa.int64()).cast(STAMP_TYPE),
        "strike": pa.array([c and c.strike_usd for c in contracts], pa.float64()),
        "cp": pa.array([c and c.cp for c in contracts], pa.string()).dictionary_encode(),
        "settlement": pa.array([c and c.settlement for c in contracts], pa.string()).dictionary_encode(),
    }
    return columns, readable


def _contract(match: re.Match[str], settlement: str) -> Contract | None:
    date, strike_usd = match["date"], float(match["strike"].replace("d", "."))
    if not 0 < strike_usd < math.inf:
        return None
    try:
        expiry_us = expiry_stamp_us(2000 + int(date[:2]), int(date[2:4]), int(date[4:]))
    except ValueError:
        return None
    return Contract(match["base"], expiry_us, strike_usd, match["side"], settlement)
