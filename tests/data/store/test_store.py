"""Reading a store: pruning is filtering, the manifest tells what is there, and writers beside readers do no harm."""

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.data.store.small import (
    DAY_US,
    FIRST_DAY,
    STAMP,
    distinct,
    files_of,
    ingest,
    plain,
    quotes,
    rows_in,
    rows_of,
    sha,
    store_of,
)
from volgrad.data.schema import Dataset
from volgrad.data.store import Limits, Store, is_store
from volgrad.errors import InputError, SchemaError, WorkError

DAYS, MINUTES, CCYS = (0, 1, 3), (0, 1, 720, 1439), ("BTC", "ETH", "SOL_USDC")
TABLE = quotes(DAYS, MINUTES, ccys=CCYS)
START_US = FIRST_DAY * DAY_US
stamps = st.integers(-3, 4 * 1440 + 3).map(lambda minute: START_US + 60_000_000 * minute)


@pytest.fixture(scope="module")
def store(tmp_path_factory):
    """Three underlyings, three days, several parts a day."""
    return store_of(tmp_path_factory.mktemp("scan") / "store", ("a.csv", TABLE), limits=Limits(part_rows=3))


@given(
    from_us=st.none() | stamps,
    to_us=st.none() | stamps,
    underlying=st.none() | st.frozensets(st.sampled_from([*CCYS, "XRP"])),
)
def test_pruning_is_filtering(store, from_us, to_us, underlying):
    wanted = [
        row
        for row in plain(TABLE)
        if (from_us is None or dict(row)["ts"] >= from_us)
        and (to_us is None or dict(row)["ts"] <= to_us)
        and (underlying is None or dict(row)["ccy"] in underlying)
    ]
    assert rows_in(store, from_us=from_us, to_us=to_us, underlying=underlying) == distinct(wanted)


def test_only_parts_that_may_hold_what_is_asked_for_are_read(store, tmp_path):
    for path in store.path.rglob("*.parquet"):
        target = tmp_path / "copy" / path.relative_to(store.path)
        target.parent.mkdir(parents=True, exist_ok=True)
        if "BTC/2026-01-06" in str(path):
            target.write_bytes(path.read_bytes())
    for path in store.path.glob("manifest*"):
        (tmp_path / "copy" / path.name).write_bytes(path.read_bytes())
    little = Store.open(tmp_path / "copy")
    day = START_US + DAY_US
    assert len(rows_in(little, from_us=day, to_us=day + DAY_US - 1, underlying=["BTC"])) == 8
    assert little.damaged == []
    assert len(rows_in(little)) == 8
    assert len(little.damaged) > 5


def test_days_come_in_order_and_the_stamp_is_that_of_the_cycle(tmp_path):
    late = pa.array([START_US + DAY_US - 1] * 8).cast(STAMP)
    store = store_of(tmp_path / "store", ("b.csv", quotes(days=(1,))), ("a.csv", quotes(days=(1,), cycle=late)))
    days = [(one.partition.first_day, one.partition.underlying) for one in store.scan()]
    assert days == [(FIRST_DAY + d, c) for d in (0, 1) for c in ("BTC", "ETH")]
    assert len(rows_in(store, to_us=START_US + DAY_US - 1)) == 8
    assert rows_in(store, from_us=START_US + DAY_US) == rows_of(quotes(days=(1,)))


def test_columns_are_a_choice_and_the_source_is_always_told(store):
    for window in ({}, {"from_us": START_US + 60_000_000}):
        for one in store.scan(columns=["bid", "strike", "no_such_column"], **window):
            assert one.table.column_names == ["strike", "bid", "source"]
    whole = rows_of(*(one.table for one in store.scan(from_us=START_US + 60_000_000, columns=["ask"])))
    assert whole == sorted(
        ((("ask", row["ask"]),) for row in TABLE.to_pylist() if row["ts"].timestamp() * 1e6 >= START_US + 60_000_000),
        key=repr,
    )


