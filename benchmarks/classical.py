"""The classical surfaces benchmark: SSVI, eSSVI and raw SVI, ours and other people's, on the same chains in one run.

    python -m benchmarks.classical --seed 0 --json classical.json [--max-snapshots 30] [--only ssvi,essvi]

Real data and the scorer are looked for as by `benchmarks.surface`, and prepared by the scorer itself; without them the
benchmark is skipped with that reason. Every method gets the same chain, as arrays, and its clock runs until its
parameters are there: ours with framing, none with a certificate. Methods take turns chain by chain, on one thread, so
that a busy machine slows all alike. What they answer to the held-out quotes is scored by the scorer's own `metrics` and
`arb`; differences are paired by chain (`benchmarks.scoring`). Each of ours is compared with the rivals of its family.
"""

import dataclasses
import functools
import importlib.metadata
import importlib.util
import json
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any, NamedTuple

import cyclopts
import numpy as np
import polars as pl

from benchmarks import scoring, surface
from benchmarks.chains import on_one_thread
from benchmarks.rivals import raw_svi, wings
from benchmarks.rivals.packages import PACKAGES
from volgrad.market.chain import Chain

FAMILIES = ("ssvi", "essvi", "svi")
SCIPY = {"ssvi": wings.ssvi, "essvi": wings.essvi, "svi": raw_svi.svi}
SPLITS = ("interp", "wing", "expiry", "full")
TURNS = 3  # fits of a chain by a method whose clock counts; the least is kept


class Method(NamedTuple):
    """A way to fit a chain: `fit` gives an object with `implied_vol(k, years)`."""

    name: str
    family: str
    what: str
    ours: bool
    fit: Callable[[Chain], Any]


def methods(families: list[str]) -> tuple[list[Method], dict[str, str]]:
    """What can run here, and what cannot, with the reason."""
    found, absent = [], {}
    for family in families:
        found.append(
            Method(f"volgrad {family}", family, "volgrad.fit(model=...)", True, functools.partial(_ours(), family))
        )
        found.append(Method(f"scipy {family}", family, "scipy.optimize.least_squares", False, SCIPY[family]))
    for name, package in PACKAGES.items():
        family = name.split()[-1]
        if family not in families:
            continue
        if importlib.util.find_spec(package.module) is None:
            absent[name] = f"{package.distribution} is not installed (extra bench)"
            continue
        version = importlib.metadata.version(package.distribution)
        found.append(Method(name, family, f"{package.distribution} {version}: {package.what}", False, package.fit))
    return found, absent


def _ours() -> Callable[[str, Chain], Any]:
    from volgrad.tasks.fit import FitOptions, Fitter

    fitters = {family: Fitter(FitOptions(model=family)) for family in FAMILIES}
    return lambda family, chain: fitters[family].fit(chain)


@dataclasses.dataclass
class Tally:
    """What a method did: answers to the held-out quotes and to the grid, milliseconds, failures."""

    answers: list[pl.DataFrame] = dataclasses.field(default_factory=list)
    grid: list[pl.DataFrame] = dataclasses.field(default_factory=list)
    ms: list[float] = dataclasses.field(default_factory=list)
    failed: int = 0


def fitted(method: Method, chain: Chain, turns: int) -> tuple[Any, float]:
    """The fit and its milliseconds: the least of some turns; ours tells its own, the certificate's left out."""
    spent, found = [], None
    for _ in range(turns):
        began = time.perf_counter()
        found = method.fit(chain)
        spent.append(found.fit_ms if method.ours else 1e3 * (time.perf_counter() - began))
    return (found.surface if method.ours else found), min(spent)  # pyright: ignore[reportOptionalMemberAccess]


def run(prepared: Path, chosen: list[Method], timed: int) -> dict[str, Tally]:
    """Every method on every chain; clocks count on `timed` chains of the split `full`."""
    from volgrad.data import build, read_quotes

    chains = build(read_quotes([prepared / "train.parquet"])).chains
    keyed = functools.partial(_blocks, pl.read_parquet(prepared / "query.parquet"))
    queries, grids = keyed(["ts", "ccy", "split"]), _blocks(pl.read_parquet(prepared / "grid.parquet"), ["ts", "ccy"])
    whole = [place for place, chain in enumerate(chains) if chain.split == "full"]
    clocked = {whole[i] for i in np.unique(np.linspace(0, len(whole) - 1, timed).round().astype(int))}
    told = {method.name: Tally() for method in chosen}
    for method in chosen:
        if method.ours:  # compiles
            for chain in chains:
                method.fit(chain)
    for place, chain in enumerate(chains):
        query = queries.get((chain.ts_us, chain.ccy, chain.split))
        grid = grids.get((chain.ts_us, chain.ccy)) if chain.split == "interp" else None
        for method in chosen:
            _one(method, chain, (query, grid), told[method.name], TURNS if place in clocked else 0)
    return told


def _one(method: Method, chain: Chain, asked: tuple[Any, Any], tally: Tally, turns: int) -> None:
    try:
        curve, spent = fitted(method, chain, max(turns, 1))
    except (ArithmeticError, RuntimeError, ValueError, np.linalg.LinAlgError):  # a rival's: counted, all are misses
        tally.failed += 1
        return
    if turns:
        tally.ms.append(spent)
    for rows, column, into in ((asked[0], "log_moneyness", tally.answers), (asked[1], "k", tally.grid)):
        if rows is not None and curve is not None:
            vol = curve.implied_vol(rows[column].to_numpy(), rows["tau_years"].to_numpy())
            into.append(rows.with_columns(pl.Series("iv", np.asarray(vol, np.float64))))


