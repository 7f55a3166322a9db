"""Regret of the chosen batch size, beside the sizes that others take, on workloads of many kinds.

    python -m benchmarks.batch_size --seed 0 --json FILE [--workloads a,b] [--held-back] [--folder FOLDER] [--retime]

Time to target is steps to target (`benchmarks.batch_size_sweep`) times the median seconds of a step, measured here:
the compiled dispatch of the trainer, sizes taking turns, compilation apart; batches are loaded meanwhile, so a step
takes the longer of the two. Both targets of a workload count as a case. The best size is found on six seeds, and it
and every size that a method names are measured again on twelve fresh ones: regret is the time over that of the best
size, seed by seed, the median of it less 1; it may be negative.

size regret: of the size that volgrad's chooser names, the learning rate tuned for every size, its own too.
end-to-end regret: of a whole run as a user starts it, the chooser's probes included.

Work is kept in the folder, and what is there is not done again. Run it on a quiet machine, or with `--retime` later.
"""

import json
import os
import platform
import statistics
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any, NamedTuple

import cyclopts
import numpy as np

from benchmarks import batch_size_rivals as rivals
from benchmarks import batch_size_workloads as catalogue
from benchmarks import chains as sources
from benchmarks.batch_size_clock import Seconds, step_seconds
from benchmarks.batch_size_report import OURS, show, summary
from benchmarks.batch_size_sweep import FRESH_SEEDS, NEVER, TARGETS, Sizes, Sweep, fit_steps, sweep, with_targets
from benchmarks.batch_size_workloads import Workload

AGAIN_SEEDS = tuple(range(10, 22))
NEAR = 4  # factor around the best size within which every power of two is swept
BUDGET = 2.0  # of a run that chooses for itself, in what the customary batch needs


class Plan(NamedTuple):
    """What a user knows beforehand who knows the customary batch.

    rate: its best learning rate.
    samples: twice what it needs for the target at that rate.
    """

    rate: float
    samples: int


class Settings(NamedTuple):
    """Of a benchmark.

    seed: of timings and noise.
    seconds: that runs of one size may take together; 0: what is not known stays so.
    choosers: how many seeds volgrad's chooser is run with; 0: not at all.
    """

    seed: int
    seconds: float
    choosers: int


def chosen_sizes(workload: Workload, plan: Plan, seeds: tuple[int, ...]) -> list[int]:
    """Clusters that volgrad's chooser names, by seed."""
    from benchmarks import batch_size_auto

    return [batch_size_auto.decide(workload, plan.rate, plan.samples, seed).clusters for seed in seeds]


def auto_runs(workload: Workload, target: int, plan: Plan, seeds: tuple[int, ...]) -> list[Any]:
    """Runs as a user starts them, to a target: steps by size and seconds of probing, by seed."""
    from benchmarks import batch_size_auto

    value = workload.targets[target]
    return [batch_size_auto.auto_run(workload, value, plan.rate, plan.samples, seed) for seed in seeds]


class Kept:
    """A file of results by workload, so that what was done is not done again."""

    def __init__(self, path: Path) -> None:
        """Read it where it is there."""
        self._path = path
        self._found: dict[str, Any] = json.loads(path.read_text()) if path.exists() else {}

    def get(self, name: str, make: Callable[[], Any]) -> Any:
        """What is kept of a workload, made where nothing is."""
        if name not in self._found:
            self._found[name] = make()
            self._path.write_text(json.dumps(self._found, indent=1) + "\n")
        return self._found[name]


def typical(steps: list[float]) -> float:
    """Geometric mean over seeds; where runs never arrive, their median, those counted as infinite."""
    if not steps:
        return NEVER
    return float(np.exp(np.mean(np.log(steps)))) if np.isfinite(steps).all() else float(np.median(steps))


def paired(one: dict[int, float], other: dict[int, float]) -> float:
    """Median over common seeds of the ratio of steps: starts differ far more than sizes do.

    >>> paired({1: 10.0, 2: 40.0, 3: NEVER}, {1: 5.0, 2: 20.0, 3: 7.0})
    2.0
    """
    seeds = [seed for seed in one if seed in other]
    ratios = [one[seed] / other[seed] if np.isfinite(other[seed]) else float(np.isinf(one[seed])) for seed in seeds]
    return float(np.median(ratios)) if ratios else NEVER


def best_size(times: dict[int, float]) -> int:
    """The size of least time; the smallest where none arrives."""
    return min(times, key=lambda size: (times[size], size))


def near_best(sizes: list[int], best: int) -> list[int]:
    """The rungs within a factor of four.

    >>> near_best([1, 2, 4, 8, 16, 32, 64], 8)
    [2, 4, 8, 16, 32]
    """
    return [size for size in sizes if 1.0 / NEAR <= size / best <= NEAR]