def test_each_row_has_its_source_with_its_kind(tmp_path):
    store = Store.create(tmp_path / "store")
    with store.writer() as writer:
        for name, kind, minute in (("x.json", "okx", 0), ("x.json", "ccxt", 1), ("y.json", "okx", 2)):
            writer.begin(name, kind)
            writer.add(Dataset.QUOTES, quotes(minutes=(minute,), ccys=("BTC",)))
            writer.end()
        writer.commit()
    (scanned,) = Store.open(store.path).scan()
    assert scanned.table["source"].to_pylist() == ["x.json"] * 4 + ["y.json"] * 2
    codes = scanned.table["source"].combine_chunks()
    codes = codes.chunk(0) if isinstance(codes, pa.ChunkedArray) else codes
    kinds = [scanned.sources[code].kind for code in codes.indices.to_pylist()]
    assert kinds == ["okx", "okx", "ccxt", "ccxt", "okx", "okx"]


def test_types_are_canonical_whatever_came(tmp_path):
    table = quotes().set_column(0, "ts", quotes()["ts"].cast(pa.timestamp("ms", tz="Europe/Berlin")))
    table = table.append_column("oi", pa.array(range(8)))
    for one in store_of(tmp_path / "store", ("a.csv", table)).scan():
        assert one.table["ts"].type == STAMP
        assert one.table["oi"].type == pa.float64()
        assert {one.table[name].type for name in ("ccy", "cp")} == {pa.dictionary(pa.int32(), pa.string())}
        assert one.table.column_names[:7] == ["ts", "ccy", "expiry", "strike", "cp", "bid", "ask"]


def test_the_manifest_tells_what_is_there(store):
    extents = store.describe()
    assert [(one.underlying, one.rows, one.partitions) for one in extents] == [(ccy, 24, 3) for ccy in CCYS]
    assert all(one.from_us == START_US and one.to_us == START_US + (3 * 1440 + 1439) * 60_000_000 for one in extents)
    on_disk = sum(path.stat().st_size for path in store.path.rglob("*.parquet"))
    assert sum(one.bytes for one in extents) == on_disk
    (source,) = store.sources
    assert (source.entry.name, source.entry.sha256, source.rows) == ("a.csv", sha("a.csv"), TABLE.num_rows)


def side_series():
    """A table of each side series."""
    ts = pa.array([START_US + n for n in range(4)]).cast(STAMP)
    shared = {"ts": ts, "ccy": ["BTC"] * 4}
    trades = {"trade_id": ["1", "2", "2", None], "price": [0.1, 0.2, 0.3, 0.4], "cp": ["C"] * 4}
    bars = {"symbol": ["BTCUSDT"] * 4, "close": [9e4] * 4}
    return {
        Dataset.TRADES: pa.table(shared | trades),
        Dataset.BARS: pa.table(shared | bars),
        Dataset.VOLATILITY_INDEX: pa.table(shared | {"close": [0.5, 0.6, 0.7, 0.8]}),
    }


def test_side_series_lie_beside_the_quotes(tmp_path):
    store = store_of(tmp_path / "store", ("a.csv", quotes()))
    with store.writer() as writer:
        for dataset, table in side_series().items():
            assert ingest(writer, f"{dataset.value}.csv", table, dataset) == (4, 0)
            assert ingest(writer, f"{dataset.value} again.csv", table, dataset) == (0, 4)
        writer.commit()
    store = Store.open(store.path)
    for dataset, table in side_series().items():
        assert rows_in(store, dataset) == rows_of(table)
    assert rows_in(store) == rows_of(quotes())
    assert {one.dataset for one in store.describe()} == set(Dataset)


def test_a_trade_is_the_same_by_its_id_and_without_one_by_all_it_says(tmp_path):
    table = side_series()[Dataset.TRADES]
    other = table.set_column(table.column_names.index("price"), "price", pa.array([9.0] * 4))
    store = Store.create(tmp_path / "store")
    with store.writer() as writer:
        ingest(writer, "a.csv", table, Dataset.TRADES)
        assert ingest(writer, "b.csv", other, Dataset.TRADES) == (1, 3)


