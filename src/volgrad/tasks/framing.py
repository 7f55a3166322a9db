"""From a chain of quotes to a surface task and its batch: scales, prior, stencils, padding to a ladder of shapes.

Shapes are padded to a ladder so that few programs are compiled for chains of all sizes.
"""

from collections.abc import Mapping, Sequence

import jax
import numpy as np
from jaxtyping import Float64

from volgrad.learning.batching.batch import Batch
from volgrad.market import black
from volgrad.market.chain import Chain
from volgrad.market.clock import clock_years
from volgrad.market.instruments import YEAR_US
from volgrad.models.grid import NODES, stencil
from volgrad.models.levels import at_the_money_variance
from volgrad.models.local_vol import Prior, frame
from volgrad.runtime import double_precision
from volgrad.tasks.model import Framed
from volgrad.tasks.surface import QuoteRows, SurfaceTask, pad_rows

__all__ = ["NARROWEST", "diffused", "frame_chain", "ladder_size", "row_places"]

_EXPIRY_LADDER = (3, 6, 10, 12, 14, 20, 32, 48, 64)
_ROW_LADDER = (48, 128, 256, 384, 512, 768, 1024, 1536, 2048, 4096)
_LEAN = 0.9  # of the way from the mean shape to that of earlier chains (assumption)
#: Half-spread in volatility under which a quote is no better than the surface (measured).
NARROWEST = 1e-3


def ladder_size(count: int, ladder: tuple[int, ...]) -> int:
    """The least rung that holds `count`; beyond the last one, the next multiple of it.

    >>> ladder_size(7, (4, 8)), ladder_size(9, (4, 8))
    (8, 16)
    """
    fitting = [rung for rung in ladder if rung >= count]
    return fitting[0] if fitting else -(-count // ladder[-1]) * ladder[-1]


def row_places(count: int) -> int:
    """Places for so many quotes."""
    return ladder_size(count, _ROW_LADDER)


def frame_chain(chain: Chain, prior: Prior, shapes: Sequence[Mapping[int, np.ndarray]] = ()) -> Framed:
    """Scales, prior and padded quotes of one chain.

    Args:
        chain: the quotes.
        prior: constants.
        shapes: of earlier chains (expiry stamp to log local variance at the knots): the prior's mean leans on them.
    """
    expiries, expiry = np.unique(chain.expiry_index, return_inverse=True)
    years = chain.expiry_years[expiries]
    theta = at_the_money_variance(chain)
    stamps = chain.ts_us + np.rint(years * YEAR_US).astype(np.int64)
    size = ladder_size(expiries.size, _EXPIRY_LADDER)
    made = frame(clock_years(chain.ts_us, stamps), theta, diffused(prior.diffused * theta[0]), size, prior)
    if shapes:
        made = made._replace(mean=_leaning(np.asarray(made.mean), chain.expiry_us[expiries].tolist(), shapes))
    node, weight = stencil(chain.log_moneyness)
    half_spread = np.maximum(chain.half_spread_iv, NARROWEST)
    rows = QuoteRows(
        expiry.astype(np.int32),
        node,
        weight,
        chain.log_moneyness,
        chain.mid_iv,
        half_spread,
        np.sqrt(years[expiry]),
    )
    places = row_places(chain.n_rows)
    mask = np.arange(places) < chain.n_rows
    task = SurfaceTask(made, np.asarray(float(chain.n_rows)))
    return Framed(task, Batch(pad_rows(rows, places), mask, np.ones(places)), expiries, theta)


def _leaning(mean: np.ndarray, stamps: list[int], shapes: Sequence[Mapping[int, np.ndarray]]) -> np.ndarray:
    """The mean shape moved towards what earlier chains had: at their expiries, and by their average elsewhere."""
    past = [
        np.mean([shape[stamp] for shape in shapes if stamp in shape], axis=0)
        if any(stamp in shape for shape in shapes)
        else None
        for stamp in stamps
    ]
    moves = [row - mean[place] for place, row in enumerate(past) if row is not None]
    if not moves:
        return mean
    common = np.mean(moves, axis=0)
    leaning = mean.copy()
    for place, row in enumerate(past):
        leaning[place] += _LEAN * (common if row is None else row - mean[place])
    return leaning


@jax.jit
def _time_value(volatility):
    return black.price(NODES, volatility, NODES >= 0.0)


def diffused(variance: float) -> Float64[np.ndarray, " nodes"]:
    """Time values after lognormal diffusion by `variance`: where the implicit steps begin."""
    with double_precision():
        return np.asarray(_time_value(np.full(NODES.size, np.sqrt(variance))))
