"""What the benchmarks of fitting share: chains, recorded ones drawn by seed and simulated ones, and one thread."""

import os
import subprocess
import sys
from pathlib import Path

import numpy as np

from volgrad import runtime
from volgrad.errors import InputError
from volgrad.market.chain import Chain

Sourced = tuple[str, Chain]  # "recorded" or "simulated"

MONTHS = "deribit_snap_*.parquet"  # chains hours apart
DAYS = "deribit_ticker5m_*.parquet"  # chains five minutes apart
#: What `volgrad.runtime.limit_threads` sets.
THREAD_VARIABLES = (
    "NPROC",
    "PJRT_NPROC",
    "OPENBLAS_NUM_THREADS",
    "OMP_NUM_THREADS",
    "MKL_NUM_THREADS",
    "POLARS_MAX_THREADS",
)


def recorded_files(pattern: str = MONTHS) -> list[Path]:
    """The recorded files in $VOLGRAD_DATA, else ../shared/data, or none."""
    folder = runtime.find_data()
    return sorted(folder.glob(pattern)) if folder else []


def recorded(files: list[Path]) -> list[Sourced]:
    """Every chain of the files, in order of file, underlying and time."""
    from volgrad.data import build, read_quotes

    found: list[Sourced] = []
    for file in files:
        chains = build(read_quotes([file])).chains
        found += [("recorded", chain) for chain in sorted(chains, key=lambda c: (c.ccy, c.ts_us))]
    return found


def simulated(seed: int, count: int) -> list[Sourced]:
    """Chains of a simulated market, half an hour apart, with a volatility shock in the middle."""
    from volgrad.data import build, read_quotes
    from volgrad.simulate.market import simulate

    chains = [build(read_quotes([made.quotes])).chains for made in simulate(seed, count)]
    return [("simulated", chain) for made in chains for chain in made]


def mixed(seed: int, count: int) -> list[Sourced]:
    """`count` chains, half of them recorded (drawn by seed) and half simulated; all simulated without records."""
    known = recorded(recorded_files())
    drawn = np.sort(np.random.default_rng(seed).permutation(len(known))[: count // 2])
    found = [known[place] for place in drawn]
    return found + simulated(seed, count - len(found))


def on_one_thread(module: str) -> None:
    """Go on where every pool has one thread; else run `python -m module` so, with our arguments, and exit."""
    try:
        runtime.start(threads=1)
    except InputError:  # numpy is loaded already
        program = (
            "import runpy, sys; from volgrad.runtime import limit_threads; limit_threads(1); "
            f"sys.argv[1:] = {sys.argv[1:]!r}; runpy.run_module({module!r}, run_name='__main__', alter_sys=True)"
        )
        environment = os.environ | {"PYTHONPATH": python_path()}
        done = subprocess.run([sys.executable, "-c", program], env=environment, check=False)
        raise SystemExit(done.returncode) from None


def python_path() -> str:
    """This checkout, then $PYTHONPATH."""
    here = Path(__file__).resolve().parents[1]
    return os.pathsep.join([str(here), str(here / "src"), *filter(None, [os.environ.get("PYTHONPATH")])])
