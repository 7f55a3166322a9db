"""The canonical columns of quote tables, the kinds of source, and how a wrong table is told.

How each kind names its columns, and by which of them it is recognised: `layouts`.
"""

import difflib
import enum
import re
from dataclasses import dataclass

from volgrad.errors import SchemaError

__all__ = ["CANONICAL", "Column", "ColumnKind", "Dataset", "SourceKind", "missing_columns"]


class ColumnKind(enum.Enum):
    """What a column holds."""

    STAMP = "timestamp"
    TEXT = "string"
    NUMBER = "float64"


class Dataset(enum.Enum):
    """What the rows of a table are: quotes, or a series beside them."""

    QUOTES = "quotes"
    TRADES = "trades"
    BARS = "bars"
    VOLATILITY_INDEX = "volatility_index"


class SourceKind(enum.Enum):
    """Kind of a quote source; the kind decides names and the unit of volatilities."""

    SNAPSHOT = "snapshot"
    TICKER5M = "ticker5m"
    PREPARED = "prepared"
    CANONICAL = "canonical"
    UPDATES = "updates"
    BOOK_SUMMARY = "book_summary"
    TICKER = "ticker"
    SESSION = "session"
    TARDIS = "tardis"
    CCXT = "ccxt"
    OKX = "okx"
    BYBIT = "bybit"
    BINANCE = "binance"

    @property
    def percent(self) -> bool:
        """Whether implied volatilities are written in percent in this kind of source.

        >>> SourceKind.SNAPSHOT.percent, SourceKind.PREPARED.percent
        (True, False)
        """
        return self in _PERCENT

    @property
    def events(self) -> bool:
        """Whether a row is one instrument's update at its own time, so that chains have to be drawn from the stream.

        >>> SourceKind.TARDIS.events, SourceKind.TICKER5M.events
        (True, False)
        """
        return self in (SourceKind.TICKER, SourceKind.SESSION, SourceKind.TARDIS, SourceKind.UPDATES)


_PERCENT = {
    SourceKind.SNAPSHOT,
    SourceKind.TICKER5M,
    SourceKind.BOOK_SUMMARY,
    SourceKind.TICKER,
    SourceKind.SESSION,
    SourceKind.TARDIS,
    SourceKind.CCXT,
}


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
REQUIRED = tuple(c.name for c in CANONICAL if c.required)

# other sources' names for a canonical column: used in messages only, never to guess
_ALIASES = {
    "timestamp": "ts", "time": "ts", "datetime": "ts", "currency": "ccy", "base": "ccy",
    "expiration": "expiry", "maturity": "expiry", "strike_price": "strike", "k": "strike", "type": "cp",
    "option_type": "cp", "call_put": "cp", "right": "cp", "bid_price": "bid", "best_bid_price": "bid",
    "best_bid": "bid", "ask_price": "ask", "best_ask_price": "ask", "best_ask": "ask", "offer": "ask",
}  # fmt: skip
# a column of calls or of puts where both stand in one row: c_bid, P_ASK, call_bid, [C_BID]
_SIDE = re.compile(r"[\W_]*(?P<side>calls?|puts?|c|p)[ _.-]+(?P<what>\w+?)[\W_]*", re.IGNORECASE)


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
