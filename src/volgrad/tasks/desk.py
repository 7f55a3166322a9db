"""The front door in Python: a table of quotes in, surfaces out."""

import dataclasses
import time
from typing import Any

from volgrad.data import Built, Quotes, build, read_quotes
from volgrad.data.filters import When
from volgrad.errors import EmptyInputError, FitError, UnknownOptionError
from volgrad.tasks.fit import FitOptions, Fitter
from volgrad.tasks.summary import fit_summary, stamp_text
from volgrad.tasks.surfaces import Surfaces

__all__ = ["fit", "require_chains"]


def fit(
    table: Any,
    *,
    from_: When = None,
    to: When = None,
    underlying: str | list[str] | None = None,
    every: str = "5m",
    **options: Any,
) -> Surfaces:
    """Fit every chain in a table of quotes and return the surfaces.

    Args:
        table: anything with `__arrow_c_stream__` (pyarrow, Polars, pandas, DuckDB), a path, or a list of these, in the
            canonical columns (`ts, ccy, expiry, strike, cp, bid, ask, ...`).
        from_, to: first and last time or day to use, such as "2026-01-05" or a datetime.
        underlying: only these underlyings, such as "BTC".
        every: from one chain to the next where the quotes are single updates (tickers, sessions, Tardis).
        options: of `volgrad.tasks.fit.FitOptions`: model, optimizer, batch, warm, history, seed.

    Returns:
        The surfaces; their `summary` tells of every chain and of every row that was not used, and why.

    Raises:
        InputError: the table cannot be read, or an option does not exist.
        EmptyInputError: it holds no chain with a usable quote.
        FitError: no chain could be fitted.

    >>> import volgrad
    >>> from volgrad.simulate.market import simulate
    >>> market = next(iter(simulate(seed=1, chains=1)))
    >>> surfaces = volgrad.fit(market.quotes)
    >>> vol = surfaces.implied_vol(market.ts_us, "BTC", k=0.0, tau=30 / 365)
    >>> bool(abs(vol - market.truth.implied_vol(0.0, 30 / 365)) < 0.01)
    True
    >>> surfaces.summary["chains"][0]["status"]
    'converged'
    """
    began = time.perf_counter()
    known = {field.name for field in dataclasses.fields(FitOptions)}
    for name in options:
        if name not in known:
            raise UnknownOptionError.of("option", name, {*known, "from_", "to", "underlying", "every"})
    fitter = Fitter(FitOptions(**options))
    quotes = read_quotes(table, from_=from_, to=to, underlying=underlying, every=every)
    built = build(quotes)
    require_chains(built, quotes)
    fitted = [fitter.fit(chain) for chain in built.chains]
    more = {"wall_s": time.perf_counter() - began, "compile_s": fitter.compile_seconds}
    surfaces = Surfaces.of(fitted, fit_summary(fitted, built, quotes, more))
    if not len(surfaces):
        raise FitError(f"none of {len(fitted)} chains could be fitted; the first: {fitted[0].why}")
    return surfaces


def require_chains(built: Built, quotes: Quotes) -> None:
    """Refuse quotes of which no chain can be fitted.

    Raises:
        EmptyInputError: there is none; the message names the source and says why of the first.
    """
    if built.chains:
        return
    source = next((one.name for one in quotes.sources if one.rows > one.rows_filtered), quotes.sources[0].name)
    if not built.refused:
        raise EmptyInputError(f"{source}: no chain in these quotes.", file=source)
    first = built.refused[0]
    more = f" (the first of {len(built.refused)} chains, none of which can be fitted)" if len(built.refused) > 1 else ""
    raise EmptyInputError(f"{source}: {first.ccy} {stamp_text(first.ts_us)}: {first.why}{more}.", file=source)
