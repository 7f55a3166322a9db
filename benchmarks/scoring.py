"""Paired comparison of two surface methods on the same held-out quotes.

    python -m benchmarks.scoring A.parquet B.parquet TEST.parquet [--bucket main] [--json FILE]

Single figures of two methods differ by sampling error that both share (a wild snapshot is wild for both), so
the methods are compared row by row and chain by chain, and the uncertainty of the *difference* is what is
told. Quotes of one snapshot move together, and so do neighbouring snapshots: the bootstrap therefore draws
whole clusters, once by snapshot time and once by day (block bootstrap; the day interval is the one to trust).
"""

import dataclasses
import importlib.util
import json
import os
from pathlib import Path
from types import ModuleType
from typing import Annotated, Any

import cyclopts
import numpy as np
import polars as pl
from jaxtyping import Float, Int

REPOSITORY = Path(__file__).resolve().parents[1]
QUOTE_KEY = ["split", "ts", "ccy", "expiry", "strike", "cp"]
CHAIN_KEY = ["ts", "ccy"]
PRICE_TOLERANCE = 1e-9  # the scorer's own: a price this far outside [bid, ask] still counts as inside
FEWEST_CLUSTERS = 8  # assumption: below this a percentile interval says nothing
COUNTS = ["rows", "inside_a", "inside_b", "both", "square_a", "square_b", "chains", "chain_gain"]


def find_scorer() -> Path | None:
    """Path of `score_surface.py`: $VOLGRAD_SCORER, else ../shared/benchmarks beside the repository."""
    named = os.environ.get("VOLGRAD_SCORER")
    path = Path(named) if named else REPOSITORY.parent / "shared" / "benchmarks" / "score_surface.py"
    return path if path.is_file() else None


def load_scorer(path: Path | None = None) -> ModuleType:
    """The scorer as a module, so that its own `metrics`, `arb` and `inverse_price` are what is applied.

    Raises:
        FileNotFoundError: no scorer at `path` or at the places `find_scorer` looks.
    """
    found = path or find_scorer()
    if found is None:
        raise FileNotFoundError(
            "no score_surface.py: set VOLGRAD_SCORER to its path, or put it in ../shared/benchmarks"
        )
    spec = importlib.util.spec_from_file_location("score_surface", found)
    if spec is None or spec.loader is None:
        raise FileNotFoundError(f"{found} cannot be imported as a Python module")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def joined(predictions: pl.DataFrame, test: pl.DataFrame) -> pl.DataFrame:
    """Test rows, in their order, with the prediction in column `iv` (fraction; NaN = no answer).

    Joined as the scorer does it: on every key column the predictions have (`split` is optional).

    Raises:
        ValueError: a key column other than `split`, or `iv`, is missing from the predictions.
    """
    missing = [c for c in [*QUOTE_KEY[1:], "iv"] if c not in predictions.columns]
    if missing:
        raise ValueError(f"predictions lack column(s) {missing}; they have {predictions.columns}")
    key = [c for c in QUOTE_KEY if c in predictions.columns]
    stamps = [pl.col(c).cast(pl.Datetime("ms", "UTC")) for c in ("ts", "expiry")]
    answers = predictions.with_columns(stamps).select(*key, pl.col("iv").cast(pl.Float64)).unique(key)
    return test.join(answers, on=key, how="left", maintain_order="left").with_columns(
        pl.col("iv").fill_null(float("nan"))
    )


def row_scores(frame: pl.DataFrame, scorer: ModuleType) -> pl.DataFrame:
    """By row: `inside` (price within [bid, ask]; no answer is a miss) and `error` (points, NaN if none)."""
    iv = frame["iv"].to_numpy()
    answered = np.isfinite(iv) & (iv > 0)
    total_deviation = np.where(answered, iv, 1.0) * np.sqrt(frame["tau_years"].to_numpy())
    sign = np.where(frame["cp"].to_numpy() == "C", 1.0, -1.0)
    price = scorer.inverse_price(frame["log_moneyness"].to_numpy(), total_deviation, sign)
    bid, ask = frame["bid"].to_numpy(), frame["ask"].to_numpy()
    inside = answered & (price >= bid - PRICE_TOLERANCE) & (price <= ask + PRICE_TOLERANCE)
    middle = 0.5 * (frame["bid_iv"].to_numpy() + frame["ask_iv"].to_numpy())
    return pl.DataFrame({"inside": inside, "error": np.where(answered, 100 * (iv - middle), np.nan)})


