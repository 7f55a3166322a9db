"""faults.md rows 2, 3, 6 and 38 on a store: whatever is broken, no wrong number ever comes out."""

import hashlib
import itertools
import json
import re
import shutil

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.data.store.small import files_of, ingest, quotes, rows_in, rows_of, sha, store_of
from volgrad.data.schema import Dataset
from volgrad.data.store import Limits, Store, is_store
from volgrad.errors import DamagedError, VolgradError

TWO = (("a.csv", quotes()), ("b.csv", quotes(days=(1,), ccys=("BTC",))))


def look(root, truth_by_generation):
    """Read a store that was tampered with: what comes out must be the rows of a generation less those of the parts that
    are named as damaged, and an older generation must be told. What was seen: "same", "older", "parts" or "refused".
    """
    try:
        store = Store.open(root)
        rows = rows_in(store)
    except VolgradError as error:
        return "refused" if str(root) in str(error) else "refused, and the store not named"
    truth = truth_by_generation[store.generation]
    newest = max(truth_by_generation)
    if store.generation < newest:
        assert any(f"generation {newest} is damaged" in note for note in store.notes)
    if store.damaged:
        assert set(rows) < set(truth)
        assert len(rows) == len(truth) - sum(part.rows for part in store.damaged)
        assert all(part.sources and part.part in str(part) for part in store.damaged)
        return "parts"
    assert rows == truth
    return "same" if store.generation == newest else "older"


@pytest.fixture(scope="module")
def sound(tmp_path_factory):
    """A store of two generations, its files' content, and the rows of each generation."""
    root = tmp_path_factory.mktemp("sound") / "store"
    store_of(root, *TWO)
    truth = {0: [], 1: rows_of(TWO[0][1]), 2: rows_of(TWO[0][1], TWO[1][1])}
    return root, {path: path.read_bytes() for path in files_of(root)}, truth


@pytest.fixture
def broken(sound):
    """The same store, mended after the test."""
    root, content, truth = sound
    yield root, content, truth
    for path in files_of(root):
        if path not in content:
            path.unlink()
    for path, before in content.items():
        if not path.is_file() or path.read_bytes() != before:
            path.write_bytes(before)


def test_the_store_is_what_the_other_tests_take_it_for(sound):
    root, content, truth = sound
    assert look(root, truth) == "same"
    names = [path.name for path in content]
    assert sum(name.endswith(".parquet") for name in names) == 3
    assert sum(name.startswith("manifest-") for name in names) == 4


