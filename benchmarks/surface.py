"""The surface benchmark: volgrad and its rivals on real quotes, scored blind and compared chain by chain.

    python -m benchmarks.surface --seed 0 --json surface.json [--max-snapshots 30] [--rivals svi,svi-soft]

Real data is looked for at --data, $VOLGRAD_DATA, else ../shared/data beside the repository; the scorer at
$VOLGRAD_SCORER, else ../shared/benchmarks/score_surface.py. Without them the benchmark is skipped with that
reason. Every method gets the same `train.parquet` and answers the same `query.parquet` and `grid.parquet`,
made by the scorer's own `prepare`; the figures are the scorer's own `metrics` and `arb`; differences are
paired (`benchmarks.scoring`), with intervals by snapshot and by day.
"""

import dataclasses
import hashlib
import importlib.metadata
import json
import os
import platform
import shlex
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from types import ModuleType
from typing import Annotated

import cyclopts
import numpy as np
import polars as pl

from benchmarks import rivals, scoring

PACKAGES = ("volgrad", "jax", "numpy", "scipy", "polars", "pyarrow", "optax")
SPLITS = ("interp", "wing", "expiry", "full")
PREPARED = ("train", "query", "test", "grid")


class UnavailableError(Exception):
    """What the benchmark needs is not on this machine; the text says what and where it was looked for."""


class UnknownNameError(Exception):
    """A method or rival that does not exist; the text lists those that do."""


@dataclasses.dataclass(frozen=True)
class Choice:
    """What to run: the scorer's selection of quotes, and where work is kept."""

    files: tuple[Path, ...]
    seed: int
    max_snapshots: int
    workdir: Path


def find_files(data: Path | None, names: list[str] | None) -> tuple[Path, ...]:
    """The quote files: `names` (paths, or names within the data folder), else every snapshot month there.

    Raises:
        UnavailableError: no data folder, or a named file is not there.
    """
    named = os.environ.get("VOLGRAD_DATA")
    folder = data or (Path(named) if named else scoring.REPOSITORY.parent / "shared" / "data")
    if names:
        found = [Path(n) if Path(n).is_file() else folder / n for n in names]
    else:
        found = sorted(folder.glob("deribit_snap_*.parquet"))
    absent = [str(f) for f in found if not f.is_file()]
    if absent or not found:
        lacking = ", ".join(absent) or f"no deribit_snap_*.parquet in {folder}"
        raise UnavailableError(f"no real quotes: {lacking}; set VOLGRAD_DATA")
    return tuple(found)


def prepare(choice: Choice, scorer_path: Path) -> Path:
    """Runs the scorer's `prepare` (or finds its earlier answer in the work folder); returns the folder."""
    told = [[f.name, f.stat().st_size, f.stat().st_mtime_ns] for f in choice.files]
    scorer = hashlib.sha256(scorer_path.read_bytes()).hexdigest()
    key = hashlib.sha256(json.dumps([told, choice.seed, choice.max_snapshots, scorer]).encode()).hexdigest()[:16]
    out = choice.workdir / f"prepared-{key}"
    if not all((out / f"{name}.parquet").is_file() for name in PREPARED):
        files = [str(f) for f in choice.files]
        options = [
            "--out",
            str(out),
            "--seed",
            str(choice.seed),
            "--max-snapshots",
            str(choice.max_snapshots),
        ]
        subprocess.run([sys.executable, str(scorer_path), "prepare", *files, *options], check=True)
    return out


def run_volgrad(method: str, prepared: Path, out: Path) -> rivals.Answers:
    """Runs `volgrad fit` as a user would, in a process of its own. `method`: `volgrad[:fit option ...]`.

    `volgrad` runs the defaults; `volgrad:--model essvi` adds what stands behind the colon.

    Raises:
        RuntimeError: the command failed; carries the end of what it said.
    """
    extra = shlex.split(method.partition(":")[2])
    command = [
        sys.executable,
        "-m",
        "volgrad",
        "fit",
        str(prepared / "train.parquet"),
        "--out",
        str(out),
        "--no-report",
    ]
    command += [
        "--predict",
        str(prepared / "query.parquet"),
        "--grid",
        str(prepared / "grid.parquet"),
        *extra,
    ]
    source = str(scoring.REPOSITORY / "src")
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(filter(None, [source, os.environ.get("PYTHONPATH")]))}
    began = time.perf_counter()
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    wall = time.perf_counter() - began
    if done.returncode:
        raise RuntimeError(
            f"{shlex.join(command)} ended with {done.returncode}:\n{done.stdout[-2000:]}{done.stderr[-4000:]}"
        )
    timing = {"wall_s": wall} | read_summary(out / "summary.json")
    return rivals.Answers(pl.read_parquet(out / "predictions.parquet"), pl.read_parquet(out / "grid.parquet"), timing)


