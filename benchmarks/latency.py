"""How long one chain takes, alone, on one thread, certificate included; and `volgrad fit` on a whole month.

    python -m benchmarks.latency --seed 0 --json FILE [--chains 60] [--turns 3] [--month deribit_snap_202603.parquet]

Chains are drawn by seed from the recorded months ($VOLGRAD_DATA, else ../shared/data), each with its predecessor (same
underlying, five to seven hours earlier), and half as many from a recorded day, whose chains are five minutes apart;
where there are no records, from a simulated market at half-hour steps. Each is fitted cold (from the prior's mean) and
warm (from its predecessor's surface), and by the rival, raw SVI of every expiry without any certificate, in turns, so
that a busy machine slows all alike; a chain's figure is the median of its turns, and percentiles are over chains. The
processor's own time, less moved by other work on the machine, stands beside. Compiling happens before the first turn
and is told apart.

Where it goes: framing (scales, prior, stencils, padding), the compiled program (the fit, and inside it the slices:
implied volatilities on all nodes), joining the slices and certifying what comes out.

The month is timed as a user meets it: a process of its own with all cores and the report, first with an empty
compilation cache, then with the one that the first run left. `--month ""` leaves that out.
"""

import functools
import json
import os
import platform
import subprocess
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from time import perf_counter, process_time
from typing import Annotated, Any, NamedTuple

import cyclopts
import numpy as np

from benchmarks import chains as sources
from volgrad.market.chain import Chain

PARTS = ("cold", "warm", "rival", "framing", "program", "slices", "join_and_certificate")


class Pair(NamedTuple):
    """A chain and the one of the same underlying before it."""

    source: str
    chain: Chain
    before: Chain


def pairs(known: list[sources.Sourced], seed: int, count: int) -> list[Pair]:
    """`count` chains drawn by seed from `known` (in order of underlying and time), each with its predecessor."""
    found = [
        Pair(source, chain, before)
        for (source, chain), (_, before) in zip(known[1:], known[:-1], strict=True)
        if chain.ccy == before.ccy and before.ts_us < chain.ts_us
    ]
    drawn = np.sort(np.random.default_rng(seed).permutation(len(found))[:count])
    return [found[place] for place in drawn]


def rival(chain: Chain) -> Callable[[], Any]:
    """Raw SVI of every expiry of the chain, from a table as the rival's own benchmark gives it."""
    import polars as pl

    from benchmarks.rivals import RIVALS
    from benchmarks.rivals.slices import pad

    expiry = chain.expiry_index
    columns = {
        "split": "full",
        "ts": chain.ts_us,
        "ccy": chain.ccy,
        "expiry": chain.expiry_us[expiry],
        "tau_years": chain.expiry_years[expiry],
        "strike": chain.strike_usd,
        "log_moneyness": chain.log_moneyness,
        "bid_iv": chain.bid_iv,
        "ask_iv": chain.ask_iv,
    }
    table = pl.DataFrame(columns)
    return lambda: RIVALS["svi"].curve(pad(table))


# ------------------------------------------------------------------------------------------ one chain


