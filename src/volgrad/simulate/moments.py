"""The moments of a block, and what the exchange itself computes at each: marks, volatilities, shown forwards."""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float, Int

from volgrad.simulate.contracts import Contracts
from volgrad.simulate.path import MarketPath
from volgrad.simulate.pricing import Options, Priced, implied_vol
from volgrad.simulate.surface import Smiles

__all__ = ["Moments", "with_marks"]

# Forwards that rows show: in 39 % of the expiries a quarter of the rows were read at another instant; their distance
# is lognormal, median 0.3 bp, 99 % 4 bp (measured).
RESTLESS_EXPIRIES, RESTLESS_ROWS, RESTLESS_SIZE, RESTLESS_SPREAD = 0.39, 0.25, 0.3e-4, 1.1
MARK_UNIT, VOL_UNIT = 1e-8, 1e-4  # coin, as in book summaries; fraction


@dataclass(frozen=True)
class Moments:
    """The moments of a block: what all its rows are computed from.

    `lagged` is the mark's volatility over the true one.
    """

    path: MarketPath
    contracts: Contracts
    years: Float[np.ndarray, "ticks expiries"]
    forward: Float[np.ndarray, "ticks expiries"]
    smiles: Smiles
    lagged: Float[np.ndarray, "ticks expiries"]

    def options(self, tick: Int[np.ndarray, " rows"], row: Int[np.ndarray, " rows"]) -> Options:
        """Options at moments, by the numbers of both."""
        contracts = self.contracts
        cell = tick * contracts.expiry_us.size + contracts.expiry_index[row]
        k = np.log(contracts.strike_usd)[row] - np.log(self.forward).ravel()[cell]
        return Options(cell, k, np.sqrt(self.years).ravel()[cell], contracts.is_call[row])


def with_marks(
    columns: dict[str, np.ndarray],
    moments: Moments,
    options: Options,
    truth: Priced,
    oi: Float[np.ndarray, " rows"],
    random: np.random.Generator,
) -> dict[str, np.ndarray]:
    """Quotes with the columns that the exchange adds itself.

    Args:
        columns: bid, ask, their sizes, `drift` of the forward (which goes into `underlying`).
        moments, options, truth: of the rows.
        oi: open interest.
        random: where chance comes from.
    """
    drift = columns["drift"] + _disagreement(moments, options.cell, random)
    vol = truth.deviation / options.root_years
    moved = vol * (moments.lagged.ravel()[options.cell] - 1.0)
    bend = truth.d1 * (truth.d1 - truth.deviation) / vol  # volga over vega
    mark = np.maximum(truth.otm + truth.vega * moved * (1.0 + 0.5 * bend * moved), 0.0) + truth.intrinsic
    bid_iv, ask_iv = implied_vol(np.stack([columns["bid"], columns["ask"]]), options, truth)
    return {
        **{name: column for name, column in columns.items() if name != "drift"},
        "bid_iv": bid_iv,
        "ask_iv": ask_iv,
        "mark": np.maximum(np.rint(mark / MARK_UNIT), 1.0) * MARK_UNIT,
        "mark_iv": np.rint((vol + moved) / VOL_UNIT) * VOL_UNIT,
        "underlying": moments.forward.ravel()[options.cell] * np.exp(drift),
        "oi": oi,
    }


def _disagreement(moments: Moments, cell: np.ndarray, random: np.random.Generator) -> np.ndarray:
    """Logarithm of the forward that each row shows over the true one."""
    restless = (random.random(moments.forward.size) < RESTLESS_EXPIRIES)[cell]
    moved = np.flatnonzero(restless & (random.random(cell.size) < RESTLESS_ROWS))
    found = np.zeros(cell.size)
    size = RESTLESS_SIZE * np.exp(RESTLESS_SPREAD * random.standard_normal(moved.size))
    found[moved] = np.where(random.random(moved.size) < 0.5, -size, size)
    return found
