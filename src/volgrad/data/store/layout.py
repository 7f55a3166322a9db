"""Names in a store: which folder a row belongs to, and which names may stand in a manifest.

STORE/manifest-000017.json        the current generation, and its copy
STORE/manifest-000017-copy.json
STORE/manifest-000016.json        the one before, kept to fall back on, and its copy
STORE/quotes/BTC/2026-01-05/5d41402abc4b2a76.parquet
STORE/trades/BTC/2026-01-05/...   quotes and trades by day, the few bars and index values by year
STORE/bars/BTC/2026/... STORE/volatility_index/BTC/2026/...
STORE/.lock                       held by the one writer
"""

import re
from typing import NamedTuple

import numpy as np
from jaxtyping import Int

from volgrad.data.schema import Dataset

__all__ = [
    "DAY_US",
    "LOCK",
    "Partition",
    "first_days",
    "is_leftover",
    "is_underlying",
    "manifest_generation",
    "manifest_names",
    "partition_at",
    "partition_of",
]

DAY_US = 86_400_000_000
LOCK = ".lock"
_UNDERLYING = re.compile(r"[A-Z0-9_]{1,24}")
_FOLDER = re.compile(
    rf"(?P<dataset>{'|'.join(d.value for d in Dataset)})/(?P<underlying>{_UNDERLYING.pattern})/"
    r"(?P<first>[0-9]{4}(?:-[0-9]{2}-[0-9]{2})?)"
)
_PERIOD = {Dataset.QUOTES: "D", Dataset.TRADES: "D", Dataset.BARS: "Y", Dataset.VOLATILITY_INDEX: "Y"}
_PART_NAME = re.compile(r"[0-9a-f]{16}\.parquet")
_MANIFEST = re.compile(r"manifest-(?P<generation>[0-9]{6,12})(?:-copy)?\.json")
_LEFTOVER = re.compile(r"(?:\.[0-9a-f]{16}\.parquet|\.manifest-[0-9]{6,12}(?:-copy)?\.json)\.tmp|[0-9a-f]{16}\.parquet")


class Partition(NamedTuple):
    """A folder of parts: one dataset, underlying and UTC day (of the chains' stamps), or year where rows are few."""

    dataset: Dataset
    underlying: str
    first_day: int  # days since 1970

    @property
    def folder(self) -> str:
        """Where its parts lie, from the root of the store.

        >>> Partition(Dataset.QUOTES, "BTC", 20458).folder
        'quotes/BTC/2026-01-05'
        >>> Partition(Dataset.BARS, "BTC", 20454).folder
        'bars/BTC/2026'
        """
        first = np.datetime64(self.first_day, "D").astype(f"datetime64[{_PERIOD[self.dataset]}]")
        return f"{self.dataset.value}/{self.underlying}/{first}"


def first_days(dataset: Dataset, days: Int[np.ndarray, "..."]) -> Int[np.ndarray, "..."]:
    """The first day of each day's partition, in days since 1970.

    >>> first_days(Dataset.BARS, np.array([20458])).tolist(), first_days(Dataset.QUOTES, np.array([20458])).tolist()
    ([20454], [20458])
    """
    if _PERIOD[dataset] == "D":
        return days
    dates = days.astype("datetime64[D]").astype(f"datetime64[{_PERIOD[dataset]}]")
    return dates.astype("datetime64[D]").astype(np.int64)


def is_underlying(name: str) -> bool:
    """Whether `name` may name a folder of the store: 1 to 24 of A-Z, 0-9 and the underscore.

    >>> is_underlying("BTC_USDC"), is_underlying("../BTC")
    (True, False)
    """
    return _UNDERLYING.fullmatch(name) is not None


def partition_at(folder: str) -> Partition | None:
    """The partition whose folder this is; None where it is no such path.

    >>> partition_at("quotes/BTC/2026-01-05").underlying
    'BTC'
    >>> partition_at("quotes/../2026-01-05")
    """
    hit = _FOLDER.fullmatch(folder)
    if hit is None:
        return None
    try:
        first = np.datetime64(hit["first"], "D")
    except ValueError:  # the 31st of February
        return None
    found = Partition(Dataset(hit["dataset"]), hit["underlying"], int(first.astype(np.int64)))
    return found if found.folder == folder else None


def partition_of(path: str) -> Partition | None:
    """The partition of a part's path from the root of the store; None where it is no such path.

    >>> partition_of("quotes/BTC/2026-01-05/5d41402abc4b2a76.parquet").folder
    'quotes/BTC/2026-01-05'
    >>> partition_of("quotes/BTC/2026-01-05/../../../../x.parquet")
    """
    folder, _, name = path.rpartition("/")
    return partition_at(folder) if _PART_NAME.fullmatch(name) else None


def manifest_names(generation: int) -> tuple[str, str]:
    """The two files that hold a generation's manifest.

    >>> manifest_names(17)
    ('manifest-000017.json', 'manifest-000017-copy.json')
    """
    return f"manifest-{generation:06d}.json", f"manifest-{generation:06d}-copy.json"


def manifest_generation(name: str) -> int | None:
    """The generation of a manifest's file name; None where it is none."""
    hit = _MANIFEST.fullmatch(name)
    return int(hit["generation"]) if hit and name in manifest_names(int(hit["generation"])) else None


def is_leftover(name: str) -> bool:
    """Whether a file of this name was written by a store: a writer may remove it where no manifest refers to it."""
    return _LEFTOVER.fullmatch(name) is not None