def measure(drawn: list[Pair], turns: int) -> dict[str, Any]:
    """Milliseconds of every part for every chain, and how the fits ended."""
    from volgrad.tasks.fit import FitOptions, Fitter

    cold, compile_seconds = Fitter(FitOptions()), 0.0
    warm = []
    for pair in drawn:  # compiles, and leaves each warm fitter with the predecessor's surface
        own = Fitter(FitOptions(warm=True))
        own.fit(pair.before)
        own.fit(pair.chain)
        cold.fit(pair.chain)
        compile_seconds += own.compile_seconds + cold.compile_seconds
        cold.compile_seconds = 0.0
        warm.append(own)
    clocks, cpu = np.empty((turns, len(drawn), len(PARTS))), np.empty((turns, len(drawn), 3))
    cold_fits, warm_fits = [], []
    for turn in range(turns):
        for place, pair in enumerate(drawn):
            warm[place].fit(pair.before)
            works = (lambda c=pair.chain: cold.fit(c), lambda c=pair.chain, f=warm[place]: f.fit(c), rival(pair.chain))
            done = [_timed(work) for work in works]
            clocks[turn, place, :3], cpu[turn, place] = zip(*(spent[:2] for spent in done), strict=True)
            cold_fit, warm_fit = done[0][2], done[1][2]
            clocks[turn, place, 3:] = _parts(cold_fit)
            if turn == 0:
                cold_fits.append(cold_fit)
                warm_fits.append(warm_fit)
    told = {name: _percentiles(np.median(clocks[:, :, n], axis=0)) for n, name in enumerate(PARTS)}
    ratio = np.median(clocks[:, :, 2] / clocks[:, :, 0], axis=0)
    return {
        "compile_s": compile_seconds,
        "ms": told,
        "cpu_ms": {name: _percentiles(np.median(cpu[:, :, n], axis=0)) for n, name in enumerate(PARTS[:3])},
        "rival_over_cold": _percentiles(ratio),
        "cold": _ended(cold_fits),
        "warm": _ended(warm_fits),
    }


def _timed(work: Callable[[], Any]) -> tuple[float, float, Any]:
    """Milliseconds by the clock and of the processor, and what came of it."""
    began, used = perf_counter(), process_time()
    done = work()
    return 1e3 * (perf_counter() - began), 1e3 * (process_time() - used), done


def _parts(fitted: Any) -> list[float]:
    """Framing, program, slices (a part of the program), and joining with the certificate, of a cold fit."""
    from volgrad.models.local_vol import Prior
    from volgrad.tasks.framing import frame_chain

    framing, _, framed = _timed(lambda: frame_chain(fitted.chain, Prior()))
    slices = _slices(framed)
    slices()  # compiles where the shape is new
    return [framing, max(fitted.fit_ms - framing, 0.0), _timed(slices)[0], fitted.certificate_ms]


def _slices(framed: Any) -> Callable[[], Any]:
    import jax

    start = np.maximum(np.asarray(framed.task.frame.start), 1e-12)
    values = np.broadcast_to(start, (framed.task.frame.mean.shape[0], start.size))
    return lambda: jax.block_until_ready(_slice_program()(values))


@functools.cache
def _slice_program() -> Callable[..., Any]:
    import jax

    from volgrad.models.slices import slice_variance

    return jax.jit(slice_variance)


def _percentiles(values: np.ndarray) -> dict[str, float]:
    return {"p50": float(np.percentile(values, 50)), "p90": float(np.percentile(values, 90))}


def _ended(fits: list[Any]) -> dict[str, Any]:
    statuses = [fit.status for fit in fits]
    return {
        "steps": float(np.mean([fit.iterations for fit in fits])),
        "inside": float(np.mean([fit.inside for fit in fits])),
        "clean": float(np.mean([fit.certificate is not None and fit.certificate.clean for fit in fits])),
        "began_warm": float(np.mean([fit.warm for fit in fits])),
        "statuses": {status: statuses.count(status) for status in sorted(set(statuses))},
    }


# ------------------------------------------------------------------------------------------ a month


def month(file: Path) -> dict[str, Any]:
    """Seconds of `volgrad fit FILE --out FOLDER` as a process: without, then with a compilation cache."""
    seconds, told = {}, {}
    with tempfile.TemporaryDirectory() as folder:
        environment = {name: value for name, value in os.environ.items() if name not in sources.THREAD_VARIABLES} | {
            "VOLGRAD_CACHE": str(Path(folder) / "cache"),
            "PYTHONPATH": sources.python_path(),
        }
        command = [sys.executable, "-m", "volgrad", "fit", str(file), "--out", str(Path(folder) / "out")]
        for cache in ("empty", "filled"):
            began = perf_counter()
            done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
            seconds[f"cache_{cache}"] = perf_counter() - began
            if done.returncode:
                return {"file": file.name, "failed": f"exit code {done.returncode}: {done.stderr[-500:]}"}
        told = json.loads((Path(folder) / "out" / "summary.json").read_text())
    return {"file": file.name, "chains": len(told.get("chains", [])), "seconds": seconds}


