"""A simulated market as files: quotes a day and underlying at a time, the truth, and what was simulated.

Nothing is held but some blocks of each underlying: memory does not grow with the days. Every file is whole or
absent; `market.json` is written first with `"complete": false`, and again at the end.
"""

from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pyarrow as pa
import pyarrow.parquet

from volgrad.data.write import replacing
from volgrad.simulate.account import account
from volgrad.simulate.exchange import Block, Exchange
from volgrad.simulate.market import exchange_of, microseconds
from volgrad.simulate.plan import MARKET, TRUTH, TRUTH_EVERY_US, Plan, Written, day_name
from volgrad.simulate.table import CHAIN_SCHEMA, CHANGE_SCHEMA, TRUTH_SCHEMA, quote_table, truth_table

__all__ = ["write_market"]

ROW_GROUP = 131_072


def write_market(folder: Path, plan: Plan, told: Callable[[int], None]) -> Written:
    """Simulate and write: one file of quotes a day and underlying, `truth.parquet`, `market.json`.

    Args:
        folder: as `prepare_folder` left it.
        plan: what to simulate.
        told: is called with the number of moments just done (of all underlyings).

    Raises:
        WorkError: a file cannot be written.
    """
    exchanges = {one.ccy: exchange_of(plan.seed, one, changes_only=plan.changes_only) for one in plan.markets}
    _tell(folder / MARKET, plan, None, exchanges)
    schema = CHANGE_SCHEMA if plan.changes_only else CHAIN_SCHEMA
    written = Written()
    with ExitStack() as stack:
        truth = _Sheet(stack.enter_context(replacing(folder / TRUTH)), TRUTH_SCHEMA)
        stack.callback(truth.close)
        runs = {ccy: exchange.blocks(plan.ticks) for ccy, exchange in exchanges.items()}
        waiting: dict[str, Block | None] = {ccy: next(run) for ccy, run in runs.items()}
        for day in plan.days():
            for ccy, run in runs.items():
                name = f"quotes-{ccy}-{day}.parquet"
                written.rows[name] = 0
                with replacing(folder / name) as stream, _Sheet(stream, schema) as sheet:
                    for block in _of_day(waiting, ccy, run, day):
                        table = quote_table(block, ccy, schema, sheet.rows)
                        sheet.add(table)
                        truth.add(truth_table(block, ccy, _truth_ticks(block, plan)))
                        written.rows[name] += table.num_rows
                        written.chains += block.path.ts_us.size
                        told(block.path.ts_us.size)
        written.truth_rows = truth.rows
    _tell(folder / MARKET, plan, written, exchanges)
    return written


def _of_day(waiting: dict[str, Block | None], ccy: str, run: Iterator[Block], day: str) -> Iterator[Block]:
    """The blocks of one underlying in one day; the first of the next day is left in `waiting`."""
    while (block := waiting[ccy]) is not None and day_name(int(block.path.ts_us[0])) == day:
        yield block
        waiting[ccy] = next(run, None)


def _truth_ticks(block: Block, plan: Plan) -> np.ndarray:
    """The moments of a block whose truth is written: the first of the market, and the first of each minute."""
    stamps = block.path.ts_us
    first = stamps == microseconds(plan.markets[0].start)
    return np.flatnonzero(first | (stamps // TRUTH_EVERY_US != (stamps - plan.every_us) // TRUTH_EVERY_US))


class _Sheet:
    """A Parquet file with page checksums that takes tables of any size."""

    def __init__(self, stream: Any, schema: pa.Schema) -> None:
        texts = [field.name for field in schema if pa.types.is_dictionary(field.type)]
        coded: Any = [
            *texts,
            *({"ts", "cycle", "expiry", "strike"} & set(schema.names)),
        ]  # the stubs know of true and false only
        self._writer = pyarrow.parquet.ParquetWriter(
            stream, schema, compression="zstd", compression_level=1, write_page_checksum=True, use_dictionary=coded
        )
        self._waiting: list[pa.Table] = []
        self._held = 0
        self.rows = 0

    def __enter__(self) -> "_Sheet":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def add(self, table: pa.Table) -> None:
        """Take rows; they are written when a row group is full."""
        self._waiting.append(table)
        self._held += table.num_rows
        self.rows += table.num_rows
        if self._held >= ROW_GROUP:
            self._flush()

    def close(self) -> None:
        """Write what is left and the footer."""
        self._flush()
        self._writer.close()

    def _flush(self) -> None:
        if self._waiting:
            self._writer.write_table(pa.concat_tables(self._waiting).unify_dictionaries(), row_group_size=ROW_GROUP)
        self._waiting, self._held = [], 0


def _tell(market: Path, plan: Plan, written: Written | None, exchanges: dict[str, Exchange]) -> None:
    payload = msgspec.json.encode(account(plan, written, exchanges))
    with replacing(market) as stream:
        stream.write(msgspec.json.format(payload, indent=2))
