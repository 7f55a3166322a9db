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
        steps = sorted({-(-int(stamps[i]) // EVERY) for i, row in rows if row["ccy"] == ccy})
        for step in steps:
            cycle = step * EVERY
            latest = {}
            for row in mine:
                if _us(row["ts"]) <= step * EVERY:
                    latest[row["strike"]] = row
            fresh_after = (step - 1) * EVERY
            chains[ccy, cycle] = {
                strike: row["bid"]
                for strike, row in latest.items()
                if cycle - _us(row["ts"]) <= 3 * EVERY and (cycle < _us(row["expiry"]) or _us(row["ts"]) > fresh_after)
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


def test_rows_a_little_out_of_order_change_nothing_and_later_ones_are_counted_late():
    table = updates([1, 12, 9, 30], [0, 0, 1, 0], [0] * 4)
    chains, _, _ = draw(table, [2])
    assert chains == draw(table, [])[0]
    assert [sorted(chain.values()) for _, chain in sorted(chains.items())] == [[0.0, 2.0], [1.0, 2.0], [2.0, 3.0]]
    snapshots = Snapshots(DRAWING)
    snapshots.add(table.slice(3), np.zeros(1, np.int8))
    assert snapshots.add(table.slice(0, 1), np.zeros(1, np.int8)).late == 1


def test_a_row_older_than_the_limit_is_in_no_chain_however_late_it_comes():
    table = updates([100, 1, 101], [0, 1, 0], [0] * 3)
    for cuts in ([], [1], [2], [1, 2]):
        assert all(1.0 not in chain.values() for chain in draw(table, cuts)[0].values() if chain != {2e4: 1.0})


def test_files_that_overlap_by_a_little_are_one_stream_and_the_same_time_again_joins_its_chains():
    first, second = updates([1, 8, 21], [0, 1, 0], [0] * 3), updates([20.5, 28, 44], [1, 0, 1], [0] * 3)
    snapshots = Snapshots(DRAWING)
    drawn = [snapshots.add(first, np.zeros(3, np.int8))]
    snapshots = snapshots.fork()
    drawn += [snapshots.add(second, np.zeros(3, np.int8)), snapshots.finish()]
    stamps = [stamp for one in drawn for stamp in stamp_us(one.table["cycle"]).tolist()]
    assert sorted({(stamp - START_US) // EVERY for stamp in stamps}) == [1, 3, 5]
    snapshots = snapshots.fork()
    again = snapshots.add(updates([2, 9, 44], [2, 2, 2], [0] * 3), np.zeros(3, np.int8))
    assert {(stamp - START_US) // EVERY for stamp in stamp_us(again.table["cycle"]).tolist()} == {1}
