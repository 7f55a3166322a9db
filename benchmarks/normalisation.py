"""What normalisation does for a small network on option quotes, and what it does not.

    python -m benchmarks.normalisation --seed 0 --json FILE [--plots FOLDER] [--quick]

A network of 8 features and 4 hidden layers of 64 (SiLU), once 12 of 32, learns the log volatility of quotes by Adam or
SGD with momentum, on batches of 32, 128 or 512 rows (8 rows of a chain), at a constant rate after a short ramp, without
clipping. Data: a simulated market of 120 days, split forward in time with a gap; and the recorded months in
$VOLGRAD_DATA, else ../shared/data (left out without them). All losses are mean squared errors as the network
*serves*, on later chains, in variances of the target in training. Measured, over at least three seeds:

- `rates`: for every kind and learning rate of one grid, where a run ends. The target is 1.1 times where the plain
  network ends at its best rate; each kind is judged at the rate at which it gets there first. A rate is stable where
  every seed ends below half the target's variance.
- `starts`: the same at the rate that ends lowest, weights drawn at a quarter, once and four times their usual size.
- `overfit`: few chains, many passes: losses on the chains trained on and on later ones, against dropout.
- `regimes`: trained before a planted change of regime (volatilities times 1.6, another skew; recorded: January to March
  and to May), served after it, chain by chain in the order of time. "level" asks for the log volatility, "shape" for
  that less the money's, which a change of level hardly moves.

One thread. `--quick` does a little of everything.
"""

import json
import platform
import sys
from collections.abc import Callable, Iterable
from pathlib import Path
from time import perf_counter, process_time
from typing import Annotated, Any

import cyclopts
import numpy as np

from benchmarks import chains as sources
from benchmarks import normalisation_data as quotes
from benchmarks.normalisation_runs import LOOK, Data, Kind, Setting, data_of, end_of, loss_of, network, train

KINDS = tuple(Kind(name) for name in ("none", "batch", "ghost", "renorm", "layer"))
WHOLE = tuple(kind for kind in KINDS if kind.normalisation != "ghost")
RATES = {"adam": (1e-3, 3e-3, 1e-2, 3e-2, 1e-1), "sgd": (1e-2, 3e-2, 1e-1, 3e-1, 1.0, 3.0)}
BATCHES = (32, 128, 512)
SCALES = (0.25, 1.0, 4.0)
STARTED = ("adam, 128 rows", "sgd, 128 rows, 12 layers of 32")
DROPOUTS = (0.05, 0.1, 0.2)
STABLE = 0.5  # of the target's variance
NEVER = float("inf")


def settings(looks: int, kinds: Iterable[Kind] = KINDS) -> list[Setting]:
    """The networks whose rates are swept: sizes with Adam, one size with SGD, and a deep one with both."""
    made = []
    for kind in kinds:
        if kind.normalisation == "ghost":  # a smaller batch is one group, the same as batch normalisation
            made.append(Setting(kind, 512, looks))
            continue
        made += [Setting(kind, batch, looks) for batch in BATCHES]
        made.append(Setting(kind, 128, looks, "sgd"))
        if kind.normalisation != "layer":
            made += [Setting(kind, 128, looks, name, width=32, depth=12) for name in RATES]
    return sorted(made, key=lambda one: one.batch == 512)


def group_of(setting: Setting) -> str:
    """What is compared with each other: everything but the kind."""
    deep = "" if setting.depth == 4 else f", {setting.depth} layers of {setting.width}"
    return f"{setting.optimizer}, {setting.batch} rows{deep}"


def sweep(runs: list[Setting], data: Data, seeds: list[int]) -> list[dict[str, Any]]:
    """Where every kind ends at every rate, what the best rate is, and how soon it is at the plain network's loss."""
    found: dict[str, dict[str, dict[float, list[Any]]]] = {}
    for setting in runs:
        rates = {rate: [train(setting, data, rate, seed) for seed in seeds] for rate in RATES[setting.optimizer]}
        found.setdefault(group_of(setting), {})[setting.kind.label] = rates
    told = []
    for group, kinds in found.items():
        plain = min(np.median([end_of(run) for run in runs]) for runs in kinds["plain"].values())
        for label, rates in kinds.items():
            told.append({"group": group, "kind": label, "target": 1.1 * plain, **_judged(rates, 1.1 * plain)})
    return told


def _judged(rates: dict[float, list[Any]], target: float) -> dict[str, Any]:
    ends = {rate: [end_of(run) for run in runs] for rate, runs in rates.items()}
    steps = {rate: [steps_to(run.loss, target) for run in runs] for rate, runs in rates.items()}
    first = min(rates, key=lambda rate: (np.median(steps[rate]), np.median(ends[rate])))
    lowest = min(rates, key=lambda rate: float(np.median(ends[rate])))
    stable = [rate for rate in rates if max(ends[rate]) < STABLE]
    return {
        "rate": first,
        "steps": sorted(steps[first]),
        "lowest_at": lowest,
        "end": sorted(ends[lowest]),
        "stable": max(stable, default=0.0),
        "ends": {f"{rate:g}": sorted(values) for rate, values in ends.items()},
        "curve": np.median([run.loss for run in rates[first]], axis=0).tolist(),
    }


