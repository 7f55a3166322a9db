"""The surface network beside the per-chain local-vol fit, on real quotes, paired chain by chain.

    python -m benchmarks.surface_net --seed 0 --json net.json [--parts shipped,trained,thin,minutes,forward]

Parts:

- shipped: the weights that come with volgrad, with and without `--history 1`, on all months;
- trained: weights trained on two months (`recipes/surface-net.toml` with `data.sources`), scored on the third, each in
  turn; nothing of them is kept;
- thin: 70 % of the training rows of `interp` removed, at random by the seed; raw SVI beside it;
- minutes: the 5-minute days, every cycle, `--history 1`;
- forward: milliseconds of one pass of the network and of all that is made of a chain for it, on one thread.

Data, scorer and figures are those of `benchmarks.surface`; a part whose data are not there is skipped with the reason.
"""

import json
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Annotated, Any

import cyclopts
import numpy as np
import polars as pl

from benchmarks import rivals, scoring, surface

PARTS = ("shipped", "trained", "thin", "minutes", "forward")
PLAIN, ALONE, NET = "volgrad", "volgrad:--model surface-net", "volgrad:--model surface-net --history 1"
THIN = 0.7
RECIPE = scoring.REPOSITORY / "recipes" / "surface-net.toml"


def compared(prepared: Path, methods: list[str], others: list[str], work: Path, seed: int) -> dict[str, Any]:
    """Scores of all methods, and each against each of the others, paired."""
    scorer_path = scoring.find_scorer()
    assert scorer_path is not None
    scorer = scoring.load_scorer(scorer_path)
    test = pl.read_parquet(prepared / "test.parquet")
    answers = {}
    for number, name in enumerate(dict.fromkeys([*others, *methods])):
        own = name.startswith("volgrad")
        place = work / f"{prepared.name}-{number}"
        answers[name] = surface.run_volgrad(name, prepared, place) if own else rivals.run(name, prepared, work)
    pairs = {
        f"{ours} minus {other}": scoring.paired(
            answers[ours].predictions, answers[other].predictions, test, scorer, seed=seed
        )
        for ours in methods
        for other in others
        if ours != other
    }
    scores = {name: surface.score(one, test, scorer, work) for name, one in answers.items()}
    return {"chains": test.select("ts", "ccy").unique().height, "methods": scores, "paired": pairs}


def shown(title: str, found: dict[str, Any]) -> None:
    """Prints a part."""
    print(f"\n{title}: {found['chains']} chains")
    for name, result in found["methods"].items():
        print(surface.line(name[-16:], result))
    for pair, figures in found["paired"].items():
        main_only = {name: one for name, one in figures.items() if name.startswith("main/")}
        print(pair, scoring.table(main_only), sep="\n")


def prepared_from(files: tuple[Path, ...], seed: int, most: int, work: Path) -> Path:
    """The scorer's `prepare` of these files."""
    scorer_path = scoring.find_scorer()
    if scorer_path is None:
        raise surface.UnavailableError("no score_surface.py: set VOLGRAD_SCORER")
    return surface.prepare(surface.Choice(files, seed, most, work), scorer_path)


def thinned(prepared: Path, seed: int, work: Path) -> Path:
    """The `interp` split with 70 % of its training rows removed."""
    out = work / f"thin-{seed}-{prepared.name}"
    out.mkdir(exist_ok=True)
    train = pl.read_parquet(prepared / "train.parquet").filter(pl.col("split") == "interp")
    stays = np.random.default_rng(seed).random(train.height) >= THIN
    train.filter(pl.Series(stays)).write_parquet(out / "train.parquet")
    for name in ("test", "query"):
        pl.read_parquet(prepared / f"{name}.parquet").filter(pl.col("split") == "interp").write_parquet(
            out / f"{name}.parquet"
        )
    pl.read_parquet(prepared / "grid.parquet").write_parquet(out / "grid.parquet")
    return out


