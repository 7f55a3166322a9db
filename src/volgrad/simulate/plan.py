"""What a simulation is to write, and the folder that it may write to."""

import re
from dataclasses import dataclass, field
from datetime import timedelta
from pathlib import Path

import msgspec
import numpy as np

from volgrad.errors import InputError
from volgrad.simulate.listing import DAY_US
from volgrad.simulate.market import MarketSettings, microseconds

__all__ = ["CHANGES_BELOW_US", "MAKER", "MARKET", "TRUTH", "TRUTH_EVERY_US", "Plan", "Written", "prepare_folder"]

MAKER = "volgrad simulate"
CHANGES_BELOW_US = 60_000_000  # finer cadences show changed quotes only, unless asked otherwise
TRUTH_EVERY_US = 60_000_000  # at most one truth a minute
MARKET, TRUTH = "market.json", "truth.parquet"
_FILE = re.compile(r"quotes-[A-Z]+-[0-9]{4}-[0-9]{2}-[0-9]{2}\.parquet|truth\.parquet")


@dataclass(frozen=True)
class Plan:
    """What to simulate and write.

    Attributes:
        seed: of the market; each underlying has streams of its own.
        markets: settings of each underlying; `start` and `every` are the same in all.
        ticks: how many moments.
        changes_only: only rows whose quote changed; else whole chains.
        version: of the program, for `market.json`.
    """

    seed: int
    markets: tuple[MarketSettings, ...]
    ticks: int
    changes_only: bool
    version: str

    @property
    def every_us(self) -> int:
        """Microseconds from one moment to the next."""
        return self.markets[0].every // timedelta(microseconds=1)

    def days(self) -> list[str]:
        """The UTC days that have a moment, as in the files' names."""
        start_us = microseconds(self.markets[0].start)
        stamps = start_us + np.arange(self.ticks, dtype=np.int64) * self.every_us if self.every_us >= DAY_US else None
        last = start_us + (self.ticks - 1) * self.every_us
        days = range(start_us // DAY_US, last // DAY_US + 1) if stamps is None else np.unique(stamps // DAY_US).tolist()
        return [day_name(day * DAY_US) for day in days]

    def files(self) -> list[str]:
        """Names of all files but `market.json`."""
        return [*(f"quotes-{one.ccy}-{day}.parquet" for day in self.days() for one in self.markets), TRUTH]


@dataclass
class Written:
    """What was written so far."""

    rows: dict[str, int] = field(default_factory=dict)
    chains: int = 0
    truth_rows: int = 0


def prepare_folder(folder: Path, names: list[str]) -> None:
    """Make the folder, and clear away the files of an earlier simulation in it.

    Raises:
        InputError: it is a file, or holds a file of one of the names that no simulation of ours has written.
    """
    if folder.exists() and not folder.is_dir():
        raise InputError(f"--out {folder} is a file: give a folder.")
    folder.mkdir(parents=True, exist_ok=True)
    ours = _ours(folder / MARKET)
    for name in (*names, MARKET):
        if (folder / name).exists() and name not in ours:
            raise InputError(
                f"{folder / name} is there and was not written by {MAKER}: give another --out, or move it away.",
                file=folder / name,
            )
    for name in ours - {MARKET}:
        (folder / name).unlink(missing_ok=True)


def _ours(market: Path) -> set[str]:
    """Names of the files that the folder's `market.json` says a simulation wrote."""
    try:
        told = msgspec.json.decode(market.read_bytes())
    except (FileNotFoundError, msgspec.DecodeError):
        return set()
    if not isinstance(told, dict) or told.get("made_by") != MAKER or not isinstance(told.get("files"), list):
        return set()
    return {MARKET, *(name for name in told["files"] if isinstance(name, str) and _FILE.fullmatch(name))}


def day_name(ts_us: int) -> str:
    """The UTC day of a moment, as in the files' names."""
    return str(np.datetime64(ts_us, "us").astype("datetime64[D]"))
