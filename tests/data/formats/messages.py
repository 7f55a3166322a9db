"""Messages of the exchanges, hand-made or from their documentation, and ways to read them."""

import io
import json

import numpy as np
import pyarrow as pa

from volgrad.data.canonical import canonicalise
from volgrad.data.formats import decode, tabular
from volgrad.data.formats.side import SideCanonicaliser
from volgrad.data.schema import Dataset

OPTION = "BTC-27SEP24-40000-C"
T0 = 1699593511632
# the recorded ticker of 2023-11-10T05:18:31.632Z; bid, ask and their sizes are made up around its mark
TICKER = {
    "underlying_price": 39165.86,
    "underlying_index": "BTC-27SEP24",
    "timestamp": T0,
    "stats": {"volume": 1.5, "price_change": None, "low": None, "high": None},
    "state": "open",
    "open_interest": 1234.5,
    "mark_price": 0.2169,
    "mark_iv": 60.86,
    "instrument_name": OPTION,
    "index_price": 37000.0,
    "greeks": {"vega": 142.30124, "theta": -13.4441, "rho": 131.82621, "gamma": 0.00001, "delta": 0.59833},
    "bid_iv": 60.1,
    "best_bid_price": 0.2155,
    "best_bid_amount": 12.0,
    "best_ask_price": 0.2185,
    "best_ask_amount": 3.5,
    "ask_iv": 61.7,
}


def ticker(**changes):
    """A ticker with some fields changed."""
    return TICKER | changes


def frame(channel, data):
    """A notification as it comes over the socket."""
    message = {"jsonrpc": "2.0", "method": "subscription", "params": {"channel": channel, "data": data}}
    return json.dumps(message).encode()


def book(kind, change_id, previous=None, bids=(), asks=(), name=OPTION, stamp=T0):
    """A frame of an order book."""
    data = {"type": kind, "timestamp": stamp, "instrument_name": name, "change_id": change_id}
    data |= {"bids": list(bids), "asks": list(asks)}
    if previous is not None:
        data["prev_change_id"] = previous
    return frame(f"book.{name}.raw", data)


def pieces_of(content, name="source", underlying=None):
    """What `decode` makes of bytes, or of an object as JSON."""
    content = content if isinstance(content, bytes) else json.dumps(content).encode()
    return list(decode(content[: 1 << 16], io.BytesIO(content), name, underlying))


def only(content, name="source", underlying=None):
    """The one piece that there is."""
    (piece,) = pieces_of(content, name, underlying)
    return piece


def canonical(piece, source="source"):
    """A piece in canonical columns."""
    if piece.dataset is Dataset.QUOTES:
        return canonicalise(piece, source)
    work = SideCanonicaliser(source)
    done = work.add(piece)
    work.finish()
    return done


def read_blocks(reader, *tables):
    """What a reader makes of the blocks of a table, as one piece."""
    pieces = [*(reader.add(table) for table in tables), *reader.finish()]
    whole = pa.concat_tables([piece.table for piece in pieces], promote_options="default")
    notes = tuple(dict.fromkeys(note for piece in pieces for note in piece.notes))
    return pieces[0]._replace(table=whole, malformed=sum(piece.malformed for piece in pieces), notes=notes)


def rows_of(table: pa.Table):
    """Rows as dictionaries."""
    return table.to_pylist()


def reasons(done):
    """Reason -> rows."""
    codes, counts = np.unique(done.reason, return_counts=True)
    return dict(zip(codes.tolist(), counts.tolist(), strict=True))


def read(columns, name, underlying=None):
    """What is made of a table's columns, as one piece."""
    reader = tabular(list(columns), name, underlying)
    assert reader is not None
    return read_blocks(reader, pa.table(columns))


def table_of(*records):
    """Records as columns."""
    return {name: [record.get(name) for record in records] for name in records[0]}


def in_blocks(piece, size):
    """A piece in canonical columns, so many rows at a time."""
    work = SideCanonicaliser("source")
    for start in range(0, piece.table.num_rows, size):
        work.add(piece._replace(table=piece.table.slice(start, size)))
    work.finish()
