"""Tardis `options_chain` files: the documented row as documented, every row accounted for, foreign venues counted."""

import gzip

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from volgrad.data import build, read_quotes
from volgrad.data.reasons import Reason
from volgrad.data.schema import SourceKind
from volgrad.data.stream import stream
from volgrad.errors import SchemaError, UnitsError

HEADER = (
    "exchange,symbol,timestamp,local_timestamp,type,strike_price,expiration,open_interest,last_price,bid_price,"
    "bid_amount,bid_iv,ask_price,ask_amount,ask_iv,mark_price,mark_iv,underlying_index,underlying_price,delta,gamma,"
    "vega,theta,rho"
)
# The example of the vendor's documentation
ROW = (
    "deribit,BTC-9JUN20-9875-P,1591574399413000,1591574400196008,put,9875,1591689600000000,0.1,0.0295,0.0205,15.1,55.91,"
    "0.0235,15.2,68.94,0.02210436,62.89,SYN.BTC-9JUN20,9756.36,-0.61752,0.00103,2.24964,-53.05655,-0.22796"
)
NAMES = HEADER.split(",")


def line(**changes):
    cells = dict(zip(NAMES, ROW.split(","), strict=True)) | changes
    return ",".join(cells.values())


def written(tmp_path, lines, header=HEADER):
    path = tmp_path / "deribit_options_chain_2020-06-08_OPTIONS.csv.gz"
    path.write_bytes(gzip.compress("\n".join([header, *lines, ""]).encode()))
    return path


def one(tmp_path, lines):
    (block,) = stream(written(tmp_path, lines))
    return block


def test_the_documented_row_reads_as_documented(tmp_path):
    block = one(tmp_path, [ROW])
    assert (block.kind, block.kind.events, block.reason.tolist(), block.notes) == (SourceKind.TARDIS, True, [0], ())
    (row,) = block.table.to_pylist()
    assert {name: value for name, value in row.items() if isinstance(value, str)} == {
        "ccy": "BTC", "cp": "P", "settlement": "inverse", "underlying_index": "SYN.BTC-9JUN20",
    }  # fmt: skip
    assert (row["ts"].isoformat(), row["expiry"].isoformat()) == (
        "2020-06-07T23:59:59.413000+00:00",
        "2020-06-09T08:00:00+00:00",
    )
    figures = {name: value for name, value in row.items() if isinstance(value, float)}
    assert figures == pytest.approx(
        {
            "strike": 9875.0, "bid": 0.0205, "ask": 0.0235, "bid_size": 15.1, "ask_size": 15.2, "bid_iv": 0.5591,
            "ask_iv": 0.6894, "mark": 0.02210436, "mark_iv": 0.6289, "underlying": 9756.36, "oi": 0.1,
        }
    )  # fmt: skip
    assert block.extra == ("local_timestamp", "last_price", "delta", "gamma", "vega", "theta", "rho")


@pytest.mark.parametrize("text", ["", "0", "0.0", "NaN"])
def test_a_missing_side_is_missing_never_zero(tmp_path, text):
    block = one(tmp_path, [line(bid_price=text, bid_amount="", bid_iv="", ask_price=text, ask_iv=""), ROW])
    assert block.table["bid"].null_count == block.table["ask"].null_count == 1
    assert block.reason.tolist() == [0, 0]


