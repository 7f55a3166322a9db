"""The exchange's messages as typed structs: what is read of them, and what a number in them may be.

One struct serves every channel, so that a frame is decoded in one pass; fields that a channel does not have stay None.
Sources: the exchange's documentation and a recorded session of 2021; not checked against the live exchange.
"""

from typing import Annotated

import msgspec

__all__ = ["LATEST_MS", "Data", "Frame", "Named", "Params", "Quote", "Stamp", "Unknown", "Wrapped", "is_true"]

#: The year 5138: later stamps are damage.
LATEST_MS = 10**14
Stamp = Annotated[int, msgspec.Meta(gt=0, lt=LATEST_MS)]
_Identifier = Annotated[int, msgspec.Meta(ge=0, le=2**63 - 1)]


class Quote(msgspec.Struct, gc=False):
    """A ticker as the exchange sends it (percent, coin or dollars, 0 = no such side); fields in its order."""

    underlying_price: float | None = None
    underlying_index: str | None = None
    timestamp: Stamp | None = None
    open_interest: float | None = None
    mark_price: float | None = None
    mark_iv: float | None = None
    instrument_name: str | None = None
    bid_iv: float | None = None
    best_bid_price: float | None = None
    best_bid_amount: float | None = None
    best_ask_price: float | None = None
    best_ask_amount: float | None = None
    ask_iv: float | None = None


class Data(Quote, gc=False):
    """`data` of any channel: tickers, books, marks, trades, indices."""

    type: str | None = None
    index_price: float | None = None
    price: float | None = None
    amount: float | None = None
    direction: str | None = None
    trade_id: str | _Identifier | None = None
    iv: float | None = None
    index_name: str | None = None
    volatility: float | None = None
    prev_change_id: _Identifier | None = None
    change_id: _Identifier | None = None
    bids: msgspec.Raw = msgspec.Raw(b"")
    asks: msgspec.Raw = msgspec.Raw(b"")


class Params(msgspec.Struct, gc=False):
    """Of a notification."""

    channel: str = ""
    data: Data | list[Data] | None = None


class Frame(msgspec.Struct, gc=False):
    """A notification, response, heartbeat or error; of results and errors only the presence is read."""

    method: str | None = None
    params: Params | None = None
    result: msgspec.Raw = msgspec.Raw(b"")
    error: msgspec.Raw = msgspec.Raw(b"")
    testnet: msgspec.Raw = msgspec.Raw(b"")


class Named(msgspec.Struct, gc=False):
    """Of a notification whose data is not known: the channel."""

    channel: str = ""


class Unknown(msgspec.Struct, gc=False):
    """A notification of a channel that is not read."""

    params: Named | None = None


class Wrapped(msgspec.Struct, gc=False):
    """A ticker or order book as the answer to a request."""

    result: Quote | None = None
    testnet: msgspec.Raw = msgspec.Raw(b"")


def is_true(raw: msgspec.Raw) -> bool:
    """Whether a field is there and says `true`; that of another type is no reason to drop a frame.

    >>> is_true(msgspec.Raw(b"true")), is_true(msgspec.Raw(b"")), is_true(msgspec.Raw(b"[]"))
    (True, False, False)
    """
    return len(raw) > 0 and bytes(raw) == b"true"
