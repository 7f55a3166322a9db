"""All quotes of all chains as flat columns, with the chain, moment, underlying and option of each.

An option is what stays the same from chain to chain: (underlying, split, expiry, strike). Its out-of-the-money side may
turn from put to call; its implied volatility is the same thing on either.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from statistics import NormalDist

import numpy as np
from jaxtyping import Bool, Float, Int

from volgrad.market.chain import Chain
from volgrad.market.instruments import Settlement

__all__ = ["DELTA_EDGES", "DELTA_LABELS", "TENOR_EDGES_DAYS", "TENOR_LABELS", "Panel", "numbered"]

#: Buckets of the absolute forward delta of out-of-the-money options, and of days to expiry.
DELTA_EDGES = (0.05, 0.10, 0.25, 0.40)
DELTA_LABELS = ("below .05", ".05 to .10", ".10 to .25", ".25 to .40", "above .40")
TENOR_EDGES_DAYS = (2.0, 7.0, 30.0, 90.0, 180.0)
TENOR_LABELS = ("below 2 d", "2 to 7 d", "7 to 30 d", "30 to 90 d", "90 to 180 d", "above 180 d")
GAP = 3.0  # times the median distance of chains: a longer one is a gap (assumption)


@dataclass(frozen=True, eq=False)
class Panel:
    """Rows in the order of their chains; chains in that of `Built.chains`.

    Attributes:
        underlyings: names; the settlement is in them where an underlying has both.
        chain_underlying: of each chain.
        chain_series: number of its (underlying, split).
        chain_stamp_us: microseconds since 1970 UTC.
        chain_order: place of the chain among those of its series, in time.
        chain_follows: whether the chain before in the series is no further than three median distances.
        chain: of each row.
        expiry: which expiry of its chain.
        option: number of the row's (series, expiry date, strike).
        expiry_us, strike_usd: of the option.
        is_call, log_moneyness, years, forward_usd, bid, ask, mid_iv, half_spread_iv: as in `Chain`.
        linear: whether the option is quoted in dollars.
    """

    underlyings: tuple[str, ...]
    chain_underlying: Int[np.ndarray, " chains"]
    chain_series: Int[np.ndarray, " chains"]
    chain_stamp_us: Int[np.ndarray, " chains"]
    chain_order: Int[np.ndarray, " chains"]
    chain_follows: Bool[np.ndarray, " chains"]
    chain: Int[np.ndarray, " rows"]
    expiry: Int[np.ndarray, " rows"]
    option: Int[np.ndarray, " rows"]
    expiry_us: Int[np.ndarray, " rows"]
    strike_usd: Float[np.ndarray, " rows"]
    is_call: Bool[np.ndarray, " rows"]
    log_moneyness: Float[np.ndarray, " rows"]
    years: Float[np.ndarray, " rows"]
    forward_usd: Float[np.ndarray, " rows"]
    bid: Float[np.ndarray, " rows"]
    ask: Float[np.ndarray, " rows"]
    mid_iv: Float[np.ndarray, " rows"]
    half_spread_iv: Float[np.ndarray, " rows"]
    linear: Bool[np.ndarray, " rows"]

    @classmethod
    def of(cls, chains: Sequence[Chain]) -> "Panel":
        """The columns of `chains`; at least one."""
        stamps = np.array([chain.ts_us for chain in chains], np.int64)
        names = _underlyings(chains)
        underlyings = tuple(sorted(set(names)))
        series_names = [(name, chain.split or "") for name, chain in zip(names, chains, strict=True)]
        known = {name: number for number, name in enumerate(sorted(set(series_names)))}
        series = np.array([known[name] for name in series_names], np.int64)
        order, follows = _order(stamps, series)
        counts = [chain.n_rows for chain in chains]
        chain = np.repeat(np.arange(len(chains)), counts)

        def column(name: str) -> np.ndarray:
            return np.concatenate([getattr(chain, name) for chain in chains])

        expiry_us = np.concatenate([chain.expiry_us[chain.expiry_index] for chain in chains])
        return cls(
            underlyings=underlyings,
            chain_underlying=np.array([underlyings.index(name) for name in names], np.int64),
            chain_series=series,
            chain_stamp_us=stamps,
            chain_order=order,
            chain_follows=follows,
            chain=chain,
            expiry=column("expiry_index").astype(np.int64),
            option=numbered(series[chain], expiry_us, column("strike_usd")),
            expiry_us=expiry_us,
            strike_usd=column("strike_usd"),
            is_call=column("is_call"),
            log_moneyness=column("log_moneyness"),
            years=column("row_expiry_years"),
            forward_usd=column("row_forward_usd"),
            bid=column("bid"),
            ask=column("ask"),
            mid_iv=column("mid_iv"),
            half_spread_iv=column("half_spread_iv"),
            linear=np.repeat([chain.settlement is Settlement.LINEAR for chain in chains], counts),
        )

    @property
    def rows(self) -> int:
        """Number of quotes."""
        return len(self.chain)

    @cached_property
    def underlying(self) -> Int[np.ndarray, " rows"]:
        """Underlying of each row."""
        return self.chain_underlying[self.chain]

    @cached_property
    def moment(self) -> Int[np.ndarray, " rows"]:
        """Number of each row's stamp: chains of all underlyings at one time are one moment."""
        return np.unique(self.chain_stamp_us, return_inverse=True)[1][self.chain]

    @cached_property
    def slot(self) -> Int[np.ndarray, " rows"]:
        """Number of each row's (chain, expiry)."""
        return np.unique(self.chain * (self.expiry.max() + 1) + self.expiry, return_inverse=True)[1]

    @cached_property
    def earlier(self) -> Int[np.ndarray, " rows"]:
        """The row of the same option in the chain before; -1 where it has none, or that chain is beyond a gap."""
        return self.behind(1)

    def behind(self, chains: int) -> Int[np.ndarray, " rows"]:
        """The row of the same option `chains` chains before in its series, without a gap between; -1: none."""
        key, sorting, ordered = self._places
        wanted = np.where(self.chain_order[self.chain] >= chains, key - chains, -1)
        found = sorting[np.minimum(np.searchsorted(ordered, wanted), self.rows - 1)]
        there = (key[found] == wanted) & (self._since_gap[self.chain] >= chains)
        return np.where(there, found, -1)

    @cached_property
    def _places(self) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """A number for each (option, place of the chain) of the rows, what sorts it, and it sorted."""
        key = self.option * (int(self.chain_order.max()) + 1) + self.chain_order[self.chain]
        sorting = np.argsort(key)
        return key, sorting, key[sorting]

    @cached_property
    def _since_gap(self) -> Int[np.ndarray, " chains"]:
        """Chains since the last gap of the series."""
        since, before = np.zeros(len(self.chain_order), np.int64), 0
        for chain in np.lexsort((self.chain_order, self.chain_series)).tolist():
            if self.chain_follows[chain]:
                since[chain] = since[before] + 1
            before = chain
        return since

    @cached_property
    def standard_moneyness(self) -> Float[np.ndarray, " rows"]:
        """`d1` of the option by its own volatility, turned so that it falls towards the wing: `N` of it is |delta|."""
        deviation = self.mid_iv * np.sqrt(self.years)
        d1 = -self.log_moneyness / deviation + 0.5 * deviation
        return np.where(self.is_call, d1, -d1)

    @cached_property
    def delta_bucket(self) -> Int[np.ndarray, " rows"]:
        """Index into `DELTA_LABELS`."""
        edges = [NormalDist().inv_cdf(edge) for edge in DELTA_EDGES]
        return np.searchsorted(edges, self.standard_moneyness)

    @cached_property
    def tenor_bucket(self) -> Int[np.ndarray, " rows"]:
        """Index into `TENOR_LABELS`."""
        return np.searchsorted(TENOR_EDGES_DAYS, 365.0 * self.years, side="right")


