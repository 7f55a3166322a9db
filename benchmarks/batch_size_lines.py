"""What the sweep of batch sizes writes down: a line a run, and what follows from the lines of one size."""

import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.batch_size_runs import NEVER, Curve, Lane
from benchmarks.batch_size_workloads import Workload

TUNING_SEEDS, FINAL_SEEDS, FRESH_SEEDS = (100, 101), (102, 103, 104, 105), (0, 1, 2, 3, 4, 5)


@dataclass
class Sizes:
    """What is known of one size: lines by lane, kept in a file.

    best: tuned rate by target; None where no rate arrives.
    """

    lines: dict[Lane, dict[str, Any]] = field(default_factory=dict)

    def steps(self, rate: float, seeds: tuple[int, ...], target: int) -> float:
        """Mean steps over seeds of a rate; infinite where one has not arrived."""
        found = [self.lines.get(Lane(rate, seed)) for seed in seeds]
        told = [NEVER if one is None or one["steps"][target] is None else one["steps"][target] for one in found]
        return float(np.exp(np.mean(np.log(told))))

    def rates(self) -> list[float]:
        """Tried in tuning."""
        return sorted({lane.rate for lane in self.lines if lane.seed in TUNING_SEEDS})

    def best(self, target: int) -> tuple[float, float] | None:
        """Rate and its steps in tuning: of the finalists by the median over six seeds, else by the mean over two.

        A finalist that fails more than once is none.
        """
        final = (*TUNING_SEEDS, *FINAL_SEEDS)
        found = []
        for rate in self.rates():
            if all(Lane(rate, seed) in self.lines for seed in final):
                steps = sorted(self.steps(rate, (seed,), target) for seed in final)
                found.append((float(np.median(steps)) if np.isfinite(steps[-2]) else NEVER, rate))
        if not found or not np.isfinite(min(found)[0]):
            found = [(self.steps(rate, TUNING_SEEDS, target), rate) for rate in self.rates()]
        if not found or not np.isfinite(min(found)[0]):
            return None
        return min(found)[1], min(found)[0]

    def finalists(self) -> list[float]:
        """The best rate of either target on two seeds, and its neighbours."""
        rates, found = self.rates(), set()
        for target in (0, 1):
            steps = [self.steps(rate, TUNING_SEEDS, target) for rate in rates]
            if rates and np.isfinite(min(steps)):
                place = int(np.argmin(steps))
                found |= set(rates[max(place - 1, 0) : place + 2])
        return sorted(found)

    def by_seed(self, target: int, seeds: tuple[int, ...] = FRESH_SEEDS) -> dict[int, float]:
        """Steps at the tuned rate by seed; none where no rate arrives, or nothing was measured."""
        best = self.best(target)
        if best is None:
            return {}
        known = [seed for seed in seeds if self.judged(Lane(best[0], seed), {target})]
        return {seed: self.steps(best[0], (seed,), target) for seed in known}

    def judged(self, lane: Lane, targets: set[int]) -> bool:
        """Whether a run is there and counts for all these targets."""
        return lane in self.lines and targets <= set(self.lines[lane]["judged"])

    def fresh(self, target: int, seeds: tuple[int, ...] = FRESH_SEEDS) -> list[float]:
        """The same as a list."""
        return list(self.by_seed(target, seeds).values())


def read(path: Path, name: str, seconds: float = 0.0) -> dict[int, Sizes]:
    """What a file knows of a workload, by size; without runs that were given up before `seconds`."""
    found: dict[int, Sizes] = {}
    for line in path.read_text(encoding="utf-8").splitlines() if path.exists() else []:
        one = json.loads(line)
        if one["workload"] == name and (one.get("given_up_s") is None or one["given_up_s"] >= seconds):
            found.setdefault(one["clusters"], Sizes()).lines[Lane(one["rate"], one["seed"])] = one
    return found


def line_of(
    workload: Workload, clusters: int, lane: Lane, curve: Curve, rest: tuple[float, list[int], float | None]
) -> dict[str, Any]:
    """A record; of fresh seeds only the targets count for which their rate was chosen."""
    rule, judged, given_up = rest
    found = curve.crossings(workload.targets)
    steps = [one if np.isfinite(one) and place in judged else None for place, one in enumerate(found)]
    thin = np.unique(np.linspace(0, curve.steps.size - 1, min(curve.steps.size, 120)).astype(int))
    values = [float(f"{one:.5g}") if np.isfinite(one) else None for one in curve.values[thin]]
    return {
        "workload": workload.name,
        "clusters": clusters,
        "rate": lane.rate,
        "rule_rate": rule,
        "seed": lane.seed,
        "steps": steps,
        "ended": curve.ended,
        "given_up_s": given_up,
        "targets": list(workload.targets),
        "judged": judged,
        "looks": curve.steps[thin].tolist(),
        "metric": values,
    }
