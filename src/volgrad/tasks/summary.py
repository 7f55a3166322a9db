"""The summary of a fit: what `summary.json` holds and what the report shows."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

import volgrad
from volgrad.data import Built, Quotes, RefusedChain
from volgrad.tasks.fit import MODELS
from volgrad.tasks.fitted import FittedChain

__all__ = ["chain_summary", "fit_summary", "stamp_text"]

_UNCLEAN = (
    "raw SVI fits each expiry by itself and may have arbitrage: {count} of {all} surfaces have some, within an expiry "
    "or between two, and are published with a certificate that says so (--model essvi and local-vol have none)"
)


def fit_summary(fitted: Sequence[FittedChain], built: Built, quotes: Quotes, more: Mapping[str, Any]) -> dict[str, Any]:
    """Summary of a whole run; `more` holds what only the run knows (command, times, answers)."""
    return {
        "version": volgrad.__version__,
        **more,
        "mode": "single",
        "sources": [_source(one) for one in quotes.sources],
        "quarantined": [{"source": one.file, "why": one.why} for one in quotes.quarantined],
        "rejections": built.rejections.rows(),
        "left_out_expiries": [
            {
                "ts": stamp_text(one.ts_us),
                "ccy": one.ccy,
                "split": one.split,
                "settlement": one.settlement.value,
                "expiry": stamp_text(one.expiry_us),
                "left_out": one.left_out,
            }
            for one in built.left_out_expiries
        ],
        "notes": [*_arbitrages(fitted), *_doubts(fitted), *_ignored(quotes), *built.notes],
        "chains": [chain_summary(one) for one in fitted] + [_refused(one) for one in built.refused],
    }


def _doubts(fitted: Sequence[FittedChain]) -> list[str]:
    """A sentence where so few quotes are met that the quotes themselves are in doubt."""
    published = [one for one in fitted if one.surface is not None]
    quotes = sum(one.chain.n_rows for one in published)
    inside = sum(one.inside * one.chain.n_rows for one in published) / max(quotes, 1)
    if not published:
        return []
    model = MODELS[published[0].model]
    if inside >= model.doubtful_inside:
        return []
    doubt = (
        f"only {100 * inside:.1f} % of the used quotes are met within bid and ask ({model.usual_inside} are usual): do "
        "not trust these surfaces before you have checked that bid and ask are premiums (coin, or dollars where "
        "settlement is linear), not percent, and that forward is that of each expiry"
    )
    return [doubt]


def _arbitrages(fitted: Sequence[FittedChain]) -> list[str]:
    """A sentence where surfaces are published whose certificate is not clean."""
    published = [one for one in fitted if one.surface is not None]
    unclean = sum(one.certificate is None or not one.certificate.clean for one in published)
    return [_UNCLEAN.format(count=unclean, all=len(published))] if unclean else []


def chain_summary(fitted: FittedChain) -> dict[str, Any]:
    """Entry of one chain in the summary."""
    chain, certificate = fitted.chain, fitted.certificate
    return {
        **_name(chain),
        "quotes_used": chain.n_rows,
        "left_out": dict(chain.left_out),
        "inside": fitted.inside,
        "rmse_vol_points": fitted.rmse_vol_points,
        "iterations": fitted.iterations,
        "fit_ms": fitted.fit_ms,
        "certificate_ms": fitted.certificate_ms,
        "warm": fitted.warm,
        "model": fitted.model,
        "prior_freedom": fitted.freedom,
        "status": fitted.status,
        "why": fitted.why,
        "certificate": None if certificate is None else certificate._asdict(),
    }


def _refused(one: RefusedChain) -> dict[str, Any]:
    return {
        **_name(one),
        "quotes_used": 0,
        "left_out": dict(one.left_out),
        "inside": None,
        "rmse_vol_points": None,
        "iterations": 0,
        "fit_ms": 0.0,
        "certificate_ms": 0.0,
        "warm": False,
        "model": None,
        "prior_freedom": None,
        "status": "refused",
        "why": one.why,
        "certificate": None,
    }


def _name(chain: Any) -> dict[str, Any]:
    return {
        "ts": stamp_text(chain.ts_us),
        "ccy": chain.ccy,
        "split": chain.split,
        "settlement": chain.settlement.value,
    }


def _source(one: Any) -> dict[str, Any]:
    return {
        "source": one.name,
        "kind": one.kind.value,
        "rows": one.rows,
        "rows_not_asked_for": one.rows_filtered,
        "malformed_rows": one.malformed_rows,
        "ignored_columns": list(one.extra_columns),
        "bad_values": one.bad_values,
    }


def _ignored(quotes: Quotes) -> list[str]:
    """A sentence for each set of columns that were not used, on the sources that have it."""
    sources: dict[tuple[str, ...], list[str]] = {}
    for one in quotes.sources:
        if one.extra_columns and one.rows > one.rows_filtered:
            sources.setdefault(one.extra_columns, []).append(one.name)
    return [
        f"{names[0]}{f' and {len(names) - 1} more' if len(names) > 1 else ''}: columns not used: {', '.join(columns)}"
        for columns, names in sources.items()
    ]


def stamp_text(stamp_us: int) -> str:
    """ISO text of microseconds since 1970 UTC.

    >>> stamp_text(1_767_604_650_000_000)
    '2026-01-05T09:17:30.000000Z'
    """
    return f"{np.datetime64(stamp_us, 'us')}Z"
