"""A source is visible whole or not at all; the same rows again are no new rows; a crash loses nothing committed."""

import contextlib
import itertools
import os
import shutil
import subprocess
import sys

import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.data.store.small import (
    STAMP,
    TINY,
    Killed,
    distinct,
    files_of,
    full,
    ingest,
    killer,
    quotes,
    rows_in,
    rows_of,
    sha,
    shuffled,
    store_of,
)
from volgrad.data.schema import Dataset
from volgrad.data.store import Limits, Store
from volgrad.errors import InputError, SchemaError, WorkError

POOL = quotes(days=(0, 1), minutes=(0, 1, 700), strikes=(80_000.0, 90_000.0), ccys=("BTC", "ETH"))


@given(
    steps=st.lists(
        st.one_of(
            st.tuples(
                st.sampled_from(["end", "drop"]),
                st.lists(st.integers(0, POOL.num_rows - 1), max_size=14),
                st.integers(1, 14),
            ),
            st.sampled_from(["commit", "open again"]),
        ),
        max_size=10,
    ),
    limits=st.sampled_from([TINY, Limits()]),
)
@settings(max_examples=60)
def test_any_sequence_of_operations_is_that_of_a_set(tmp_path_factory, steps, limits):
    root = tmp_path_factory.mktemp("any") / "store"
    Store.create(root)
    committed, ended, number, waiting = set(), set(), 0, list(steps)
    while waiting:
        with Store.open(root).writer(limits) as writer:
            while waiting:
                step = waiting.pop(0)
                if step == "commit":
                    writer.commit()
                    committed |= ended
                elif step == "open again":
                    break
                else:
                    how, rows, block = step
                    table, number = POOL.take(pa.array(rows, pa.int64())), number + 1
                    writer.begin(f"source {number}", "canonical")
                    for start in range(0, len(rows), block):
                        some = set(rows[start : start + block])
                        added = writer.add(Dataset.QUOTES, table.slice(start, block))
                        assert added.rows + added.duplicates == len(rows[start : start + block])
                        assert added.rows == len(some - committed - ended - set(rows[:start]))
                    if how == "end":
                        writer.end()
                        ended |= set(rows)
                    else:
                        writer.drop()
                assert rows_in(Store.open(root)) == rows_of(POOL.take(pa.array(sorted(committed), pa.int64())))
        ended = set()
    store = Store.open(root)
    assert rows_in(store) == rows_of(POOL.take(pa.array(sorted(committed), pa.int64())))
    assert sum(source.rows for source in store.sources) == len(committed)
    assert store.verify() == ()
    assert store.notes == ()
    with store.writer():
        pass
    assert not [path for path in files_of(root) if path.name.endswith(".tmp")]


def two_commits(root, disk):
    """Add b.csv and c.csv, each in blocks of three rows and committed, on this disk."""
    with Store.open(root, disk).writer(TINY) as writer:
        for name, table in (("b.csv", TABLES[1]), ("c.csv", TABLES[2])):
            ingest(writer, name, table, block=3)
            writer.commit()


def copies(tmp_path):
    """A store of a.csv, as often as asked for."""
    first = store_of(tmp_path / "first", ("a.csv", TABLES[0])).path
    for number in itertools.count():
        yield shutil.copytree(first, tmp_path / str(number))


TABLES = quotes(), quotes(minutes=(0, 1, 2)), quotes(days=(0, 1), minutes=(2, 3))
TRUTHS = [distinct(rows_of(*TABLES[: n + 1])) for n in range(3)]


def test_killed_before_any_file_operation_nothing_half_done_is_visible(tmp_path):
    stores = copies(tmp_path)
    disk, operations = killer(10**9)
    two_commits(next(stores), disk)
    assert set(operations) == {"create", "write", "rename", "sync", "remove"}
    reached = []
    for point in range(len(operations)):
        root = next(stores)
        with pytest.raises(Killed):
            two_commits(root, killer(point)[0])
        store = Store.open(root)
        reached.append(TRUTHS.index(rows_in(store)))
        assert store.damaged == []
        assert not any("damaged" in note for note in store.notes)
        with store.writer(TINY) as writer:  # removes what the dead one left, and goes on where it stopped
            assert not [path for path in files_of(root) if path.name.endswith(".tmp")]
            if point % 3 == 0:
                for name, table in zip("abc", TABLES, strict=True):
                    ingest(writer, f"{name}.csv", table)
                writer.commit()
                assert rows_in(Store.open(root)) == TRUTHS[2]
    assert reached == sorted(reached)
    assert set(reached) == {0, 1, 2}