def chain_counts(pred_a: pl.DataFrame, pred_b: pl.DataFrame, test: pl.DataFrame, scorer: ModuleType) -> pl.DataFrame:
    """One row a (split, bucket, chain) with the sums that every statistic here is made of (columns `COUNTS`).

    `square_*` are sums of squared errors (vol points squared) over the `both` rows that both answered.
    """
    a, b = (row_scores(joined(p, test), scorer) for p in (pred_a, pred_b))
    both = a["error"].is_not_nan() & b["error"].is_not_nan()
    rows = test.select("split", "bucket", *CHAIN_KEY).with_columns(
        a["inside"].cast(pl.Float64).alias("inside_a"),
        b["inside"].cast(pl.Float64).alias("inside_b"),
        both.cast(pl.Float64).alias("both"),
        pl.when(both).then(a["error"] ** 2).otherwise(0.0).alias("square_a"),
        pl.when(both).then(b["error"] ** 2).otherwise(0.0).alias("square_b"),
    )
    sums = [pl.col(c).sum() for c in ("inside_a", "inside_b", "both", "square_a", "square_b")]
    chains = rows.group_by("split", "bucket", *CHAIN_KEY, maintain_order=True).agg(
        pl.len().cast(pl.Float64).alias("rows"), *sums
    )
    gain = (pl.col("inside_a") - pl.col("inside_b")) / pl.col("rows")
    return chains.with_columns(pl.lit(1.0).alias("chains"), gain.alias("chain_gain"))


@dataclasses.dataclass(frozen=True)
class Difference:
    """A statistic of A minus B with 95 % percentile intervals; None where there are too few clusters."""

    value: float
    by_snapshot: tuple[float, float] | None
    by_day: tuple[float, float] | None

    def text(self) -> str:
        """`+1.23 [+0.40, +2.05] day [+0.10, +2.30]`, a star where every interval is clear of 0."""
        told = [i for i in (self.by_snapshot, self.by_day) if i is not None]
        clear = bool(told) and (all(low > 0 for low, _ in told) or all(high < 0 for _, high in told))
        parts = [f"[{i[0]:+.2f}, {i[1]:+.2f}]" if i else "[too few]" for i in (self.by_snapshot, self.by_day)]
        return f"{self.value:+6.2f}{'*' if clear else ' '} {parts[0]} day {parts[1]}"


def differences(counts: Float[np.ndarray, "... counts"]) -> Float[np.ndarray, "... statistics"]:
    """Inside difference over rows and chains (percent points), RMSE difference (points), of summed `COUNTS`.

    >>> differences(np.array([10.0, 9.0, 8.0, 10.0, 40.0, 90.0, 2.0, 0.3]))
    array([10., 15., -1.])
    """
    rows, inside_a, inside_b, both, square_a, square_b, chains, gain = np.moveaxis(counts, -1, 0)
    with np.errstate(invalid="ignore", divide="ignore"):
        rmse = np.sqrt(square_a / both) - np.sqrt(square_b / both)
        return np.stack([100 * (inside_a - inside_b) / rows, 100 * gain / chains, rmse], -1)


def bootstrap(
    counts: Float[np.ndarray, "chains counts"], cluster: Int[np.ndarray, " chains"], draws: int, seed: int
) -> Float[np.ndarray, "2 statistics"] | None:
    """95 % percentile interval of `differences` when whole clusters of chains are drawn with replacement.

    Returns None with fewer than `FEWEST_CLUSTERS` clusters. Source: cluster bootstrap, Davison & Hinkley
    (1997), section 3.8 (paper).
    """
    labels, member = np.unique(cluster, return_inverse=True)
    if len(labels) < FEWEST_CLUSTERS:
        return None
    totals = np.zeros((len(labels), counts.shape[1]))
    np.add.at(totals, member, counts)
    chance = np.full(len(labels), 1.0 / len(labels))
    weights = np.random.default_rng(seed).multinomial(len(labels), chance, size=draws)
    return np.nanquantile(differences(weights @ totals), [0.025, 0.975], axis=0)


