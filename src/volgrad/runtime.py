"""The process around the mathematics: precision, threads, the compilation cache, where data and caches lie.

Importing volgrad changes no setting. Whoever owns the process does, through this module: the command line
calls `start` before any work; a library user enters `double_precision` around a call and keeps float32
elsewhere.
"""

import hashlib
import os
import platform
import sys
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from volgrad.errors import InputError

__all__ = [
    "cache_directory",
    "compilation_cache_folder",
    "double_precision",
    "enable_compilation_cache",
    "find_data",
    "limit_threads",
    "require_devices",
    "require_double_precision",
    "start",
    "use_double_precision",
]

# The pools of threads in the process and the variable that sizes each when its library loads. Measured on two
# cores (jax 0.10.2, CPU time over wall time of a matrix product, an elementwise function and a linear solve):
# 1.9 to 2.0 without a limit, and no less with XLA_FLAGS=--xla_cpu_multi_thread_eigen=false; with NPROC=1 the
# first two fall to 1.0 and the solve (scipy's OpenBLAS) stays at 1.9; with all of them every one is at 1.0.
_THREAD_VARIABLES = (
    "NPROC",  # XLA's pool on the CPU
    "PJRT_NPROC",  # the same, read first by newer releases
    "OPENBLAS_NUM_THREADS",  # linear algebra of numpy and of scipy, which JAX calls
    "OMP_NUM_THREADS",  # pyarrow and OpenMP
    "MKL_NUM_THREADS",
    "POLARS_MAX_THREADS",
)
_THREADED_LIBRARIES = ("jaxlib", "numpy", "scipy", "pyarrow", "polars")


@contextmanager
def double_precision() -> Iterator[None]:
    """Float64 inside the block, whatever the process uses elsewhere: the one place where volgrad enters it.

    Works as a decorator too. Arrays made inside stay float64 when the block is left.

    >>> import jax.numpy as jnp
    >>> with double_precision():
    ...     print(jnp.ones(3).dtype)
    float64
    """
    import jax

    with jax.enable_x64(True):
        yield


def require_double_precision(what: str) -> None:
    """Refuse to compute in single precision, for public functions whose results would be worthless there.

    Args:
        what: what needs it, such as "implied volatility".

    Raises:
        InputError: JAX is in single precision.
    """
    import jax

    if not jax.config.read("jax_enable_x64"):
        raise InputError(
            f"{what} needs float64, and JAX is in single precision: call it inside `with volgrad.double_precision():`"
        )


def use_double_precision() -> None:
    """Float64 for the rest of the process. For programs such as the command line, never for library code."""
    import jax

    jax.config.update("jax_enable_x64", True)


def limit_threads(threads: int) -> None:
    """Give every pool of threads in this process (and in those it starts) at most `threads` threads.

    Must run before jax, numpy, scipy, pyarrow and polars are loaded: each sizes its pool then. XLA runs small
    operations, and those inside a loop, on one thread whatever the limit.

    Args:
        threads: 1 or more.

    Raises:
        InputError: `threads` below 1, or a library with a pool is loaded already and would ignore the limit.
    """
    if threads < 1:
        raise InputError(f"threads must be 1 or more, not {threads}")
    wanted = {name: str(threads) for name in _THREAD_VARIABLES}
    if all(os.environ.get(name) == value for name, value in wanted.items()):
        return
    loaded = [name for name in _THREADED_LIBRARIES if name in sys.modules]
    if loaded:
        settings = " ".join(f"{name}={value}" for name, value in wanted.items())
        raise InputError(
            f"the limit of {threads} threads comes too late: {', '.join(loaded)} loaded already. "
            f"Set it before importing them, or start Python with {settings}"
        )
    os.environ.update(wanted)


def cache_directory() -> Path:
    """Where files are kept that can be made again: `$VOLGRAD_CACHE`, else the platform's place for caches."""
    if chosen := os.environ.get("VOLGRAD_CACHE"):
        return Path(chosen).expanduser()
    if sys.platform == "darwin":
        return Path.home() / "Library" / "Caches" / "volgrad"
    if sys.platform == "win32":
        return Path(os.environ.get("LOCALAPPDATA", Path.home())) / "volgrad" / "cache"
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "volgrad"