def test_killed_while_a_store_is_made_it_can_be_made_again(tmp_path):
    for point in range(9):
        root = tmp_path / str(point)
        with contextlib.suppress(Killed):
            Store.create(root, killer(point)[0])
        store = Store.open(root) if (root / "manifest-000000.json").exists() else Store.create(root)
        assert rows_in(store) == []


def test_what_a_killed_writer_left_is_removed_and_nothing_else(tmp_path):
    root = store_of(tmp_path / "store", ("a.csv", TABLES[0])).path
    before = files_of(root)
    left = root / "quotes" / "BTC" / "2026-01-05" / "0123456789abcdef.parquet"
    half = left.with_name(f".{left.name}.tmp")
    for path in (left, half, root / ".manifest-000009.json.tmp"):
        path.write_bytes(b"half")
    with Store.open(root).writer():
        assert files_of(root) == before


@pytest.mark.parametrize("limits", [TINY, Limits()], ids=["spilling", "in memory"])
def test_a_full_disk_leaves_the_generation_before_and_says_so(tmp_path, limits):
    stores = copies(tmp_path)
    disk, operations = full(10**9)
    with Store.open(next(stores), disk).writer(limits) as writer:
        ingest(writer, "c.csv", TABLES[2])
        writer.commit()
    told = []
    for point in range(len(operations)):
        root = next(stores)
        try:
            with Store.open(root, full(point)[0]).writer(limits) as writer:
                ingest(writer, "c.csv", TABLES[2])
                writer.commit()
        except WorkError as error:
            told.append(str(root) in str(error) and "No space left on device" in str(error))
            assert rows_in(Store.open(root)) == TRUTHS[0]
        else:  # the manifest was there already: only its copy, or the cleaning, did not get through
            assert rows_in(Store.open(root)) == distinct(rows_of(TABLES[0], TABLES[2]))
        assert Store.open(root).verify() == ()
        assert not [path for path in files_of(root) if path.name.endswith(".tmp")]
    assert len(told) > 3
    assert all(told)


def test_a_commit_that_failed_once_may_be_tried_again(tmp_path):
    stores = copies(tmp_path)
    disk, operations = full(10**9)
    with Store.open(next(stores), disk).writer() as writer:
        ingest(writer, "c.csv", TABLES[2])
        writer.commit()
    retried = 0
    for point in range(len(operations)):
        root = next(stores)
        with Store.open(root, full(point, again=True)[0]).writer() as writer:
            ingest(writer, "c.csv", TABLES[2])
            try:
                writer.commit()
            except WorkError:
                retried += 1
                writer.commit()
        assert rows_in(Store.open(root)) == distinct(rows_of(TABLES[0], TABLES[2]))
        assert Store.open(root).verify() == ()
    assert retried > 3


def test_a_second_writer_is_refused_and_told_who_writes(tmp_path):
    store = store_of(tmp_path / "store")
    with store.writer() as writer:
        ingest(writer, "a.csv", TABLES[0])
        with pytest.raises(WorkError, match=f"process {os.getpid()} is writing"), Store.open(store.path).writer():
            pass
        writer.commit()
    with store.writer() as writer:
        assert writer.generation == 1


