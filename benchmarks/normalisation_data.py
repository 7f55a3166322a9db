"""Quotes as rows of features and targets, for the benchmark of normalisation: simulated markets and recorded months.

A cluster is one chain (a snapshot of one underlying), its rows the options out of the money. Features tell the option
(log-moneyness, the same in roots of time, root and log of the time to expiry) and the chain (log volatility at the
money at 7 and 60 days, skew, spot's move since the last chain). Targets are the log of the mark's volatility ("level")
and the same less that of the money's volatility at that expiry's time, drawn between 7 and 60 days ("shape").
"""

import tempfile
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import numpy as np

from benchmarks import chains as sources

FEATURES = ("k", "k_over_root_tau", "root_tau", "log_tau", "log_atm_7d", "log_atm_60d", "skew", "spot_move")
TARGETS = ("level", "shape")
START = datetime(2026, 1, 1, 3, 16, tzinfo=UTC)
ROWS = 128  # of a chain, drawn at random where it has more
PILLARS_DAYS = (7.0, 60.0)


@dataclass(frozen=True)
class Quotes:
    """Chains in the order of time. Shapes: (chains, rows, features), (chains, rows, 2), (chains, rows), (chains,)."""

    features: np.ndarray
    targets: np.ndarray
    mask: np.ndarray
    stamps_us: np.ndarray

    def part(self, first: float, last: float) -> "Quotes":
        """The chains between two shares of the time covered."""
        low, high = self.stamps_us.min(), self.stamps_us.max() + 1
        share = (self.stamps_us - low) / (high - low)
        kept = (share >= first) & (share < last)
        return Quotes(self.features[kept], self.targets[kept], self.mask[kept], self.stamps_us[kept])

    def scaled(self, like: "Quotes") -> "Quotes":
        """Features and targets in standard deviations of the real rows of `like` (the training split)."""
        made = []
        for values, model in ((self.features, like.features), (self.targets, like.targets)):
            rows = model[like.mask]
            scaled = (values - rows.mean(axis=0)) / rows.std(axis=0)
            made.append(np.where(self.mask[..., None], scaled, 0.0).astype(np.float32))
        return replace(self, features=made[0], targets=made[1])


def simulated(seed: int, days: int, *, level: float = 1.0, tilt: float = 0.0) -> Quotes:
    """A restless simulated market with real quirks, a chain every six hours; its volatilities times `level`."""
    from volgrad.simulate.files import write_market
    from volgrad.simulate.market import BITCOIN, ETHER
    from volgrad.simulate.plan import Plan, prepare_folder
    from volgrad.simulate.quoting import REAL

    markets = tuple(
        replace(
            one, start=START, every=timedelta(hours=6), quirks=REAL, restless=True, shock=0.0,
            short_vol=one.short_vol * level, long_vol=one.long_vol * level, tilt=one.tilt + tilt,
        )
        for one in (BITCOIN, ETHER)
    )  # fmt: skip
    with tempfile.TemporaryDirectory() as folder:
        plan = Plan(seed, markets, 4 * days, False, "benchmark")
        prepare_folder(Path(folder), plan.files())
        write_market(Path(folder), plan, lambda _moments: None)
        return quotes_of(sorted(Path(folder).glob("quotes-*.parquet")), seed)


def recorded(seed: int) -> dict[str, Quotes]:
    """The recorded months by name; empty where there are none."""
    return {file.stem.removeprefix("deribit_snap_"): quotes_of([file], seed) for file in sources.recorded_files()}


def quotes_of(files: list[Path], seed: int) -> Quotes:
    """All chains of some files that have volatilities at the money at both pillars."""
    from benchmarks.market_statistics import read_rows

    random = np.random.default_rng(seed)
    made = []
    for rows in read_rows(files).values():
        before = np.nan
        for number, stamp in enumerate(rows.stamps_us):
            mine = np.flatnonzero(rows.chain == number)
            vol, forward = rows.number["mark_iv"][mine], rows.number["underlying"][mine]
            cluster = _cluster(rows.k[mine], rows.years[mine], vol, rows.is_otm[mine], forward, before, random)
            before = float(np.median(forward))
            if cluster is not None:
                made.append((stamp, *cluster))
    made.sort(key=lambda one: one[0])
    stamps, features, targets, masks = (np.array(column) for column in zip(*made, strict=True))
    return Quotes(features, targets, masks, stamps)


def _cluster(k, years, vol, is_otm, forward, before, random):
    """Features, targets and mask of one chain; None where it has no usable curve."""
    sound = np.isfinite(vol) & (vol > 0.02) & (vol < 5.0) & (years > 1.0 / 365.0)
    root = np.sqrt(years)
    expiries = np.unique(years[sound])
    if expiries.size < 3:
        return None
    near = [np.flatnonzero(sound & (years == one)) for one in expiries]
    atm = np.log([vol[rows[np.argmin(np.abs(k[rows]))]] for rows in near])
    pillars_root = np.sqrt(np.array(PILLARS_DAYS) / 365.0)
    pillars = np.interp(pillars_root, np.sqrt(expiries), atm)
    nearest = int(np.argmin(np.abs(expiries - 30.0 / 365.0)))
    month, deviation = near[nearest], np.exp(atm[nearest]) * np.sqrt(expiries[nearest])
    order = month[np.argsort(k[month])]
    skew = np.subtract(*np.interp([-deviation, deviation], k[order], vol[order]))
    kept = np.flatnonzero(sound & is_otm & (np.abs(k) < 4.0 * vol * root))
    kept = np.sort(random.permutation(kept)[:ROWS])
    between = np.interp(root[kept], pillars_root, pillars)
    move = 0.0 if np.isnan(before) else float(np.log(np.median(forward) / before))
    chain = np.broadcast_to(np.array([*pillars, skew, move]), (kept.size, 4))
    own = np.stack([k[kept], k[kept] / root[kept], root[kept], np.log(years[kept])], axis=1)
    told = np.stack([np.log(vol[kept]), np.log(vol[kept]) - between], axis=1)
    features, targets = np.zeros((ROWS, len(FEATURES))), np.zeros((ROWS, 2))
    features[: kept.size], targets[: kept.size] = np.concatenate([own, chain], axis=1), told
    return features, targets, np.arange(ROWS) < kept.size
