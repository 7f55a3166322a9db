"""A simulated exchange at work: block after block of moments, with everything that is quoted in them.

A block holds some moments between two changes of the list of expiries; all its quotes are computed at once.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from math import log

import numpy as np
from jaxtyping import Float, Int

from volgrad.market.instruments import EXPIRY_HOUR_UTC, YEAR_US
from volgrad.simulate.contracts import Contracts, Standing, StrikeBook
from volgrad.simulate.listing import DAY_US, HOUR_US, listed_expiries
from volgrad.simulate.moments import Moments, with_marks
from volgrad.simulate.path import MarketPath, MarketState, Walk, forwards
from volgrad.simulate.pricing import Priced, priced
from volgrad.simulate.quoting import Around, Quirks, half_spread, make_quotes, settle
from volgrad.simulate.refresh import PROCESSES, Refreshed, refresh_rates, refreshes, renew
from volgrad.simulate.shared import SharedErrors
from volgrad.simulate.surface import Skew, Smiles, clock_integrals, ends, smiles_of, theta_of

__all__ = ["Block", "Exchange", "Listing"]

CHAIN_CELLS, CHANGE_TICKS = 16_000, 4_096  # in one block: moments times options of whole chains; moments of changes
LONGEST_LOOK_US = 2 * HOUR_US  # strikes are added at least so often


@dataclass(frozen=True)
class Listing:
    """What an exchange is: its market's scale, and how it is quoted (see `MarketSettings`)."""

    spot_usd: float
    short_vol: float
    long_vol: float
    tilt: float
    spread: float
    size_coin: float
    oi_coin: float
    quirks: Quirks


@dataclass(frozen=True)
class Block:
    """Some moments and the rows shown in them, in order of moment and table.

    `tick` and `row` say which moment and option each shown row is; `columns` holds their numbers (bid and ask
    NaN where missing), `ts_us` of which is the time at which the quote was made. `years`, `forward_usd` and
    `theta` are "ticks expiries".
    """

    path: MarketPath
    contracts: Contracts
    years: Float[np.ndarray, "ticks expiries"]
    forward_usd: Float[np.ndarray, "ticks expiries"]
    theta: Float[np.ndarray, "ticks expiries"]
    smiles: Smiles
    tick: Int[np.ndarray, " shown"]
    row: Int[np.ndarray, " shown"]
    columns: dict[str, np.ndarray]


