"""The listed options of a simulated market: strikes that stay until expiry, and what each option carries along."""

from dataclasses import dataclass
from math import exp, sqrt

import numpy as np
from jaxtyping import Bool, Float, Int

from volgrad.simulate.listing import HOUR_US, LISTED_DAYS, expiry_kind, strike_ladder

__all__ = ["Contracts", "Standing", "StrikeBook"]

PAST_LADDERS = 4  # how many earlier looks at the market left strikes behind before the simulation starts


@dataclass(frozen=True)
class Contracts:
    """The listed options in table order: by expiry, strike, call before put. Shapes: "rows", `expiry_us` "expiries".

    `key` names an option by one integer and rises along the rows.
    """

    expiry_us: Int[np.ndarray, " expiries"]
    expiry_index: Int[np.ndarray, " rows"]
    strike_usd: Float[np.ndarray, " rows"]
    is_call: Bool[np.ndarray, " rows"]
    key: Int[np.ndarray, " rows"]

    @classmethod
    def of(cls, expiry_us: Int[np.ndarray, " expiries"], ladders: list[np.ndarray]) -> "Contracts":
        """Calls and puts of every strike of every expiry."""
        counts = np.array([ladder.size for ladder in ladders])
        strike_usd = np.repeat(np.concatenate(ladders), 2)
        expiry_index = np.repeat(np.arange(counts.size), 2 * counts)
        is_call = np.arange(strike_usd.size) % 2 == 0
        hours = expiry_us[expiry_index] // HOUR_US
        key = (hours << 42) + 2 * np.rint(1000.0 * strike_usd).astype(np.int64) + ~is_call
        return cls(expiry_us, expiry_index, strike_usd, is_call, key)

    @property
    def rows(self) -> int:
        """How many options."""
        return self.strike_usd.size


@dataclass
class Standing:
    """What each listed option carries from one moment to the next; shapes "rows".

    `moods` are the option's own processes, each of mean 0 and variance 1 ("rows processes"); `quote` holds the
    standing quote's columns, `refreshed_us` when it was made; `oi` the open interest (a factor of the usual one
    while the option is new).
    """

    moods: Float[np.ndarray, "rows processes"]
    refreshed_us: Int[np.ndarray, " rows"]
    quote: dict[str, np.ndarray]
    oi: Float[np.ndarray, " rows"]
    is_new: Bool[np.ndarray, " rows"]

    @classmethod
    def fresh(cls, rows: int, processes: int, ts_us: int, random: np.random.Generator) -> "Standing":
        """Options listed just now, without a quote."""
        numbers = random.standard_normal((rows, processes + 1))
        quote = {name: np.full(rows, np.nan) for name in ("bid", "ask")}
        quote |= {name: np.zeros(rows) for name in ("bid_size", "ask_size", "drift")}
        return cls(
            moods=numbers[:, :processes],
            refreshed_us=np.full(rows, ts_us),
            quote={**quote, "kind": np.zeros(rows, np.int64)},
            oi=np.exp(1.6 * numbers[:, processes]),
            is_new=np.ones(rows, bool),
        )

    def carried(self, before: Contracts, now: Contracts, ts_us: int, random: np.random.Generator) -> "Standing":
        """The same for the options listed now: those known before keep what they carry."""
        place = np.minimum(np.searchsorted(before.key, now.key), before.rows - 1)
        known = before.key[place] == now.key
        if known.all() and now.rows == before.rows:
            return self
        new = Standing.fresh(now.rows, self.moods.shape[1], ts_us, random)
        old = place[known]
        new.moods[known], new.refreshed_us[known] = self.moods[old], self.refreshed_us[old]
        new.oi[known], new.is_new[known] = self.oi[old], self.is_new[old]
        for name, column in new.quote.items():
            column[known] = self.quote[name][old]
        return new


class StrikeBook:
    """The strikes listed so far: they stay until expiry, and new ones are added as the forward moves."""

    def __init__(self, random: np.random.Generator) -> None:
        self._random = random
        self._strikes: dict[int, np.ndarray] = {}

    def update(
        self,
        scale_usd: float,
        expiry_us: np.ndarray,
        expiry_years: np.ndarray,
        forward_usd: np.ndarray,
        volatility: np.ndarray,
    ) -> list[Float[np.ndarray, " strikes"]]:
        """Strikes of every listed expiry; `scale_usd` fixes the round steps (see `strike_ladder`)."""
        listed: dict[int, np.ndarray] = {}
        rows = zip(expiry_us.tolist(), expiry_years.tolist(), forward_usd.tolist(), volatility.tolist(), strict=True)
        for expiry, years, forward, vol in rows:
            known = self._strikes.get(expiry)
            if known is None:
                known = self._past(scale_usd, expiry, years, forward, vol)
            listed[expiry] = np.union1d(known, strike_ladder(scale_usd, forward, years, vol))
        self._strikes = listed
        return list(listed.values())

    def _past(self, scale_usd: float, expiry_us: int, years: float, forward: float, vol: float) -> np.ndarray:
        """Strikes that a contract kept from earlier looks, when it was longer and the market elsewhere."""
        oldest = LISTED_DAYS[expiry_kind(expiry_us)] / 365.0
        ladders = [np.empty(0)]
        for age in np.linspace(1.0, 0.0, PAST_LADDERS, endpoint=False) * max(oldest - years, 0.0):
            moved = forward * exp(0.5 * vol * sqrt(age) * self._random.standard_normal())
            ladders.append(strike_ladder(scale_usd, moved, years + age, vol))
        return np.unique(np.concatenate(ladders))
