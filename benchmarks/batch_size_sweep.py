"""Steps to a target by batch size, learning rate and seed: the half of the benchmark that needs no clock.

    python -m benchmarks.batch_size_sweep --folder FOLDER [--workloads a,b] [--held-back]

For every size the learning rate is tuned on two seeds, around what the customary rules give and on until the best is
no edge; the best and its neighbours then run on four seeds more. The best of these is measured on six fresh ones. Sizes
a factor of four apart come first, then the powers of two around the best. Runs of one size and several rates and seeds
are one compiled program; it stops when no further step can change the result. Each finished run is a line of
`FOLDER/WORKLOAD.jsonl`; what is there is not run again.

The validation metric is looked at on steps that ascend geometrically; it is smoothed by the median over a tenth of
the steps to either side and crosses a target where the line between two looks does, in logarithms.
"""

import json
import sys
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import cyclopts
import numpy as np

from benchmarks import batch_size_workloads as catalogue
from benchmarks import chains as sources
from benchmarks.batch_size_lines import FINAL_SEEDS, FRESH_SEEDS, TUNING_SEEDS, Sizes, line_of, read
from benchmarks.batch_size_runs import NEVER, WINDOW, Curve, Lane, Runner, fit_steps, looks, rounded, smoothed
from benchmarks.batch_size_workloads import Workload

__all__ = ["FRESH_SEEDS", "NEVER", "TARGETS", "Sizes", "Sweep", "coarse", "fit_steps", "read", "sweep", "with_targets"]

SCALES = (0.5, 1.0, 2.0)  # of the rule's rate (of the neighbouring size's best, once that is known)
MOST_SCALE = 64.0  # the grid is not extended beyond this and its inverse
PILOT_SCALES, PILOT_SEED, PILOT_SHARES = (0.25, 0.5, 1.0, 2.0, 4.0), 200, (1.0 / 7.0, 0.6)
LANES, CHEAP_S = 6, 4.0  # lanes of a program; more of them than are needed, where the last run was so cheap
FINAL = 2.0  # how much longer than the best so far finalists may run
SLACK = 1.15  # how much longer than the first rate that has arrived the others may run
TARGETS = ("easy", "hard")