def steps_to(losses: np.ndarray, target: float) -> float:
    """Steps until the first look at which the loss is at the target; infinite where it never is."""
    reached = np.flatnonzero(losses <= target)
    return float((reached[0] + 1) * LOOK) if reached.size else NEVER


def starts(told: list[dict[str, Any]], looks: int, data: Data, seeds: list[int]) -> list[dict[str, Any]]:
    """Ends over seeds and sizes of the first weights, each kind at the rate at which it ends lowest."""
    made = []
    for setting in settings(looks):
        if group_of(setting) not in STARTED:
            continue
        rate = _rate(told, setting, "lowest_at")
        ends = {f"{scale:g}": sorted(end_of(train(setting, data, rate, s, scale)) for s in seeds) for scale in SCALES}
        made.append({"group": group_of(setting), "kind": setting.kind.label, "rate": rate, "ends": ends})
    return made


def overfit(
    told: list[dict[str, Any]], looks: int, train_on: Any, later: Any, seeds: list[int], chains: int = 12
) -> list[dict[str, Any]]:
    """Losses on few chains and on later ones, after many passes; the lowest on the way as well."""
    import jax.numpy as jnp

    some = np.linspace(0, train_on.stamps_us.size - 1, chains).astype(int)
    few = quotes.Quotes(*(getattr(train_on, name)[some] for name in ("features", "targets", "mask", "stamps_us")))
    data = data_of(few, later, "level", 0)
    kinds = [*WHOLE, *(Kind("none", rate) for rate in DROPOUTS), Kind("batch", 0.1), Kind("renorm", 0.1)]
    made = []
    for kind in kinds:
        setting = Setting(kind, 128, looks)
        rate = _rate(told, setting._replace(kind=kind._replace(dropout=0.0)), "lowest_at")
        runs = [train(setting, data, rate, seed) for seed in seeds]
        known = [float(loss_of(network(setting), *run[2:], data.train, False)[0]) for run in runs]
        ends = [end_of(run) for run in runs]
        best = [float(run.loss.min()) for run in runs]
        gap = [float(jnp.log(end / seen)) for end, seen in zip(ends, known, strict=True)]
        made.append({"kind": kind.label, "rate": rate, "train": known, "later": ends, "best": best, "log_gap": gap})
    return made


def regimes(
    told: list[dict[str, Any]], looks: int, before: Any, after: dict[str, Any], seeds: list[int]
) -> list[dict[str, Any]]:
    """Loss by chain in the order of time, before a change (later chains of the same regime) and after it."""
    made = []
    for target in quotes.TARGETS:
        data = data_of(before.part(0.0, 0.75), before.part(0.8, 1.0), target, 0)
        for kind in (*WHOLE, Kind("stream")):
            setting = Setting(kind, 128, looks, target=target)
            like = Kind("batch") if kind.normalisation == "stream" else kind
            rate = _rate(told, setting._replace(kind=like), "lowest_at")
            runs = [train(setting, data, rate, seed) for seed in seeds]
            sides = {"before": before.part(0.8, 1.0), **after}
            losses = {
                name: [_served(setting, run, side.scaled(before.part(0.0, 0.75)), target) for run in runs]
                for name, side in sides.items()
            }
            made.append(
                {
                    "target": target, "kind": kind.label,
                    "mean": {name: sorted(float(one.mean()) for one in each) for name, each in losses.items()},
                    "first": {name: sorted(float(one[:40].mean()) for one in each) for name, each in losses.items()},
                    "chains": {name: np.median(each, axis=0).tolist() for name, each in losses.items()},
                }
            )  # fmt: skip
    return made


def _served(setting: Setting, run: Any, side: Any, target: str) -> np.ndarray:
    """The loss of each chain as it comes; statistics move on from chain to chain."""
    import jax

    net = network(setting)
    column = side.targets[..., quotes.TARGETS.index(target)]

    def chain(statistics: Any, part: Any) -> Any:
        loss, after = loss_of(net, run.variables, statistics, jax.tree.map(lambda leaf: leaf[None], part), False)
        return after, loss

    return np.asarray(jax.lax.scan(chain, run.statistics, (side.features, column, side.mask))[1], np.float64)


def _rate(told: list[dict[str, Any]], setting: Setting, name: str) -> float:
    mine = [one for one in told if (one["group"], one["kind"]) == (group_of(setting), setting.kind.label)]
    return mine[0][name]


def _plain(told: Any) -> Any:
    """The same for JSON, which has no infinity: None there."""
    if isinstance(told, dict):
        return {name: _plain(value) for name, value in told.items()}
    if isinstance(told, list):
        return [_plain(value) for value in told]
    return None if isinstance(told, float) and not np.isfinite(told) else told


