"""Chains drawn from a stream of updates: against a naive rendering of the rule, in blocks of any size."""

import itertools
from datetime import UTC, datetime, timedelta

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from volgrad.data.columns import stamp_us
from volgrad.data.reasons import Reason
from volgrad.data.snapshots import Drawing, Snapshots
from volgrad.errors import InputError

START = datetime(2026, 1, 6, 9, tzinfo=UTC)
START_US = int(START.timestamp()) * 1_000_000
EVERY = 10_000_000
DRAWING = Drawing(EVERY, 3 * EVERY)
LIVES = 120  # seconds until the options expire


def updates(seconds, options, ccys):
    """Updates at these seconds of these options; the bid is the row's number, so that rows can be told apart."""
    return pa.table(
        {
            "ts": pa.array([START + timedelta(seconds=s) for s in seconds], pa.timestamp("us", "UTC")),
            "ccy": pa.array([("BTC", "ETH")[c] for c in ccys]).dictionary_encode(),
            "expiry": pa.array([START + timedelta(seconds=LIVES)] * len(seconds), pa.timestamp("us", "UTC")),
            "strike": [1e4 * (1 + option) for option in options],
            "cp": pa.array(["C"] * len(seconds), pa.string()).dictionary_encode(),
            "bid": np.arange(len(seconds), dtype=float),
        }
    )


def draw(table, cuts, reason=None):
    """Everything drawn from the table cut into blocks: {(ccy, cycle): {strike: bid}}, superseded, stale."""
    reason = np.zeros(table.num_rows, np.int8) if reason is None else reason
    snapshots = Snapshots(DRAWING)
    edges = [0, *sorted(cuts), table.num_rows]
    drawn = [snapshots.add(table.slice(a, b - a), reason[a:b]) for a, b in itertools.pairwise(edges)]
    drawn += [last] if (last := snapshots.finish()) is not None else []
    chains = {}
    for one in drawn:
        for row, code in zip(one.table.to_pylist(), one.reason.tolist(), strict=True):
            assert code == 0
            chain = chains.setdefault((row["ccy"], row["cycle"]), {})
            assert row["strike"] not in chain
            chain[row["strike"]] = row["bid"]
    return chains, sum(one.superseded for one in drawn), sum(one.stale for one in drawn)


def naive(table):
    """The rule, read aloud: at each step in which an underlying spoke, the latest row of every option that lives."""
    rows = sorted(enumerate(table.to_pylist()), key=lambda pair: (pair[1]["ts"], pair[0]))
    stamps = stamp_us(table["ts"])
    chains = {}
    for ccy in ("BTC", "ETH"):
        mine = [row for _, row in rows if row["ccy"] == ccy]
        final = max((_us(row["ts"]) for row in mine), default=0)
        steps = sorted({-(-int(stamps[i]) // EVERY) for i, row in rows if row["ccy"] == ccy})
        for step in steps:
            cycle = min(step * EVERY, final)
            latest = {}
            for row in mine:
                if _us(row["ts"]) <= step * EVERY:
                    latest[row["strike"]] = row
            fresh_after = (step - 1) * EVERY
            chains[ccy, cycle] = {
                strike: row["bid"]
                for strike, row in latest.items()
                if _us(row["ts"]) > fresh_after or (cycle - _us(row["ts"]) <= 3 * EVERY and cycle < _us(row["expiry"]))
            }
    return chains


def _us(moment):
    return round(moment.timestamp() * 1_000_000)


streams = st.lists(
    st.tuples(st.floats(0, 150, allow_nan=False), st.integers(0, 4), st.integers(0, 1)), min_size=1, max_size=60
).map(sorted)


@given(streams, st.lists(st.integers(0, 60), max_size=6))
def test_chains_are_those_of_the_rule_whatever_the_blocks(stream, cuts):
    table = updates(*zip(*stream, strict=True))
    found, superseded, _ = draw(table, [min(cut, table.num_rows) for cut in cuts])
    expected = {(ccy, np.datetime64(cycle, "us")): chain for (ccy, cycle), chain in naive(table).items()}
    assert {(ccy, np.datetime64(cycle.replace(tzinfo=None), "us")): c for (ccy, cycle), c in found.items()} == expected
    shown = {bid for chain in found.values() for bid in chain.values()}
    assert len(shown) + superseded == table.num_rows  # nothing is lost without a count


def test_a_late_row_waits_for_the_next_chain_and_never_replaces_a_newer_one():
    table = updates([1, 25, 3, 26], [0, 0, 0, 1], [0, 0, 0, 0])
    chains, superseded, _ = draw(table, [2])
    assert [sorted(chain.values()) for _, chain in sorted(chains.items())] == [[0.0], [1.0, 3.0]]
    assert superseded == 1


def test_a_quiet_option_is_dropped_with_a_count():
    table = updates([1, 2, 45, 55], [0, 1, 1, 1], [0] * 4)
    chains, _, stale = draw(table, [])
    assert [len(chain) for _, chain in sorted(chains.items())] == [2, 1, 1]
    assert stale == 1


def test_rows_that_are_wrong_by_themselves_pass_with_their_reason():
    table = updates([1, 2], [0, 1], [0, 0])
    reason = np.array([0, Reason.BAD_STRIKE], np.int8)
    drawn = Snapshots(DRAWING).add(table, reason)
    assert drawn.reason.tolist() == [Reason.BAD_STRIKE]
    assert stamp_us(drawn.table["cycle"]).tolist() == [START_US + EVERY]


def test_the_step_is_read_as_users_write_it():
    assert Drawing.of("1h") == Drawing(3_600_000_000, 3 * 3_600_000_000)
    with pytest.raises(InputError, match="--every is 'often'"):
        Drawing.of("often", "--every")
