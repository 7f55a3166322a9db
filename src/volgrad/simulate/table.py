"""Blocks of a simulated exchange as Arrow tables: quotes in the canonical columns, and the truth."""

import numpy as np
import pyarrow as pa
from jaxtyping import Float

from volgrad.market.instruments import InverseOption
from volgrad.simulate.exchange import Block
from volgrad.simulate.listing import expiry_kind
from volgrad.simulate.surface import Smiles
from volgrad.simulate.truth import essvi_variance, mixed

__all__ = ["CHAIN_SCHEMA", "CHANGE_SCHEMA", "TRUTH_SCHEMA", "quote_table", "truth_table"]

STAMP = pa.timestamp("us", tz="UTC")
_TEXT = pa.dictionary(pa.int32(), pa.string())
_NUMBERS = (
    "bid", "ask", "underlying", "mark", "mark_iv", "bid_iv", "ask_iv", "bid_size", "ask_size", "oi",
)  # fmt: skip
_QUOTES = pa.schema(
    [
        ("ts", STAMP),
        ("cycle", STAMP),
        ("sequence", pa.int64()),
        ("ccy", _TEXT),
        ("expiry", STAMP),
        ("strike", pa.float64()),
        ("cp", _TEXT),
        *((name, pa.float64()) for name in _NUMBERS),
        ("underlying_index", _TEXT),
    ]
)
#: Columns of whole chains: `ts` is the time at which a quote was made, `cycle` the chain's.
CHAIN_SCHEMA = pa.schema([field for field in _QUOTES if field.name != "sequence"])
#: Columns of changes: `ts` is the change's time, `sequence` its number.
CHANGE_SCHEMA = pa.schema([field for field in _QUOTES if field.name != "cycle"])
TRUTH_SCHEMA = pa.schema(
    [
        ("ts", STAMP),
        ("ccy", _TEXT),
        ("tau_years", pa.float64()),
        ("k", pa.float64()),
        ("iv", pa.float64()),
        ("expiry", STAMP),
        ("forward", pa.float64()),
    ]
)
#: Where the truth is told: log-moneyness in ATM standard deviations.
TRUTH_REACH = np.array([-4.0, -3.0, -2.25, -1.6, -1.1, -0.7, -0.35, 0.0, 0.35, 0.7, 1.1, 1.6, 2.25, 3.0, 4.0])


def quote_table(block: Block, ccy: str, schema: pa.Schema | None = None, first: int = 0) -> pa.Table:
    """The rows of a block in canonical columns.

    Args:
        block: of one underlying.
        ccy: its code.
        schema: `CHAIN_SCHEMA` or `CHANGE_SCHEMA`; None: chains without `cycle`, `ts` being the chain's.
        first: number of the first row, for `sequence`.
    """
    columns, contracts = block.columns, block.contracts
    rows, expiry_index = block.row.size, contracts.expiry_index[block.row]
    stamps = block.path.ts_us[block.tick]
    names = pa.array([_index_name(ccy, expiry) for expiry in contracts.expiry_us.tolist()])
    made: dict[str, pa.Array] = {
        "ts": pa.array(columns["ts_us"] if schema is CHAIN_SCHEMA else stamps).cast(STAMP),
        "cycle": pa.array(stamps).cast(STAMP),
        "sequence": pa.array(np.arange(first, first + rows)),
        "ccy": _coded([ccy], np.zeros(rows, np.int32)),
        "expiry": pa.array(contracts.expiry_us[expiry_index]).cast(STAMP),
        "strike": pa.array(contracts.strike_usd[block.row]),
        "cp": _coded(["P", "C"], contracts.is_call[block.row].astype(np.int32)),
        **{name: pa.array(columns[name], from_pandas=name in ("bid", "ask")) for name in _NUMBERS},
        "underlying_index": pa.DictionaryArray.from_arrays(pa.array(expiry_index.astype(np.int32)), names),
    }
    kept = schema or pa.schema([field for field in _QUOTES if field.name not in ("cycle", "sequence")])
    return pa.table([made[name] for name in kept.names], schema=kept)


def truth_table(block: Block, ccy: str, ticks: np.ndarray) -> pa.Table:
    """True volatilities (fractions) of every expiry at some moments of a block.

    At `TRUTH_REACH` ATM standard deviations from the money; `forward` is the true one.
    """
    expiries = block.contracts.expiry_us.size
    cell = (ticks[:, None] * expiries + np.arange(expiries)).ravel()
    theta, years = block.theta.ravel()[cell], block.years.ravel()[cell]
    k = np.multiply.outer(np.sqrt(theta), TRUTH_REACH)
    deviation = _deviation(block.smiles, cell, k)
    each = TRUTH_REACH.size
    made = {
        "ts": pa.array(np.repeat(block.path.ts_us[ticks], expiries * each)).cast(STAMP),
        "ccy": _coded([ccy], np.zeros(k.size, np.int32)),
        "tau_years": pa.array(np.repeat(years, each)),
        "k": pa.array(k.ravel()),
        "iv": pa.array((deviation / np.sqrt(years)[:, None]).ravel()),
        "expiry": pa.array(np.repeat(np.tile(block.contracts.expiry_us, ticks.size), each)).cast(STAMP),
        "forward": pa.array(np.repeat(block.forward_usd.ravel()[cell], each)),
    }
    return pa.table([made[name] for name in TRUTH_SCHEMA.names], schema=TRUTH_SCHEMA)


def _deviation(smiles: Smiles, cell: np.ndarray, k: Float[np.ndarray, "cells places"]) -> np.ndarray:
    theta, phi, rho = (column.reshape(2, -1)[:, cell, None] for column in smiles[:3])
    calm, wild = np.sqrt(essvi_variance(k, theta, phi, rho))
    weight = np.repeat(smiles.wild_weight, smiles.theta.shape[2])[cell, None]
    return mixed(np.abs(k), calm, wild, weight)[1]


def _coded(values: list[str], codes: np.ndarray) -> pa.DictionaryArray:
    return pa.DictionaryArray.from_arrays(pa.array(codes), pa.array(values))


def _index_name(ccy: str, expiry_us: int) -> str:
    """Listed futures exist for monthly and quarterly expiries; the others have a synthetic forward."""
    option = InverseOption(base=ccy, expiry_us=expiry_us, strike_usd=1.0, is_call=True)
    future = option.name.rsplit("-", 2)[0]
    return future if expiry_kind(expiry_us) in ("monthly", "quarterly") else f"SYN.{future}"