def measure(seed: int, quick: bool, tell: Callable[[dict[str, Any]], None]) -> dict[str, Any]:
    """All experiments; `tell` gets what is known after each."""
    seeds = [100 * seed + number for number in range(2 if quick else 3)]
    looks, days = (4, 24) if quick else (40, 120)
    world = quotes.simulated(seed, days)
    changed = {"after": quotes.simulated(seed + 1, days // 4, level=1.6, tilt=-0.2)}
    early, late = world.part(0.0, 0.75), world.part(0.8, 1.0)
    data = data_of(early, late, "level", seed)
    runs = settings(looks) if not quick else [one for one in settings(looks) if one.batch == 128 and one.depth == 4]
    small = [one for one in runs if one.batch < 512]
    found: dict[str, Any] = {"rates": sweep(small, data, seeds)}
    told: dict[str, Any] = {"simulated": found}
    tell(told)
    found["regimes"] = regimes(found["rates"], looks, world, changed, seeds)
    tell(told)
    months = quotes.recorded(seed)
    if "202601" in months and not quick:
        real = months.pop("202601")
        of_real = data_of(real.part(0.0, 0.75), real.part(0.8, 1.0), "level", seed)
        chosen = [one for one in small if one.batch == 128 and one.optimizer == "adam" and one.depth == 4]
        told["recorded"] = {"rates": sweep(chosen, of_real, seeds)}
        told["recorded"]["regimes"] = regimes(told["recorded"]["rates"], looks, real, months, seeds)
        tell(told)
    found["overfit"] = overfit(found["rates"], 2 * looks, early, late, seeds)
    tell(told)
    if not quick:
        found["starts"] = starts(found["rates"], looks, data, [*seeds, *(one + 50 for one in seeds[:2])])
        tell(told)
    found["rates"] += sweep([one for one in runs if one.batch == 512], data, seeds)
    tell(told)
    return told


# ------------------------------------------------------------------------------------------ what is printed


def table(told: dict[str, Any]) -> str:
    """Markdown of every experiment; medians over seeds, and the range in brackets."""
    lines: list[str] = []
    for side, found in told.items():
        columns = ["group", "kind", "best rate", "steps to target", "lowest loss", "at rate", "largest stable rate"]
        rows = [
            [
                one["group"], one["kind"], f"{one['rate']:g}", _spread(one["steps"], "{:.0f}"), _spread(one["end"]),
                f"{one['lowest_at']:g}", f"{one['stable']:g}",
            ]
            for one in found["rates"]
        ]  # fmt: skip
        lines += _markdown(f"{side}: learning rates", columns, rows)
        if "starts" in found:
            rows = [[one["group"], one["kind"], *map(_spread, one["ends"].values())] for one in found["starts"]]
            lines += _markdown(f"{side}: first weights", ["group", "kind", "a quarter", "usual", "four times"], rows)
        if "overfit" in found:
            names = ("train", "later", "best")
            rows = [[one["kind"], *(_spread(one[name]) for name in names)] for one in found["overfit"]]
            lines += _markdown(f"{side}: few chains", ["kind", "trained on", "later", "lowest later"], rows)
        if "regimes" in found:
            rows = [[one["target"], one["kind"], *map(_spread, one["mean"].values())] for one in found["regimes"]]
            lines += _markdown(f"{side}: regimes", ["target", "kind", *found["regimes"][0]["mean"]], rows)
    return "\n".join(lines)


def _markdown(title: str, columns: list[str], rows: list[list[str]]) -> list[str]:
    made = [f"| {' | '.join(row)} |" for row in (columns, ["---"] * len(columns), *rows)]
    return [f"\n### {title}\n", *made]


def _spread(values: list[float | None], form: str = "{:.3g}") -> str:
    ordered = sorted(NEVER if value is None else value for value in values)
    middle = float(np.median(ordered)) if all(map(np.isfinite, ordered)) else ordered[len(ordered) // 2]
    low, mid, high = (form.format(one) if np.isfinite(one) else "never" for one in (ordered[0], middle, ordered[-1]))
    return f"{mid} ({low} to {high})"


def main(
    *,
    seed: int = 0,
    json_file: Annotated[Path | None, cyclopts.Parameter(name="--json")] = None,
    plots: Path | None = None,
    quick: bool = False,
) -> None:
    """Measure, print tables, and write figures where asked."""
    sources.on_one_thread("benchmarks.normalisation")
    began = perf_counter()
    about = {"benchmark": "normalisation", "seed": seed, "quick": quick, "machine": platform.machine()}

    def tell(told: dict[str, Any]) -> None:
        print(f"{perf_counter() - began:.0f} s", file=sys.stderr, flush=True)
        if json_file is not None:
            spent = {"seconds": perf_counter() - began, "processor_seconds": process_time()}
            json_file.write_text(json.dumps(_plain(about | spent | told), indent=1) + "\n", encoding="utf-8")

    told = measure(seed, quick, tell)
    print(table(told))
    if plots is not None:
        from benchmarks.normalisation_plots import draw

        draw(told, plots)


if __name__ == "__main__":
    app = cyclopts.App(name="benchmarks.normalisation", help=__doc__)
    app.default(main)
    app()
