"""The summary of a fit: what `summary.json` holds and what the report shows."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

import volgrad
from volgrad.data import Built
from volgrad.tasks.fitted import FittedChain

__all__ = ["chain_summary", "fit_summary"]


def fit_summary(
    fitted: Sequence[FittedChain],
    built: Built,
    *,
    command: Sequence[str],
    threads: int,
    more: Mapping[str, Any],
) -> dict[str, Any]:
    """Summary of a whole run; `more` holds what only the run knows (times, answers)."""
    return {
        "version": volgrad.__version__,
        "command": list(command),
        "threads": threads,
        "mode": "single",
        **more,
        "rejections": built.rejections.rows(),
        "left_out_expiries": [
            {
                "ts": stamp_text(one.ts_us),
                "ccy": one.ccy,
                "split": one.split,
                "expiry": stamp_text(one.expiry_us),
                "left_out": one.left_out,
            }
            for one in built.left_out_expiries
        ],
        "notes": list(built.notes),
        "chains": [chain_summary(one) for one in fitted] + [_refused(one) for one in built.refused],
    }


def chain_summary(fitted: FittedChain) -> dict[str, Any]:
    """Entry of one chain in the summary."""
    chain, certificate = fitted.chain, fitted.certificate
    return {
        "ts": stamp_text(chain.ts_us),
        "ccy": chain.ccy,
        "split": chain.split,
        "quotes_used": chain.n_rows,
        "left_out": dict(chain.left_out),
        "inside": fitted.inside,
        "rmse_vol_points": fitted.rmse_vol_points,
        "iterations": fitted.iterations,
        "fit_ms": fitted.fit_ms,
        "certificate_ms": fitted.certificate_ms,
        "warm": fitted.warm,
        "status": fitted.status,
        "why": fitted.why,
        "certificate": None if certificate is None else certificate._asdict(),
    }


def _refused(one: Any) -> dict[str, Any]:
    return {
        "ts": stamp_text(one.ts_us),
        "ccy": one.ccy,
        "split": one.split,
        "quotes_used": 0,
        "left_out": dict(one.left_out),
        "inside": None,
        "rmse_vol_points": None,
        "iterations": 0,
        "fit_ms": 0.0,
        "certificate_ms": 0.0,
        "warm": False,
        "status": "refused",
        "why": one.why,
        "certificate": None,
    }


def stamp_text(stamp_us: int) -> str:
    """ISO text of microseconds since 1970 UTC."""
    return f"{np.datetime64(stamp_us, 'us')}Z"