def trained(files: tuple[Path, ...], choice: tuple[int, int], work: Path) -> dict[str, Any]:
    """Each month scored with weights trained on the others."""
    seed, most = choice
    found = {}
    for month in files:
        others = [str(one) for one in files if one != month]
        run = work / f"run-without-{month.stem}"
        sources = "data.sources=" + json.dumps(others)
        command = [sys.executable, "-m", "volgrad", "train", str(RECIPE), "--out", str(run), "--set", sources]
        command += ["--set", "data.mixed=true", "--set", 'data.views=["interp", "wing"]', "--set", "budget.epochs=30"]
        subprocess.run([*command, "--threads", "1", "--no-report"], check=True)
        method = f"{NET} --weights {run}"
        found[month.name] = compared(prepared_from((month,), seed, most, work), [method], [PLAIN], work, seed)
        shown(f"{month.name}, trained on the other months", found[month.name])
    return found


def forward() -> dict[str, float]:
    """Milliseconds of the network alone, median of 300 passes at 12 expiries."""
    from volgrad import runtime

    runtime.use_double_precision()
    from volgrad.tasks.surface_net import SurfaceNet

    model = SurfaceNet()
    x = np.random.default_rng(0).normal(size=(12, model.weights.network.features)).astype(np.float32)
    spent = []
    for _ in range(300):
        began = time.perf_counter()
        model.say(x)
        spent.append(1e3 * (time.perf_counter() - began))
    return {"median_ms": float(np.median(spent)), "p90_ms": float(np.quantile(spent, 0.9))}


def main(
    *,
    seed: int = 0,
    json_file: Annotated[Path | None, cyclopts.Parameter(name="--json")] = None,
    data: Path | None = None,
    max_snapshots: int = 0,
    parts: str = ",".join(PARTS),
    workdir: Path | None = None,
) -> None:
    """Score the surface network and the per-chain fit blind, and compare them chain by chain.

    Args:
        seed: of the held-out rows, of what thin removes, and of the bootstrap.
        json_file: write the whole report here.
        data: folder of the real data [$VOLGRAD_DATA, else ../shared/data].
        max_snapshots: at most this many chains a set (0: all).
        parts: comma-separated, of shipped, trained, thin, minutes, forward.
        workdir: keep prepared quotes, fits and runs here [a temporary folder].
    """
    report: dict[str, Any] = {"benchmark": "surface_net", "seed": seed, "max_snapshots": max_snapshots}
    wanted = surface.listed(parts)
    if unknown := [one for one in wanted if one not in PARTS]:
        print(
            f"benchmarks.surface_net: no part is called {unknown[0]!r}; there are {', '.join(PARTS)}", file=sys.stderr
        )
        raise SystemExit(2)
    with tempfile.TemporaryDirectory() as temporary:
        work = workdir or Path(temporary)
        work.mkdir(parents=True, exist_ok=True)
        if "forward" in wanted:
            report["forward"] = forward()
            print(report["forward"])
        try:
            report |= on_data(wanted, data, (seed, max_snapshots), work)
        except surface.UnavailableError as reason:
            report["skipped"] = str(reason)
            print(f"skipped: {reason}")
    if json_file:
        json_file.write_text(json.dumps(report, indent=1) + "\n")


def on_data(wanted: list[str], data: Path | None, choice: tuple[int, int], work: Path) -> dict[str, Any]:
    """The parts that need real quotes."""
    seed, most = choice
    found: dict[str, Any] = {}
    months = surface.find_files(data, None)
    if "shipped" in wanted:
        found["shipped"] = compared(prepared_from(months, seed, most, work), [NET, ALONE], [PLAIN], work, seed)
        shown("shipped weights, all months", found["shipped"])
    if "trained" in wanted:
        found["trained"] = trained(months, choice, work)
    if "thin" in wanted:
        folder = thinned(prepared_from(months, seed, most, work), seed, work)
        found["thin"] = compared(folder, [NET, ALONE, PLAIN], ["svi"], work, seed)
        shown("70 % of the training quotes removed", found["thin"])
    if "minutes" in wanted:
        for file in sorted(months[0].parent.glob("deribit_ticker5m_*.parquet")):
            found[file.name] = compared(prepared_from((file,), seed, most, work), [NET], [PLAIN], work, seed)
            shown(file.name, found[file.name])
    return found


if __name__ == "__main__":
    app = cyclopts.App(name="benchmarks.surface_net", help=__doc__)
    app.default(main)
    app()