def test_the_lock_dies_with_its_process(tmp_path):
    store = store_of(tmp_path / "store", ("a.csv", TABLES[0]))
    script = (
        "import sys; from volgrad.data.store import Store\n"
        "with Store.open(sys.argv[1]).writer():\n    print('locked', flush=True); sys.stdin.read()"
    )
    with subprocess.Popen(
        [sys.executable, "-c", script, str(store.path)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as other:
        assert other.stdout.readline() == "locked\n"
        with pytest.raises(WorkError, match=f"process {other.pid} is writing"), store.writer():
            pass
        assert rows_in(Store.open(store.path)) == TRUTHS[0]  # readers need no lock
        other.kill()
    with store.writer() as writer:
        ingest(writer, "b.csv", TABLES[1])


def other_dictionaries(table):
    """The same rows, text with its dictionary the other way round and unused entries in it, in chunks of their own."""
    columns = {}
    for name in table.column_names:
        column = table[name]
        if pa.types.is_dictionary(column.type):
            values = ["unused", *sorted(set(column.to_pylist()), reverse=True)]
            codes = pa.array([values.index(value) for value in column.to_pylist()], pa.int8())
            column = pa.DictionaryArray.from_arrays(codes, pa.array(values, pa.large_string()))
        columns[name] = column
    table = pa.table(columns)
    return pa.concat_tables([table.slice(0, 3), table.slice(3, 1), table.slice(4)])


@pytest.mark.parametrize(
    "change",
    [
        lambda table: table,
        lambda table: shuffled(table, 5),
        lambda table: pa.concat_tables([table, table]),
        other_dictionaries,
        lambda table: table.select(list(reversed(table.column_names))),
        lambda table: pa.table(
            {
                name: table[name].cast(pa.string()) if pa.types.is_dictionary(table[name].type) else table[name]
                for name in table.column_names
            }
        ),
        lambda table: table.set_column(0, "ts", table["ts"].cast(pa.timestamp("ns", tz="UTC"))),
        lambda table: table.append_column("cycle", pa.nulls(table.num_rows, STAMP)),
        lambda table: table.append_column("settlement", pa.array(["inverse"] * table.num_rows)),
        lambda table: table.append_column("bid_size", pa.nulls(table.num_rows)),
    ],
    ids=[
        "same",
        "shuffled",
        "twice",
        "dictionaries",
        "columns",
        "plain_text",
        "nanoseconds",
        "cycle",
        "settlement",
        "size",
    ],
)
@pytest.mark.parametrize("block", [3, 1000])
@pytest.mark.parametrize("limits", [TINY, Limits()], ids=["spilling", "in memory"])
def test_the_same_rows_again_are_no_new_rows(tmp_path, change, block, limits):
    store = store_of(tmp_path / "store", ("a.csv", TABLES[2]), limits=limits)
    before = [(path, path.read_bytes()) for path in files_of(store.path) if path.suffix == ".parquet"]
    table = change(TABLES[2])
    with store.writer(limits) as writer:
        assert ingest(writer, "again.csv", table, block=block) == (0, table.num_rows)
        assert ingest(writer, "new.csv", quotes(days=(1, 2)), block=block) == (16, 0)
        assert ingest(writer, "new again.csv", shuffled(quotes(days=(1, 2)), 3), block=block) == (0, 16)
        writer.commit()
    store = Store.open(store.path)
    assert rows_in(store) == rows_of(TABLES[2], quotes(days=(1, 2)))
    assert all(path.read_bytes() == content for path, content in before)
    assert [(s.entry.name, s.rows, s.duplicates) for s in store.sources] == [
        ("a.csv", 16, 0),
        ("again.csv", 0, table.num_rows),
        ("new.csv", 16, 0),
        ("new again.csv", 0, 16),
    ]


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("bid", 0.5),
        ("ask", 0.5),
        ("bid_size", 1.0),
        ("ask_size", 1.0),
        ("strike", 1.0),
        ("cp", "P"),
        ("split", "fit"),
        ("settlement", "linear"),
        ("expiry", 7),
        ("cycle", 1_767_571_200_000_000),
    ],
)
def test_a_row_that_differs_in_its_identity_is_another_row(tmp_path, name, value):
    table = quotes()
    column = pa.array([value] * table.num_rows)
    column = column.cast(STAMP) if isinstance(value, int) else column
    index = table.column_names.index(name) if name in table.column_names else None
    other = table.append_column(name, column) if index is None else table.set_column(index, name, column)
    store = store_of(tmp_path / "store", ("a.csv", table))
    with store.writer() as writer:
        rows, duplicates = ingest(writer, "b.csv", other)
    assert rows + duplicates == table.num_rows
    assert rows == len(distinct(rows_of(other)))


def test_minus_zero_and_nan_are_zero_and_null(tmp_path):
    store = store_of(tmp_path / "store", ("a.csv", quotes(bid=pa.array([0.0, None] * 4, pa.float64()))))
    with store.writer() as writer:
        assert ingest(writer, "b.csv", quotes(bid=pa.array([-0.0, float("nan")] * 4))) == (0, 8)


def test_a_source_of_the_same_content_need_not_be_read_again(tmp_path):
    store = store_of(tmp_path / "store", ("a.csv", TABLES[0]))
    assert store.has_source(sha("a.csv"))
    assert not store.has_source(sha("b.csv"))
    with store.writer() as writer:
        assert writer.has_source(sha("a.csv"))
        assert not writer.has_source(sha("b.csv"))
        ingest(writer, "b.csv", TABLES[1])
        assert writer.has_source(sha("b.csv"))