def _underlyings(chains: Sequence[Chain]) -> list[str]:
    kinds: dict[str, set[Settlement]] = {}
    for chain in chains:
        kinds.setdefault(chain.ccy, set()).add(chain.settlement)
    return [
        f"{chain.ccy} {chain.settlement.name.lower()}" if len(kinds[chain.ccy]) > 1 else chain.ccy for chain in chains
    ]


def _order(
    stamps: Int[np.ndarray, " chains"], series: Int[np.ndarray, " chains"]
) -> tuple[Int[np.ndarray, " chains"], Bool[np.ndarray, " chains"]]:
    """Place of each chain in its series, and whether it follows the one before without a gap."""
    order, follows = np.zeros(len(stamps), np.int64), np.zeros(len(stamps), bool)
    for number in np.unique(series):
        own = np.flatnonzero(series == number)
        own = own[np.argsort(stamps[own], kind="stable")]
        order[own] = np.arange(len(own))
        gaps = np.diff(stamps[own])
        if len(gaps):
            follows[own[1:]] = gaps <= GAP * np.median(gaps)
    return order, follows


def numbered(*columns: np.ndarray) -> Int[np.ndarray, " rows"]:
    """A number for each distinct combination of the columns' values.

    >>> numbered(np.array([1, 1, 2]), np.array([5.0, 5.0, 5.0])).tolist()
    [0, 0, 1]
    """
    number = np.zeros(len(columns[0]), np.int64)
    for column in columns:
        _, code = np.unique(column, return_inverse=True)
        _, number = np.unique(number * (int(code.max()) + 1) + code, return_inverse=True)
    return number