def table(report: dict[str, Any]) -> str:
    """The figures as text."""
    lines = [line for told in report["latency"] for line in _lines(told)]
    if whole := report.get("month"):
        seconds = whole.get("seconds", {})
        said = whole.get("failed") or ", ".join(f"{name} {value:.1f} s" for name, value in seconds.items())
        lines.append(f"volgrad fit {whole['file']} ({whole.get('chains', '?')} chains): {said}")
    return "\n".join(lines)


def _lines(told: dict[str, Any]) -> list[str]:
    lines = [f"{told['chains']}; one thread; milliseconds; compiling {told['compile_s']:.1f} s, apart"]
    lines.append(f"{'':24s}{'p50':>8s}{'p90':>8s}{'cpu p50':>9s}")
    names = ("cold, all in", "warm, all in", "raw SVI, no certificate", "  cold: framing")
    names += ("  cold: program", "    of it slices", "  cold: join, certify")
    for name, part in zip(names, PARTS, strict=True):
        cpu = f"{told['cpu_ms'][part]['p50']:9.2f}" if part in told["cpu_ms"] else ""
        lines.append(f"{name:24s}{told['ms'][part]['p50']:8.2f}{told['ms'][part]['p90']:8.2f}{cpu}")
    lines.append(f"raw SVI takes {told['rival_over_cold']['p50']:.1f} times as long (median of paired ratios)")
    for start in ("cold", "warm"):
        ended = told[start]
        text = f"{start}: {ended['steps']:.1f} steps, inside {100 * ended['inside']:.2f} %, "
        lines.append(text + f"clean {100 * ended['clean']:.0f} %, {ended['statuses']}")
    return [*lines, ""]


def benchmark(seed: int, chains: int, turns: int) -> list[dict[str, Any]]:
    """One entry for each kind of chains there is."""
    months, days = sources.recorded_files(), sources.recorded_files(sources.DAYS)
    if months:
        kinds = [("recorded, hours apart", sources.recorded(months), chains)]
        if days:
            kinds.append(("recorded, 5 minutes apart", sources.recorded(days[:1]), -(-chains // 2)))
    else:
        why = "simulated, half an hour apart (no recorded months: set VOLGRAD_DATA)"
        kinds = [(why, sources.simulated(seed, chains + 1), chains)]
    told = []
    for kind, known, count in kinds:
        drawn = pairs(known, seed, count)
        told.append({"chains": f"{len(drawn)} chains, {kind}"} | measure(drawn, turns))
    return told


def main(
    *,
    seed: int = 0,
    chains: int = 60,
    turns: int = 3,
    month_file: Annotated[str, cyclopts.Parameter(name="--month")] = "deribit_snap_202603.parquet",
    json_file: Annotated[Path | None, cyclopts.Parameter(name="--json")] = None,
) -> None:
    """Time the fit of one chain, and of a month, and print a table.

    Args:
        seed: of the choice of chains (and of the simulation where there are no records).
        chains: how many.
        turns: how often each is fitted.
        month_file: recorded month for `volgrad fit`; empty: none.
        json_file: write the figures here.
    """
    sources.on_one_thread("benchmarks.latency")
    report: dict[str, Any] = {
        "benchmark": "latency",
        "seed": seed,
        "machine": f"{platform.machine()}, {os.cpu_count()} cores",
        "latency": benchmark(seed, chains, turns),
    }
    named = [file for file in sources.recorded_files() if file.name == month_file]
    if named:
        report["month"] = month(named[0])
    print(table(report))
    if json_file:
        json_file.write_text(json.dumps(report, indent=1) + "\n")


if __name__ == "__main__":
    app = cyclopts.App(name="benchmarks.latency", help=__doc__)
    app.default(main)
    app()
