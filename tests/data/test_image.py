"""Training images: what is written is read, whole or not at all; damaged, foreign and other images are refused."""

import json
import subprocess
import sys

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from volgrad.data import build_chains, read_quotes
from volgrad.data.image import Feature, Image, ImageWriter
from volgrad.data.image.quotes import QUOTE_FEATURES, quote_image, quote_rows
from volgrad.data.ingest import ingest
from volgrad.errors import DamagedError, EmptyInputError, ForeignError, InputError, SchemaError

TWO = (Feature("x", "1"), Feature("y", "usd", 2))
HOUR = 3_600_000_000


def write(folder, counts=(2, 1, 3), features=TWO, provenance=None, pieces=1):
    rows = np.arange(sum(counts) * len(features), dtype=np.float32).reshape(-1, len(features))
    stamps = np.arange(len(counts)) * 10
    ends = np.concatenate([[0], np.cumsum(counts)])
    with ImageWriter(folder, features) as writer:
        for part in np.array_split(np.arange(len(counts)), pieces):
            if len(part):
                own = rows[ends[part[0]] : ends[part[-1] + 1]]
                writer.append(own, np.array(counts)[part], stamps[part], stamps[part] + 5)
        return writer.seal(provenance or {"from": "a test"})


@settings(max_examples=20)
@given(counts=st.lists(st.integers(1, 6), min_size=1, max_size=20), pieces=st.integers(1, 4))
def test_what_is_written_is_read(counts, pieces, tmp_path_factory):
    image = write(tmp_path_factory.mktemp("image") / "image", counts, pieces=pieces)
    assert np.array_equal(image.rows.ravel(), np.arange(2 * sum(counts)))
    assert image.counts.tolist() == counts
    assert (image.clusters, image.n_rows) == (len(counts), sum(counts))
    assert image.equal_rows == (counts[0] if len(set(counts)) == 1 else None)
    assert np.array_equal(image.known_us, image.start_us + 5)
    assert image.features == TWO
    again = Image.open(image.folder, features=TWO, verify=True)
    assert again.digest == image.digest


def test_the_digest_follows_from_content_features_and_provenance(tmp_path):
    digests = [
        write(tmp_path / "a").digest,
        write(tmp_path / "b", counts=(2, 2, 2)).digest,
        write(tmp_path / "c", provenance={"from": "elsewhere"}).digest,
        write(tmp_path / "d", features=(TWO[0], Feature("y", "usd", 3))).digest,
    ]
    assert len(set(digests)) == 4
    assert write(tmp_path / "e", pieces=3).digest == digests[0]


@pytest.mark.parametrize("name", ["rows.f32", "first_row.i64", "start_us.i64", "known_us.i64", "image.json"])
def test_a_changed_byte_is_found(name, tmp_path):
    folder = write(tmp_path / "image").folder
    content = bytearray((folder / name).read_bytes())
    content[len(content) // 2] ^= 1
    (folder / name).write_bytes(content)
    with pytest.raises((DamagedError, ForeignError), match=f"{name}.*derive the image again"):
        Image.open(folder, verify=True)
    if name != "rows.f32":
        with pytest.raises((DamagedError, ForeignError), match=name):
            Image.open(folder)


@pytest.mark.parametrize("name", ["rows.f32", "first_row.i64", "start_us.i64", "known_us.i64"])
def test_a_file_cut_short_or_missing_is_found(name, tmp_path):
    folder = write(tmp_path / "image").folder
    content = (folder / name).read_bytes()
    (folder / name).write_bytes(content[:-1])
    with pytest.raises(DamagedError, match=f"{name}: holds {len(content) - 1} bytes, not {len(content)}"):
        Image.open(folder)
    (folder / name).unlink()
    with pytest.raises(DamagedError, match=f"{name}: is missing"):
        Image.open(folder)


def test_what_is_no_image_is_refused(tmp_path):
    with pytest.raises(ForeignError, match="no training image is here"):
        Image.open(tmp_path)
    folder = write(tmp_path / "image").folder
    told = json.loads((folder / "image.json").read_text())
    (folder / "image.json").write_text(json.dumps(told | {"format": 9}))
    with pytest.raises(ForeignError, match="its format is 9"):
        Image.open(folder)
    (folder / "image.json").write_text(json.dumps(told | {"rows": 5}))
    with pytest.raises(DamagedError, match="own digest"):
        Image.open(folder)
    (folder / "image.json").write_text("{")
    with pytest.raises(DamagedError, match="no JSON"):
        Image.open(folder)


def test_other_features_are_refused(tmp_path):
    folder = write(tmp_path / "image").folder
    with pytest.raises(SchemaError, match=r"column 1 is y \[usd\] version 2, and not y \[usd\] version 3"):
        Image.open(folder, features=(TWO[0], Feature("y", "usd", 3)))
    with pytest.raises(SchemaError, match="2 columns, not 1"):
        Image.open(folder, features=TWO[:1])


def test_an_image_takes_the_place_of_another_and_of_nothing_else(tmp_path):
    first = write(tmp_path / "image")
    assert write(tmp_path / "image", counts=(1, 1)).digest != first.digest
    assert Image.open(tmp_path / "image").clusters == 2
    assert [path.name for path in tmp_path.iterdir()] == ["image"]
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "thesis.txt").write_text("mine")
    with pytest.raises(ForeignError, match=r"thesis\.txt"):
        ImageWriter(tmp_path / "other", TWO)


