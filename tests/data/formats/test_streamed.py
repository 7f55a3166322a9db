"""Sources that are no tables of quotes, streamed from files: what one block cannot tell, the whole does."""

import csv
import json

import numpy as np
import pytest

from tests.data.formats.messages import OPTION, T0, frame, table_of, ticker
from tests.data.formats.test_bars import BARS
from tests.data.formats.test_documents import TOO_MANY, lines
from tests.data.formats.test_polls import STEP, summaries_at
from volgrad.data.stream import stream
from volgrad.errors import EmptyInputError, InputError, UnitsError

TRADE = {"instrument_name": OPTION, "timestamp": T0, "price": 0.0005, "amount": 1.0, "direction": "buy", "iv": 612.0}


def written(path, rows):
    """A CSV file of records."""
    columns = table_of(*rows)
    with path.open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(columns)
        writer.writerows(zip(*columns.values(), strict=True))
    return path


@pytest.mark.parametrize("rows", [1, 5, 1000])
def test_polls_in_a_file_are_chains_whatever_the_blocks(tmp_path, rows):
    path = written(tmp_path / "polls.csv", summaries_at(0, STEP))
    blocks = list(stream(path, block_rows=rows))
    cycles = [cycle for block in blocks for cycle in block.table["cycle"].to_pylist()]
    assert [cycles.count(cycle) for cycle in sorted(set(cycles))] == [8, 8]
    assert not np.concatenate([block.reason for block in blocks]).any()


def test_one_trade_in_the_wings_does_not_set_its_session_aside(tmp_path):
    trades = frame("trades.option.BTC.raw", [TRADE | {"trade_id": "1"}])
    path = tmp_path / "session.jsonl"
    path.write_bytes(b"\n".join([frame(f"ticker.{OPTION}.raw", ticker()), trades]))
    assert {block.dataset.value: block.table.num_rows for block in stream(path)} == {"quotes": 1, "trades": 1}
    many = [json.loads(trades)] + [json.loads(trades) for _ in range(99)]
    for number, message in enumerate(many):
        message["params"]["data"][0] |= {"iv": 0.6, "trade_id": str(number)}
    path.write_bytes(lines(*many))
    with pytest.raises(UnitsError, match="iv has median"):
        list(stream(path))


def test_trades_in_dollars_are_refused_though_each_block_is_small(tmp_path):
    path = written(tmp_path / "trades.csv", [TRADE | {"trade_id": i, "price": 37250.0, "iv": 55.0} for i in range(100)])
    with pytest.raises(UnitsError, match="cost one coin or more"):
        list(stream(path, block_rows=7))


def test_an_underlying_given_for_a_folder_is_not_that_of_every_file(tmp_path):
    rows = [{"timestamp": T0 + i, **{name: values[i] for name, values in BARS.items()}, "volume": 1.0} for i in (0, 1)]
    paths = [written(tmp_path / f"{name}.csv", rows) for name in ("btcusdt_1h", "hourly", "ethusdt_1h")]
    for path in paths[:2]:
        (block,) = stream(path, underlying="BTC")
        assert set(block.table["ccy"].to_pylist()) == {"BTC"}
    with pytest.raises(InputError, match="its name says ETH and --underlying says BTC"):
        list(stream(paths[2], underlying="BTC"))


def test_an_answer_that_is_an_error_says_so(tmp_path):
    path = tmp_path / "answer.json"
    path.write_text(json.dumps(TOO_MANY))
    with pytest.raises(EmptyInputError, match="10028 too_many_requests"):
        list(stream(path))