def compare(chains: pl.DataFrame, draws: int, seed: int) -> dict[str, Any]:
    """The paired figures of one (split, bucket) from its `chain_counts` rows."""
    counts = chains.select(COUNTS).to_numpy()
    snapshot = chains["ts"].dt.epoch("ms").to_numpy()
    intervals = [bootstrap(counts, c, draws, seed) for c in (snapshot, snapshot // 86_400_000)]
    total = counts.sum(0)

    def difference(i: int) -> Difference:
        low_high = [None if v is None else (float(v[0, i]), float(v[1, i])) for v in intervals]
        return Difference(float(differences(total)[i]), low_high[0], low_high[1])

    named = dict(zip(COUNTS, total, strict=True))
    gain = chains["chain_gain"].to_numpy()
    return {
        "chains": int(named["chains"]),
        "rows": int(named["rows"]),
        "inside_a": 100 * named["inside_a"] / named["rows"],
        "inside_b": 100 * named["inside_b"] / named["rows"],
        "rmse_a": float(np.sqrt(named["square_a"] / max(named["both"], 1))),
        "rmse_b": float(np.sqrt(named["square_b"] / max(named["both"], 1))),
        "answered_by_both": named["both"] / named["rows"],
        "inside": dataclasses.asdict(difference(0)),
        "inside_by_chain": dataclasses.asdict(difference(1)),
        "rmse": dataclasses.asdict(difference(2)),
        "chains_a_better": int((gain > 0).sum()),
        "chains_b_better": int((gain < 0).sum()),
    }


def paired(
    pred_a: pl.DataFrame,
    pred_b: pl.DataFrame,
    test: pl.DataFrame,
    scorer: ModuleType | None = None,
    draws: int = 4000,
    seed: int = 0,
) -> dict[str, dict[str, Any]]:
    """Paired differences A minus B, keyed `bucket/split`.

    Inside shares in percent, errors in vol points; `inside` weighs chains by their rows, `inside_by_chain`
    all alike; `rmse` is over rows that both answered; each with the intervals of `Difference`.

    Args:
        pred_a: scorer prediction columns (ts, ccy, expiry, strike, cp, iv as a fraction; split optional).
        pred_b: the same of the other method.
        test: the scorer's `test.parquet`, whole or filtered to what shall be compared.
    """
    chains = chain_counts(pred_a, pred_b, test, scorer or load_scorer())
    groups = chains.sort("bucket", "split", "ts", "ccy").group_by(["bucket", "split"], maintain_order=True)
    return {f"{bucket}/{split}": compare(rows, draws, seed) for (bucket, split), rows in groups}


def table(result: dict[str, dict[str, Any]]) -> str:
    """The result of `paired` as lines of text."""
    titles = ("A in", "B in", "A rmse", "B rmse")
    lines = [f"{'bucket/split':14s}{'chains':>7s}{'rows':>8s}" + "".join(f"{t:>8s}" for t in titles) + "  better:worse"]
    for name, r in result.items():
        lines.append(
            f"{name:14s}{r['chains']:7d}{r['rows']:8d}{r['inside_a']:8.2f}{r['inside_b']:8.2f}"
            f"{r['rmse_a']:8.3f}{r['rmse_b']:8.3f}  {r['chains_a_better']}:{r['chains_b_better']}"
        )
        for key, label in (
            ("inside", "inside, rows"),
            ("inside_by_chain", "inside, chains"),
            ("rmse", "rmse"),
        ):
            lines.append(f"    A-B {label:15s} {Difference(**r[key]).text()}")
    return "\n".join(lines)


@cyclopts.Parameter(name="*")
@dataclasses.dataclass(frozen=True)
class Selection:
    """Which test rows are compared.

    Attributes:
        bucket: `main`, `short` or `all`.
        month: only this month (2026-05).
        ccy: only this currency.
        common: only chains that both have rows for (else a missing chain is a miss).
    """

    bucket: str = "main"
    month: str | None = None
    ccy: str | None = None
    common: bool = False


def select(test: pl.DataFrame, predictions: list[pl.DataFrame], selection: Selection) -> pl.DataFrame:
    """The test rows of the selection, with column `month`, in splits that every prediction speaks of."""
    rows = test.with_columns(pl.col("ts").dt.strftime("%Y-%m").alias("month"))
    bucket = None if selection.bucket == "all" else selection.bucket
    for column, wanted in (("bucket", bucket), ("month", selection.month), ("ccy", selection.ccy)):
        rows = rows if wanted is None else rows.filter(pl.col(column) == wanted)
    for table_ in predictions:
        key = [c for c in (["split", *CHAIN_KEY] if selection.common else ["split"]) if c in table_.columns]
        stamp = pl.col("ts").cast(pl.Datetime("ms", "UTC"))
        rows = rows.join(table_.with_columns(stamp).select(key).unique(), on=key, how="semi") if key else rows
    return rows


def main(
    a: Path,
    b: Path,
    test: Path,
    *,
    selection: Selection | None = None,
    by_month: bool = False,
    seed: int = 0,
    draws: int = 4000,
    json_file: Annotated[Path | None, cyclopts.Parameter(name="--json")] = None,
) -> None:
    """Print paired differences A minus B with 95 % intervals, by split.

    Args:
        a: predictions of method A (parquet).
        b: predictions of method B.
        test: the scorer's test.parquet.
        selection: which test rows are compared.
        by_month: every month apart as well.
        seed: of the bootstrap.
        draws: of the bootstrap.
        json_file: write the figures here.
    """
    pred_a, pred_b, scorer = pl.read_parquet(a), pl.read_parquet(b), load_scorer()
    rows = select(pl.read_parquet(test), [pred_a, pred_b], selection or Selection())
    parts = {"all": rows}
    if by_month:
        parts |= {str(month): part for (month,), part in rows.sort("month").group_by(["month"], maintain_order=True)}
    result = {name: paired(pred_a, pred_b, part, scorer, draws, seed) for name, part in parts.items()}
    for name, figures in result.items():
        print(f"{name}: A = {a}, B = {b}\n{table(figures)}")
    if json_file:
        json_file.write_text(json.dumps(result, indent=1) + "\n")


if __name__ == "__main__":
    app = cyclopts.App(name="benchmarks.scoring", help=__doc__)
    app.default(main)
    app()
