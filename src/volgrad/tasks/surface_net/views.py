"""Chains with quotes hidden, in the ways in which they are missing in practice and in scoring."""

import dataclasses
from math import floor

import numpy as np
from jaxtyping import Bool, Float64

from volgrad.market.chain import Chain
from volgrad.models.local_vol import KNOTS

__all__ = ["VIEWS", "hidden", "kept", "kinked", "shown"]

#: Ways of hiding: 30 % of the inner strikes; the outermost 15 % of each side; 70 % of all; nothing.
VIEWS = ("interp", "wing", "thin", "full")
_ROWS = ("expiry_index", "strike_usd", "log_moneyness", "is_call", "bid", "ask", "bid_iv", "ask_iv")
_FEWEST = 4  # quotes of an expiry that are left


def hidden(chain: Chain, view: str, random: np.random.Generator) -> Bool[np.ndarray, " rows"]:
    """Which rows are hidden."""
    out = np.zeros(chain.n_rows, bool)
    for expiry in np.unique(chain.expiry_index).tolist():
        rows = chain.rows(expiry)
        count = rows.stop - rows.start
        if view == "wing":
            edge = floor(0.15 * count)
            if count >= 8 and edge:
                out[rows.start : rows.start + edge] = out[rows.stop - edge : rows.stop] = True
            continue
        share = {"interp": 0.3, "thin": 0.7}.get(view, 0.0)
        most = count - _FEWEST
        if share and most > 0:
            inner = np.arange(rows.start + 1, rows.stop - 1)
            out[random.choice(inner, min(most, round(share * count), inner.size), replace=False)] = True
    return out


def kept(chain: Chain, rows: Bool[np.ndarray, " rows"]) -> Chain:
    """The chain with these rows alone."""
    return dataclasses.replace(chain, **{name: getattr(chain, name)[rows] for name in _ROWS})


def shown(chain: Chain, view: str, random: np.random.Generator) -> Chain:
    """The chain as a view shows it."""
    return chain if view == "full" else kept(chain, ~hidden(chain, view, random))


def kinked(
    chain: Chain, level: Float64[np.ndarray, " expiries"], smile: Float64[np.ndarray, "expiries knots"]
) -> Chain:
    """The chain with volatilities of each expiry moved by its own level and smile (in ln volatility).

    Bid and ask premiums are left as they are: no fit looks at them.
    """
    root = np.zeros(chain.n_expiries)
    middle = chain.mid_iv
    for expiry in np.unique(chain.expiry_index).tolist():
        rows = chain.rows(expiry)
        nearest = rows.start + int(np.argmin(np.abs(chain.log_moneyness[rows])))
        root[expiry] = middle[nearest] * np.sqrt(chain.expiry_years[expiry])
    x = chain.log_moneyness / root[chain.expiry_index]
    more = np.empty(chain.n_rows)
    for expiry in np.unique(chain.expiry_index).tolist():
        rows = chain.rows(expiry)
        more[rows] = level[expiry] + np.interp(x[rows], KNOTS, smile[expiry])
    factor = np.exp(more)
    return dataclasses.replace(chain, bid_iv=chain.bid_iv * factor, ask_iv=chain.ask_iv * factor)
