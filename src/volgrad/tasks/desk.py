"""The front door in Python: a table of quotes in, surfaces out."""

from typing import Any

from volgrad.data import build, read_quotes
from volgrad.errors import EmptyInputError, FitError
from volgrad.tasks.fit import FitOptions, fit_chains
from volgrad.tasks.surfaces import Surfaces

__all__ = ["fit"]


def fit(table: Any, **options: Any) -> Surfaces:
    """Fit every chain in a table of quotes and return the surfaces.

    Args:
        table: anything with `__arrow_c_stream__` (pyarrow, Polars, pandas, DuckDB), a path, or a list of these, in the
            canonical columns (`ts, ccy, expiry, strike, cp, bid, ask, ...`).
        options: of `volgrad.tasks.fit.FitOptions`: optimizer, batch, warm, history, seed.

    Raises:
        InputError: the table cannot be read, or an option does not exist.
        EmptyInputError: it holds no chain with a usable quote.
        FitError: no chain could be fitted.

    >>> import volgrad
    >>> from volgrad.simulate import simulate
    >>> market = next(iter(simulate(seed=1, chains=1)))
    >>> surfaces = volgrad.fit(market.quotes)
    >>> vol = surfaces.implied_vol(market.ts_us, "BTC", k=0.0, tau=30 / 365)
    >>> bool(abs(vol - market.truth.implied_vol(0.0, 30 / 365)) < 0.01)
    True
    """
    built = build(read_quotes(table))
    if not built.chains:
        raise EmptyInputError(built.refused[0].why if built.refused else "no chain in these quotes")
    fitted = list(fit_chains(built.chains, FitOptions(**options)))
    surfaces = Surfaces.of(fitted)
    if not len(surfaces):
        raise FitError(f"none of {len(fitted)} chains could be fitted; the first: {fitted[0].why}")
    return surfaces