def test_what_is_no_store_is_told(tmp_path):
    assert not is_store(tmp_path)
    with pytest.raises(InputError, match="no store is here"):
        Store.open(tmp_path)
    with pytest.raises(InputError, match="no store is here"):
        Store.open(tmp_path / "nothing")
    (tmp_path / "file").write_text("")
    assert not is_store(tmp_path / "file")
    store = Store.create(tmp_path / "new" / "store")
    assert is_store(store.path)
    assert rows_in(store) == []
    assert store.describe() == ()


def test_a_table_without_stamps_or_underlying_is_no_table_of_a_store(tmp_path):
    with Store.create(tmp_path / "store").writer() as writer:
        writer.begin("a.csv", "canonical")
        for name in ("ts", "ccy"):
            with pytest.raises(SchemaError, match=f"a.csv: quotes need the columns ts and ccy; {name} is missing"):
                writer.add(Dataset.QUOTES, quotes().drop_columns([name]))
        assert writer.add(Dataset.QUOTES, quotes().slice(0, 0)) == (0, 0)


def test_a_reader_beside_a_writer_sees_one_generation_or_is_told(tmp_path):
    store = store_of(tmp_path / "store", ("a.csv", quotes()))
    with store.writer(Limits(parts=1)) as writer:
        ingest(writer, "b.csv", quotes(minutes=(7,)))
        writer.commit()
        assert rows_in(store) == rows_of(quotes())  # one generation back: its parts are kept
        ingest(writer, "c.csv", quotes(minutes=(8,)))
        writer.commit()
    with pytest.raises(WorkError, match="writers replaced what was being read; read it again"):
        rows_in(store)
    assert rows_in(Store.open(store.path)) == rows_of(quotes(minutes=(0, 300, 7, 8)))


def test_verify_reads_every_byte(tmp_path):
    store = store_of(tmp_path / "store", ("a.csv", quotes()))
    assert store.verify() == ()
    for path in files_of(store.path):
        if path.suffix == ".parquet":
            before = path.read_bytes()
            path.write_bytes(before[:-5] + bytes([before[-5] ^ 1]) + before[-4:])
            (damaged,) = Store.open(store.path).verify()
            assert damaged.part == path.relative_to(store.path).as_posix()
            assert (damaged.rows, damaged.sources) == (4, ("a.csv",))
            assert "SHA-256" in str(damaged)
            assert "ingest again: a.csv" in str(damaged)
            path.write_bytes(before)


def test_a_store_of_a_later_format_is_told(tmp_path):
    import hashlib

    store = Store.create(tmp_path / "store")
    for path in store.path.glob("manifest*"):
        body = path.read_bytes()[len(b'{"sha256":"') + 64 + len(b'","manifest":') : -2]
        body = body.replace(b'"format":1', b'"format":2,"new":[]')
        seal = hashlib.sha256(body).hexdigest().encode()
        path.write_bytes(b'{"sha256":"' + seal + b'","manifest":' + body + b"}\n")
    with pytest.raises(InputError, match="format 2, this version reads 1; update volgrad"):
        Store.open(store.path)


def test_bars_and_indices_share_a_year(tmp_path):
    with Store.create(tmp_path).writer() as writer:
        writer.begin("bars.csv", "canonical")
        days = np.arange("2024-12-01", "2025-02-01", dtype="datetime64[D]").astype("datetime64[us]")
        table = pa.table({"ts": pa.array(days, pa.timestamp("us", "UTC")), "ccy": ["BTC"] * 62, "close": np.ones(62)})
        writer.add(Dataset.BARS, table)
        writer.end()
        writer.commit()
    assert [one.partition.folder for one in Store.open(tmp_path).scan(Dataset.BARS)] == [
        "bars/BTC/2024",
        "bars/BTC/2025",
    ]
