"""Gradient noise scales against planted truth: bias and coverage, beside the estimators that others use.

    python -m benchmarks.noise_scale --seed 0 --json FILE [--draws N]

Every case draws the gradients of rows in clusters whose noise scale is known in closed form, many times over:

- quadratic: the noisy quadratic of Zhang et al. (2019), 1907.04164: curvatures 1/k, noise of covariance H, gradient
  H x (or, aligned, along the three largest curvatures alone); normal noise or multivariate t (one factor for
  a whole cluster, or for a row: heavy tails at their worst);
- linear: least squares of Gaussian features and errors, alike within a cluster; the noise depends on the features;
- isotropic: noise alike in all directions, also with t noise of each coordinate by itself;
- stream: autocorrelated units in the order of time; ghost: units of several clusters; pooled: four moments as one.

Rivals: rows taken for independent (per example, Gray 2411.00999, on rows); two batches (McCandlish et al. 2018, A.1)
with micro-batches of whole clusters, and of rows in random order, which straddle clusters; and the exponential average
of the latter's traces and squares over successive batches, as trainers log it.

Ratio is the average trace over the average square of the gradient, against the truth. Goals: ratio within 10 % of 1,
coverage of the 95 % interval from 90 to 98 %. A ratio that is farther off, but by less than two standard errors of the
benchmark itself, is called undecided: the signal is then too faint for so many draws.
"""

import json
import math
import os
import platform
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from time import perf_counter
from typing import Annotated, Any

import cyclopts
import numpy as np

from volgrad.learning.batching.noise_scale import NoiseScale, noise_scale, pooled

_BIAS, _COVERED = 0.10, (0.90, 0.98)
_MICRO = 8  # micro-batches in a batch
_DECAY = 0.9  # of the exponential average


@dataclass(frozen=True)
class Case:
    """A planted problem.

    kind: where gradients come from.
    clusters: in a sample.
    rows: drawn of each.
    dimension: of the gradient.
    correlation: intraclass, of the gradients of rows.
    ratio: the true noise scale over the clusters in a sample.
    tails: degrees of freedom of t noise; 0 for normal noise.
    memory: autocorrelation of neighbours in a stream.
    ghost: clusters in a unit.
    moments: samples that are pooled.
    """

    kind: str
    clusters: int
    rows: int = 8
    dimension: int = 200
    correlation: float = 0.3
    ratio: float = 1.0
    tails: int = 0
    memory: float = 0.0
    ghost: int = 1
    moments: int = 1

    @property
    def truth(self) -> float:
        """The planted noise scale, in clusters."""
        return self.ratio * self.clusters

    @property
    def name(self) -> str:
        """What tells it from the others."""
        noise = f"t({self.tails})" if self.tails else "normal"
        extra = f", memory {self.memory:g}" if self.memory else ""
        extra += f", ghosts of {self.ghost}" if self.ghost > 1 else ""
        extra += f", {self.moments} moments" if self.moments > 1 else ""
        return (
            f"{self.kind}, {noise}, {self.clusters} clusters, d {self.dimension}, "
            f"rho {self.correlation:g}, B/C {self.ratio:g}{extra}"
        )


def cases() -> list[Case]:
    """All cases."""
    some = [Case("quadratic", size, correlation=rho) for size in (32, 256) for rho in (0.0, 0.15, 0.3, 0.6)]
    some += [Case("linear", size, dimension=20, correlation=rho) for size in (64, 256) for rho in (0.0, 0.15, 0.3, 0.6)]
    some += [Case("linear", 512, rows=4, dimension=20, ratio=0.1)]
    some += [Case("quadratic", 128, ratio=ratio) for ratio in (0.1, 10.0)]
    some += [Case("aligned", size) for size in (32, 128)]
    some += [Case("isotropic", 128, dimension=5, ratio=ratio) for ratio in (0.1, 1.0, 10.0)]
    some += [Case("isotropic", 128, rows=2, dimension=1000, ratio=ratio) for ratio in (0.1, 1.0, 10.0)]
    some += [Case("isotropic", 32, rows=2, dimension=20_000, ratio=10.0)]
    for tails in (5, 4):
        some += [Case("quadratic", size, tails=tails) for size in (32, 128, 512)]
        some += [Case("isotropic", 64, dimension=200, ratio=0.1, tails=tails)]
        some += [Case("coordinates", 64, dimension=50, ratio=0.5, tails=tails)]
    some += [Case("stream", 256, rows=2, correlation=0.3, memory=memory, ratio=0.5) for memory in (0.5, 0.8)]
    some += [Case("isotropic", 256, rows=2, ghost=4), Case("isotropic", 32, moments=4, ratio=2.0)]
    return some


