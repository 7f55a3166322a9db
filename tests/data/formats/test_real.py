"""The recorded files: golden counts, and values read off the files by eye."""

import gzip

import numpy as np
import pyarrow as pa
import pyarrow.csv
import pytest

from tests.data.formats.messages import canonical, only, pieces_of, read_blocks, reasons, rows_of
from volgrad.data.formats import SessionDecoder, tabular
from volgrad.data.formats.lines import frame_of
from volgrad.data.reasons import Reason
from volgrad.data.schema import Dataset
from volgrad.errors import InputError


def unpacked(shared_data, name):
    path = shared_data / name
    if not path.exists():
        pytest.skip(f"{name} is not in {shared_data}")
    return gzip.decompress(path.read_bytes())


@pytest.fixture(scope="module")
def recording(shared_data):
    return unpacked(shared_data, "deribit_ws_recording_20210722.txt.gz")


def test_every_frame_of_the_recording_is_accounted_for(recording):
    session = SessionDecoder("recording")
    for line in filter(None, recording.split(b"\n")):
        kind, raw = frame_of(line)
        if kind == "frame":
            session.frame(raw)
    account = session.account
    assert account.used == {"ticker": 89, "book snapshot": 10, "book change": 36}
    assert (account.frames, account.malformed, dict(account.gaps), account.skipped) == (136, 0, {}, {"answers": 1})
    (piece,) = session.drain()
    assert len(set(piece.table["instrument"].to_pylist())) == 10


def test_books_of_the_recording_agree_with_its_tickers(recording):
    """Two channels tell the same best prices: of one option at one time, the last row of each is the same quote."""
    rows = rows_of(canonical(only(recording)).table)
    latest = {}
    for row in rows:
        latest.setdefault((row["ts"], row["strike"], row["cp"], row["expiry"], row["ccy"]), []).append(row)
    pairs = [group for group in latest.values() if len(group) > 1]
    assert len(pairs) >= 30
    agree = [
        tuple(group[0][n] for n in ("bid", "ask")) == tuple(group[-1][n] for n in ("bid", "ask")) for group in pairs
    ]
    assert np.mean(agree) > 0.9


def test_a_cut_recording_keeps_what_came_before(recording):
    whole, cut = only(recording), only(recording[: len(recording) // 2])
    assert cut.malformed <= 1
    rows = cut.table.num_rows
    assert 0 < rows < whole.table.num_rows
    assert rows_of(cut.table) == rows_of(whole.table.slice(0, rows))


def test_book_summaries(shared_data):
    piece = only(unpacked(shared_data, "deribit_book_summary_btc_20250614.json.gz"))
    done = canonical(piece)
    assert (piece.table.num_rows, piece.malformed, reasons(done)) == (746, 0, {Reason.USED: 746})
    assert len(set(done.table["cycle"].to_pylist())) == 1
    first = rows_of(done.table)[0]
    assert (first["strike"], first["bid"], first["ask"], first["mark_iv"]) == (111000.0, 0.0435, 0.064, 0.3788)
    assert np.nanmedian(done.table["mark_iv"].to_numpy()) == pytest.approx(0.5, abs=0.3)


def test_instruments_are_no_quotes(shared_data):
    with pytest.raises(InputError, match="without a quote"):
        pieces_of(unpacked(shared_data, "deribit_http_instruments_20210722.txt.gz"))


@pytest.mark.parametrize(
    ("name", "dataset", "rows", "ccy"),
    [
        ("btc_option_trades_20220101_dedup.csv.gz", Dataset.TRADES, 1350, "BTC"),
        ("btc_dvol_daily_20211109_20251112.csv.gz", Dataset.VOLATILITY_INDEX, 1464, "BTC"),
        ("btcusdt_1h_20240416_20260131.csv.gz", Dataset.BARS, 15743, "BTC"),
        ("ethusdt_1h_20240416_20260131.csv.gz", Dataset.BARS, 15743, "ETH"),
    ],
)
def test_side_series(shared_data, name, dataset, rows, ccy):
    table = pyarrow.csv.read_csv(pa.BufferReader(unpacked(shared_data, name)))
    reader = tabular(table.column_names, name)
    assert reader is not None
    done = canonical(read_blocks(reader, table))
    assert (done.dataset, reasons(done)) == (dataset, {Reason.USED: rows})
    assert set(done.table["ccy"].to_pylist()) == {ccy}
    if dataset is Dataset.VOLATILITY_INDEX:
        assert 0.3 < np.median(done.table["close"].to_numpy()) < 1.0
