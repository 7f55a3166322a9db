"""`volgrad doctor`: does this installation work, and if not, what to do about it."""

import importlib.metadata
import os
import platform
import re
import shutil
import sys
from collections.abc import Callable
from dataclasses import asdict, dataclass
from typing import Literal

import volgrad
from volgrad import runtime
from volgrad.cli.common import CommonOptions, print_json, results_console
from volgrad.cli.environment import PREFIX, unknown_variables

__all__ = ["CHECKS", "Finding", "doctor", "examine"]

# Black-76 call, F = K = 100, sigma .2, tau .5; source: tests of py_lets_be_rational
_REFERENCE_PRICE = 5.637197779701664
_CACHE_WARNING_MB = 2000.0


@dataclass(frozen=True)
class Finding:
    """What one check found: `status` ok, warn (works, could be better) or fail; `advice` says what to do."""

    check: str
    status: Literal["ok", "warn", "fail"]
    found: str
    advice: str = ""


def doctor(*, common: CommonOptions = CommonOptions()) -> int:
    """Check this installation: versions, devices, precision, caches.

    Exit code 1 if a check fails; a warning is advice only.
    """
    runtime.require_devices()
    findings = examine()
    failed = sum(finding.status == "fail" for finding in findings)
    if common.json:
        checks = [asdict(finding) for finding in findings]
        print_json({"version": volgrad.__version__, "ok": failed == 0, "checks": checks})
    else:
        _show(findings, failed)
    return 1 if failed else 0


def examine() -> list[Finding]:
    """Run every check; one that cannot even run is itself a failure."""
    return [_guarded(name, check) for name, check in CHECKS.items()]


def _guarded(name: str, check: Callable[[], Finding]) -> Finding:
    try:
        return check()
    except (ImportError, OSError, RuntimeError) as error:
        reason = " ".join(str(error).split())[:300]
        advice = "Reinstall: pip install --force-reinstall volgrad"
        return Finding(name, "fail", f"{type(error).__name__}: {reason}", advice)


def _check_python() -> Finding:
    system = f"{platform.system()} {platform.machine()}"
    return Finding("python", "ok", f"{platform.python_version()} on {system}, {sys.executable}")


def _check_packages() -> Finding:
    """Everything that volgrad requires is installed (and JAX's compiled half, whose version must suit)."""
    names = {"jaxlib"} | {
        re.split(r"[^\w.-]", line, maxsplit=1)[0]
        for line in importlib.metadata.requires("volgrad") or ()
        if "extra ==" not in line
    }
    versions = {name: _version(name) for name in sorted(names, key=str.lower)}
    missing = [name for name, version in versions.items() if version is None]
    if missing:
        return Finding("packages", "fail", f"missing: {', '.join(missing)}", f"pip install {' '.join(missing)}")
    return Finding("packages", "ok", ", ".join(f"{name} {version}" for name, version in versions.items()))


def _check_devices() -> Finding:
    import jax

    devices = jax.devices()
    kinds = sorted({device.device_kind for device in devices})
    found = f"{jax.default_backend()}: {len(devices)} x {', '.join(kinds)}"
    if jax.default_backend() == "cpu" and shutil.which("nvidia-smi"):
        advice = 'There is an NVIDIA driver that JAX does not use: pip install "volgrad[cuda]"'
        return Finding("devices", "warn", found, advice)
    return Finding("devices", "ok", found)


def _check_float64() -> Finding:
    """Float64 inside `double_precision`, and no trace of it outside."""
    import jax
    import jax.numpy as jnp

    before = jax.config.read("jax_enable_x64")
    with runtime.double_precision():
        one = jnp.asarray(1.0)
        kept = one.dtype == jnp.float64 and float(one + 2.0**-50) != 1.0
    if not kept or jax.config.read("jax_enable_x64") != before:
        advice = "This JAX does not keep to jax.enable_x64: install the pinned versions."
        return Finding("float64", "fail", f"asked for float64, got {one.dtype}", advice)
    return Finding("float64", "ok", "2^-50 survives beside 1; nothing changes outside the block")


