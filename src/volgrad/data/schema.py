"""The columns of quote tables: what they are called in each kind of source, and how a wrong table is told.

Kinds of source:

============  ===============================================================  ==================
kind          recognised by                                                    volatilities
============  ===============================================================  ==================
``ticker5m``  ``instrument_name`` and ``best_bid_price``                       percent
``snapshot``  the canonical names and two of instrument, index, delta, vega,   percent
              vol24h
``prepared``  the canonical names with forward, tau_years, log_moneyness and   fraction
              ``bucket`` or ``tick_low``
``canonical`` the canonical names                                              fraction
============  ===============================================================  ==================
"""

import difflib
import enum
import re
from collections.abc import Iterable
from dataclasses import dataclass

from volgrad.errors import SchemaError

__all__ = ["CANONICAL", "Column", "ColumnKind", "SourceKind", "looks_foreign", "missing_columns", "recognise"]


class ColumnKind(enum.Enum):
    """What a column holds."""

    STAMP = "timestamp"
    TEXT = "string"
    NUMBER = "float64"


class SourceKind(enum.Enum):
    """Kind of a quote source; the kind decides names and the unit of volatilities."""

    SNAPSHOT = "snapshot"
    TICKER5M = "ticker5m"
    PREPARED = "prepared"
    CANONICAL = "canonical"

    @property
    def percent(self) -> bool:
        """Whether implied volatilities are written in percent in this kind of source.

        >>> SourceKind.SNAPSHOT.percent, SourceKind.PREPARED.percent
        (True, False)
        """
        return self in (SourceKind.SNAPSHOT, SourceKind.TICKER5M)


@dataclass(frozen=True)
class Column:
    """One canonical column: its name, what it holds, and whether a table must have it."""

    name: str
    kind: ColumnKind
    required: bool = False


CANONICAL: tuple[Column, ...] = (
    Column("ts", ColumnKind.STAMP, True),
    Column("ccy", ColumnKind.TEXT, True),
    Column("expiry", ColumnKind.STAMP, True),
    Column("strike", ColumnKind.NUMBER, True),
    Column("cp", ColumnKind.TEXT, True),
    Column("bid", ColumnKind.NUMBER, True),
    Column("ask", ColumnKind.NUMBER, True),
    Column("cycle", ColumnKind.STAMP),
    Column("split", ColumnKind.TEXT),
    Column("bucket", ColumnKind.TEXT),
    Column("settlement", ColumnKind.TEXT),
    Column("forward", ColumnKind.NUMBER),
    Column("tau_years", ColumnKind.NUMBER),
    Column("log_moneyness", ColumnKind.NUMBER),
    Column("underlying", ColumnKind.NUMBER),
    Column("underlying_index", ColumnKind.TEXT),
    Column("mark", ColumnKind.NUMBER),
    Column("mark_iv", ColumnKind.NUMBER),
    Column("bid_iv", ColumnKind.NUMBER),
    Column("ask_iv", ColumnKind.NUMBER),
    Column("bid_size", ColumnKind.NUMBER),
    Column("ask_size", ColumnKind.NUMBER),
    Column("oi", ColumnKind.NUMBER),
)

VOLATILITIES = ("mark_iv", "bid_iv", "ask_iv")
_REQUIRED = tuple(c.name for c in CANONICAL if c.required)
_SNAPSHOT_MARKS = {"instrument", "index", "delta", "vega", "vol24h"}

# 5-minute ticker files: canonical name -> name there; ts, expiry, strike, cp, settlement are derived
TICKER_NAMES = {
    "cycle": "cycle", "ccy": "ccy", "bid": "best_bid_price", "ask": "best_ask_price",
    "underlying": "underlying_price", "underlying_index": "underlying_index", "mark": "mark_price",
    "mark_iv": "mark_iv", "bid_iv": "bid_iv", "ask_iv": "ask_iv",
    "bid_size": "best_bid_amount", "ask_size": "best_ask_amount", "oi": "open_interest",
}  # fmt: skip
TICKER_REQUIRED = ("instrument_name", "timestamp_ms", "cycle", "best_bid_price", "best_ask_price")

# other sources' names for a canonical column: used in messages only, never to guess
_ALIASES = {
    "timestamp": "ts", "time": "ts", "datetime": "ts", "currency": "ccy", "base": "ccy",
    "expiration": "expiry", "maturity": "expiry", "strike_price": "strike", "k": "strike", "type": "cp",
    "option_type": "cp", "call_put": "cp", "right": "cp", "bid_price": "bid", "best_bid_price": "bid",
    "best_bid": "bid", "ask_price": "ask", "best_ask_price": "ask", "best_ask": "ask", "offer": "ask",
}  # fmt: skip
# a column of calls or of puts where both stand in one row: c_bid, P_ASK, call_bid, [C_BID]
_SIDE = re.compile(r"[\W_]*(?P<side>calls?|puts?|c|p)[ _.-]+(?P<what>\w+?)[\W_]*", re.IGNORECASE)


