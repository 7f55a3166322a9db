"""Laws of contracts, names and the expiry clock (faults 16 and 17)."""

import datetime
import gzip
import json
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st

from volgrad.errors import InstrumentNameError, UnitsError
from volgrad.market.instruments import (
    YEAR_US,
    InstrumentKind,
    InverseOption,
    LinearOption,
    Settlement,
    expiry_stamp_us,
    expiry_years,
    instrument_kind,
    normalised_premium,
    parse_option,
    parse_options,
    quoted_premium,
    require_inverse,
    require_linear,
)

PRICES = st.floats(1e-3, 1e7)
STRIKES = st.one_of(st.integers(1, 10**7).map(float), st.integers(1, 10**6).map(lambda n: n / 10**4), PRICES.map(float))


@st.composite
def options(draw):
    day = draw(st.dates(datetime.date(2000, 1, 1), datetime.date(2099, 12, 31)))
    contract = draw(st.sampled_from([InverseOption, LinearOption]))
    base = draw(st.text("ABCXYZ0189", min_size=1, max_size=6))
    stamp = expiry_stamp_us(day.year, day.month, day.day)
    return contract(base, stamp, draw(STRIKES), draw(st.booleans()))


@given(options())
def test_a_name_reads_back_as_the_option_it_was_written_for(option):
    assert parse_option(option.name) == option


@pytest.mark.parametrize(
    ("name", "strike_usd", "settlement", "day"),
    [
        ("XRP_USDC-30JUN23-0d625-C", 0.625, Settlement.LINEAR, (2023, 6, 30)),
        ("XRP_USDC-30JUN23-0D625-P", 0.625, Settlement.LINEAR, (2023, 6, 30)),
        ("BTC-9JUN20-9875-P", 9875.0, Settlement.INVERSE, (2020, 6, 9)),
        ("BTC-09JUN20-9875-P", 9875.0, Settlement.INVERSE, (2020, 6, 9)),
        ("ETH-29FEB24-3000-C", 3000.0, Settlement.INVERSE, (2024, 2, 29)),
    ],
)
def test_names_of_every_form_are_read(name, strike_usd, settlement, day):
    option = parse_option(name)
    assert (option.strike_usd, option.settlement) == (strike_usd, settlement)
    assert option.is_call == name.endswith("C")
    assert option.expiry_us == expiry_stamp_us(*day)


@pytest.mark.parametrize(
    ("name", "kind"),
    [
        ("BTC-25MAR23", "future"),
        ("SOL_USDC-25MAR23", "future"),
        ("BTC-PERPETUAL", "perpetual"),
        ("MATIC_USDC-PERPETUAL", "perpetual"),
        ("BTC-FS-25DEC26_PERP", "combo"),
        ("BTC-CS-27DEC24-60000_70000", "combo"),
        ("BTC-STRD-27DEC24-60000", "combo"),
        ("BTC_USDC-RR-27DEC24-60000_70000", "combo"),
        ("BTC_USDC", "spot"),
    ],
)
def test_other_instruments_are_refused_by_kind(name, kind):
    with pytest.raises(InstrumentNameError, match=f"{name}.* is a {kind}.* not an option: ") as caught:
        parse_option(name)
    assert caught.value.kind == kind
    assert instrument_kind(name).name.lower() == kind


@pytest.mark.parametrize(
    ("name", "why"),
    [
        ("", "no name of the exchange"),
        ("btc-26JUN26-100000-C", "in capitals"),
        ("BTC-26JUN26-1.5-C", "no name of the exchange"),
        ("BTC-26JUN26-100000-X", "no name of the exchange"),
        ("BTC-26JUN26-100000-C\n", "no name of the exchange"),
        ("BTC-26JUN26-١٠٠-C", "no name of the exchange"),
        ("SYN.BTC-13FEB21", "no name of the exchange"),
        ("BTC-31FEB26-100000-C", "no such expiry day: 31FEB26"),
        ("BTC-0JUN26-100000-C", "no such expiry day"),
        ("BTC-26JUN26-0-C", "strike 0"),
        ("BTC-26JUN26-0d000-C", "strike 0"),
        ("BTC_EURR-26JUN26-100000-C", "quoted in 'EURR'"),
    ],
)
def test_what_is_no_name_is_refused_with_the_reason(name, why):
    with pytest.raises(InstrumentNameError, match=why) as caught:
        parse_option(name)
    assert repr(name) in str(caught.value)