class Sweep:
    """The search over sizes and rates of one workload, continued where its file ends."""

    def __init__(self, workload: Workload, folder: Path, seconds: float) -> None:
        """Read what is known.

        Args:
            workload: what is trained.
            folder: of the lines.
            seconds: most of the processor's that all lanes of a size may take together, compilation apart.
        """
        self.workload, self.seconds = workload, seconds
        self.path = folder / f"{workload.name}.jsonl"
        self.sizes = read(self.path, workload.name, seconds)
        self._runner: Runner | None = None

    def tune(self, clusters: int, centre: float) -> None:
        """Rates around `centre` times the rule's until the best is no edge, for both targets."""
        runner, known = self._at(clusters), self.sizes.setdefault(clusters, Sizes())
        wanted = sorted(centre * scale for scale in SCALES)
        while True:
            missing = [rounded(runner.rule_rate * one) for one in wanted]
            missing = [one for one in missing if not any(abs(one / rate - 1.0) < 1e-3 for rate in known.rates())]
            if missing:
                self._run(clusters, missing, TUNING_SEEDS, self._tuned(known), [0, 1], (1, 1.08))
            if known.best(1) is None and any(line.get("given_up_s") for line in known.lines.values()):
                return  # too slow to be of interest
            scales = sorted(rate / runner.rule_rate for rate in known.rates())
            wanted = beyond(scales, [known.best(target) for target in (0, 1)], runner.rule_rate)
            wanted = [one for one in wanted if 1.0 / MOST_SCALE <= one <= MOST_SCALE]
            if not wanted:
                break
        rates = [rate for rate in known.finalists() if Lane(rate, FINAL_SEEDS[-1]) not in known.lines]
        if rates and (best := known.best(1) or known.best(0)):
            self._run(clusters, rates, FINAL_SEEDS, self._arrived(1, FINAL * best[1]), [0, 1], (1, 1.05))

    def measure(self, clusters: int, seeds: tuple[int, ...] = FRESH_SEEDS) -> None:
        """Fresh seeds at the best rates."""
        known = self.sizes[clusters]
        best = {target: found for target in (0, 1) if (found := known.best(target)) is not None}
        for rate in sorted({one[0] for one in best.values()}):
            which = [target for target, one in best.items() if one[0] == rate]
            missing = tuple(seed for seed in seeds if not known.judged(Lane(rate, seed), set(which)))
            first = 0.4 * min(best[target][1] for target in which)
            most = 4.0 * max(best[target][1] for target in which)
            if missing:
                self._run(clusters, [rate], missing, self._arrived(max(which), most), which, (max(1, int(first)), 1.03))

    def _at(self, clusters: int) -> Runner:
        if self._runner is None or self._runner.clusters != clusters:
            self._runner = Runner(self.workload, clusters)
        return self._runner

    def _tuned(self, known: Sizes) -> Any:
        """Stop when a rate has arrived with all seeds at the hard target, and the others cannot be better."""
        before = known.best(1)
        least = NEVER if before is None else before[1]

        def stop(curves: dict[Lane, Curve]) -> bool:
            at = next(iter(curves.values())).ended
            rates = {lane.rate for lane in curves}
            arrived = [least]
            for rate in rates:
                mine = [one for lane, one in curves.items() if lane.rate == rate]
                arrived.append(max(one.crossings(self.workload.targets)[1] for one in mine))
            lost = all(not np.isfinite(one.values[-1]) for one in curves.values())
            return at >= SLACK * min(arrived) or lost

        return stop

    def _arrived(self, target: int, most: float) -> Any:
        def stop(curves: dict[Lane, Curve]) -> bool:
            at = next(iter(curves.values())).ended
            last = max(one.crossings(self.workload.targets)[target] for one in curves.values())
            return at >= WINDOW * last or at >= most

        return stop

    def _run(
        self,
        clusters: int,
        rates: list[float],
        seeds: tuple[int, ...],
        stop: Any,
        judged: list[int],
        grid: tuple[int, float],
    ) -> None:
        """Run, keep and tell; `grid` is the first look and the ratio of the following ones."""
        workload, runner = self.workload, self._at(clusters)
        most = max(32, workload.budget // clusters)
        lanes = [Lane(rate, seed) for seed in seeds for rate in rates]
        lines, spent = [], 0.0
        for first in range(0, len(lanes), LANES):  # one program serves them all
            began: list[float] = []  # once all is compiled; of this process, so that others do not count
            finished: list[bool] = []

            def done(curves: dict[Lane, Curve], began: list[float] = began, finished: list[bool] = finished) -> bool:
                began.append(time.process_time())
                finished.append(stop(curves))
                return finished[-1] or began[-1] - began[0] > self.seconds

            places = LANES if runner.spent < CHEAP_S else 0
            curves = runner.run(lanes[first : first + LANES], looks(*grid, most), done, places)
            runner.spent = began[-1] - began[0]
            spent += runner.spent
            given_up = None if finished[-1] or runner.spent <= self.seconds else self.seconds
            rest = runner.rule_rate, judged, given_up
            lines += [line_of(workload, clusters, lane, curve, rest) for lane, curve in curves.items()]
        with self.path.open("a", encoding="utf-8") as file:
            for line in lines:
                file.write(json.dumps(line) + "\n")
        for line in lines:
            self.sizes[clusters].lines[Lane(line["rate"], line["seed"])] = line
        told = "; ".join(
            f"{rate:g}: " + " ".join(f"{self.sizes[clusters].steps(rate, seeds, t):.0f}" for t in (0, 1))
            for rate in rates
        )
        print(f"{workload.name} {clusters} x{len(lines)} {spent:.1f}s  {told}", flush=True)


def beyond(scales: list[float], best: list[tuple[float, float] | None], rule: float) -> list[float]:
    """Scales still to try: next to the best of each target where that is an edge; lower ones where none arrives.

    >>> beyond([0.5, 1.0, 2.0], [(2.0, 10.0), (1.0, 50.0)], 1.0)
    [4.0]
    """
    found = set()
    for one in best:
        if one is None:
            found |= {scales[0] / 2.0, scales[-1] * 2.0}
        elif abs(one[0] / rule / scales[0] - 1.0) < 1e-3:
            found.add(scales[0] / 2.0)
        elif abs(one[0] / rule / scales[-1] - 1.0) < 1e-3:
            found.add(scales[-1] * 2.0)
    return sorted(found)


# --------------------------------------------------------------------------------------------------------------- driver


def coarse(sizes: list[int]) -> list[int]:
    """Every second size, and the last.

    >>> coarse([1, 2, 4, 8, 16, 32])
    [1, 4, 16, 32]
    """
    return sorted({*sizes[::2], sizes[-1]})


def hopeless(steps: list[float], larger: bool) -> bool:
    """Whether sizes further on cannot be faster, given steps to the hard target at sizes four times apart so far.

    Larger ones, where steps no longer fall: each takes longer. Smaller ones, where samples no longer fall: a quarter of
    the batch would have to take a quarter of the time. One that never arrives ends the search, too.

    >>> hopeless([100.0, 90.0], True), hopeless([100.0, 390.0], False), hopeless([100.0, 250.0], False)
    (True, True, False)
    """
    if len(steps) < 2:
        return False
    ratio = steps[-1] / steps[-2]
    return not ratio < 3.4 if not larger else not ratio < 0.88


def sweep(
    workload: Workload,
    folder: Path,
    seconds: float,
    fine: list[int] | None = None,
    most_rows: int = catalogue.MOST_ROWS,
) -> None:
    """All sizes of a workload, those near the customary one first: its neighbours start from its best rate.

    Args:
        workload: what is trained.
        folder: of the lines.
        seconds: for the runs of one size together.
        fine: these sizes, and all of them, in place of the coarse ladder as far as it may hold the best.
        most_rows: of the sizes of the coarse ladder.
    """
    one = Sweep(workload, folder, seconds)
    ladder = [size for size in coarse(workload.sizes()) if size * workload.rows <= most_rows]
    sizes = ladder if fine is None else fine
    middle = min(sizes, key=lambda size: abs(np.log(size / workload.clusters)))
    upwards = [size for size in sizes if size >= middle]
    downwards = [size for size in sizes if size <= middle][::-1]
    for way in (upwards, downwards):
        steps: list[float] = []
        for size in way:
            if fine is None and hopeless(steps, size > middle):
                print(f"{workload.name}: {size} clusters and beyond cannot be faster", flush=True)
                break
            one.tune(size, _centre(one, size))
            one.measure(size)
            found = one.sizes[size].best(1)
            steps.append(NEVER if found is None else found[1])


def _centre(one: Sweep, size: int) -> float:
    """The best rate of the nearest size that is known, over the rule's there; 1 where none is."""
    known = [(abs(np.log(other / size)), other) for other, kept in one.sizes.items() if kept.best(1) is not None]
    if not known:
        return 1.0
    other = min(known)[1]
    best = one.sizes[other].best(1)
    rule = next(iter(one.sizes[other].lines.values()))["rule_rate"]
    return 2.0 ** round(np.log2(best[0] / rule)) if best else 1.0


def with_targets(workload: Workload, folder: Path) -> Workload:
    """The workload, its targets set by a pilot run where it has none; kept in the folder."""
    if not any(np.isnan(workload.targets)):
        return workload
    path = folder / f"{workload.name}-targets.json"
    if not path.exists():
        runner = Runner(workload, workload.clusters)
        rates = [rounded(runner.rule_rate * one) for one in PILOT_SCALES]
        steps = looks(1, 1.08, workload.pilot_steps)
        curves = runner.run([Lane(rate, PILOT_SEED) for rate in rates], steps, lambda _: False)
        path.write_text(json.dumps(targets_of(list(curves.values()))) + "\n")
    easy, hard = json.loads(path.read_text())
    return replace(workload, targets=(easy, hard))


def targets_of(curves: list[Curve]) -> list[float]:
    """What the best of some runs reaches in a seventh, and in three fifths, of its steps."""
    fallen = [np.minimum.accumulate(smoothed(one.steps, one.values)) for one in curves]
    place = int(np.argmin([one[-1] for one in fallen]))
    at, steps = fallen[place], curves[place].steps
    return [float(at[np.searchsorted(steps, share * steps[-1])]) for share in PILOT_SHARES]


def pilot(workload: Workload, rates: tuple[float, ...], steps: int, clusters: int | None = None) -> None:
    """Print what the customary batch reaches, to choose targets by."""
    runner = Runner(workload, clusters or workload.clusters)
    wanted = [rounded(runner.rule_rate * one) for one in rates]
    began = time.perf_counter()
    curves = runner.run([Lane(rate, PILOT_SEED) for rate in wanted], looks(1, 1.4142, steps), lambda _: False)
    spent = time.perf_counter() - began
    print(f"{workload.name}, {runner.clusters} clusters, {spent:.1f} s")
    print("  steps   " + " ".join(f"{one:>8d}" for one in next(iter(curves.values())).steps))
    for lane, curve in curves.items():
        print(f"  {lane.rate:<8.3g}" + " ".join(f"{one:8.4g}" for one in curve.values), flush=True)


def main(
    *,
    folder: Path,
    workloads: str = "",
    held_back: bool = False,
    seconds: float = 60.0,
    sizes: str = "",
    most_rows: int = catalogue.MOST_ROWS,
    pilot_steps: int = 0,
) -> None:
    """Sweep.

    Args:
        folder: where lines are kept.
        workloads: comma-separated; all of those that are developed on where empty.
        held_back: those that were held back, too.
        seconds: of the processor, after which the lanes of a size, run together, count as failed.
        sizes: clusters, comma-separated, in place of the coarse ladder.
        most_rows: of the sizes of the coarse ladder, so that long runs may come last.
        pilot_steps: only print what the customary batch reaches in so many steps.
    """
    sources.on_one_thread("benchmarks.batch_size_sweep")
    from volgrad import runtime

    runtime.use_double_precision()
    runtime.enable_compilation_cache(folder / "xla")
    folder.mkdir(parents=True, exist_ok=True)
    names = [one for one in workloads.split(",") if one] or [
        *catalogue.DEVELOPMENT,
        *(catalogue.HELD_BACK if held_back else ()),
    ]
    for name in names:
        if name in catalogue.HELD_BACK and not held_back:
            print(f"{name}: held back; give --held-back once the policy is frozen")
            continue
        try:
            workload = catalogue.make(name)
        except catalogue.UnavailableError as reason:
            print(f"{name}: skipped, {reason}")
            continue
        wanted = [int(one) for one in sizes.split(",") if one]
        if pilot_steps:
            pilot(workload, PILOT_SCALES, pilot_steps, wanted[0] if wanted else None)
        else:
            sweep(with_targets(workload, folder), folder, seconds, wanted or None, most_rows)


if __name__ == "__main__":
    app = cyclopts.App(name="benchmarks.batch_size_sweep", help=__doc__)
    app.default(main)
    sys.exit(app())