class Judge:
    """What is found of one workload: swept, timed and compared, each as far as it is not done."""

    def __init__(self, workload: Workload, folder: Path, settings: Settings) -> None:
        """Time, sweep the coarse ladder, and measure the noise."""
        self.workload, self.folder, self.settings = workload, folder, settings
        self.timing = self._timing()
        if settings.seconds:
            sweep(workload, folder, settings.seconds)
        self.found = Sweep(workload, folder, settings.seconds)
        self.noise = self._noise()

    def report(self) -> dict[str, Any]:
        """Both targets, and what the rules were told."""
        workload, seconds = self.workload, {size: one.step for size, one in self.timing.items()}
        plans = {target: self.plan(target) for target in (0, 1)}
        known = rivals.Known(
            workload.sizes(), seconds, workload.rows, workload.clusters, plans[1].rate, workload.optimizer, self.noise
        )
        picks = {name: [size] for name, size in rivals.choices(known).items() if size is not None}
        seeds = AGAIN_SEEDS[: self.settings.choosers]
        by_target = {
            target: ({OURS: chosen_sizes(workload, plan, seeds)} if seeds else {}) | picks
            for target, plan in plans.items()
        }
        self._sweep_around({size for one in by_target.values() for sizes in one.values() for size in sizes})
        scale = rivals.noise_scale(*(float(np.mean([one[place] for one in self.noise])) for place in (0, 1)))
        return {
            "workload": workload.name,
            "optimizer": workload.optimizer,
            "train": len(workload.train),
            "rows_per_cluster": workload.rows,
            "customary": workload.clusters,
            "held_back": workload.held_back,
            "noise_scale": scale,
            "seconds": seconds,
            "cases": [self._case(target, by_target[target], plans[target], seeds) for target in (0, 1)],
        }

    def plan(self, target: int) -> Plan:
        """The customary size's best rate, from the nearest size that arrives, and a budget."""
        workload, known = self.workload, self.found.sizes
        arrived = {size: best for size, one in known.items() if (best := one.best(target)) is not None}
        if not arrived:
            return Plan(workload.learning_rate, workload.budget)
        near = min(arrived, key=lambda size: abs(np.log(size / workload.clusters)))
        rate, steps = arrived[near]
        moved = workload.learning_rate / float(workload.optimizer_at(near).hyper.learning_rate)
        return Plan(rate * moved, int(BUDGET * steps * near))

    def times(self, target: int, seeds: tuple[int, ...]) -> dict[int, float]:
        """Seconds to a target by size, compilation apart."""
        return {
            size: typical(steps) * self.timing[size].step
            for size, one in sorted(self.found.sizes.items())
            if size in self.timing and (steps := _fresh(one, target, seeds))
        }

    def _timing(self) -> dict[int, Seconds]:
        workload = self.workload

        def make() -> dict[str, Any]:
            made = step_seconds(workload, workload.sizes(), self.settings.seed)
            return {str(size): one._asdict() for size, one in made.items()}

        told = Kept(self.folder / "timing.json").get(workload.name, make)
        return {int(size): Seconds(**one) for size, one in told.items()}

    def _noise(self) -> list[rivals.Noise]:
        def make() -> list[dict[str, float]]:
            plan = self.plan(1)
            steps = int(plan.samples / BUDGET / self.workload.clusters)
            noise = rivals.measured_noise(self.workload, plan.rate, steps, self.settings.seed + 1000)
            return [one._asdict() for one in noise]

        return [rivals.Noise(**one) for one in Kept(self.folder / "noise.json").get(self.workload.name, make)]

    def _sweep_around(self, picks: set[int]) -> None:
        """Sizes that a method names, and those near the best, until the best has all its neighbours."""
        if not self.settings.seconds:
            return
        for _ in range(4):
            wanted = set(picks)
            for target in (0, 1):
                wanted |= set(near_best(self.workload.sizes(), best_size(self.times(target, FRESH_SEEDS))))
            if wanted <= self.found.sizes.keys():
                break
            sweep(self.workload, self.folder, self.settings.seconds, sorted(wanted))
            self.found = Sweep(self.workload, self.folder, self.settings.seconds)

    def _case(self, target: int, picks: dict[str, list[int]], plan: Plan, seeds: tuple[int, ...]) -> dict[str, Any]:
        first, known = self.times(target, FRESH_SEEDS), self.found.sizes
        best = best_size(first)
        if self.settings.seconds:
            for size in sorted({best, *(size for sizes in picks.values() for size in sizes)}):
                self.found.measure(size, AGAIN_SEEDS)
        again = self.times(target, AGAIN_SEEDS)
        steps = {size: typical(_fresh(one, target, FRESH_SEEDS)) for size, one in sorted(known.items())}
        level, scale = fit_steps(np.array(list(steps)), np.array(list(steps.values())))
        runs = auto_runs(self.workload, target, plan, seeds) if seeds else []
        return {
            "target": TARGETS[target],
            "value": self.workload.targets[target],
            "picks": {name: int(statistics.median_low(sizes)) for name, sizes in picks.items()},
            "chosen": picks.get(OURS, []),
            "steps": steps,
            "failed": {size: _failed(one, target) for size, one in sorted(known.items())},
            "rates": {size: (one.best(target) or (None,))[0] for size, one in sorted(known.items())},
            "s_min": level,
            "b_c": scale,
            "times": first,
            "best": best,
            "again": again,
            "regret": {
                name: statistics.median(self._regret(size, best, target) for size in sizes)
                for name, sizes in picks.items()
            },
            "end_to_end": [
                self._end_to_end(run, self._again(best, target).get(seed, NEVER) * self.timing[best].step)
                for seed, run in zip(seeds, runs, strict=True)
            ],
        }

    def _regret(self, size: int, best: int, target: int) -> float:
        """Time at a size over that at another, less 1, by the second set of seeds."""
        own, least = (self._again(one, target) for one in (size, best))
        return paired(own, least) * self.timing[size].step / self.timing[best].step - 1.0

    def _again(self, size: int, target: int) -> dict[int, float]:
        return self.found.sizes.get(size, Sizes()).by_seed(target, AGAIN_SEEDS)

    def _end_to_end(self, run: Any, least: float) -> dict[str, Any]:
        """A run that chose for itself: its steps at the measured seconds, and its probes.

        Args:
            run: an `AutoRun`.
            least: seconds of the best size with the same seed, and so the same start.
        """
        seconds = NEVER
        if run.steps:
            seconds = sum(count * self.timing[size].step for size, count in run.steps.items())
        whole = seconds + run.probe_s
        return {"steps": run.steps, "seconds": seconds, "probe_s": run.probe_s, "regret": regret(whole, least)}


