"""Implied volatility: speed and accuracy against other libraries, on the same options in the same run.

    python -m benchmarks.implied_vol --seed 0 --json FILE [--options 200000] [--threads 1 --threads 2]

Three sets: A = out of the money within 3 standard deviations, B = out of the money by 4 to 8, C = in the
money by 2 to 5; volatility 20 to 200 %, two hours to one year, calls and puts. Prices come from a quadrature
in extended precision that shares nothing with any solver, then are rounded to float64.

Each thread count runs in a process of its own. Inside, ours meets each rival alone and the two take turns, so
that a busy machine slows both; the figure is the median, in nanoseconds an option, numpy arrays in and out.
Solvers that loop in Python get fewer options and turns. fast-vollib gets its fastest form (scalar forward and
expiry, numba if installed).

An error is told in two ways: relative to the volatility, and in units of what a float64 premium can resolve,
`eps (premium / (vega s) + 1)`. A failure is no answer, or one off by more than 1e-6 and 1,000 such units.
"""

import dataclasses
import importlib
import importlib.metadata
import importlib.util
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any

import cyclopts
import numpy as np
from jaxtyping import Bool, Float64

import volgrad
from volgrad import runtime

EPSILON = float(np.finfo(float).eps)
SETS = {"A": (0.0, 3.0, False), "B": (4.0, 8.0, False), "C": (2.0, 5.0, True)}
OURS, RIVAL = "volgrad", "fast-vollib jackel_iv_black"

Solver = Callable[["Options"], Float64[np.ndarray, "options"]]


@dataclasses.dataclass(frozen=True)
class Options:
    """One set of options of known volatility, premium in units of the forward."""

    log_moneyness: Float64[np.ndarray, "options"]
    strike: Float64[np.ndarray, "options"]
    expiry_years: Float64[np.ndarray, "options"]
    total_volatility: Float64[np.ndarray, "options"]
    is_call: Bool[np.ndarray, "options"]
    premium: Float64[np.ndarray, "options"]
    resolution: Float64[np.ndarray, "options"]  # relative, of the volatility

    def head(self, count: int) -> "Options":
        """The first `count` options."""
        return Options(*(getattr(self, field.name)[:count] for field in dataclasses.fields(self)))


@dataclasses.dataclass(frozen=True)
class Entry:
    """A solver in the race. `solve` gives total volatility, NaN where it has none."""

    name: str
    version: str
    share: float  # of the options: less for a loop in Python
    solve: Solver


# ------------------------------------------------------------------------------------------ options


def draw(name: str, count: int, seed: int) -> Options:
    """Set A, B or C."""
    nearest, farthest, in_the_money = SETS[name]
    rng = np.random.default_rng([seed, *name.encode()])
    vol = np.exp(rng.uniform(np.log(0.2), np.log(2.0), count))
    years = np.exp(rng.uniform(np.log(2 / (365 * 24)), 0.0, count))
    s = vol * np.sqrt(years)
    k = rng.uniform(nearest, farthest, count) * s * rng.choice([-1.0, 1.0], count)
    is_call = (k < 0) if in_the_money else (k >= 0)
    premium = price(k, s, is_call)
    vega = np.exp(-0.5 * (s / 2 - k / s) ** 2) / np.sqrt(2 * np.pi)
    return Options(k, np.exp(k), years, s, is_call, premium, EPSILON * (premium / (vega * s) + 1))


