"""A chain that is shown in full: its expiries, their colours, and what every figure needs of the surface."""

from dataclasses import dataclass
from functools import cached_property

import numpy as np
from jaxtyping import Float64, Int64

from volgrad.models.surface import ListedSurface
from volgrad.report.figure import expiry_colours, tenor_text
from volgrad.simulate.comparison import TotalVariance
from volgrad.tasks.fitted import FittedChain

__all__ = ["Shown", "anchor_of", "chain_name", "stamp_text"]


def stamp_text(stamp_us: int, unit: str = "m") -> str:
    """UTC text of microseconds since 1970, to the minute.

    >>> stamp_text(1_767_259_115_173_000)
    '2026-01-01T09:18'
    """
    return str(np.datetime64(int(stamp_us), "us").astype(f"datetime64[{unit}]"))


def anchor_of(place: int) -> str:
    """Where in the page the chain at this place is shown."""
    return f"chain-{place}"


def chain_name(fitted: FittedChain) -> str:
    """How a chain is called: underlying, time (UTC, to the minute) and split."""
    chain = fitted.chain
    when = stamp_text(chain.ts_us).replace("T", " ")
    return f"{chain.ccy} {when}" + ("" if chain.split is None else f" {chain.split}")


@dataclass(frozen=True, eq=False)
class Shown:
    """One chain in full.

    Attributes:
        fitted: the chain and its fit.
        role: why it is shown: "worst", "median", "best", "asked for".
        anchor: where it stands in the page.
        truth: the true surface, where it is known.
    """

    fitted: FittedChain
    role: str
    anchor: str
    truth: TotalVariance | None = None

    @property
    def surface(self) -> ListedSurface:
        """The fitted surface; only for chains that have one."""
        assert self.fitted.surface is not None, "figures of the surface are drawn only where there is one"
        return self.fitted.surface

    def true_vol(self, log_moneyness: np.ndarray, expiry_years: np.ndarray) -> Float64[np.ndarray, "..."]:
        """The truth's annual volatility; only where it is known. Shape: that of the arguments, broadcast."""
        assert self.truth is not None, "the truth is drawn only where it is known"
        k, years = np.broadcast_arrays(log_moneyness, expiry_years)
        return np.sqrt(self.truth.total_variance(k, years) / years)

    @cached_property
    def expiries(self) -> Int64[np.ndarray, " shown"]:
        """Indices of the expiries that have quotes."""
        return np.unique(self.fitted.chain.expiry_index).astype(np.int64)

    @cached_property
    def years(self) -> Float64[np.ndarray, " shown"]:
        """Their times to expiry."""
        return self.fitted.chain.expiry_years[self.expiries]

    @cached_property
    def labels(self) -> list[str]:
        """Their dates."""
        stamps = self.fitted.chain.expiry_us[self.expiries]
        return [np.datetime64(int(stamp), "us").item().strftime("%-d %b %Y") for stamp in stamps]

    @cached_property
    def tenors(self) -> list[str]:
        """Their times to expiry in words."""
        return [tenor_text(float(years)) for years in self.years]

    @cached_property
    def colours(self) -> list[str]:
        """Their colours."""
        return expiry_colours(self.expiries.size)

    @cached_property
    def deviation(self) -> Float64[np.ndarray, " shown"]:
        """Their at-the-money standard deviations, `sigma sqrt(tau)`: the unit of standardised moneyness."""
        return np.sqrt(self.surface.total_variance(np.zeros(self.years.size), self.years))

    @cached_property
    def place(self) -> Int64[np.ndarray, " rows"]:
        """Which of the expiries above each quote belongs to."""
        return np.searchsorted(self.expiries, self.fitted.chain.expiry_index)

    @cached_property
    def standardised(self) -> Float64[np.ndarray, " rows"]:
        """Log-moneyness of the quotes in standard deviations of their expiry."""
        return self.fitted.chain.log_moneyness / self.deviation[self.place]

    @cached_property
    def model_iv(self) -> Float64[np.ndarray, " rows"]:
        """The surface's volatility at the quotes."""
        chain = self.fitted.chain
        return self.surface.implied_vol(chain.log_moneyness, chain.row_expiry_years)

    @cached_property
    def residual(self) -> Float64[np.ndarray, " rows"]:
        """Model less middle, in half-spreads of the quote: inside bid and ask between -1 and 1."""
        return (self.model_iv - self.fitted.chain.mid_iv) / self.fitted.chain.half_spread_iv