def read_summary(path: Path) -> dict[str, object]:
    """Times and outcomes out of `summary.json`: medians a chain, statuses counted, compilation apart."""
    summary = json.loads(path.read_text())
    chains = summary["chains"]
    statuses = [c["status"] for c in chains]

    def median(field: str) -> float | None:
        values = [c[field] for c in chains if c.get(field) is not None]
        return float(np.median(values)) if values else None

    return {
        "compile_s": summary.get("compile_s"),
        "threads": summary.get("threads"),
        "mode": summary.get("mode"),
        "ms_a_chain": median("fit_ms"),
        "certificate_ms": median("certificate_ms"),
        "iterations": median("iterations"),
        "chains": len(chains),
        "statuses": {s: statuses.count(s) for s in sorted(set(statuses))},
        "certified_clean": sum(bool((c.get("certificate") or {}).get("clean")) for c in chains),
    }


def mark(test: pl.DataFrame) -> rivals.Answers:
    """The exchange's own mark: a reference that has seen the quote."""
    keys = [c for c in scoring.QUOTE_KEY if c in test.columns]
    return rivals.Answers(test.select(*keys, pl.col("mark_iv").alias("iv")), None, {})


def score(answers: rivals.Answers, test: pl.DataFrame, scorer: ModuleType, folder: Path) -> dict[str, object]:
    """The scorer's figures of one method: by `bucket/split`, and of the grid."""
    rows = scoring.joined(answers.predictions, test)
    figures: dict[str, object] = {}
    for (bucket, split), part in rows.sort("bucket").group_by(["bucket", "split"], maintain_order=True):
        figures[f"{bucket}/{split}"] = {name: float(value) for name, value in scorer.metrics(part).items()}
    out: dict[str, object] = {"scores": figures, "timing": answers.timing}
    if answers.grid is not None:
        path = folder / "scored_grid.parquet"
        answers.grid.write_parquet(path)
        out["arb"] = {name: int(value) for name, value in scorer.arb(path).items()}
    return out


def line(name: str, result: dict) -> str:
    """One row of the printed table."""
    cells = []
    for split in SPLITS:
        figures = result["scores"].get(f"main/{split}")
        cells.append(f"{100 * figures['inside']:6.2f} ({figures['rmse']:5.2f})" if figures else " " * 14)
    short = result["scores"].get("short/interp")
    cells.append(f"{100 * short['inside']:6.2f}" if short else " " * 6)
    cells.append(f"{100 * min(f['cov'] for f in result['scores'].values()):6.2f}")
    arb = result.get("arb")
    cells.append(f"{arb['clean']:4d}/{arb['surfaces']:<4d}" if arb else " " * 9)
    ms, wall = result["timing"].get("ms_a_chain"), result["timing"].get("wall_s")
    cells.append((f"{ms:8.1f}" if ms is not None else " " * 8) + (f"{wall:8.1f}" if wall is not None else ""))
    return f"{name:16s} " + " ".join(cells)


def table(report: dict) -> str:
    """The report as text: figures by method, then paired differences against each rival."""
    size = f"{report['chains']} chains, {report['test_rows']} test rows, seed {report['seed']}"
    titles = " ".join(f"{split:>14s}" for split in SPLITS)
    lines = [
        f"{size}; main bucket: inside % (RMSE, points)",
        f"{'method':16s} {titles}  short answered clean     ms/chain  wall s",
    ]
    lines += [line(name, result) for name, result in report["methods"].items()]
    for pair, figures in report["paired"].items():
        main_only = {name: f for name, f in figures.items() if name.startswith("main/")}
        lines += ["", pair, scoring.table(main_only)]
    return "\n".join(lines)


def versions(scorer_path: Path) -> dict[str, str]:
    """Python, packages (those installed), rivals, and the scorer's digest."""
    out = {"python": platform.python_version(), "machine": f"{platform.machine()}, {os.cpu_count()} cores"}
    for package in PACKAGES:
        try:
            out[package] = importlib.metadata.version(package)
        except importlib.metadata.PackageNotFoundError:
            out[package] = "not installed"
    out |= {f"rival {name}": f"{rival.version}: {rival.what}" for name, rival in rivals.RIVALS.items()}
    return out | {"scorer_sha256": hashlib.sha256(scorer_path.read_bytes()).hexdigest()}