def price(
    k: Float64[np.ndarray, "options"], s: Float64[np.ndarray, "options"], is_call: Bool[np.ndarray, "options"]
) -> Float64[np.ndarray, "options"]:
    """Black's premium over the forward, correctly rounded where `long double` is wider than float64.

    The out-of-the-money value of the call at `|k|` is `n(low)` times the integral over `y > 0` of
    `exp(-low y - y^2/2) (1 - exp(-s y))`, `low = |k|/s - s/2`: positive throughout and entire in y, so that
    Gauss-Legendre converges to the last bit. Mirrored for puts; the intrinsic value is added last.
    """
    node, weight = _gauss_legendre(40)
    value = np.empty(len(k), np.longdouble)
    for part in np.array_split(np.arange(len(k)), max(1, len(k) // 4096)):
        kappa, deviation = (
            np.abs(k[part]).astype(np.longdouble)[:, None],
            s[part].astype(np.longdouble)[:, None],
        )
        low = kappa / deviation - deviation / 2
        end = np.sqrt(low * low + 84) - low  # there the integrand has fallen by e^-42
        y = node * end
        integrand = np.exp(-y * (low + y / 2)) * -np.expm1(-deviation * y)
        value[part] = (integrand @ weight) * (end * np.exp(-low * low / 2))[:, 0]
    value *= np.exp(np.minimum(k, 0).astype(np.longdouble)) / np.sqrt(2 * np.longdouble(np.pi))
    intrinsic = np.abs(np.expm1(k.astype(np.longdouble)))
    return np.where(is_call == (k >= 0), value, value + intrinsic).astype(np.float64)


def _gauss_legendre(count: int) -> tuple[np.ndarray, np.ndarray]:
    """Nodes and weights on [0, 1] in extended precision: numpy's, polished by Newton's method."""
    x = np.polynomial.legendre.leggauss(count)[0].astype(np.longdouble)
    for _ in range(2):
        value, slope = _legendre(count, x)
        x = x - value / slope
    _, slope = _legendre(count, x)
    return (x + 1) / 2, 1 / ((1 - x * x) * slope * slope)


def _legendre(degree: int, x: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The Legendre polynomial and its derivative, by the three-term recurrence."""
    previous, current = np.ones_like(x), x
    for n in range(2, degree + 1):
        previous, current = current, ((2 * n - 1) * x * current - (n - 1) * previous) / n
    return current, degree * (x * current - previous) / (x * x - 1)


# ------------------------------------------------------------------------------------------ solvers


def entries() -> tuple[list[Entry], dict[str, str]]:
    """The solvers that are installed, ours first, and why the others do not run."""
    racing, absent = [], {}
    for name, package, share, build in (
        (OURS, "volgrad", 1.0, _volgrad),
        (RIVAL, "fast-vollib", 1.0, _fast_vollib),
        ("fast-vollib default", "fast-vollib", 1.0, _fast_vollib_default),
        ("QuantLib", "QuantLib", 0.05, _quantlib),
        ("py_lets_be_rational", "py_lets_be_rational", 0.01, _lets_be_rational),
    ):
        try:
            version = volgrad.__version__ if name == OURS else importlib.metadata.version(package)
            racing.append(Entry(name, version, share, build()))
        except (importlib.metadata.PackageNotFoundError, ImportError) as error:
            absent[name] = f"{package} is not installed ({error})"
    return racing, absent


def _volgrad() -> Solver:
    from volgrad.market.implied import implied_vol

    def solve(o: Options) -> Float64[np.ndarray, "options"]:
        # the annualised form, its expiry a column: more work than the rivals are given
        vol, _ = implied_vol(o.premium, o.log_moneyness, o.expiry_years, o.is_call)
        return np.asarray(vol)

    return solve


def _fast_vollib() -> Solver:
    jackel_iv_black = importlib.import_module("fast_vollib.jackel").jackel_iv_black
    return lambda o: jackel_iv_black(o.premium, 1.0, o.strike, 1.0, o.is_call)


def _fast_vollib_default() -> Solver:
    fast_implied_volatility_black = importlib.import_module("fast_vollib").fast_implied_volatility_black
    flags: dict[int, Any] = {}

    def solve(o: Options) -> Float64[np.ndarray, "options"]:
        flag = flags.setdefault(id(o), np.where(o.is_call, "c", "p"))
        return np.asarray(
            fast_implied_volatility_black(
                o.premium, 1.0, o.strike, 0.0, 1.0, flag, return_as="numpy", on_error="ignore"
            )
        )

    return solve


def _quantlib() -> Solver:
    import QuantLib

    kinds = (QuantLib.Option.Put, QuantLib.Option.Call)

    def one(premium: float, strike: float, is_call: bool) -> float:
        try:
            return QuantLib.blackFormulaImpliedStdDevLiRS(
                kinds[is_call], strike, 1.0, premium, 1.0, 0.0, QuantLib.nullDouble(), 1.0, 1e-12, 100
            )
        except RuntimeError:
            return float("nan")

    return lambda o: np.array([one(*row) for row in _rows(o)])


def _lets_be_rational() -> Solver:
    from py_lets_be_rational import implied_volatility_from_a_transformed_rational_guess as invert
    from py_lets_be_rational.exceptions import VolatilityValueException

    def one(premium: float, strike: float, is_call: bool) -> float:
        try:
            return invert(premium, 1.0, strike, 1.0, 1 if is_call else -1)
        except VolatilityValueException:
            return float("nan")

    return lambda o: np.array([one(*row) for row in _rows(o)])


def _rows(o: Options) -> list[tuple[float, float, bool]]:
    return list(zip(o.premium.tolist(), o.strike.tolist(), o.is_call.tolist(), strict=True))


# ------------------------------------------------------------------------------------------ the race


def race(folder: Path, threads: int, repeats: int) -> None:
    """One process of the race: read the sets in `folder`, write `threads-N.json` beside them."""
    runtime.use_double_precision()
    racing, absent = entries()
    figures = []
    for name in SETS:
        with np.load(folder / f"{name}.npz") as columns:
            options = Options(**columns)
        figures += [{"set": name, "threads": threads, **figure} for figure in _race_one_set(racing, options, repeats)]
    result = {
        "figures": figures,
        "absent": absent,
        "versions": {entry.name: entry.version for entry in racing},
        "numba": importlib.util.find_spec("numba") is not None and importlib.metadata.version("numba"),
    }
    (folder / f"threads-{threads}.json").write_text(json.dumps(result))


def _race_one_set(racing: list[Entry], options: Options, repeats: int) -> list[dict[str, Any]]:
    """Heats of two, ours against each rival in turn; ours is told from its heat with the first."""
    ours, *rivals = racing
    heats = [_heat([ours, rival], options, repeats) for rival in rivals] or [_heat([ours], options, repeats)]
    figures = [heats[0][0]]
    for first, *others in heats:
        figures += [figure | {"times_ours": figure["ns_per_option"] / first["ns_per_option"]} for figure in others]
    return figures


def _heat(racing: list[Entry], options: Options, repeats: int) -> list[dict[str, Any]]:
    shares = [options.head(max(100, int(len(options.strike) * entry.share))) for entry in racing]
    told = [errors(entry, share) for entry, share in zip(racing, shares, strict=True)]  # also compiles
    clocks = np.empty((min(repeats, 3) if racing[-1].share < 1 else repeats, len(racing), 2))
    for turn in clocks:
        for clock, entry, share in zip(turn, racing, shares, strict=True):
            wall, cpu = time.perf_counter(), time.process_time()
            entry.solve(share)
            clock[:] = time.perf_counter() - wall, time.process_time() - cpu
    return [
        {
            "solver": entry.name,
            "options": len(share.strike),
            "ns_per_option": float(np.median(clock[:, 0]) / len(share.strike) * 1e9),
            "ns_quartiles": (np.percentile(clock[:, 0], (25, 75)) / len(share.strike) * 1e9).tolist(),
            "cpu_ns_per_option": float(np.median(clock[:, 1]) / len(share.strike) * 1e9),
            **errors_told,
        }
        for entry, share, clock, errors_told in zip(racing, shares, clocks.swapaxes(0, 1), told, strict=True)
    ]


def errors(entry: Entry, options: Options) -> dict[str, float | int]:
    """How far a solver is off on `options`, and how often it fails."""
    solved = np.array(entry.solve(options))
    if entry.name == OURS:
        solved = solved * np.sqrt(options.expiry_years)
    error = np.abs(solved / options.total_volatility - 1)
    units = error / options.resolution
    answered = np.isfinite(error)
    return {
        "no_answer": int((~answered).sum()),
        "failures": int((~answered | ((error > 1e-6) & (units > 1e3))).sum()),
        "max_error": float(error[answered].max(initial=0.0)),
        "max_units": float(units[answered].max(initial=0.0)),
    }


def _spawn(folder: Path, threads: int, repeats: int) -> dict[str, Any]:
    """Run `race` in a process whose every pool of threads has `threads`."""
    program = (
        f"from volgrad.runtime import limit_threads; limit_threads({threads}); from pathlib import Path; "
        f"from benchmarks.implied_vol import race; race(Path({str(folder)!r}), {threads}, {repeats})"
    )
    paths = [str(Path(__file__).resolve().parents[1]), *filter(None, [os.environ.get("PYTHONPATH")])]
    environment = os.environ | {"NUMBA_NUM_THREADS": str(threads), "PYTHONPATH": os.pathsep.join(paths)}
    subprocess.run([sys.executable, "-c", program], env=environment, check=True)
    return json.loads((folder / f"threads-{threads}.json").read_text())


def _print(result: dict[str, Any]) -> None:
    numba = f"with numba {result['numba']}" if result["numba"] else "without numba"
    print(", ".join(f"{name} {version}" for name, version in result["versions"].items()), f"({numba})")
    for name, why in result["absent"].items():
        print(f"did not run: {name}: {why}")
    head = f"{'set':4}{'threads':>8}  {'solver':30}{'options':>9}{'ns/option':>11}{'cpu ns':>9}{'x ours':>9}"
    print(f"{head}{'failures':>10}{'max error':>11}{'in units':>10}")
    for f in result["figures"]:
        times = f"{f['times_ours']:.1f}" if "times_ours" in f else ""
        print(
            f"{f['set']:4}{f['threads']:8}  {f['solver']:30}{f['options']:9}{f['ns_per_option']:11.1f}"
            f"{f['cpu_ns_per_option']:9.1f}{times:>9}{f['failures']:10}{f['max_error']:11.1e}{f['max_units']:10.2g}"
        )


def main(
    *,
    seed: int = 0,
    options: int = 200_000,
    threads: list[int] | None = None,
    repeats: int = 15,
    json_file: Annotated[Path | None, cyclopts.Parameter(name="--json")] = None,
) -> None:
    """Race the solvers and print a table.

    Args:
        seed: of the options.
        options: in each set.
        threads: one process for each of these; default 1 and 2.
        repeats: turns each solver takes.
        json_file: write the figures here.
    """
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        for which in SETS:
            np.savez(folder / f"{which}.npz", **vars(draw(which, options, seed)))
        parts = [_spawn(folder, count, repeats) for count in threads or [1, 2]]
    result = parts[0] | {"seed": seed, "figures": [figure for part in parts for figure in part["figures"]]}
    _print(result)
    if json_file:
        json_file.write_text(json.dumps(result, indent=1) + "\n")


if __name__ == "__main__":
    app = cyclopts.App(name="benchmarks.implied_vol", help=__doc__)
    app.default(main)
    app()