def looks_foreign(names: Iterable[str]) -> bool:
    """Whether a table with these columns is some other table, rather than a quote table with a column missing
    or renamed.

    A missing column is an error to tell; a foreign file is set aside and the others are read.

    >>> looks_foreign(["open", "high", "low", "close"])
    True
    >>> looks_foreign(["ts", "ccy", "expiry", "strike", "bid", "ask"])
    False
    """
    found = set(names)
    return len(found & set(_REQUIRED)) < 5 and len(found & set(TICKER_REQUIRED)) < 4


def recognise(names: Iterable[str], source: str) -> SourceKind:
    """Kind of the source whose columns are `names`.

    Args:
        names: column names.
        source: file (or other source) for the message.

    Raises:
        SchemaError: a column is missing or renamed; says what was expected, what was found, and the closest
        name.

    >>> recognise(["ts", "ccy", "expiry", "strike", "cp", "bid", "ask"], "quotes.csv").value
    'canonical'
    """
    found = list(names)
    for name in found:
        if found.count(name) > 1:
            raise SchemaError(f"{source}: the column {name} is there {found.count(name)} times.", file=source)
    if "instrument_name" in found and {"best_bid_price", "best_ask_price", "timestamp_ms"} & set(found):
        missing_columns(found, TICKER_REQUIRED, source, "a 5-minute ticker file")
        return SourceKind.TICKER5M
    missing_columns(found, _REQUIRED, source, "a quote table")
    if len(_SNAPSHOT_MARKS & set(found)) >= 2:
        return SourceKind.SNAPSHOT
    if {"forward", "tau_years", "log_moneyness"} <= set(found) and {"bucket", "tick_low"} & set(found):
        return SourceKind.PREPARED
    return SourceKind.CANONICAL


def missing_columns(found: list[str], required: tuple[str, ...], source: str, what: str) -> None:
    """Raise when a column of `required` is not in `found`.

    Args:
        found: column names of the table.
        required: names it must have.
        source: file for the message.
        what: what the table should be ("a quote table").

    Raises:
        SchemaError: one or more are missing; the message gives the name that is there instead, where just one
        can be meant.
    """
    missing = [name for name in required if name not in found]
    if not missing:
        return
    more = f", ... ({len(found)} in all)" if len(found) > 30 else ""
    text = (
        f"{source}: {what} needs the column{'s' if len(missing) > 1 else ''} {', '.join(missing)}; "
        f"found: {', '.join(found[:30]) or 'none'}{more}. "
        f"{_advice(missing, found, required, what)}"
    )
    raise SchemaError(text, file=source)


def _advice(missing: list[str], found: list[str], required: tuple[str, ...], what: str) -> str:
    if pair := _side_by_side(missing, found):
        return (
            f"Calls and puts stand side by side ({' and '.join(pair)}): {what} has a row for each call and a row for "
            f"each put. Expected: {', '.join(required)}."
        )
    hints = [f"{name!r} is perhaps {found_as!r}" for name in missing if (found_as := _closest(name, found, required))]
    return f"Rename and try again: {'; '.join(hints)}." if hints else f"Expected: {', '.join(required)}."


def _side_by_side(missing: list[str], found: list[str]) -> tuple[str, str] | None:
    """A column of calls and its twin of puts that together are a missing one.

    >>> _side_by_side(["cp", "bid", "ask"], ["strike", "c_bid", "c_ask", "p_bid", "p_ask"])
    ('c_bid', 'p_bid')
    """
    sides: dict[str, dict[str, str]] = {}
    for name in found:
        if hit := _SIDE.fullmatch(name):
            sides.setdefault(hit["what"].lower(), {})[hit["side"][0].lower()] = name
    twins = ((side["c"], side["p"]) for what, side in sides.items() if len(side) == 2 and _meant(what) in missing)
    return next(twins, None)


def _meant(name: str) -> str:
    return _ALIASES.get(name.lower(), name.lower())


def _closest(name: str, found: list[str], required: tuple[str, ...]) -> str | None:
    """The only spare column that can be meant by `name`; None where there is none, or several."""
    spare = [f for f in found if f not in required]
    fits = [other for other in spare if _meant(other) == name]
    fits = fits or difflib.get_close_matches(name, spare, n=2, cutoff=0.7)
    return fits[0] if len(fits) == 1 else None
