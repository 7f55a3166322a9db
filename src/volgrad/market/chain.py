"""A chain: every usable quote of one underlying at one moment, as the fits take it."""

from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np
from jaxtyping import Bool, Float64, Int32, Int64

from volgrad.errors import EmptyInputError, InputError, UnitsError
from volgrad.market.instruments import Settlement

__all__ = ["Chain"]

# A median volatility outside these bounds is a percentage taken for a fraction, or the reverse (assumption;
# the medians of the recorded chains lie between .38 and .80, measured).
_LOWEST_MEDIAN_IV, _HIGHEST_MEDIAN_IV = 0.02, 8.0
# How far a given log-moneyness may be from ln(strike/forward): columns rounded to float32 must pass.
_MONEYNESS_TOLERANCE = 1e-4

_Rows = Float64[np.ndarray, " rows"]
_Expiries = Float64[np.ndarray, " expiries"]


@dataclass(frozen=True, eq=False)
class Chain:
    """Quotes of one (time, underlying[, split]) group: out of the money, two-sided, uncrossed, with both IVs.

    Rows are sorted by expiry, then strike. Whatever could not be used is counted in `left_out`, by reason.
    Everything stated here is checked when a chain is made.

    Attributes:
        ts_us: the chain's stamp, microseconds since 1970 UTC.
        ccy: the underlying, e.g. "BTC".
        split: name of the block that a prepared file puts the quotes in, or None.
        settlement: what the options are quoted in; the premiums below are normalised either way.
        expiry_us: microseconds since 1970 UTC, ascending.
        expiry_years: ACT/365 from the stamp, ascending, > 0.
        forward_usd: one forward an expiry, dollars.
        expiry_index: which expiry a row belongs to.
        strike_usd: dollars, ascending within an expiry.
        log_moneyness: `ln(strike/forward)`.
        is_call: calls from the forward upwards, puts below.
        bid: premium as a fraction of the forward (the coin premium of an inverse option).
        ask: likewise, > bid.
        bid_iv: implied volatility of the bid, annual, a fraction.
        ask_iv: likewise, > bid_iv.
        left_out: reason -> number of rows not used.

    Raises:
        EmptyInputError: no row.
        UnitsError: volatilities in percent, or premiums in dollars.
        InputError: anything else that contradicts the above; the message gives the row and the value.

    >>> chain = Chain(
    ...     ts_us=0, ccy="BTC", split=None, settlement=Settlement.INVERSE,
    ...     expiry_us=np.array([2_592_000_000_000]), expiry_years=np.array([30 / 365]),
    ...     forward_usd=np.array([100_000.0]), expiry_index=np.zeros(2, np.int32),
    ...     strike_usd=np.array([90_000.0, 110_000.0]), log_moneyness=np.log([0.9, 1.1]),
    ...     is_call=np.array([False, True]), bid=np.array([0.018, 0.021]), ask=np.array([0.019, 0.022]),
    ...     bid_iv=np.array([0.55, 0.53]), ask_iv=np.array([0.56, 0.54]))
    >>> chain.n_expiries, chain.rows(0), chain.mid_iv.round(3)
    (1, slice(0, 2, None), array([0.555, 0.535]))
    """

    ts_us: int
    ccy: str
    split: str | None
    settlement: Settlement
    expiry_us: Int64[np.ndarray, " expiries"]
    expiry_years: _Expiries
    forward_usd: _Expiries
    expiry_index: Int32[np.ndarray, " rows"]
    strike_usd: _Rows
    log_moneyness: _Rows
    is_call: Bool[np.ndarray, " rows"]
    bid: _Rows
    ask: _Rows
    bid_iv: _Rows
    ask_iv: _Rows
    left_out: Mapping[str, int] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if not isinstance(self.settlement, Settlement):
            raise TypeError(f"settlement is {self.settlement!r}: give Settlement.INVERSE or Settlement.LINEAR")
        self._check_shapes()
        self._check_expiries()
        self._check_rows()
        self._check_quotes()

    @property
    def n_expiries(self) -> int:
        """Number of expiries; one without rows counts."""
        return len(self.expiry_us)

    @property
    def n_rows(self) -> int:
        """Number of quotes."""
        return len(self.strike_usd)

    def rows(self, expiry: int) -> slice:
        """The rows of the expiry with this index, as a slice into the row columns."""
        if not 0 <= expiry < self.n_expiries:
            raise IndexError(f"expiry {expiry} of a chain with {self.n_expiries}")
        first, last = np.searchsorted(self.expiry_index, [expiry, expiry + 1])
        return slice(int(first), int(last))

    @property
    def row_expiry_years(self) -> _Rows:
        """Time to expiry of each row, ACT/365 years."""
        return self.expiry_years[self.expiry_index]

    @property
    def row_forward_usd(self) -> _Rows:
        """Forward of each row's expiry, dollars."""
        return self.forward_usd[self.expiry_index]

    @property
    def mid_iv(self) -> _Rows:
        """Middle of the bid's and the ask's implied volatility, a fraction."""
        return 0.5 * (self.bid_iv + self.ask_iv)

    @property
    def half_spread_iv(self) -> _Rows:
        """Half the distance between them, a fraction, > 0."""
        return 0.5 * (self.ask_iv - self.bid_iv)

    @property
    def otm(self) -> Bool[np.ndarray, " rows"]:
        """True where the option is out of the money or at it: everywhere, in a chain that was accepted."""
        return self.is_call == (self.log_moneyness >= 0)

    def _check_shapes(self) -> None:
        per_expiry = {name: getattr(self, name) for name in ("expiry_us", "expiry_years", "forward_usd")}
        names = ("strike_usd", "expiry_index", "log_moneyness", "is_call", "bid", "ask", "bid_iv", "ask_iv")
        per_row = {name: getattr(self, name) for name in names}
        for columns in (per_expiry, per_row):
            shapes = {name: np.shape(column) for name, column in columns.items()}
            if len(set(shapes.values())) != 1 or len(next(iter(shapes.values()))) != 1:
                raise InputError(f"{self._where()}: columns must be flat and of one length, but are {shapes}")
        if not self.n_rows:
            reasons = ", ".join(f"{count} {reason}" for reason, count in self.left_out.items()) or "there were none"
            raise EmptyInputError(f"{self._where()}: no usable quote ({reasons})")

    def _check_expiries(self) -> None:
        self._require("expiry_years", self.expiry_years > 0, "must be positive: leave expired options out")
        self._require("expiry_years", np.isfinite(self.expiry_years), "must be finite")
        self._require("forward_usd", (self.forward_usd > 0) & np.isfinite(self.forward_usd), "must be positive")
        for name in ("expiry_us", "expiry_years"):
            self._require(name, _after(np.diff(getattr(self, name)) > 0), "must ascend from expiry to expiry")

    def _check_rows(self) -> None:
        index = self.expiry_index
        self._require("expiry_index", (index >= 0) & (index < self.n_expiries), f"there are {self.n_expiries} expiries")
        step = np.diff(index)
        self._require("expiry_index", _after(step >= 0), "rows must be sorted by expiry")
        self._require("strike_usd", (self.strike_usd > 0) & np.isfinite(self.strike_usd), "must be positive")
        ascends = (np.diff(self.strike_usd) > 0) | (step > 0)
        self._require("strike_usd", _after(ascends), "must ascend within an expiry, each strike once")
        expected = np.log(self.strike_usd / self.row_forward_usd)
        near = np.abs(self.log_moneyness - expected) <= _MONEYNESS_TOLERANCE
        self._require("log_moneyness", near, "must be ln(strike/forward)")
        self._require("is_call", self.otm, "rows must be calls from the forward upwards and puts below it")

    def _check_quotes(self) -> None:
        self._require("bid", self.bid > 0, "must be positive: a missing side is no quote")
        self._require("ask", (self.ask > self.bid) & np.isfinite(self.ask), "must be above the bid")
        bound = np.exp(np.minimum(self.log_moneyness, 0.0))
        advice = "is worth more than its payoff: normalise premiums by the forward (dollars are not coin)"
        self._require("bid", self.bid < bound, advice, UnitsError)
        for name in ("bid_iv", "ask_iv"):
            self._require(name, np.isfinite(getattr(self, name)), "must be finite")
        self._require("bid_iv", self.bid_iv > 0, "must be positive: a bid below intrinsic has none")
        self._require("ask_iv", self.ask_iv > self.bid_iv, "must be above bid_iv")
        middle = float(np.median(self.mid_iv))
        if not _LOWEST_MEDIAN_IV <= middle <= _HIGHEST_MEDIAN_IV:
            given = "percent" if middle > _HIGHEST_MEDIAN_IV else "fractions of a percentage"
            raise UnitsError(
                f"{self._where()}: the median implied volatility is {middle:.4g}, which looks like {given}: "
                "give fractions (0.65 for 65 %)"
            )

    def _require(
        self,
        name: str,
        holds: Bool[np.ndarray, " entries"],
        advice: str,
        error: type[InputError] = InputError,
    ) -> None:
        if not holds.all():
            row = int(np.argmin(holds))
            raise error(f"{self._where()}: {name} of row {row} is {getattr(self, name)[row]!r}: {advice}")

    def _where(self) -> str:
        block = "" if self.split is None else f" {self.split}"
        return f"chain {self.ccy} {np.datetime64(int(self.ts_us), 'us')}Z{block}"


def _after(holds: Bool[np.ndarray, " steps"]) -> Bool[np.ndarray, " entries"]:
    """A condition on neighbours as one on the later entry; the first always holds."""
    return np.concatenate([[True], holds])