def _fresh(one: Sizes, target: int, seeds: tuple[int, ...]) -> list[float]:
    """Steps of fresh seeds; never where no rate arrived in tuning."""
    return one.fresh(target, seeds) if one.best(target) is not None else [NEVER]


def _failed(one: Sizes, target: int) -> str:
    steps = _fresh(one, target, FRESH_SEEDS)
    return f"{sum(not np.isfinite(value) for value in steps)} of {len(steps)}"


def regret(seconds: float, least: float) -> float:
    """Time over the best size's, less 1; infinite where the target was not reached.

    >>> regret(3.0, 2.0)
    0.5
    """
    return seconds / least - 1.0 if np.isfinite(seconds) and np.isfinite(least) else NEVER


def main(
    *,
    seed: int = 0,
    json_file: Annotated[Path | None, cyclopts.Parameter(name="--json")] = None,
    workloads: str = "",
    held_back: bool = False,
    folder: Path | None = None,
    retime: bool = False,
    choosers: int = 5,
    seconds: float = 60.0,
) -> None:
    """Judge sizes and print the tables.

    Args:
        seed: of timings and of noise; those of runs are fixed.
        json_file: write the figures here.
        workloads: comma-separated; all where empty.
        held_back: run those that were held back, and no others.
        folder: where work is kept [a folder of the temporary one].
        retime: measure the seconds of steps anew.
        choosers: how many seeds volgrad's chooser is run with, 12 at most; 0: the others only.
        seconds: of the processor, after which runs of one size, all together, are given up; 0: run nothing more.
    """
    sources.on_one_thread("benchmarks.batch_size")
    from volgrad import runtime

    runtime.use_double_precision()
    place = folder or Path(tempfile.gettempdir()) / "volgrad-batch-size" / "sweep"
    place.mkdir(parents=True, exist_ok=True)
    if retime:
        (place / "timing.json").unlink(missing_ok=True)
    settings = Settings(seed, seconds, choosers)
    registry = catalogue.HELD_BACK if held_back else catalogue.DEVELOPMENT
    told, skipped = [], {}
    for name in [one for one in workloads.split(",") if one] or list(registry):
        try:
            workload = catalogue.make(name)
        except catalogue.UnavailableError as reason:
            skipped[name] = str(reason)
            print(f"{name}: skipped, {reason}")
            continue
        if workload.held_back and not held_back:
            raise SystemExit(f"{name} is held back: give --held-back once the policy is frozen")
        told.append(Judge(with_targets(workload, place), place, settings).report())
        _write(json_file, seed, told, skipped)  # what is known so far
    show(told, summary(told))
    _write(json_file, seed, told, skipped)


def _write(file: Path | None, seed: int, told: list[dict[str, Any]], skipped: dict[str, str]) -> None:
    if file is None:
        return
    report = {
        "benchmark": "batch_size",
        "seed": seed,
        "machine": f"{platform.machine()}, {os.cpu_count()} cores, one thread",
        "workloads": told,
        "summary": summary(told),
        "skipped": skipped,
    }
    file.write_text(json.dumps(report, indent=1) + "\n")


if __name__ == "__main__":
    app = cyclopts.App(name="benchmarks.batch_size", help=__doc__)
    app.default(main)
    sys.exit(app())