def test_what_was_not_sealed_leaves_nothing(tmp_path):
    with ImageWriter(tmp_path / "image", TWO) as writer:
        writer.append(np.zeros((1, 2), np.float32), [1], [0], [0])
    assert list(tmp_path.iterdir()) == []
    with ImageWriter(tmp_path / "image", TWO) as writer, pytest.raises(EmptyInputError, match="no cluster"):
        writer.seal({})


def test_what_a_killed_writer_left_is_removed(tmp_path):
    dead = subprocess.run(
        [sys.executable, "-c", "import os; print(os.getpid())"], capture_output=True, text=True, check=True
    )
    for suffix in ("tmp", "old"):
        (tmp_path / f".image.{dead.stdout.strip()}.{suffix}").mkdir()
    (tmp_path / ".image.note.tmp").mkdir()
    write(tmp_path / "image")
    assert sorted(path.name for path in tmp_path.iterdir()) == [".image.note.tmp", "image"]


@pytest.mark.parametrize(
    ("rows", "counts", "start", "known", "words"),
    [
        ([[1.0, np.nan]], [1], [0], [0], "y is nan in row 3"),
        ([[1.0, 1.0]], [2], [0], [0], "add up to 2 rows, there are 1"),
        ([[1.0, 1.0]], [1], [0, 1], [0], "give one each"),
        ([[1.0, 1.0]], [1, 0], [0, 1], [0, 1], "cluster 1 has 0 rows"),
        ([[1.0, 1.0]] * 2, [1, 1], [9, 8], [9, 9], "sort clusters by time"),
        ([[1.0, 1.0]], [1], [5], [4], "known before its inputs"),
        ([[1.0, 1.0]], [1], [-5], [4], "sort clusters by time"),
        ([[1.0]], [1], [5], [5], "for 2 features"),
    ],
)
def test_clusters_that_cannot_be_are_refused(rows, counts, start, known, words, tmp_path):
    with ImageWriter(tmp_path / "image", TWO) as writer:
        writer.append(np.zeros((3, 2), np.float32), [3], [-1], [0])
        with pytest.raises(InputError, match=words):
            writer.append(np.array(rows, np.float32), counts, start, known)


def test_features_name_each_column_once(tmp_path):
    with pytest.raises(SchemaError, match="declared twice"):
        ImageWriter(tmp_path / "image", (TWO[0], TWO[0]))
    with pytest.raises(SchemaError, match="1 features for 2 columns"):
        Image.of(np.zeros((1, 2), np.float32), [1], [0], [0], TWO[:1])
    with pytest.raises(SchemaError, match="no feature 'z'; it has x, y"):
        write(tmp_path / "image").position("z")


# ------------------------------------------------------------------------------------------ quotes


def quotes(hours=(0, 30, 54), ccys=("BTC", "ETH")):
    """Chains of three strikes and two expiries, a day or so apart."""
    rows = []
    for hour in hours:
        for ccy in ccys:
            spot = 100_000.0 if ccy == "BTC" else 4_000.0
            for days, premium in ((30, 0.05), (90, 0.09)):
                for moneyness, part in ((0.9, 0.4), (1.0, 1.0), (1.1, 0.5)):
                    bid = premium * part
                    rows.append(
                        {
                            "ts": np.datetime64(1_767_225_600_000_000 + hour * HOUR, "us"),
                            "ccy": ccy,
                            "expiry": np.datetime64(1_767_225_600_000_000 + days * 24 * HOUR + 8 * HOUR, "us"),
                            "strike": spot * moneyness,
                            "cp": "P" if moneyness < 1.0 else "C",
                            "bid": bid,
                            "ask": bid * 1.04,
                            "underlying": spot * (1.0 + days / 9000),
                        }
                    )
    table = pa.Table.from_pylist(rows)
    stamp = pa.timestamp("us", "UTC")
    for name in ("ts", "expiry"):
        table = table.set_column(table.column_names.index(name), name, table[name].cast(stamp))
    return table


@pytest.fixture
def file(tmp_path):
    pa.parquet.write_table(quotes(), tmp_path / "quotes.parquet")
    return tmp_path / "quotes.parquet"