REJECTED = {
    "another venue": ({"exchange": "okex-options", "symbol": "BTC-USD-200626-9875-P"}, Reason.BAD_INSTRUMENT),
    "another venue, a name like ours": ({"exchange": "bybit-options"}, Reason.BAD_INSTRUMENT),
    "no venue": ({"exchange": ""}, Reason.BAD_INSTRUMENT),
    "a future": ({"symbol": "BTC-26JUN20"}, Reason.NOT_AN_OPTION),
    "a perpetual": ({"symbol": "BTC-PERPETUAL"}, Reason.NOT_AN_OPTION),
    "no name": ({"symbol": ""}, Reason.BAD_INSTRUMENT),
    "no such name": ({"symbol": "x"}, Reason.BAD_INSTRUMENT),
    "another strike than its name": ({"strike_price": "9870"}, Reason.BAD_INSTRUMENT),
    "another expiry than its name": ({"expiration": "1591776000000000"}, Reason.BAD_INSTRUMENT),
    "another side than its name": ({"type": "call"}, Reason.BAD_INSTRUMENT),
    "no time": ({"timestamp": ""}, Reason.BAD_TIMESTAMP),
    "a time in nanoseconds": ({"timestamp": "1591574399413000000"}, Reason.BAD_TIMESTAMP),
    "a time that is none": ({"timestamp": "yesterday"}, Reason.BAD_TIMESTAMP),
    "a price that is none": ({"bid_price": "n.a."}, Reason.BAD_NUMBER),
    "no strike": ({"strike_price": ""}, Reason.BAD_STRIKE),
    "no side": ({"type": ""}, Reason.BAD_TYPE),
}


@pytest.mark.parametrize(("change", "reason"), REJECTED.values(), ids=REJECTED)
def test_what_cannot_be_used_is_counted_and_costs_no_other_row(tmp_path, change, reason):
    block = one(tmp_path, [ROW, line(**change), ROW, ROW])
    assert [Reason(code) for code in block.reason] == [Reason.USED, reason, Reason.USED, Reason.USED]
    good = block.table.filter(pa.array(block.reason == 0))
    assert good.to_pylist() == one(tmp_path, [ROW] * 3).table.to_pylist()


@given(st.lists(st.sampled_from(["good", "short", "future", "bad number", "quote"]), min_size=1, max_size=40))
def test_every_line_is_a_row_or_counted(tmp_path_factory, kinds):
    lines = {
        "good": ROW, "short": "deribit,BTC", "future": line(symbol="BTC-26JUN20"), "bad number": line(ask_price="?"),
        "quote": ROW.replace("put", '"put'),
    }  # fmt: skip
    kinds = [*kinds, "good", *["good"] * kinds.count("bad number")]
    path = written(tmp_path_factory.getbasetemp(), [lines[kind] for kind in kinds])
    blocks = list(stream(path))
    reasons = np.concatenate([block.reason for block in blocks])
    assert sum(block.malformed for block in blocks) == kinds.count("short") + kinds.count("quote")
    expected = {"good": Reason.USED, "future": Reason.NOT_AN_OPTION, "bad number": Reason.BAD_NUMBER}
    assert reasons.tolist() == [expected[kind] for kind in kinds if kind in expected]


def test_fractions_are_refused(tmp_path):
    with pytest.raises(UnitsError, match=r"median 0\.6289 .* a tardis source holds volatilities as percent"):
        one(tmp_path, [line(bid_iv="55.91", ask_iv="68.94", mark_iv="0.6289")])


def test_a_missing_column_is_told(tmp_path):
    names = [name for name in NAMES if name != "bid_price"]
    with pytest.raises(SchemaError, match="a Tardis options_chain file needs the column bid_price"):
        list(stream(written(tmp_path, [], ",".join(names))))


def test_rows_in_another_order_of_columns_are_the_same(tmp_path):
    turned = [",".join(reversed(text.split(","))) for text in (HEADER, ROW)]
    (block,) = stream(written(tmp_path, turned[1:], turned[0]))
    assert block.table.to_pylist() == one(tmp_path, [ROW]).table.to_pylist()


def test_reading_accounts_for_every_line(tmp_path):
    lines = [
        ROW,
        line(symbol="BTC-PERPETUAL"),
        "cut",
        line(bid_price="?"),
        ROW.replace("1591574399413000", "1591574399413001"),
    ]
    quotes = read_quotes(written(tmp_path, lines))
    assert quotes.rejections.by_reason() == {"malformed": 1, "bad_number": 1, "not_an_option": 1}
    built = build(quotes)
    assert built.rejections.used + built.rejections.total == quotes.rows + 1  # the cut line is in no row