def _check_price() -> Finding:
    """A Black-76 price, compiled and run, against a published value."""
    from volgrad.market import black

    with runtime.double_precision():
        price = 100 * float(black.price(0.0, 0.2 * 0.5**0.5, True))
    error = abs(price - _REFERENCE_PRICE)
    found = f"Black-76 call {price:.12f}, {error:.0e} from the published value"
    if error > 1e-12:
        return Finding("price", "fail", found, "This JAX computes wrongly here: install the pinned versions.")
    return Finding("price", "ok", found)


def _check_compile_cache() -> Finding:
    folder = runtime.compilation_cache_folder()
    if folder is None:
        advice = "Every run compiles anew. Set VOLGRAD_CACHE to a folder that can be written."
        return Finding("compile cache", "warn", f"{runtime.cache_directory()} cannot be written", advice)
    sizes = [entry.stat().st_size for entry in folder.glob("*-cache")]
    megabytes = sum(sizes) / 1e6
    found = f"{folder}, {len(sizes)} functions, {megabytes:.1f} MB"
    if megabytes > _CACHE_WARNING_MB:
        return Finding("compile cache", "warn", found, "Delete the folder to free space; it is made again.")
    return Finding("compile cache", "ok", found)


def _check_threads() -> Finding:
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    limit = os.environ.get("PJRT_NPROC") or os.environ.get("NPROC")
    if limit is None:
        return Finding("threads", "ok", f"{cores} (all cores of this process)")
    if not limit.isdigit() or int(limit) > cores:
        advice = f"Unset NPROC and PJRT_NPROC, or set them to 1 to {cores}."
        return Finding("threads", "warn", f"NPROC={limit} with {cores} cores", advice)
    return Finding("threads", "ok", f"{limit} of {cores} cores, by NPROC")


def _check_data() -> Finding:
    """Real data is optional: benchmarks and some tests use it."""
    folder = runtime.find_data()
    wanted = os.environ.get("VOLGRAD_DATA")
    if folder is not None:
        return Finding("data", "ok", f"{folder}, {len(list(folder.glob('*.parquet')))} quote files")
    if wanted:
        advice = "Set VOLGRAD_DATA to the folder of quote files, or unset it."
        return Finding("data", "warn", f"VOLGRAD_DATA={wanted} is not a folder", advice)
    return Finding("data", "ok", "VOLGRAD_DATA is not set (only benchmarks and some tests need it)")


def _check_environment() -> Finding:
    """Every VOLGRAD_ variable is one that is read: the parser ignores the others silently."""
    unknown = unknown_variables()
    if not unknown:
        given = sorted(name for name in os.environ if name.upper().startswith(PREFIX))
        return Finding("environment", "ok", ", ".join(given) or f"no {PREFIX} variable is set")
    advice = [
        f"{name} is ignored: {'unset it' if nearest is None else f'did you mean {nearest}?'}"
        for name, nearest in unknown.items()
    ]
    return Finding("environment", "warn", f"unknown: {', '.join(unknown)}", "\n".join(advice))


CHECKS: dict[str, Callable[[], Finding]] = {
    "python": _check_python,
    "packages": _check_packages,
    "devices": _check_devices,
    "float64": _check_float64,
    "compile cache": _check_compile_cache,
    "price": _check_price,
    "threads": _check_threads,
    "data": _check_data,
    "environment": _check_environment,
}


def _version(distribution: str) -> str | None:
    try:
        return importlib.metadata.version(distribution)
    except importlib.metadata.PackageNotFoundError:
        return None


def _show(findings: list[Finding], failed: int) -> None:
    from rich.table import Table
    from rich.text import Text

    colours = {"ok": "green", "warn": "yellow", "fail": "bold red"}
    table = Table.grid(padding=(0, 2))
    for finding in findings:
        found = Text(finding.found)
        if finding.advice:
            found.append(f"\n{finding.advice}", style=colours[finding.status])
        status = Text(finding.status, style=colours[finding.status])
        table.add_row(status, Text(finding.check, style="bold"), found)
    warned = sum(finding.status == "warn" for finding in findings)
    console = results_console()
    console.print(f"[bold]volgrad[/] {volgrad.__version__}\n")
    console.print(table)
    summary = "All is well." if not failed + warned else f"{failed} failed, {warned} warned."
    console.print(f"\n{summary}", style=colours["fail" if failed else "warn" if warned else "ok"])