def test_the_same_source_again_changes_nothing_at_all(tmp_path):
    store = store_of(tmp_path / "store", ("a.csv", TABLES[0]), ("b.csv", TABLES[2]))
    before = {path: path.read_bytes() for path in files_of(store.path)}
    with store.writer() as writer:
        ingest(writer, "a.csv", TABLES[0])
        ingest(writer, "b.csv", shuffled(TABLES[2], 1))
        writer.commit()
        assert writer.generation == 2
    assert {path: path.read_bytes() for path in files_of(store.path)} == before


def test_many_small_sources_do_not_make_many_parts(tmp_path):
    table = quotes(days=(0,), minutes=range(40), ccys=("BTC",))
    store = store_of(tmp_path / "store")
    with store.writer() as writer:
        for number in range(40):
            ingest(writer, f"{number}.json", table.slice(2 * number, 2))
        writer.commit()
    store = Store.open(store.path)
    assert [extent.parts for extent in store.describe()] == [1]
    assert [source.rows for source in store.sources] == [2] * 40
    (scanned,) = store.scan()
    assert scanned.table["source"].to_pylist() == [f"{number}.json" for number in range(40) for _ in range(2)]


def test_many_commits_do_not_make_many_parts_either(tmp_path):
    store = store_of(tmp_path / "store")
    table = quotes(days=(0,), minutes=range(30), ccys=("BTC",))
    with store.writer() as writer:
        for number in range(30):
            ingest(writer, f"{number}.json", table.slice(2 * number, 2))
            writer.commit()
            assert Store.open(store.path).describe()[0].parts <= 8
    store = Store.open(store.path)
    assert rows_in(store) == rows_of(table)
    # parts of the two kept generations and no others are there
    assert len([path for path in files_of(store.path) if path.suffix == ".parquet"]) <= 16
    assert len(list(store.path.glob("manifest-*"))) == 4


def test_the_generation_before_keeps_its_parts_when_they_are_merged(tmp_path):
    store = store_of(tmp_path / "store")
    table = quotes(days=(0,), minutes=range(20), ccys=("BTC",))
    with store.writer() as writer:
        for number in range(20):
            ingest(writer, f"{number}.json", table.slice(2 * number, 2))
            writer.commit()
            for path in store.path.glob(f"manifest-{writer.generation:06d}*"):
                path.rename(path.with_suffix(".hidden"))
            older = Store.open(store.path)
            assert older.generation == number
            assert rows_in(older) == rows_of(table.slice(0, 2 * number))
            for path in store.path.glob("*.hidden"):
                path.rename(path.with_suffix(".json"))


def test_memory_holds_no_more_rows_than_allowed(tmp_path):
    table = quotes(days=range(3), minutes=range(50))
    store = store_of(tmp_path / "store")
    with store.writer(Limits(buffer_rows=100, part_rows=40)) as writer:
        writer.begin("a.csv", "canonical")
        for start in range(0, table.num_rows, 30):
            writer.add(Dataset.QUOTES, table.slice(start, 30))
            written = [path for path in files_of(store.path) if path.suffix == ".parquet"]
            assert start + 30 <= 100 or written
        assert rows_in(Store.open(store.path)) == []
        writer.drop()
        assert not [path for path in files_of(store.path) if path.suffix == ".parquet"]
        ingest(writer, "a.csv", table, block=30)
        writer.commit()
    store = Store.open(store.path)
    assert rows_in(store) == rows_of(table)
    assert max(one.table.num_rows for one in store.scan()) <= 40


def test_order_of_rows_in_a_part_is_that_of_the_source(tmp_path):
    table = shuffled(quotes(days=(0,), ccys=("BTC",), minutes=range(50)), 9)
    (scanned,) = store_of(tmp_path / "store", ("a.csv", table)).scan()
    assert scanned.table["ask"].to_pylist() == table["ask"].to_pylist()