@pytest.mark.parametrize(
    "kind", ["*.parquet", "manifest-*2.json", "manifest-*2-copy.json", "manifest-*1.json", ".lock"]
)
def test_any_flipped_byte(broken, kind):
    root, content, truth = broken
    seen = set()
    for path in sorted(root.rglob(kind)):
        before = content[path]
        places = [*range(0, len(before), max(1, len(before) // 80)), len(before) - 1]
        for place, mask in zip(places, itertools.cycle((0x01, 0x80, 0xFF)), strict=False):
            path.write_bytes(before[:place] + bytes([before[place] ^ mask]) + before[place + 1 :])
            seen.add(look(root, truth))
        path.write_bytes(before)
    assert seen == ({"parts"} if kind == "*.parquet" else {"same"})


def test_any_flipped_byte_in_both_files_of_the_newest_manifest_gives_the_generation_before(broken):
    root, content, truth = broken
    both = sorted(root.glob("manifest-*2*.json"))
    seen = set()
    for place in range(0, len(content[both[0]]), 29):
        for path in both:
            before = content[path]
            path.write_bytes(before[:place] + bytes([before[place] ^ 0x04]) + before[place + 1 :])
        seen.add(look(root, truth))
    assert seen == {"older"}


@pytest.mark.parametrize("kind", ["*.parquet", "manifest-*2.json"])
@pytest.mark.parametrize("length", [0, 1, 4, 12, 70, 0.25, 0.5, 0.9, -8, -4, -1])
def test_any_truncation(broken, kind, length):
    root, content, truth = broken
    for path in sorted(root.rglob(kind)):
        before = content[path]
        path.write_bytes(before[: int(length * len(before)) if isinstance(length, float) else length])
        assert look(root, truth) == ("parts" if kind == "*.parquet" else "same")
        path.write_bytes(before)


@pytest.mark.parametrize("tail", [b"\0", b"PAR1", b"{}\n"])
def test_bytes_at_the_end(broken, tail):
    root, content, truth = broken
    for path, before in content.items():
        path.write_bytes(before + tail)
        assert look(root, truth) in ("parts" if path.suffix == ".parquet" else "same", "same")
        path.write_bytes(before)


def test_every_file_deleted_in_turn(broken):
    root, content, truth = broken
    for path, before in content.items():
        path.unlink()
        assert look(root, truth) == ("parts" if path.suffix == ".parquet" else "same")
        path.write_bytes(before)


def test_two_files_swapped(broken):
    root, content, truth = broken
    paths = [path for path in content if path.name != ".lock"]
    for left in paths:
        for right in paths:
            if left < right and content[left] != content[right]:
                left.write_bytes(content[right])
                right.write_bytes(content[left])
                assert look(root, truth) in ("parts", "older", "same")
                assert Store.open(root).verify() or Store.open(root).notes
                left.write_bytes(content[left])
                right.write_bytes(content[right])


def test_all_manifests_damaged_is_never_an_empty_store(broken):
    root, content, _ = broken
    for path in root.glob("manifest-*.json"):
        path.write_bytes(content[path][:-3])
    assert is_store(root)
    with pytest.raises(DamagedError, match="every manifest of this store is damaged"):
        Store.open(root)


@given(data=st.data())
def test_any_bytes_in_place_of_a_file(sound, data):
    root, content, truth = sound
    path = data.draw(st.sampled_from(sorted(content)))
    try:
        path.write_bytes(data.draw(st.binary(max_size=300)))
        assert look(root, truth) in ("same", "parts")
    finally:
        path.write_bytes(content[path])


def forged(root, change):
    """Rewrite the newest manifest, both files, with seals that hold."""
    for path in root.glob("manifest-*2*.json"):
        body = path.read_bytes()
        manifest = json.loads(body)["manifest"]
        change(manifest)
        inner = json.dumps(manifest).encode()
        seal = hashlib.sha256(inner).hexdigest()
        path.write_bytes(b'{"sha256":"' + seal.encode() + b'","manifest":' + inner + b"}\n")


@pytest.mark.parametrize(
    "path",
    [
        "quotes/BTC/2026-01-05/../../../../secret.parquet",
        "../secret.parquet",
        "/etc/passwd",
        "quotes/BTC/2026-01-05/0123456789abcdef.parquet\n",
        "quotes/../2026-01-05/0123456789abcdef.parquet",
        "quotes/BTC/2026-02-31/0123456789abcdef.parquet",
        "quotes/BTC/2026-01-05/0123456789ABCDEF.parquet",
        "quotes\\BTC\\2026-01-05\\0123456789abcdef.parquet",
        "quotes/BTC/٢٠٢٦-01-05/0123456789abcdef.parquet",
        "",
    ],
)
def test_a_forged_path_is_refused(broken, path):
    root, _, _ = broken
    forged(root, lambda manifest: manifest["parts"][0].update(path=path))
    with pytest.raises(DamagedError, match=re.escape(repr(path))):
        Store.open(root)


@pytest.mark.parametrize(
    "change",
    [
        lambda m: m["parts"][0].update(rows=1 << 40, sources={"0": 1 << 40}),
        lambda m: m["parts"][0].update(rows=m["parts"][0]["rows"] + 1),
        lambda m: m["parts"][0].update(sources={"99": m["parts"][0]["rows"]}),
        lambda m: m["parts"][0].update(to_us=m["parts"][0]["to_us"] + 86_400_000_000),
        lambda m: m["parts"].append(m["parts"][0]),
        lambda m: m["sources"].append(m["sources"][0]),
        lambda m: m["sources"][1].update(id=1 << 40),
        lambda m: m["sources"][0].update(partitions=["../.."]),
        lambda m: m["parts"][0].update(sha256="0" * 63),
    ],
)
def test_a_forged_manifest_that_no_writer_writes_is_refused(broken, change):
    root, _, _ = broken
    forged(root, change)
    with pytest.raises(DamagedError, match="forged"):
        Store.open(root)


def test_forged_rows_and_columns_are_no_rows(broken):
    root, _, truth = broken

    def change(manifest):
        part = manifest["parts"][0]
        part["rows"] += 1
        part["sources"] = {"0": part["rows"]}

    forged(root, change)
    store = Store.open(root)
    rows = rows_in(store)
    assert [part.part for part in store.damaged]
    assert set(rows) < set(truth[2])


def test_a_part_that_is_a_link_out_of_the_store_is_not_followed(broken, tmp_path):
    root, content, truth = broken
    path = next(path for path in content if path.suffix == ".parquet")
    elsewhere = tmp_path / path.name
    elsewhere.write_bytes(content[path])
    path.unlink()
    path.symlink_to(elsewhere)
    assert look(root, truth) == "parts"
    path.unlink()


def test_foreign_files_inside_are_neither_read_nor_removed(broken):
    root, content, truth = broken
    folder = next(path for path in content if path.suffix == ".parquet").parent
    foreign = [root / "notes.txt", root / "manifest-17.json", folder / "mine.parquet", folder / "x.csv", root / ".keep"]
    for path in foreign:
        path.write_bytes(b"PAR1 not one of ours")
    assert look(root, truth) == "same"
    with Store.open(root).writer() as writer:
        ingest(writer, "c.csv", quotes(days=(2,)))
        writer.commit()
    assert all(path.exists() for path in foreign)
    for path in foreign:
        path.unlink()


@pytest.mark.parametrize("how", ["flip", "truncate", "delete"])
def test_ingesting_again_brings_the_rows_of_a_damaged_part_back(tmp_path, how):
    root = tmp_path / "store"
    both = quotes(), quotes(days=(0, 1))  # b.csv holds all rows of a.csv and more
    store_of(root, ("a.csv", both[0]), ("b.csv", both[1]))
    victim = sorted(root.rglob("BTC/2026-01-05/*.parquet"))[0]
    before = victim.read_bytes()
    {
        "flip": lambda: victim.write_bytes(before[:50] + bytes([before[50] ^ 1]) + before[51:]),
        "truncate": lambda: victim.write_bytes(before[:-1]),
        "delete": victim.unlink,
    }[how]()
    store = Store.open(root)
    assert not store.has_source(sha("a.csv"))
    assert not store.has_source(sha("b.csv"))  # its rows were in that part, though a.csv had brought them
    assert len(rows_in(store)) < len(rows_of(both[1]))
    with store.writer() as writer:
        assert not writer.has_source(sha("b.csv"))
        assert ingest(writer, "b.csv", both[1]) == (4, 12)
        writer.commit()
        assert any(str(victim) in note and "a.csv" in note for note in writer.notes)
        assert writer.has_source(sha("b.csv"))
        assert not writer.has_source(sha("a.csv"))
    store = Store.open(root)
    assert rows_in(store) == rows_of(both[1])
    assert store.verify() == ()
    assert store.has_source(sha("b.csv"))
    with store.writer() as writer:
        assert ingest(writer, "a.csv", both[0]) == (0, 8)
        writer.commit()
    assert Store.open(root).has_source(sha("a.csv"))


BREAKING = {
    "flip": lambda content: (
        content[: len(content) // 2] + bytes([content[len(content) // 2] ^ 4]) + content[len(content) // 2 + 1 :]
    ),
    "truncate": lambda content: content[: len(content) // 2],
    "delete": lambda content: None,
}


@pytest.mark.parametrize("how", BREAKING)
def test_after_any_damage_ingesting_the_sources_that_are_asked_for_mends_the_store(sound, tmp_path, how):
    root, content, truth = sound
    for number, path in enumerate(content):
        copy = shutil.copytree(root, tmp_path / str(number))
        victim = copy / path.relative_to(root)
        broken = BREAKING[how](content[path])
        victim.unlink()
        if broken is not None:
            victim.write_bytes(broken)
        with Store.open(copy).writer() as writer:
            for name, table in TWO:
                if not writer.has_source(sha(name)):
                    ingest(writer, name, table)
            writer.commit()
        store = Store.open(copy)
        assert rows_in(store) == truth[2]
        assert store.verify() == ()
        assert store.notes == ()


def test_after_falling_back_the_next_generation_is_a_later_one(tmp_path):
    root = tmp_path / "store"
    store_of(root, *TWO)
    for path in root.glob("manifest-*2*.json"):
        path.write_bytes(path.read_bytes()[:-9])
    with Store.open(root).writer() as writer:
        assert any("generation 2 is damaged, generation 1 is used" in note for note in writer.notes)
        assert writer.generation == 1
        assert not writer.has_source(sha("b.csv"))
        ingest(writer, "b.csv", TWO[1][1])
        writer.commit()
        assert writer.generation == 3
    store = Store.open(root)
    assert (store.generation, store.notes) == (3, ())
    assert rows_in(store) == rows_of(*(table for _, table in TWO))
    assert sorted(path.name for path in root.glob("manifest*")) == [
        "manifest-000001-copy.json",
        "manifest-000001.json",
        "manifest-000003-copy.json",
        "manifest-000003.json",
    ]


def test_a_part_found_damaged_while_parts_are_merged_is_left_out_and_told(tmp_path):
    root = tmp_path / "store"
    tables = [quotes(minutes=(n,), ccys=("BTC",)) for n in range(3)]
    store_of(root, *((f"{n}.csv", table) for n, table in enumerate(tables[:2])))
    victim = next(path for path in root.rglob("*.parquet"))
    with Store.open(root).writer(Limits(parts=1)) as writer:
        before = victim.read_bytes()
        victim.write_bytes(bytes([before[0] ^ 1]) + before[1:])
        ingest(writer, "2.csv", tables[2])
        writer.commit()
        (note,) = writer.notes
        assert str(victim) in note
    store = Store.open(root)
    assert store.verify() == ()
    assert store.describe()[0].parts == 1
    lost = int(note.partition("ingest again: ")[2][0])
    assert rows_in(store) == rows_of(*(table for n, table in enumerate(tables) if n != lost))
    assert not store.has_source(sha(f"{lost}.csv"))


def test_where_all_parts_to_be_merged_are_damaged_none_of_them_stays(tmp_path):
    root = tmp_path / "store"
    tables = [quotes(minutes=(n,), ccys=("BTC",), strikes=range(1, 2 + 4 * n)) for n in range(3)]
    store_of(root, *((f"{n}.csv", table) for n, table in enumerate(tables[:2])))
    with Store.open(root).writer(Limits(parts=2)) as writer:
        for path in root.rglob("*.parquet"):
            path.write_bytes(path.read_bytes()[::-1])
        ingest(writer, "2.csv", tables[2])
        writer.commit()
        assert len(writer.notes) == 2
    store = Store.open(root)
    assert rows_in(store) == rows_of(tables[2])
    assert store.verify() == ()


def test_a_part_that_is_damaged_while_a_source_is_read_makes_that_source_incomplete(tmp_path):
    root = tmp_path / "store"
    table = quotes(minutes=(0, 1), ccys=("BTC",))
    store_of(root, ("a.csv", table))
    (victim,) = root.rglob("*.parquet")
    other = quotes(days=(1,), ccys=("BTC",))
    with Store.open(root).writer(Limits(cache_bytes=0, buffer_rows=1)) as writer:  # hashes of one part are kept
        writer.begin("b.csv", "canonical", sha("b.csv"))
        assert writer.add(Dataset.QUOTES, table.slice(0, 2)) == (0, 2)
        assert writer.add(Dataset.QUOTES, other) == (4, 0)
        victim.write_bytes(victim.read_bytes()[::-1])
        assert writer.add(Dataset.QUOTES, table.slice(2)) == (2, 0)
        writer.end()
        assert not writer.has_source(sha("b.csv"))  # its first rows went with the part
        assert ingest(writer, "b.csv", table) == (2, 2)
        assert writer.has_source(sha("b.csv"))
        writer.commit()
    assert rows_in(Store.open(root)) == rows_of(table, other)


def test_a_lost_copy_of_the_manifest_is_written_again(broken):
    root, content, _ = broken
    path = root / "manifest-000002.json"
    path.write_bytes(b"nonsense")
    assert any(str(path) in note for note in Store.open(root).notes)
    with Store.open(root).writer():
        assert path.read_bytes() == content[path]
    assert Store.open(root).notes == ()