def _blocks(rows: pl.DataFrame, key: list[str]) -> dict[tuple[Any, ...], pl.DataFrame]:
    stamps = rows.with_columns(pl.col("ts").dt.epoch("us").alias("stamp"))
    names = ["stamp", *key[1:]]
    return {
        key: part.drop("stamp") for key, part in stamps.partition_by(names, as_dict=True, maintain_order=True).items()
    }


def told_of(method: Method, tally: Tally, prepared: Path, scorer: Any, folder: Path) -> dict[str, Any]:
    """The scorer's figures of one method, and its clock."""
    test = pl.read_parquet(prepared / "test.parquet")
    filled = None
    if tally.grid:
        full = pl.read_parquet(prepared / "grid.parquet")
        answered = pl.concat(tally.grid).select("ts", "ccy", "tau_years", "k", "iv")
        filled = full.join(answered, on=["ts", "ccy", "tau_years", "k"], how="left", maintain_order="left")
    spent = np.array(tally.ms)
    timing = {"ms_a_chain": float(np.median(spent)), "ms_90": float(np.quantile(spent, 0.9)), "failed": tally.failed}
    answers = surface.rivals.Answers(pl.concat(tally.answers), filled, timing)
    return {"what": method.what, **surface.score(answers, test, scorer, folder)}


def benchmark(choice: surface.Choice, prepared: Path | None, families: list[str], timed: int) -> dict[str, Any]:
    """The whole report as a dictionary.

    Raises:
        UnavailableError: no scorer, or a prepared folder that lacks a file.
        UnknownNameError: an unknown family.
    """
    if unknown := [name for name in families if name not in FAMILIES]:
        raise surface.UnknownNameError(f"no family is called {unknown[0]!r}; there are {', '.join(FAMILIES)}")
    path = scoring.find_scorer()
    if path is None:
        raise surface.UnavailableError("no score_surface.py at $VOLGRAD_SCORER or ../shared/benchmarks")
    folder = prepared or surface.prepare(choice, path)
    scorer, (chosen, absent) = scoring.load_scorer(path), methods(families)
    tallies = run(folder, chosen, timed)
    test = pl.read_parquet(folder / "test.parquet")
    pairs = {}
    for ours, other in ((a, b) for a in chosen for b in chosen if a.ours and not b.ours and a.family == b.family):
        answers = [pl.concat(tallies[one.name].answers) for one in (ours, other)]
        figures = scoring.paired(answers[0], answers[1], test, scorer, seed=choice.seed)
        clocks = [np.array(tallies[one.name].ms) for one in (ours, other)]
        same = min(map(len, clocks))
        ratio = float(np.median(clocks[1][:same] / clocks[0][:same]))
        pairs[f"{ours.name} minus {other.name}"] = {"times_as_long": ratio, **figures}
    return {
        "benchmark": "classical",
        "seed": choice.seed,
        "max_snapshots": choice.max_snapshots,
        "files": [file.name for file in choice.files],
        "versions": surface.versions(path),
        "not_run": absent,
        "chains": test.select("ts", "ccy").unique().height,
        "test_rows": test.height,
        "methods": {m.name: told_of(m, tallies[m.name], folder, scorer, choice.workdir) for m in chosen},
        "paired": pairs,
    }


def table(report: dict[str, Any]) -> str:
    """The report as text: figures by method, then differences to each rival of the family."""
    head = f"{report['chains']} chains, {report['test_rows']} test rows, seed {report['seed']}; one thread"
    lines = [head + "; main bucket: inside % (RMSE, points)"]
    lines += [surface.line(name, told) for name, told in report["methods"].items()]
    for pair, figures in report["paired"].items():
        lines += ["", f"{pair}; the rival takes {figures['times_as_long']:.1f} times as long"]
        lines.append(scoring.table({key: figures[key] for key in figures if key.startswith("main/")}))
    return "\n".join([*lines, *(f"not run: {name}: {why}" for name, why in report["not_run"].items())])


def main(
    *,
    seed: int = 0,
    json_file: Annotated[Path | None, cyclopts.Parameter(name="--json")] = None,
    quotes: surface.Quotes | None = None,
    only: str = ",".join(FAMILIES),
    timed: int = 30,
    workdir: Path | None = None,
) -> None:
    """Fit real quotes with the classical surfaces, ours and others', score them blind, compare them chain by chain.

    Args:
        seed: of the held-out rows and of the bootstrap.
        json_file: write the whole report here.
        quotes: which real quotes are fitted.
        only: comma-separated, of ssvi, essvi, svi.
        timed: chains on which clocks count.
        workdir: keep prepared quotes here [a temporary folder].
    """
    asked = quotes or surface.Quotes()
    with tempfile.TemporaryDirectory() as temporary:
        try:
            found = () if asked.prepared else surface.find_files(asked.data, surface.listed(asked.files))
            choice = surface.Choice(found, seed, asked.max_snapshots, workdir or Path(temporary))
            choice.workdir.mkdir(parents=True, exist_ok=True)
            report = benchmark(choice, asked.prepared, surface.listed(only), timed)
            print(table(report))
        except surface.UnavailableError as reason:
            report = {"benchmark": "classical", "seed": seed, "skipped": str(reason)}
            print(f"skipped: {reason}")
        except surface.UnknownNameError as wrong:
            print(f"benchmarks.classical: {wrong}", file=sys.stderr)
            raise SystemExit(2) from wrong
    if json_file:
        json_file.write_text(json.dumps(report, indent=1) + "\n")


if __name__ == "__main__":
    on_one_thread("benchmarks.classical")
    app = cyclopts.App(name="benchmarks.classical", help=__doc__)
    app.default(main)
    app()