def test_columns_that_only_some_sources_have_are_null_in_the_others(tmp_path):
    store = store_of(tmp_path / "store")
    with store.writer() as writer:
        ingest(writer, "a.csv", quotes(ccys=("BTC",)))
        ingest(writer, "b.csv", quotes(minutes=(7,), ccys=("BTC",), oi=pa.array([5.0, 6.0])))
        writer.commit()
    (scanned,) = Store.open(store.path).scan()
    assert scanned.table["oi"].to_pylist() == [None] * 4 + [5.0, 6.0]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"ccy": pa.array(["../BTC"] * 8)}, r"underlying '../BTC' in row 0 of a block cannot name a folder"),
        ({"ccy": pa.array(["BTC"] * 7 + ["btc"])}, r"underlying 'btc' in row 7"),
        ({"ccy": pa.array(["BTC"] * 7 + [None])}, "row 7 of a block has no underlying"),
        ({"ts": pa.array([None] * 8, STAMP)}, "row 0 of a block has no underlying, or no stamp"),
        ({"ts": pa.array([2**62] * 8).cast(STAMP)}, "in the years 1 to 9999"),
        ({"source": pa.array(["x"] * 8)}, "'source' cannot be stored"),
        ({"legs": pa.array([[1]] * 8)}, "legs holds list"),
        ({"mark_iv": pa.array(["0.5"] * 8)}, "mark_iv holds string, in the store it holds float64"),
    ],
)
def test_what_cannot_be_stored_is_refused_before_anything_is(tmp_path, change, message):
    store = store_of(tmp_path / "store", ("a.csv", quotes(minutes=(9,))))
    with store.writer() as writer:
        writer.begin("b.csv", "canonical")
        with pytest.raises(SchemaError, match=message) as caught:
            writer.add(Dataset.QUOTES, quotes(**change))
        assert "b.csv" in str(caught.value)
        writer.drop()
        writer.commit()
    assert Store.open(store.path).generation == 1


@pytest.mark.parametrize("limits", [{"part_rows": 0}, {"part_rows": 1 << 25}, {"parts": 0}])
def test_limits_that_cannot_be_met_are_refused(limits):
    with pytest.raises(ValueError, match="a part has 1 to 16777216 rows"):
        Limits(**limits)


def test_sources_come_one_at_a_time(tmp_path):
    with store_of(tmp_path / "store").writer() as writer:
        for verb in (writer.end, writer.drop, lambda: writer.add(Dataset.QUOTES, quotes())):
            with pytest.raises(ValueError, match="no source is open"):
                verb()
        writer.begin("a.csv", "canonical")
        with pytest.raises(ValueError, match=r"a.csv. is still open"):
            writer.begin("b.csv", "canonical")


def test_a_closed_writer_takes_nothing(tmp_path):
    store = store_of(tmp_path / "store")
    with store.writer() as writer:
        writer.begin("a.csv", "canonical")
        writer.add(Dataset.QUOTES, quotes())
    for verb in (lambda: writer.begin("b.csv", "canonical"), writer.commit):
        with pytest.raises(ValueError, match="writer is closed"):
            verb()
    assert rows_in(Store.open(store.path)) == []


def test_an_open_source_is_not_in_a_commit_made_meanwhile(tmp_path):
    store = store_of(tmp_path / "store")
    with store.writer(TINY) as writer:
        ingest(writer, "a.csv", TABLES[0])
        writer.begin("b.csv", "canonical")
        writer.add(Dataset.QUOTES, TABLES[1])
        writer.commit()
        assert rows_in(Store.open(store.path)) == TRUTHS[0]
        writer.add(Dataset.QUOTES, TABLES[1])
        writer.end()
        writer.commit()
        assert rows_in(Store.open(store.path)) == TRUTHS[1]
        assert Store.open(store.path).verify() == ()


def test_rejections_and_notes_of_a_source_are_kept(tmp_path):
    store = store_of(tmp_path / "store")
    with store.writer() as writer:
        writer.begin("a\udcff.csv", "snapshot")
        writer.end({"bad_strike": 3, "expired": 0}, ["ts has no time zone, taken as UTC"])
        writer.commit()
    (source,) = Store.open(store.path).sources
    assert source.entry.name == "a\\udcff.csv"
    assert source.entry.kind == "snapshot"
    assert source.entry.rejections == {"bad_strike": 3}
    assert source.entry.notes == ("ts has no time zone, taken as UTC",)


def test_a_store_is_made_in_an_empty_folder_only(tmp_path):
    (tmp_path / "taken").mkdir()
    (tmp_path / "taken" / "thesis.tex").write_text("")
    with pytest.raises(InputError, match=r"holds .thesis.tex. and is no store"):
        Store.create(tmp_path / "taken")
    (tmp_path / "file").write_text("")
    with pytest.raises(InputError, match="a file is here"):
        Store.create(tmp_path / "file")
    Store.create(tmp_path / "store")
    with pytest.raises(InputError, match="a store is here already"):
        Store.create(tmp_path / "store")
