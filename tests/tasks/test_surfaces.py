"""Collections of surfaces: found by time and name, and the same after a round trip through a file."""

import dataclasses
from datetime import UTC, datetime, timedelta, timezone

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from tests.tasks.chains import simulated_chains
from volgrad.errors import InputError
from volgrad.market.instruments import Settlement
from volgrad.tasks.fit import fit_chain
from volgrad.tasks.surfaces import Surfaces, load_surfaces

K = np.linspace(-1.2, 1.2, 49)[:, None]
YEARS = np.array([0.001, 0.02, 0.1, 0.5, 1.5])


@pytest.fixture(scope="module")
def fitted():
    return [fit_chain(chain) for chain in (*simulated_chains(), *simulated_chains(ccy="ETH"))]


@pytest.fixture(scope="module")
def surfaces(fitted):
    return Surfaces.of(fitted)


def as_split(one, split, factor=1.0, settlement=Settlement.INVERSE):
    """The fitted chain under another split or settlement, its variance multiplied to tell it apart."""
    surface = dataclasses.replace(one.surface, variance=one.surface.variance * factor)
    chain = dataclasses.replace(one.chain, split=split, settlement=settlement)
    return dataclasses.replace(one, chain=chain, surface=surface)


def test_a_file_gives_back_the_same_answers_to_the_last_bit(surfaces, tmp_path):
    surfaces.write(tmp_path / "surfaces.parquet")
    for place in (tmp_path, tmp_path / "surfaces.parquet", str(tmp_path)):
        loaded = load_surfaces(place)
        assert list(loaded) == list(surfaces)
        for ts, ccy, split in surfaces:
            left, right = (of.implied_vol(ts, ccy, K, YEARS, split) for of in (surfaces, loaded))
            np.testing.assert_array_equal(left, right)
            assert np.isfinite(left).all()


def test_splits_and_settlements_survive_the_file(fitted, tmp_path):
    many = [
        as_split(fitted[0], "full"),
        as_split(fitted[0], "interp", 1.21),
        as_split(fitted[0], "interp", 1.44, Settlement.LINEAR),
    ]
    Surfaces.of(many).write(tmp_path / "s.parquet")
    loaded = load_surfaces(tmp_path / "s.parquet")
    assert len(loaded) == 3
    ts = fitted[0].chain.ts_us
    assert list(loaded) == [(ts, "BTC", "full"), (ts, "BTC", "interp"), (ts, "BTC", "interp")]
    full, interp = (loaded.implied_vol(ts, "BTC", 0.0, 0.1, split) for split in ("full", "interp"))
    np.testing.assert_allclose(interp, 1.1 * full, rtol=1e-9)
    assert loaded.implied_vol(ts, "BTC", 0.0, 0.1) == interp  # not the one that saw the held-out quotes


def test_a_surface_of_one_expiry_survives_the_file(fitted, tmp_path):
    one = fitted[0]
    surface = one.surface
    single = dataclasses.replace(
        surface,
        expiry_years=surface.expiry_years[:1],
        forward_usd=surface.forward_usd[:1],
        variance=surface.variance[:1],
        quoted=surface.quoted[:1],
        reach=np.empty(0),
    )
    chain = dataclasses.replace(
        one.chain,
        **{
            name: getattr(one.chain, name)[one.chain.rows(0)]
            for name in ("strike_usd", "log_moneyness", "is_call", "bid", "ask", "bid_iv", "ask_iv", "expiry_index")
        },
        **{name: getattr(one.chain, name)[:1] for name in ("expiry_us", "expiry_years", "forward_usd")},
    )
    Surfaces.of([dataclasses.replace(one, chain=chain, surface=single)]).write(tmp_path / "s.parquet")
    loaded = load_surfaces(tmp_path / "s.parquet")
    expected = single.implied_vol(K, YEARS)
    np.testing.assert_array_equal(loaded.implied_vol(chain.ts_us, "BTC", K, YEARS), expected)


def test_no_surface_is_a_file_too(tmp_path):
    Surfaces([]).write(tmp_path / "s.parquet")
    loaded = load_surfaces(tmp_path / "s.parquet")
    assert (len(loaded), list(loaded), repr(loaded)) == (0, [], "Surfaces(none)")
    with pytest.raises(InputError, match="underlyings here: none"):
        loaded.implied_vol(0, "BTC", 0.0, 0.1)


def test_refused_chains_have_no_surface(fitted):
    refused = dataclasses.replace(fitted[0], surface=None, status="refused")
    assert len(Surfaces.of([refused, *fitted[1:]])) == len(fitted) - 1


def test_a_time_may_be_written_in_many_ways(surfaces):
    ts = next(iter(surfaces))[0]
    moment = datetime(1970, 1, 1, tzinfo=UTC) + timedelta(microseconds=ts)
    same = [
        ts,
        np.int64(ts),
        moment,
        moment.replace(tzinfo=None),
        moment.astimezone(timezone(timedelta(hours=5, minutes=30))),
        np.datetime64(ts, "us"),
        np.datetime64(ts, "us").astype("datetime64[ns]"),
        moment.isoformat(),
        moment.isoformat().replace("+00:00", "Z"),
        moment.replace(tzinfo=None).isoformat(" "),
        pa.scalar(moment),
    ]
    assert len({float(surfaces.implied_vol(when, "BTC", 0.0, 0.1)) for when in same}) == 1


