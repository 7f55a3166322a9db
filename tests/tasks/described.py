"""Quote tables of a market whose likeness, memory and staleness are known."""

from datetime import UTC, datetime, timedelta

import numpy as np
import pyarrow as pa

from volgrad.data import build, read_quotes
from volgrad.market import black
from volgrad.runtime import double_precision
from volgrad.tasks.description import Description, describe

NOW = datetime(2026, 1, 6, 0, 0, tzinfo=UTC)
DAYS = (10, 40, 100)
PLACES = (-1.6, -1.0, -0.5, -0.2, 0.2, 0.5, 1.0, 1.6)  # in standard deviations at 60 %
ROWS = len(DAYS) * len(PLACES)
FORWARD = 90_000.0


def market(
    log_vol,
    ccy="BTC",
    hours=0.25,
    stamps=None,
    forward=None,
    half_spread=0.01,
    linear=False,
    standing=None,
    **columns,
) -> pa.Table:
    """A canonical table of chains: options at fixed dates and strikes, out of the money.

    Args:
        log_vol: ln implied volatility. Shape: (chains, ROWS), rows in the order of dates, then places.
        stamps: hours from the first chain to each; by default one every `hours`.
        forward: of each chain.
        standing: (chains, ROWS), True where a quote keeps the prices it had in the chain before.
        columns: more columns, given the flat arrays' shape (chains, ROWS).
    """
    log_vol = np.asarray(log_vol)
    chains = len(log_vol)
    stamps = hours * np.arange(chains) if stamps is None else np.asarray(stamps)
    forward = np.full(chains, FORWARD) if forward is None else np.asarray(forward)
    expiry = [(NOW + timedelta(days=days)).replace(hour=8) for days in DAYS]
    expiry_hours = np.repeat([(when - NOW).total_seconds() / 3600 for when in expiry], len(PLACES))
    years = (expiry_hours[None, :] - stamps[:, None]) / (365 * 24)
    strike = FORWARD * np.exp(0.6 * np.sqrt(expiry_hours / (365 * 24)) * np.tile(PLACES, len(DAYS)))
    k = np.log(strike[None, :] / forward[:, None])
    is_call = np.broadcast_to(strike >= FORWARD, k.shape)
    with double_precision():
        bid, ask = (
            np.array(black.price(k, np.maximum(np.exp(log_vol) + side * half_spread, 0.01) * np.sqrt(years), is_call))
            for side in (-1, 1)
        )
    unit = forward[:, None] if linear else 1.0
    bid, ask = bid * unit, ask * unit
    if standing is not None:
        for chain in range(1, chains):
            kept = standing[chain]
            bid[chain, kept], ask[chain, kept] = bid[chain - 1, kept], ask[chain - 1, kept]
    when = np.array([np.datetime64(NOW.replace(tzinfo=None), "us")] * chains) + (stamps * 3.6e9).astype("m8[us]")
    flat = {
        "ts": pa.array(np.repeat(when, ROWS), pa.timestamp("us", "UTC")),
        "ccy": [ccy] * k.size,
        "expiry": pa.array(list(np.repeat(expiry, len(PLACES))) * chains, pa.timestamp("us", "UTC")),
        "strike": np.tile(strike, chains),
        "cp": np.where(is_call, "C", "P").ravel().tolist(),
        "bid": bid.ravel(),
        "ask": ask.ravel(),
        "forward": np.repeat(forward, ROWS),
    }
    if linear:
        flat["settlement"] = ["linear"] * k.size
    return pa.table(flat | columns)


def smooth(chains):
    """ln volatility of a market at rest. Shape: (chains, ROWS)."""
    return np.tile(np.log(0.6 + 0.02 * np.square(PLACES)), (chains, len(DAYS)))


def described(*tables, seed=0) -> Description:
    read = read_quotes(list(tables))
    return describe(read, build(read), seed=seed)
