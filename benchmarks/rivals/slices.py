"""What every slice-wise rival shares: quotes padded by expiry, and the join between fitted expiries.

A slice is one expiry of one chain in one `split`. A rival fits every slice alone and answers in total
variance; an expiry without training quotes is joined from its neighbours.
"""

import dataclasses
from collections.abc import Callable

import numpy as np
import polars as pl
from jaxtyping import Bool, Float, Int

CHAIN_KEY = ["split", "ts", "ccy"]
SLICE_KEY = [*CHAIN_KEY, "expiry"]
SMALLEST_HALF_SPREAD_VOL = 1e-3  # assumption: .1 vol points, so that a lone tight quote does not rule a slice

# total variance of slices `which` at log-moneyness `k` (same shape)
SliceCurve = Callable[[Int[np.ndarray, " rows"], Float[np.ndarray, " rows"]], Float[np.ndarray, " rows"]]


@dataclasses.dataclass(frozen=True)
class Slices:
    """Training quotes, one padded row a slice, sorted by chain and expiry.

    Shapes: `log_moneyness`, `iv`, `half_spread_vol`, `used` are (slices, quotes); padding has `used` False,
    `iv` and `half_spread_vol` 1 and `log_moneyness` 0. Volatilities are fractions, times in years.
    """

    table: pl.DataFrame  # split, ts, ccy, expiry, tau_years, chain (index), quotes; one row a slice
    log_moneyness: Float[np.ndarray, "slices quotes"]
    iv: Float[np.ndarray, "slices quotes"]
    half_spread_vol: Float[np.ndarray, "slices quotes"]
    used: Bool[np.ndarray, "slices quotes"]

    @property
    def tau_years(self) -> Float[np.ndarray, " slices"]:
        """Time to expiry of each slice, years."""
        return self.table["tau_years"].to_numpy()

    @property
    def chain(self) -> Int[np.ndarray, " slices"]:
        """Index of the chain each slice belongs to, ascending."""
        return self.table["chain"].to_numpy().astype(np.int64)


def pad(train: pl.DataFrame) -> Slices:
    """The scorer's `train.parquet` (or one block of it) as padded slices."""
    rows = train.sort(*CHAIN_KEY, "tau_years", "strike")
    table = rows.group_by(SLICE_KEY, maintain_order=True).agg(
        pl.col("tau_years").first(), pl.len().cast(pl.Int64).alias("quotes")
    )
    table = table.with_columns((pl.struct(CHAIN_KEY).rle_id()).cast(pl.Int64).alias("chain"))
    quotes = table["quotes"].to_numpy()
    slice_of_row = np.repeat(np.arange(len(quotes)), quotes)
    place = np.arange(rows.height) - np.repeat(np.cumsum(quotes) - quotes, quotes)
    shape = (len(quotes), int(quotes.max()))
    bid_iv, ask_iv = rows["bid_iv"].to_numpy(), rows["ask_iv"].to_numpy()

    def padded(values: np.ndarray, fill: float) -> np.ndarray:
        out = np.full(shape, fill)
        out[slice_of_row, place] = values
        return out

    return Slices(
        table,
        padded(rows["log_moneyness"].to_numpy(), 0.0),
        padded(0.5 * (bid_iv + ask_iv), 1.0),
        padded(np.maximum(0.5 * (ask_iv - bid_iv), SMALLEST_HALF_SPREAD_VOL), 1.0),
        padded(np.ones(rows.height), 0.0) > 0,
    )


def neighbours(
    slices: Slices, chain: Int[np.ndarray, " rows"], tau_years: Float[np.ndarray, " rows"]
) -> tuple[Int[np.ndarray, " rows"], Int[np.ndarray, " rows"]]:
    """Slices at or before, and at or after, each asked time within its chain.

    The same slice twice where only one side exists.
    """
    farthest = 1000.0  # years; keeps the chains apart on one sorted axis
    axis = slices.chain * farthest + slices.tau_years
    first = np.searchsorted(slices.chain, chain, side="left")
    last = np.searchsorted(slices.chain, chain, side="right") - 1
    asked = chain * farthest + tau_years
    tolerance = 1e-7  # years, 3 seconds
    before = np.clip(np.searchsorted(axis, asked + tolerance, side="right") - 1, first, last)
    after = np.clip(np.searchsorted(axis, asked - tolerance, side="left"), first, last)
    return before, after


def join(
    slices: Slices,
    curve: SliceCurve,
    chain: Int[np.ndarray, " rows"],
    log_moneyness: Float[np.ndarray, " rows"],
    tau_years: Float[np.ndarray, " rows"],
) -> Float[np.ndarray, " rows"]:
    """Implied volatility (fraction) at the asked points from curves fitted slice by slice.

    Between two expiries the at-the-money total variance theta is linear in calendar time, and total variance
    is linear between the neighbours at equal k / sqrt(theta) (the benchmarks' join); beyond the first and the
    last expiry, constant at-the-money volatility and the same shape in k / sqrt(theta).
    """
    before, after = neighbours(slices, chain, tau_years)
    tau_0, tau_1 = slices.tau_years[before], slices.tau_years[after]
    zero = np.zeros(len(chain))
    theta_0, theta_1 = curve(before, zero), curve(after, zero)
    inner = after > before
    share = np.where(inner, (tau_years - tau_0) / np.where(inner, tau_1 - tau_0, 1.0), 0.0)
    theta = np.where(inner, (1 - share) * theta_0 + share * theta_1, theta_0 * tau_years / tau_0)
    w_0 = curve(before, log_moneyness * np.sqrt(theta_0 / theta))
    w_1 = curve(after, log_moneyness * np.sqrt(theta_1 / theta))
    total = np.where(inner, (1 - share) * w_0 + share * w_1, w_0 * theta / theta_0)
    return np.sqrt(np.maximum(total, 1e-12) / tau_years)


def chain_index(slices: Slices, asked: pl.DataFrame) -> Int[np.ndarray, " rows"]:
    """Index of each asked row's chain; -1 where the training quotes have no such chain."""
    chains = slices.table.select(*CHAIN_KEY, "chain").unique()
    found = asked.join(chains, on=CHAIN_KEY, how="left", maintain_order="left")["chain"]
    return found.fill_null(-1).to_numpy().astype(np.int64)


def answer(slices: Slices, curve: SliceCurve, asked: pl.DataFrame) -> Float[np.ndarray, " rows"]:
    """Implied volatility (NaN without a chain) of rows with split, ts, ccy, tau_years, log_moneyness."""
    chain = chain_index(slices, asked)
    known = chain >= 0
    iv = np.full(asked.height, np.nan)
    k, tau = asked["log_moneyness"].to_numpy(), asked["tau_years"].to_numpy()
    iv[known] = join(slices, curve, chain[known], k[known], tau[known])
    return iv