@pytest.mark.parametrize("when", ["soon", None, 1.5, np.datetime64("NaT", "us"), ""], ids=repr)
def test_what_is_no_time_is_refused(surfaces, when):
    with pytest.raises(InputError, match="is no time: give microseconds"):
        surfaces.implied_vol(when, "BTC", 0.0, 0.1)


def test_a_time_without_a_surface_names_the_nearest(surfaces):
    with pytest.raises(InputError, match=r"no surface of BTC at 2026-01-05T09:20.*; the nearest is 2026-01-05T09:17"):
        surfaces.surface("2026-01-05T09:20", "BTC")
    with pytest.raises(InputError, match=r"no surface of 'DOGE'; underlyings here: BTC, ETH"):
        surfaces.surface("2026-01-05T09:20", "DOGE")
    with pytest.raises(InputError, match="split wing"):
        surfaces.surface(next(iter(surfaces))[0], "BTC", split="wing")


def test_prices_obey_parity_and_greeks_are_at_the_surfaces_forward(surfaces, fitted):
    ts, ccy, _ = next(iter(surfaces))
    call, put = (surfaces.price(ts, ccy, K, YEARS, is_call) for is_call in (True, False))
    np.testing.assert_allclose(call - put, np.broadcast_to(1 - np.exp(K), call.shape), atol=1e-12)
    surface = surfaces.surface(ts, ccy)
    greeks = surfaces.greeks(ts, ccy, 0.1, surface.expiry_years)
    own = surface.greeks(surface.forward_usd, 0.1, surface.expiry_years, True)
    for left, right in zip(greeks, own, strict=True):
        np.testing.assert_allclose(left, right, rtol=1e-12)


def test_prices_at_expiry_are_the_intrinsic_value(surfaces):
    ts, ccy, _ = next(iter(surfaces))
    for years in (0.0, -0.1, 1e-9):
        price = surfaces.price(ts, ccy, np.array([-0.2, 0.2]), years)
        np.testing.assert_allclose(price, [1 - np.exp(-0.2), 0.0], atol=1e-9)


def test_it_says_what_it_holds(surfaces):
    assert repr(surfaces).startswith("Surfaces(4 of BTC, ETH, 2026-01-05T09:17:30.000000Z to 2026-01-05T09:47")


def flipped_in_the_middle(content):
    spoilt = bytearray(content)
    spoilt[len(content) // 2] ^= 1
    return bytes(spoilt)


@pytest.mark.parametrize(
    ("spoil", "sentence"),
    [
        (lambda content: content[: len(content) // 2], "not a readable Parquet file"),
        (lambda content: b"", "not a readable Parquet file"),
        (lambda content: b"PK" + content[2:-4], "not a readable Parquet file"),
        (flipped_in_the_middle, "not a readable Parquet file"),
    ],
    ids=["cut", "empty", "foreign", "one flipped bit"],
)
def test_a_damaged_file_is_refused_by_name(surfaces, tmp_path, spoil, sentence):
    path = tmp_path / "surfaces.parquet"
    surfaces.write(path)
    path.write_bytes(spoil(path.read_bytes()))
    with pytest.raises(InputError, match=sentence) as caught:
        load_surfaces(path)
    assert str(path) in str(caught.value)


def test_other_files_are_no_surfaces(surfaces, tmp_path):
    with pytest.raises(InputError, match="no such file; `volgrad fit"):
        load_surfaces(tmp_path)
    pq.write_table(pa.table({"ts": [1]}), tmp_path / "other.parquet")
    with pytest.raises(InputError, match="holds no surfaces of this version"):
        load_surfaces(tmp_path / "other.parquet")
    surfaces.write(tmp_path / "s.parquet")
    table = pq.read_table(tmp_path / "s.parquet")
    metadata = {**table.schema.metadata, b"volgrad.nodes": b"[0.0, 1.0]"}
    pq.write_table(table.replace_schema_metadata(metadata), tmp_path / "s.parquet")
    with pytest.raises(InputError, match="written on another grid"):
        load_surfaces(tmp_path / "s.parquet")


@pytest.mark.parametrize(
    ("asked", "said"),
    [
        ({"k": 70_000.0, "tau": 0.1}, "not the strike"),
        ({"k": 0.0, "tau": 30.0}, "divide by 365"),
        ({"k": 0.0, "tau": 0.1, "is_call": "P"}, "True for calls"),
    ],
)
def test_what_cannot_be_meant_is_refused(surfaces, asked, said):
    ts, ccy, _ = next(iter(surfaces))
    with pytest.raises(InputError, match=said):
        surfaces.price(ts, ccy, **asked)


def test_the_forward_turns_strikes_into_log_moneyness(surfaces):
    ts, ccy, _ = next(iter(surfaces))
    surface = surfaces.surface(ts, ccy)
    np.testing.assert_allclose(surfaces.forward(ts, ccy, surface.expiry_years), surface.forward_usd, rtol=1e-12)
    assert surfaces.surface(ts, ccy.lower()) is surface