def test_features_are_those_of_the_chain():
    chain = build_chains(read_quotes(quotes()))[-1]
    rows = {feature.name: column for feature, column in zip(QUOTE_FEATURES, quote_rows(chain, 1).T, strict=True)}
    assert rows["log_moneyness"] == pytest.approx(chain.log_moneyness, rel=1e-6)
    assert rows["root_years"] ** 2 == pytest.approx(chain.row_expiry_years, rel=1e-6)
    assert rows["clock_years"] == pytest.approx(chain.row_expiry_years, rel=0.1)
    assert rows["mid_iv"] - rows["half_spread_iv"] == pytest.approx(chain.bid_iv, rel=1e-5)
    assert rows["mid_iv"] + rows["half_spread_iv"] == pytest.approx(chain.ask_iv, rel=1e-5)
    assert rows["expiry_index"].tolist() == chain.expiry_index.tolist()
    assert np.unique(rows["log_forward_ratio"]) == pytest.approx([0.0, np.log((1 + 0.01) / (1 + 30 / 9000))], abs=1e-6)
    assert rows["is_call"].tolist() == chain.is_call.tolist()
    for expiry in (0, 1):
        own = chain.rows(expiry)
        nearest = chain.mid_iv[own][np.argmin(np.abs(chain.log_moneyness[own]))]
        assert rows["nearest_iv"][own] == pytest.approx(nearest, rel=1e-6)
    assert set(rows["hour_utc"].tolist()) == {6.0}
    assert set(rows["weekday_utc"].tolist()) == {5.0}  # Saturday, 3 January 2026
    assert set(rows["underlying_id"].tolist()) == {1.0}
    assert set(rows["is_linear"].tolist()) == {0.0}


def test_a_cluster_is_a_chain(file, tmp_path):
    image = quote_image(file, tmp_path / "image", label_delay_us=7)
    chains = build_chains(read_quotes(file))
    assert image.counts.tolist() == [chain.n_rows for chain in chains]
    assert image.start_us.tolist() == [chain.ts_us for chain in chains]
    assert np.array_equal(image.known_us, image.start_us + 7)
    assert image.provenance["underlyings"] == ["BTC", "ETH"]
    assert image.features == QUOTE_FEATURES


def test_a_store_is_read_a_day_at_a_time_and_gives_the_same(file, tmp_path):
    ingest([file], tmp_path / "store")
    of_file, of_store = quote_image(file, tmp_path / "a"), quote_image(tmp_path / "store", tmp_path / "b")
    assert np.array_equal(of_file.rows, of_store.rows)
    assert np.array_equal(of_file.start_us, of_store.start_us)
    window = {"from_": "2026-01-02", "to": "2026-01-02", "underlying": "eth"}
    some = quote_image(tmp_path / "store", tmp_path / "c", **window)
    assert some.clusters == 1
    assert some.provenance["underlyings"] == ["ETH"]


def test_what_was_derived_from_the_same_is_not_derived_again(file, tmp_path, monkeypatch):
    first = quote_image(file, tmp_path / "image")
    monkeypatch.setattr("volgrad.data.image.quotes.build", None)  # would fail
    assert quote_image([file], tmp_path / "image").digest == first.digest
    monkeypatch.undo()
    assert quote_image(file, tmp_path / "image", underlying="BTC").clusters == 3
    pa.parquet.write_table(quotes(hours=(0,)), file)
    assert quote_image(file, tmp_path / "image").clusters == 2
    (tmp_path / "image" / "rows.f32").write_bytes(b"")
    assert quote_image(file, tmp_path / "image").clusters == 2  # damaged: derived anew


def test_tables_are_taken_too(tmp_path):
    assert quote_image(quotes(), tmp_path / "image").clusters == 6
    assert quote_image([quotes(hours=(0,))], tmp_path / "image").clusters == 2


def test_no_usable_quote_is_told(file, tmp_path):
    with pytest.raises(EmptyInputError, match="no row is left"):
        quote_image(file, tmp_path / "image", from_="2027-01-01")
    with pytest.raises(InputError, match="label_delay_us is -1"):
        quote_image(file, tmp_path / "image", label_delay_us=-1)
    assert not (tmp_path / "image").exists()


def test_recorded_quotes_become_an_image(shared_data, tmp_path):
    file = shared_data / "deribit_snap_202601.parquet"
    chains = build_chains(read_quotes(file))
    image = quote_image(file, tmp_path / "image")
    assert (image.clusters, image.n_rows) == (len(chains), sum(chain.n_rows for chain in chains))
    assert np.isfinite(image.rows).all()
    assert image.rows[:, image.position("half_spread_iv")].min() > 0.0
    last = slice(int(image.first_row[-2]), None)
    assert image.rows[last, 0] == pytest.approx(chains[-1].log_moneyness, abs=1e-6)
