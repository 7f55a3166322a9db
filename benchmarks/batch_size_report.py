"""Tables of the benchmark of batch sizes."""

import statistics
from typing import Any

import numpy as np

OURS, LARGEST = "volgrad", "largest that fits"
END_TO_END = "volgrad, end to end"
TIED = 0.03  # share by which a method may be slower than the best one and count as tied


def summary(told: list[dict[str, Any]]) -> dict[str, Any]:
    """Every method over all cases: regret, speed-up over the largest that fits, cases where it is first or tied."""
    names = dict.fromkeys(name for one in told for case in one["cases"] for name in case["regret"])
    found = {name: _line(told, [_regrets(case, name) for one in told for case in one["cases"]]) for name in names}
    runs = [[run["regret"] for run in case.get("end_to_end", [])] for one in told for case in one["cases"]]
    if any(runs):
        found[END_TO_END] = _line(told, runs)
    return found


def _regrets(case: dict[str, Any], name: str) -> list[float]:
    return [case["regret"][name]] if name in case["regret"] else []


def _line(told: list[dict[str, Any]], regrets: list[list[float]]) -> dict[str, Any]:
    """One line; where a case has several runs, their median counts."""
    cases = [(one["workload"], case) for one in told for case in one["cases"]]
    kept = [
        (statistics.median(values), workload, case)
        for values, (workload, case) in zip(regrets, cases, strict=True)
        if values
    ]
    worst = max(kept, key=lambda entry: entry[0])
    firsts = [(workload, _is_first(case, value)) for value, workload, case in kept]
    return {
        "cases": len(kept),
        "median": statistics.median(value for value, _, _ in kept),
        "worst": worst[0],
        "worst_case": f"{worst[1]}, {worst[2]['target']}",
        "failed": sum(not np.isfinite(value) for value, _, _ in kept),
        "speed_up": statistics.median(_speed_up(case, value) for value, _, case in kept),
        "first_or_tied": sum(first for _, first in firsts),
        "first_or_tied_workloads": sum(
            all(first for workload, first in firsts if workload == one["workload"]) for one in told
        ),
        "workloads": len(told),
    }


def _speed_up(case: dict[str, Any], value: float) -> float:
    """Time of the largest that fits over this one's; 0 for a failure."""
    known = np.isfinite(value) and value > -1.0  # a best size that failed on fresh seeds is no yardstick
    return (1.0 + case["regret"][LARGEST]) / (1.0 + value) if known else 0.0


def _is_first(case: dict[str, Any], value: float) -> bool:
    """Within 3 % of the fastest method of the table."""
    return bool(np.isfinite(value)) and 1.0 + value <= (1.0 + TIED) * (1.0 + min(case["regret"].values()))


def show(told: list[dict[str, Any]], found: dict[str, Any]) -> None:
    """Print the tables."""
    for one in told:
        print(f"\n{one['workload']}: {one['optimizer']}, {one['train']:,} clusters of {one['rows_per_cluster']} rows")
        for case in one["cases"]:
            print(f"  {case['target']} ({case['value']:.4g}): best {case['best']} clusters, B_c {case['b_c']:.3g}")
            print("    " + "  ".join(f"{size}: {1e3 * t:.0f} ms" for size, t in case["times"].items()))
            methods = [
                f"{name} {case['picks'][name]} " + (f"{value:+.0%}" if np.isfinite(value) else "failed")
                for name, value in case["regret"].items()
            ]
            print("    " + "; ".join(methods))
            for run in case.get("end_to_end", []):
                taken = ", ".join(f"{count:.0f} of {size}" for size, count in run["steps"].items()) or "not reached"
                print(f"    auto: {taken}; probes {run['probe_s']:.2f} s; {run['regret']:+.0%}")
    print(f"\n{'':20}{'median':>8}{'worst':>8}{'faster':>8}{'first':>8}  worst case")
    for name, one in found.items():
        first = f"{one['first_or_tied']}/{one['cases']}"
        cells = f"{one['median']:8.0%}{one['worst']:8.0%}{one['speed_up']:7.1f}x{first:>8}"
        print(f"{name:20}{cells}  {one['worst_case']}; {one['failed']} failed")
