"""A long run that finds its batch size itself, beside fixed sizes: every probe on the clock, as a user pays for it.

    python -m benchmarks.batch_size_long --seed 0 --json FILE [--workload quotes-simulated] [--samples N]

All runs are `volgrad train`'s own, with the same data, start and target: the least that the customary size at its rate
comes to in `--samples`. Fixed sizes are tried at three rates, by the rules from half, one and two times the customary
one, the best of which counts; the run that finds its size has the customary rate only. Time is steps times median
seconds a step, measured afterwards in turns, and the seconds of all probes; compilation is left out.
"""

import json
import math
import os
import platform
import sys
from pathlib import Path
from typing import Annotated, Any

import cyclopts

from benchmarks import batch_size_workloads as catalogue
from benchmarks import chains as sources
from benchmarks.batch_size_auto import AutoRun, auto_run
from benchmarks.batch_size_clock import step_seconds
from benchmarks.batch_size_workloads import Workload

RATES = (0.5, 1.0, 2.0)


def seconds_of(one: AutoRun, step_s: dict[int, float]) -> float:
    """Of a run to its target, probes included; infinite where it did not come there.

    >>> seconds_of(AutoRun({4: 10.0, 8: 5.0}, 0.5, 1.0), {4: 0.1, 8: 0.2})
    2.5
    """
    if not one.steps:
        return math.inf
    return sum(count * step_s[size] for size, count in one.steps.items()) + one.probe_s


def compare(workload: Workload, sizes: list[int], samples: int, seed: int, target: float) -> dict[str, Any]:
    """All runs, and what they took."""
    rate = workload.learning_rate
    own = auto_run(workload, target, rate, samples, seed)
    fixed = {size: {f: auto_run(workload, target, f * rate, samples, seed, size) for f in RATES} for size in sizes}
    step_s = {size: one.step for size, one in step_seconds(workload, sorted({*sizes, *own.steps}), seed).items()}
    times = {size: min(seconds_of(one, step_s) for one in runs.values()) for size, runs in fixed.items()}
    best = min(times, key=lambda size: times[size])
    whole = seconds_of(own, step_s)
    return {
        "workload": workload.name,
        "target": target,
        "samples": samples,
        "own_s": whole,
        "own_steps": own.steps,
        "probe_s": own.probe_s,
        "probe_share": own.probe_s / whole,
        "fixed_s": times,
        "best": best,
        "regret": whole / times[best] - 1.0,
    }


def main(
    *,
    seed: int = 0,
    json_file: Annotated[Path | None, cyclopts.Parameter(name="--json")] = None,
    workload: str = "quotes-simulated",
    samples: int = 100_000,
    sizes: str = "4,16,64,256",
    target: float | None = None,
) -> None:
    """Compare, and print.

    Args:
        seed: of the runs.
        json_file: write the figures here.
        workload: of `benchmarks.batch_size_workloads`.
        samples: that the customary size sees until the target; runs may take twice as many.
        sizes: fixed ones, in clusters.
        target: of the workload's metric, in place of what the customary size reaches.
    """
    sources.on_one_thread("benchmarks.batch_size_long")
    from volgrad import runtime

    runtime.use_double_precision()
    one = catalogue.make(workload)
    aim = target
    if aim is None:
        aim = auto_run(one, -math.inf, one.learning_rate, samples, seed, one.clusters).least
    found = compare(one, [int(size) for size in sizes.split(",")], 2 * samples, seed, aim)
    print(
        f"{workload}: to {aim:.4g}, {found['own_s']:.1f} s by itself, probes {100.0 * found['probe_share']:.1f} % of it"
    )
    for size, spent in found["fixed_s"].items():
        print(f"  {size:6d} clusters {spent:8.1f} s{'  best' if size == found['best'] else ''}")
    print(f"  steps by size {found['own_steps']}; regret {100.0 * found['regret']:+.1f} %")
    if json_file:
        machine = f"{platform.machine()}, {os.cpu_count()} cores, one thread"
        json_file.write_text(json.dumps({"benchmark": "batch_size_long", "machine": machine, **found}, indent=1) + "\n")


if __name__ == "__main__":
    app = cyclopts.App(name="benchmarks.batch_size_long", help=__doc__)
    app.default(main)
    sys.exit(app())