def compilation_cache_folder(directory: Path | None = None) -> Path | None:
    """The folder of compiled functions for this machine's processor, made if need be.

    XLA loads code that was compiled for another processor without asking (measured: AVX-512 code in a process
    held to SSE 4.2), so each kind of processor has a folder of its own.

    Args:
        directory: where such folders lie; default `cache_directory() / "xla"`.

    Returns:
        The folder, or None where it cannot be made or written.
    """
    folder = (directory or cache_directory() / "xla") / _processor_id()
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError:
        return None
    return folder if os.access(folder, os.W_OK) else None


def enable_compilation_cache(directory: Path | None = None) -> Path | None:
    """Keep every compiled function on disk, so that the second run of a program does not compile again.

    An entry that is damaged or cannot be written costs a compilation and nothing else; JAX's warning about it
    is silenced.

    Args:
        directory: see `compilation_cache_folder`.

    Returns:
        The folder in use, or None where it cannot be written and the cache stays off.
    """
    import jax

    folder = compilation_cache_folder(directory)
    if folder is None:
        return None
    jax.config.update("jax_compilation_cache_dir", str(folder))
    jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.0)
    jax.config.update("jax_persistent_cache_min_entry_size_bytes", -1)
    warnings.filterwarnings("ignore", "Error (reading|writing) persistent compilation cache", UserWarning)
    return folder


def start(threads: int | None = None) -> Path | None:
    """Set up a program's process: thread limit if any, float64, compilation cache. Call before other imports.

    Args:
        threads: the limit, or None for every core.

    Returns:
        The compilation cache's folder, or None where there is none to write to.

    Raises:
        InputError: see `limit_threads`; or `$JAX_PLATFORMS` asks for a device that is not here.
    """
    if threads is not None:
        limit_threads(threads)
    elif "numpy" not in sys.modules:
        # matrices here are small, and a second OpenBLAS thread waits for its core by spinning: with another process
        # on one of two cores a fit took 350 ms instead of 25 (measured)
        os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
    use_double_precision()
    require_devices()
    return enable_compilation_cache()


def require_devices() -> None:
    """Refuse to go on where `$JAX_PLATFORMS` asks for a device that is not here.

    Where nothing is asked for, JAX takes a GPU if there is one, and the CPU otherwise.

    Raises:
        InputError: there is no such device; the message says what to do.
    """
    wanted = os.environ.get("JAX_PLATFORMS", "")
    if wanted in ("", "cpu"):
        return
    import jax

    try:
        jax.devices()
    except (RuntimeError, AssertionError) as error:  # JAX raises either, the latter without a word
        raise InputError(
            f"JAX_PLATFORMS asks for {wanted!r}, and JAX finds no such device here: unset it to run on the CPU, or "
            "install volgrad[cuda] on a machine with a GPU"
        ) from error


def find_data() -> Path | None:
    """The folder of real market data for tests and benchmarks, or None where there is none.

    `$VOLGRAD_DATA` where it is set; else, in a source checkout, `../shared/data` beside it.
    """
    if chosen := os.environ.get("VOLGRAD_DATA"):
        folder = Path(chosen).expanduser()
    else:
        folder = Path(__file__).resolve().parents[2].parent / "shared" / "data"
    return folder if folder.is_dir() else None


def _processor_id() -> str:
    """A short name of this kind of processor: architecture and a digest of what it can do."""
    traits = [platform.machine(), platform.processor()]
    description = Path("/proc/cpuinfo")
    if description.is_file():
        wanted = ("model name", "flags", "Features", "CPU part")
        lines = description.read_text(errors="replace").splitlines()
        traits += sorted({line for line in lines if line.startswith(wanted)})
    return f"{platform.machine()}-{hashlib.sha256('|'.join(traits).encode()).hexdigest()[:8]}"