@given(st.lists(st.one_of(options().map(lambda option: option.name), st.text(max_size=12)), max_size=20))
def test_a_column_is_read_as_its_names_one_by_one(names):
    columns = parse_options(names + names)
    assert all(len(column) == 2 * len(names) for column in columns)
    for row, name in enumerate(names + names):
        if columns.kind[row] == InstrumentKind.OPTION:
            option = parse_option(name)
            assert columns.strike_usd[row] == option.strike_usd
            assert columns.expiry_us[row] == option.expiry_us
            assert columns.is_call[row] == option.is_call
            assert columns.base[row] == option.base
            assert columns.is_linear[row] == isinstance(option, LinearOption)
        else:
            with pytest.raises(InstrumentNameError):
                parse_option(name)
            assert np.isnan(columns.strike_usd[row])
            assert columns.base[row] == ""


def test_a_contract_is_refused_in_the_wrong_units():
    with pytest.raises(UnitsError, match=r"expiry 1782460800000 .*microseconds"):
        InverseOption("BTC", 1782460800000, 100_000.0, True)
    with pytest.raises(UnitsError, match="strike -1"):
        LinearOption("BTC", expiry_stamp_us(2026, 6, 26), -1.0, True)


# ---------------------------------------------------------- settlement: one cannot be taken for the other


@given(PRICES, PRICES, st.booleans())
def test_both_settlements_pay_the_same_dollars(strike_usd, settlement_usd, is_call):
    expiry_us = expiry_stamp_us(2026, 6, 26)
    coin = InverseOption("BTC", expiry_us, strike_usd, is_call).payoff_coin(settlement_usd=settlement_usd)
    dollars = LinearOption("BTC", expiry_us, strike_usd, is_call).payoff_usd(settlement_usd=settlement_usd)
    np.testing.assert_allclose(coin * settlement_usd, dollars, rtol=1e-15)
    if is_call:
        assert 0 <= coin < 1


def test_vectors_of_payoff_and_premium():
    inverse = require_inverse(parse_option("BTC-26JUN26-100000-P"))
    linear = require_linear(parse_option("BTC_USDC-26JUN26-100000-P"))
    assert inverse.payoff_coin(settlement_usd=80_000.0) == 0.25
    assert linear.payoff_usd(settlement_usd=80_000.0) == 20_000.0
    assert inverse.premium_usd(premium_coin=0.25, forward_usd=80_000.0) == 20_000.0
    assert inverse.premium_coin(premium_usd=20_000.0, forward_usd=80_000.0) == 0.25


def test_an_inverse_option_is_never_a_linear_one():
    inverse, linear = parse_option("BTC-26JUN26-100000-C"), parse_option("BTC_USDC-26JUN26-100000-C")
    assert inverse != linear
    assert not isinstance(linear, InverseOption)
    assert not isinstance(inverse, LinearOption)
    for method in ("payoff_coin", "premium_usd", "premium_coin"):
        assert not hasattr(linear, method)
    assert not hasattr(inverse, "payoff_usd")
    assert require_inverse(inverse) is inverse
    assert require_linear(linear) is linear
    with pytest.raises(UnitsError, match="BTC_USDC-26JUN26-100000-C is linear, but an inverse"):
        require_inverse(linear)
    with pytest.raises(UnitsError, match="BTC-26JUN26-100000-C is inverse, but a linear"):
        require_linear(inverse)
    with pytest.raises(TypeError, match="not an option"):
        require_inverse("BTC-26JUN26-100000-C")  # pyright: ignore[reportArgumentType]