class Exchange:
    """One underlying's options, from its first moment on; `blocks` runs it.

    Args:
        stream: seed of this underlying's own streams.
        listing: what it is.
        start_us, every_us: moments.
        restless: whether regimes switch and jumps come.
        changes_only: show the rows whose quote changed instead of whole chains (which stand at the start and
            at each midnight in any case).
    """

    def __init__(
        self, stream: list[int], listing: Listing, start_us: int, every_us: int, *, restless: bool, changes_only: bool
    ) -> None:
        self._listing, self._start_us, self._every_us, self._changes_only = listing, start_us, every_us, changes_only
        vols = (listing.short_vol, listing.long_vol)
        self.walk = Walk(stream, MarketState(listing.spot_usd), start_us, vols, restless)
        self._book = StrikeBook(np.random.default_rng([*stream, 2]))
        self._random = np.random.default_rng([*stream, 1])
        self._contracts: Contracts | None = None
        self._standing = Standing.fresh(0, len(PROCESSES), start_us, self._random)
        self._shared = SharedErrors(self._random)

    def blocks(self, ticks: int, shock_at: int = -1, shock: float = 0.0) -> Iterator[Block]:
        """All moments in blocks; just before moment number `shock_at` a shock strikes."""
        done = 0
        while done < ticks:
            if done == shock_at and shock:
                yield self._block(done, 1, shock)
                done += 1
                continue
            count = min(self._longest(self._start_us + done * self._every_us), ticks - done)
            if done < shock_at:
                count = min(count, shock_at - done)
            yield self._block(done, count, 0.0)
            done += count

    def _longest(self, ts_us: int) -> int:
        """How many moments from this one may be in one block."""
        rows = 800 if self._contracts is None else self._contracts.rows
        most = CHANGE_TICKS if self._changes_only else CHAIN_CELLS // rows
        to_expiry = DAY_US - (ts_us - EXPIRY_HOUR_UTC * HOUR_US) % DAY_US
        span = min(to_expiry, DAY_US - ts_us % DAY_US, LONGEST_LOOK_US)
        return max(min(most, -(-span // self._every_us)), 1)

    def _block(self, first: int, count: int, shock: float) -> Block:
        stamps = self._start_us + (first + np.arange(count)) * self._every_us
        path = self.walk.advance(stamps, self._every_us)
        if shock:
            path = self.walk.struck(path, shock)
        expiry_us = listed_expiries(int(stamps[0]))
        years = (expiry_us - stamps[:, None]) / YEAR_US
        forward = forwards(path, expiry_us)
        vols = (self._listing.short_vol, self._listing.long_vol)
        integrals = clock_integrals(stamps, expiry_us)
        theta = theta_of(integrals, ends(path.values, *vols))
        lagged = np.sqrt(theta_of(integrals, ends(path.lagged, *vols)) / theta)
        smiles = smiles_of(theta, Skew(self._listing.tilt, path.values["skew"], path.values["stress"]))
        contracts = self._list(expiry_us, years[0], forward[0], np.sqrt(theta[0] / years[0]), int(stamps[0]))
        moment = Moments(path, contracts, years, forward, smiles, lagged)
        tick, row, columns = self._quoted(moment)
        return Block(path, contracts, years, forward, theta, smiles, tick, row, columns)

    def _list(
        self, expiry_us: np.ndarray, years: np.ndarray, forward: np.ndarray, volatility: np.ndarray, ts_us: int
    ) -> Contracts:
        scale_usd = self._listing.spot_usd * self._listing.long_vol
        contracts = Contracts.of(expiry_us, self._book.update(scale_usd, expiry_us, years, forward, volatility))
        before = self._contracts
        if before is None:
            self._standing = Standing.fresh(contracts.rows, len(PROCESSES), ts_us, self._random)
        else:
            self._standing = self._standing.carried(before, contracts, ts_us, self._random)
        self._contracts = contracts
        self._shared.listed(expiry_us)
        return contracts

    def _quoted(self, moment: Moments) -> tuple[np.ndarray, np.ndarray, dict[str, np.ndarray]]:
        """The rows shown: their moment, their option, their columns."""
        stamps, rows = moment.path.ts_us, moment.contracts.rows
        error, log_spread = self._shared.run(stamps.size, self._every_us)
        log_spread += log(self._listing.spread) + moment.path.values["liquidity"][:, None]
        whole = np.ones((1 if self._changes_only else stamps.size, rows), bool)
        tick, row = np.nonzero(whole)
        options = moment.options(tick, row)
        truth = priced(options, moment.smiles)
        renewed = self._refresh(moment, truth, rows)
        if self._changes_only:
            tick, row = renewed.tick, renewed.row
            options = moment.options(tick, row)
            truth = priced(options, moment.smiles)
            chosen = np.arange(tick.size)
        else:
            chosen = renewed.tick * rows + renewed.row
        carried, made_us = dict(self._standing.quote), self._standing.refreshed_us
        moods, rounds = renew(self._standing, renewed, stamps, self._random)
        of_made = Priced(*(column[chosen] for column in truth))
        cell = options.cell[chosen]
        around = Around(
            error=error.ravel()[cell],
            log_spread=log_spread.ravel()[cell],
            stress=moment.path.values["stress"][renewed.tick],
            years=moment.years.ravel()[cell],
            size_coin=self._listing.size_coin,
        )
        wanted = make_quotes(of_made, around, moods, self._listing.quirks, self._random)
        made = settle(wanted, carried, renewed.row, rounds)
        last = renewed.final
        self._standing.quote = {
            name: np.where(last >= 0, made[name][np.maximum(last, 0)], column) for name, column in carried.items()
        }
        self._standing.is_new &= last < 0
        if self._changes_only:
            shown = self._changed(renewed, carried, made, int(stamps[0]))
            source = rows + shown
            tick, row = tick[shown], row[shown]
            options, truth = moment.options(tick, row), Priced(*(column[shown] for column in truth))
        else:
            latest = renewed.latest(stamps.size)
            source = np.where(latest >= 0, latest + rows, np.arange(rows)).ravel()
        columns = {name: np.concatenate([column, made[name]])[source] for name, column in carried.items()}
        columns["ts_us"] = np.concatenate([made_us, stamps[renewed.tick]])[source]
        return tick, row, with_marks(columns, moment, options, truth, self._standing.oi[row], self._random)

    def _refresh(self, moment: Moments, truth: Priced, rows: int) -> Refreshed:
        """Which quotes are made anew, by what the options are like at the first moment."""
        first = Priced(*(column[:rows] for column in truth))
        years = moment.years[0][moment.contracts.expiry_index]
        is_itm = first.intrinsic > 0.0
        otm_delta = np.where(is_itm, 1.0 - first.exercised, first.exercised)
        half = self._listing.spread * half_spread(first, years)
        rates = refresh_rates(otm_delta, is_itm, years, half, first.net_delta)
        stamps, standing = moment.path.ts_us, self._standing
        # open interest lies out of the money; an option keeps what its strike drew when it was listed
        usual = self._listing.oi_coin * np.exp(-8.0 * np.maximum(first.exercised - 0.3, 0.0))
        standing.oi = np.where(standing.is_new, np.rint(10.0 * usual * standing.oi) / 10.0, standing.oi)
        whole_first = self._changes_only and (stamps[0] == self._start_us or stamps[0] % DAY_US < self._every_us)
        must = np.ones(rows, bool) if whole_first else self._standing.is_new
        return refreshes(self._every_us, moment.path.variance, rates, must, self._random)

    def _changed(
        self, renewed: Refreshed, carried: dict[str, np.ndarray], made: dict[str, np.ndarray], ts_us: int
    ) -> np.ndarray:
        """Places of the refreshes that changed a price or a size; of all at the start and at midnight."""
        same = np.ones(renewed.row.size, bool)
        for name in ("bid", "ask", "bid_size", "ask_size"):
            before = np.where(renewed.before >= 0, made[name][renewed.before], carried[name][renewed.row])
            same &= (before == made[name]) | (np.isnan(before) & np.isnan(made[name]))
        if ts_us == self._start_us or ts_us % DAY_US < self._every_us:
            same &= renewed.tick > 0
        return np.flatnonzero(~same)
