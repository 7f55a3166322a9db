"""What every volatility surface can do, from the one thing that a model must say: total variance."""

import abc

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import ArrayLike, Float64

from volgrad.market import arbitrage, black
from volgrad.runtime import double_precision

__all__ = ["ListedSurface", "Surface"]

_STEP = 1e-3  # of the standard deviation, for derivatives in log-moneyness


class Surface(abc.ABC):
    """An implied-volatility surface in forward-moneyness, at zero rates.

    Log-moneyness is `k = ln(K/F)` with `F` the forward of the same expiry; `expiry_years` is ACT/365 from the
    surface's own time. Arguments broadcast; results are float64 numpy arrays.
    """

    @abc.abstractmethod
    def total_variance(self, log_moneyness: ArrayLike, expiry_years: ArrayLike) -> Float64[np.ndarray, "..."]:
        """`implied_vol^2 * expiry_years`; NaN where the surface does not answer."""

    def implied_vol(self, log_moneyness: ArrayLike, expiry_years: ArrayLike) -> Float64[np.ndarray, "..."]:
        """Annual implied volatility, a fraction."""
        return np.sqrt(self.total_variance(log_moneyness, expiry_years) / np.asarray(expiry_years, np.float64))

    def price(
        self, log_moneyness: ArrayLike, expiry_years: ArrayLike, is_call: ArrayLike
    ) -> Float64[np.ndarray, "..."]:
        """Premium as a fraction of the forward: the coin premium of an inverse option; times `F`, dollars."""
        expired = np.asarray(expiry_years, np.float64) <= 0.0  # worth the intrinsic value
        volatility = np.where(expired, 0.0, np.sqrt(self.total_variance(log_moneyness, expiry_years)))
        with double_precision():
            return np.asarray(black.price(np.asarray(log_moneyness, np.float64), volatility, np.asarray(is_call)))

    def greeks(
        self, forward_usd: ArrayLike, log_moneyness: ArrayLike, expiry_years: ArrayLike, is_call: ArrayLike
    ) -> black.Greeks:
        """Greeks in the exchange's convention at the volatility of the surface (`market.black.greeks`)."""
        expired = np.asarray(expiry_years, np.float64) <= 0.0
        with np.errstate(divide="ignore", invalid="ignore"):
            vol = np.where(expired, 0.0, self.implied_vol(log_moneyness, expiry_years))
        forward = np.asarray(forward_usd, np.float64)
        strike = forward * np.exp(np.asarray(log_moneyness, np.float64))
        with double_precision():
            found = black.greeks(forward, strike, np.asarray(expiry_years, np.float64), vol, np.asarray(is_call))
            return jax.tree.map(np.asarray, found)

    def durrleman_g(self, log_moneyness: ArrayLike, expiry_years: ArrayLike) -> Float64[np.ndarray, "..."]:
        """Durrleman's function: negative where there is butterfly arbitrage (`market.arbitrage`)."""
        k, tau = np.broadcast_arrays(np.asarray(log_moneyness, np.float64), np.asarray(expiry_years, np.float64))
        middle = self.total_variance(k, tau)
        step = _STEP * np.sqrt(self.total_variance(np.zeros_like(k), tau))
        up, down = self.total_variance(k + step, tau), self.total_variance(k - step, tau)
        slope, curvature = (up - down) / (2.0 * step), (up - 2.0 * middle + down) / step**2
        with double_precision():
            return np.asarray(arbitrage.durrleman_g(*(jnp.asarray(part) for part in (k, middle, slope, curvature))))

    def density(self, log_moneyness: ArrayLike, expiry_years: ArrayLike) -> Float64[np.ndarray, "..."]:
        """Risk-neutral density of `ln(S/F)` at expiry, per unit of log-moneyness: `g n(d2) / sqrt(w)`."""
        k, tau = np.broadcast_arrays(np.asarray(log_moneyness, np.float64), np.asarray(expiry_years, np.float64))
        volatility = np.sqrt(self.total_variance(k, tau))
        lower = -k / volatility - 0.5 * volatility  # d2
        return self.durrleman_g(k, tau) * np.exp(-0.5 * lower**2) / (np.sqrt(2.0 * np.pi) * volatility)


class ListedSurface(Surface):
    """A surface that was fitted to the listed expiries of one chain.

    Attributes:
        ts_us: time of the surface, microseconds since 1970 UTC.
        expiry_years: ACT/365, ascending, > 0. Shape: (expiries,).
        forward_usd: of each expiry, dollars. Shape: (expiries,).
        quoted: outermost log-moneyness that was quoted: low, high. Shape: (expiries, 2).
    """

    ts_us: int
    expiry_years: Float64[np.ndarray, " expiries"]
    forward_usd: Float64[np.ndarray, " expiries"]
    quoted: Float64[np.ndarray, "expiries 2"]

    def forward(self, expiry_years: ArrayLike) -> Float64[np.ndarray, "..."]:
        """Forward at any time, dollars: log-linear between expiries, flat outside them."""
        return np.exp(np.interp(np.asarray(expiry_years), self.expiry_years, np.log(self.forward_usd)))