def spectrum(case: Case) -> tuple[np.ndarray, np.ndarray]:
    """Variance of a row's gradient in each direction, and the mean gradient, |mean|^2 being 1."""
    d, rho = case.dimension, case.correlation
    whole = case.truth / (rho + (1.0 - rho) / case.rows)
    if case.kind in {"quadratic", "aligned"}:
        curvature = 1.0 / np.arange(1, d + 1)
        mean = curvature * np.random.default_rng(7).standard_normal(d)
        if case.kind == "aligned":
            mean = (np.arange(d) < 3).astype(np.float64)
        return whole * curvature / curvature.sum(), mean / np.linalg.norm(mean)
    return np.full(d, whole / d), np.full(d, 1.0 / math.sqrt(d))


def gradients(case: Case, rng: np.random.Generator) -> np.ndarray:
    """Gradients of rows, in float64. Shape: (clusters, rows, dimension)."""
    shape = (case.clusters, case.rows, case.dimension)
    if case.kind == "linear":
        return _linear(case, rng)
    variance, mean = spectrum(case)
    shared, own = rng.standard_normal((case.clusters, 1, case.dimension)), rng.standard_normal(shape)
    if case.memory:
        for at in range(1, case.clusters):
            shared[at] = case.memory * shared[at - 1] + math.sqrt(1.0 - case.memory**2) * shared[at]
    if case.tails:
        wide = slice(None) if case.kind == "coordinates" else slice(1)
        for part in (shared, own):
            factor = rng.chisquare(case.tails, part[..., wide].shape)
            part *= np.sqrt((case.tails - 2.0) / factor)  # so that the variance is 1
    rho = case.correlation
    own *= math.sqrt(1.0 - rho)
    own += math.sqrt(rho) * shared
    own *= np.sqrt(variance)
    return own + mean


def _linear(case: Case, rng: np.random.Generator) -> np.ndarray:
    """`x (x . w + error)`: both x and the error have correlation sqrt(rho) within a cluster, the gradient rho.

    Closed form (Isserlis): a row's gradient has trace (d + 1) |w|^2 + d s^2, two of a cluster share rho of it.
    """
    d, alike = case.dimension, math.sqrt(case.correlation)
    whole = case.truth / (case.correlation + (1.0 - case.correlation) / case.rows)
    square = (whole - d - 1.0) / d
    if square < 0.0:
        raise ValueError(f"{case.name}: a linear model of {d} features has more noise than that")

    def draw(width: int) -> np.ndarray:
        shared, own = (
            rng.standard_normal((case.clusters, 1, width)),
            rng.standard_normal((case.clusters, case.rows, width)),
        )
        return math.sqrt(alike) * shared + math.sqrt(1.0 - alike) * own

    features = draw(d)
    return features * (features.mean(axis=2, keepdims=True) * math.sqrt(d) + math.sqrt(square) * draw(1))