def compare_all(prepared: Path, scorer: ModuleType, methods: list[str], others: list[str], choice: Choice) -> dict:
    """Runs and scores every method, then pairs each of ours with each rival (A = ours, B = the rival)."""
    test = pl.read_parquet(prepared / "test.parquet")
    answers: dict[str, rivals.Answers] = {}
    for name in others:
        answers[name] = mark(test) if name == "mark" else rivals.run(name, prepared, choice.workdir)
    for number, name in enumerate(methods):
        answers[name] = run_volgrad(name, prepared, choice.workdir / f"fit-{number}")
    pairs = {}
    for ours in methods:
        for other in others:
            told = scoring.paired(answers[ours].predictions, answers[other].predictions, test, scorer, seed=choice.seed)
            pairs[f"{ours} minus {other}"] = told
    return {
        "chains": test.select("ts", "ccy").unique().height,
        "test_rows": test.height,
        "methods": {name: score(a, test, scorer, choice.workdir) for name, a in answers.items()},
        "paired": pairs,
    }


def listed(text: str) -> list[str]:
    """Names out of a comma-separated option.

    >>> listed("svi, mark,")
    ['svi', 'mark']
    """
    return [name.strip() for name in text.split(",") if name.strip()]


def benchmark(choice: Choice, prepared: Path | None, methods: list[str], others: list[str]) -> dict:
    """The whole report as a dictionary.

    Raises:
        UnavailableError: no scorer, or a prepared folder that lacks a file.
        UnknownNameError: an unknown method or rival.
    """
    known = [*rivals.RIVALS, "mark"]
    if unknown := [n for n in others if n not in known]:
        raise UnknownNameError(f"no rival is called {unknown[0]!r}; there are {', '.join(known)}")
    if unknown := [n for n in methods if n.partition(":")[0] != "volgrad"]:
        raise UnknownNameError(f"method {unknown[0]!r} is not `volgrad` or `volgrad:OPTIONS`")
    scorer_path = scoring.find_scorer()
    if scorer_path is None:
        raise UnavailableError("no score_surface.py at $VOLGRAD_SCORER or ../shared/benchmarks beside the repository")
    folder = prepared or prepare(choice, scorer_path)
    if absent := [n for n in PREPARED if not (folder / f"{n}.parquet").is_file()]:
        raise UnavailableError(f"{folder} lacks {absent[0]}.parquet; it must be what the scorer's prepare wrote")
    head = {"benchmark": "surface", "seed": choice.seed, "max_snapshots": choice.max_snapshots}
    head |= {"files": [f.name for f in choice.files], "versions": versions(scorer_path)}
    return head | compare_all(folder, scoring.load_scorer(scorer_path), methods, others, choice)


@cyclopts.Parameter(name="*")
@dataclasses.dataclass(frozen=True)
class Quotes:
    """Which real quotes are fitted.

    Attributes:
        data: folder of the real data [$VOLGRAD_DATA, else ../shared/data].
        files: comma-separated quote files [every deribit_snap_*.parquet].
        max_snapshots: at most this many chains, evenly spaced (0: all).
        prepared: use this output of the scorer's `prepare` in place of files, seed and max-snapshots.
    """

    data: Path | None = None
    files: str = ""
    max_snapshots: int = 0
    prepared: Path | None = None


def main(
    *,
    seed: int = 0,
    json_file: Annotated[Path | None, cyclopts.Parameter(name="--json")] = None,
    quotes: Quotes | None = None,
    rivals_named: Annotated[str, cyclopts.Parameter(name="--rivals")] = "mark,svi,svi-soft",
    methods: str = "volgrad",
    workdir: Path | None = None,
) -> None:
    """Fit real quotes with volgrad and its rivals, score them blind, compare them chain by chain.

    Args:
        seed: of the held-out rows and of the bootstrap.
        json_file: write the whole report here.
        quotes: which real quotes are fitted.
        rivals_named: comma-separated, of mark, svi, svi-soft, spline.
        methods: comma-separated `volgrad` or `volgrad:OPTIONS`; empty for the rivals alone.
        workdir: keep prepared quotes, fits and the rivals' answers here [a temporary folder].
    """
    asked = quotes or Quotes()
    with tempfile.TemporaryDirectory() as temporary:
        try:
            found = () if asked.prepared else find_files(asked.data, listed(asked.files))
            choice = Choice(found, seed, asked.max_snapshots, workdir or Path(temporary))
            choice.workdir.mkdir(parents=True, exist_ok=True)
            report = benchmark(choice, asked.prepared, listed(methods), listed(rivals_named))
            print(table(report))
        except UnavailableError as reason:
            report = {"benchmark": "surface", "seed": seed, "skipped": str(reason)}
            print(f"skipped: {reason}")
        except UnknownNameError as wrong:
            print(f"benchmarks.surface: {wrong}", file=sys.stderr)
            raise SystemExit(2) from wrong
    if json_file:
        json_file.write_text(json.dumps(report, indent=1) + "\n")


if __name__ == "__main__":
    app = cyclopts.App(name="benchmarks.surface", help=__doc__)
    app.default(main)
    app()