def test_a_type_checker_sees_the_mistake_too():
    """Each ignored line is one; were it no longer seen, the rule against needless ignores would fail."""
    expiry_us = expiry_stamp_us(2026, 6, 26)
    inverse, linear = InverseOption("BTC", expiry_us, 1e5, True), LinearOption("BTC", expiry_us, 1e5, True)

    def coin_paid(option: InverseOption) -> np.ndarray:
        return option.payoff_coin(settlement_usd=125_000.0)

    def dollars_paid(option: LinearOption) -> np.ndarray:
        return option.payoff_usd(settlement_usd=125_000.0)

    with pytest.raises(AttributeError):
        coin_paid(linear)  # pyright: ignore[reportArgumentType]
    with pytest.raises(AttributeError):
        dollars_paid(inverse)  # pyright: ignore[reportArgumentType]
    with pytest.raises(TypeError):
        inverse.premium_usd(premium_usd=5.0, forward_usd=1e5)  # pyright: ignore[reportCallIssue]


@given(PRICES, PRICES, st.sampled_from(Settlement))
def test_normalising_a_premium_can_be_undone(premium, forward_usd, settlement):
    fraction = normalised_premium(premium, forward_usd, settlement)
    np.testing.assert_allclose(quoted_premium(fraction, forward_usd, settlement), premium, rtol=1e-15)
    assert fraction == (premium if settlement is Settlement.INVERSE else premium / forward_usd)


def test_a_settlement_is_never_guessed_from_a_string():
    with pytest.raises(TypeError, match="settlement is 'inverse'"):
        normalised_premium(0.05, 100.0, "inverse")  # pyright: ignore[reportArgumentType]


# ------------------------------------------------------------------ the clock


@given(st.integers(0, 2**51), st.integers(-YEAR_US, 3 * YEAR_US))
def test_years_are_counted_in_whole_microseconds(ts_us, step_us):
    assert expiry_years(ts_us + step_us, ts_us) == step_us / YEAR_US


def test_expiry_is_eight_o_clock_utc():
    stamp = datetime.datetime.fromtimestamp(expiry_stamp_us(2024, 2, 29) / 1e6, datetime.UTC)
    assert stamp.isoformat() == "2024-02-29T08:00:00+00:00"


# ------------------------------------------------------------------ every recorded name


@pytest.mark.parametrize("month", ["202601", "202603", "202605"])
def test_snapshot_names_agree_with_their_columns(shared_data: Path, month: str):
    table = pq.read_table(
        shared_data / f"deribit_snap_{month}.parquet", columns=["instrument", "expiry", "strike", "cp", "ccy"]
    )
    columns = parse_options(table["instrument"].to_pylist())
    assert (columns.kind == InstrumentKind.OPTION).all()
    expiry_us = table["expiry"].to_numpy().astype("datetime64[us]").astype(np.int64)
    np.testing.assert_array_equal(columns.expiry_us, expiry_us)
    np.testing.assert_array_equal(columns.strike_usd, table["strike"].to_numpy())
    np.testing.assert_array_equal(columns.is_call, table["cp"].to_numpy() == "C")
    np.testing.assert_array_equal(columns.base, table["ccy"].to_numpy().astype(str))
    names = set(table["instrument"].to_pylist())
    assert {parse_option(name).name for name in names} == names


@pytest.mark.parametrize("day", ["20230412", "20230414"])
def test_ticker_names_read_back(shared_data: Path, day: str):
    table = pq.read_table(shared_data / f"deribit_ticker5m_{day}.parquet", columns=["instrument_name"])
    names = set(table["instrument_name"].to_pylist())
    assert {parse_option(name).name for name in names} == names


def test_the_exchange_list_agrees_on_every_instrument(shared_data: Path):
    text = gzip.decompress((shared_data / "deribit_http_instruments_20210722.txt.gz").read_bytes()).decode()
    replies = [json.loads(line[line.index("{") :]) for line in text.splitlines() if '"result":[{' in line]
    instruments = [entry for reply in replies for entry in reply["result"] if "kind" in entry]
    listed = [entry for entry in instruments if entry["kind"] == "option"]
    assert len(listed) == 980
    for entry in listed:
        option = parse_option(entry["instrument_name"])
        assert option.expiry_us == entry["expiration_timestamp"] * 1000
        assert option.strike_usd == entry["strike"]
        assert option.is_call == (entry["option_type"] == "call")
    kinds = {instrument_kind(e["instrument_name"]) for e in instruments if e["kind"] != "option"}
    assert kinds == {InstrumentKind.FUTURE, InstrumentKind.PERPETUAL}