def estimate(case: Case, rows: np.ndarray) -> NoiseScale:
    """What is measured."""
    if case.ghost > 1:
        units = rows.reshape(-1, case.ghost * case.rows, case.dimension).mean(axis=1)
        return noise_scale(units @ units.T, rows_per_cluster=case.rows, unit_clusters=case.ghost)
    halves = rows.reshape(2 * case.clusters, case.rows // 2, case.dimension).mean(axis=1)
    return noise_scale(halves @ halves.T, rows_per_cluster=case.rows, halves=True, ordered=case.memory > 0.0)


def two_batches(units: np.ndarray, weight: float) -> tuple[float, float]:
    """Trace (of one of `weight` units) and |E g|^2 from micro-batches against the whole: McCandlish et al., A.1."""
    small = units.reshape(_MICRO, -1, units.shape[-1]).mean(axis=1)
    few, many = weight / _MICRO, weight
    of_few, of_all = float((small**2).sum(axis=1).mean()), float((small.mean(axis=0) ** 2).sum())
    return (of_few - of_all) / (1.0 / few - 1.0 / many), (many * of_all - few * of_few) / (many - few)


def truth_of(case: Case) -> float:
    """The noise scale in clusters; of a stream, whose clusters are alike in time, with their memory."""
    if not case.memory:
        return case.truth
    inflation = (1.0 + case.memory) / (1.0 - case.memory)
    own = (1.0 - case.correlation) / case.rows
    return case.truth * (case.correlation * inflation + own) / (case.correlation + own)


def measure(case: Case, seed: int, draws: int) -> dict[str, Any]:
    """Bias and coverage of one case, and bias of the rivals."""
    rng = np.random.default_rng([seed, *map(ord, case.name)])
    truth, found, rivals = truth_of(case), [], {"whole": [], "straddling": []}
    per_row = []
    for _ in range(draws):
        rows = gradients(case, rng)
        samples = [estimate(case, rows)]
        samples += [estimate(case, gradients(case, rng)) for _ in range(case.moments - 1)]
        found.append(samples[0] if case.moments == 1 else pooled(samples))
        per_row.append(_rows_alone(rows) / case.rows)
        flat = rows.reshape(-1, case.dimension)
        shuffled = rng.permutation(len(flat))
        rivals["whole"].append(two_batches(rows.mean(axis=1), case.clusters))
        rivals["straddling"].append(two_batches(flat[shuffled], case.clusters))
    return _told(case, truth, found, np.array(per_row), {name: np.array(pairs) for name, pairs in rivals.items()})


def _rows_alone(rows: np.ndarray) -> np.ndarray:
    """Trace and |E g|^2 of the estimator per example, on rows: Gray (2411.00999)."""
    flat = rows.reshape(-1, rows.shape[-1])
    mean = flat.mean(axis=0)
    trace = float((flat**2).sum() - len(flat) * (mean @ mean)) / (len(flat) - 1)
    # the second entry is multiplied back, as the caller divides both: the trace of a row is that of m rows, over m
    return np.array([trace, float(mean @ mean - trace / len(flat)) * rows.shape[1]])


def _told(
    case: Case, truth: float, found: list[NoiseScale], per_row: np.ndarray, rivals: dict[str, np.ndarray]
) -> dict[str, Any]:
    parts = np.array([[one.trace, one.gradient_square] for one in found])
    ratio = parts[:, 0].mean() / parts[:, 1].mean() / truth
    error = float(np.std(parts[:, 0] / parts[:, 0].mean() - parts[:, 1] / parts[:, 1].mean())) / math.sqrt(len(found))
    above = sum(truth < one.lo for one in found) / len(found)
    below = sum(truth > one.hi for one in found) / len(found)
    covered = 1.0 - above - below
    far = abs(ratio - 1.0) > _BIAS
    undecided = far and abs(ratio - 1.0) < 2.0 * error
    missed = [f"bias {100 * (ratio - 1):+.0f} %"] if far and not undecided else []
    if not _COVERED[0] <= covered <= _COVERED[1]:
        missed.append(f"coverage {100 * covered:.1f} %")
    average = rivals["straddling"].copy()
    for at in range(1, len(average)):
        average[at] = _DECAY * average[at - 1] + (1.0 - _DECAY) * average[at]
    others = {name: pairs[:, 0].mean() / pairs[:, 1].mean() / truth for name, pairs in rivals.items()}
    others["per row"] = per_row[:, 0].mean() / per_row[:, 1].mean() / truth
    with np.errstate(divide="ignore"):
        others["averaged"] = float(np.median(average[:, 0] / average[:, 1])) / truth
    return {
        "case": case.name,
        **asdict(case),
        "truth": truth,
        "ratio": float(ratio),
        "ratio_error": error,
        "median": float(np.median([one.clusters for one in found])) / truth,
        "covered": covered,
        "lo_above": above,
        "hi_below": below,
        "significant": sum(one.significant for one in found) / len(found),
        "rivals": {name: float(value) for name, value in others.items()},
        "undecided": bool(undecided),
        "missed": missed,
    }


def table(told: list[dict[str, Any]]) -> str:
    """The figures as text."""
    head = f"{'case':72s} {'ratio':>6s} {'+-':>5s} {'median':>6s} {'cover':>6s} {'lo>':>5s} {'hi<':>5s} {'signif':>6s}"
    lines = [head + f" | {'per row':>7s} {'whole':>6s} {'straddle':>8s} {'EMA':>6s}"]
    for one in told:
        other = one["rivals"]
        lines.append(
            f"{one['case']:72s} {one['ratio']:6.2f} {one['ratio_error']:5.2f} {one['median']:6.2f} "
            f"{100 * one['covered']:6.1f} {100 * one['lo_above']:5.1f} {100 * one['hi_below']:5.1f} "
            f"{100 * one['significant']:6.0f} | {other['per row']:7.2f} {other['whole']:6.2f} "
            f"{other['straddling']:8.2f} {other['averaged']:6.2f}"
        )
    missed = [one for one in told if one["missed"]]
    lines.append(f"{len(told) - len(missed)} of {len(told)} cases reach the goals")
    lines += [
        f"bias undecided: {one['case']}: {one['ratio']:.2f} +- {one['ratio_error']:.2f}"
        for one in told
        if one["undecided"]
    ]
    lines += [f"missed: {one['case']}: {', '.join(one['missed'])}" for one in missed]
    return "\n".join(lines)


def main(
    *,
    seed: int = 0,
    draws: int = 300,
    json_file: Annotated[Path | None, cyclopts.Parameter(name="--json")] = None,
    chosen: Callable[[], list[Case]] = cases,
) -> None:
    """Measure every case and print a table.

    Args:
        seed: of all draws.
        draws: samples of each case.
        json_file: write the figures here.
        chosen: the cases.
    """
    began = perf_counter()
    told = [measure(case, seed, draws) for case in chosen()]
    report = {
        "benchmark": "noise_scale",
        "seed": seed,
        "draws": draws,
        "machine": f"{platform.machine()}, {os.cpu_count()} cores",
        "seconds": perf_counter() - began,
        "goals": {"bias": _BIAS, "covered": _COVERED},
        "cases": told,
    }
    print(table(told))
    if json_file:
        json_file.write_text(json.dumps(report, indent=1) + "\n")


if __name__ == "__main__":
    app = cyclopts.App(name="benchmarks.noise_scale", help=__doc__)
    app.default(main)
    app()
