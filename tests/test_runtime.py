"""Precision, threads, caches and data: set where the process is owned, and nowhere else."""

import json
import os
import subprocess
import sys

import jax
import jax.numpy as jnp
import pytest

from volgrad import runtime
from volgrad.errors import InputError


def run_python(program, **environment):
    """Run a program in a fresh interpreter; what it printed as JSON."""
    variables = {name: value for name, value in os.environ.items() if not name.endswith(("NPROC", "_NUM_THREADS"))}
    command = [sys.executable, "-W", "error", "-c", program]
    done = subprocess.run(command, capture_output=True, text=True, env=variables | environment, check=False)
    assert done.stderr == ""
    return json.loads(done.stdout)


def test_double_precision_holds_inside_and_leaves_no_trace():
    with jax.enable_x64(False):
        with runtime.double_precision():
            inside = jnp.ones(2)
        assert inside.dtype == jnp.float64
        assert jnp.ones(2).dtype == jnp.float32


def test_double_precision_decorates_functions():
    @runtime.double_precision()
    def third():
        return jnp.asarray(1.0) / 3

    with jax.enable_x64(False):
        assert float(third()) == 1 / 3


def test_single_precision_is_refused_where_it_would_be_worthless():
    with jax.enable_x64(False), pytest.raises(InputError, match="a price needs float64"):
        runtime.require_double_precision("a price")
    with jax.enable_x64(False), runtime.double_precision():
        runtime.require_double_precision("a price")


CACHED = """
import json
from volgrad import runtime
folder = runtime.start()
import jax, jax.numpy as jnp
seen = []
jax.monitoring.register_event_listener(lambda name, **_: seen.append(name.rsplit("/", 1)[-1]))
total = jax.jit(lambda x: jnp.sin(x) @ x)(jnp.linspace(0.0, 1.0, 7))
print(json.dumps([str(folder), str(total.dtype), seen.count("cache_hits"), seen.count("cache_misses")]))
"""


def test_the_second_run_of_a_program_compiles_nothing(tmp_path):
    folder, dtype, hits, misses = run_python(CACHED, VOLGRAD_CACHE=str(tmp_path))
    assert folder.startswith(str(tmp_path))
    assert dtype == "float64"
    assert hits == 0
    assert misses > 0
    assert run_python(CACHED, VOLGRAD_CACHE=str(tmp_path)) == [folder, dtype, misses, 0]


def test_a_damaged_cache_entry_costs_a_compilation_and_no_warning(tmp_path):
    misses = run_python(CACHED, VOLGRAD_CACHE=str(tmp_path))[3]
    for entry in tmp_path.rglob("*-cache"):
        entry.write_bytes(entry.read_bytes()[:20])
    assert run_python(CACHED, VOLGRAD_CACHE=str(tmp_path))[3] == misses


def test_a_cache_that_cannot_be_written_stays_off(tmp_path, monkeypatch):
    in_the_way = tmp_path / "file"
    in_the_way.touch()
    monkeypatch.setenv("VOLGRAD_CACHE", str(in_the_way))
    assert runtime.compilation_cache_folder() is None
    assert runtime.enable_compilation_cache() is None


LIMITED = """
import json, time
from volgrad import runtime
runtime.limit_threads(1)
runtime.limit_threads(1)
import jax, jax.numpy as jnp
runtime.limit_threads(1)
x = jnp.ones((600, 600))
def spend(work):
    work().block_until_ready()
    busy, wall = time.process_time(), time.perf_counter()
    for _ in range(20):
        work().block_until_ready()
    return (time.process_time() - busy) / (time.perf_counter() - wall)
product = spend(lambda: x @ x)
solve = spend(lambda: jnp.linalg.solve(x + 600 * jnp.eye(600), x))
print(json.dumps([product, solve]))
"""


def test_a_limit_of_one_thread_keeps_products_and_solves_to_one_core():
    product, solve = run_python(LIMITED)
    assert product < 1.3
    assert solve < 1.3


def test_a_limit_that_comes_too_late_is_refused(monkeypatch):
    monkeypatch.setenv("NPROC", "1")
    with pytest.raises(InputError, match=r"limit of 7 threads comes too late: .*numpy.*NPROC=7"):
        runtime.limit_threads(7)


@pytest.mark.parametrize("threads", [0, -1])
def test_a_limit_below_one_is_refused(threads):
    with pytest.raises(InputError, match=f"1 or more, not {threads}"):
        runtime.limit_threads(threads)


def test_data_is_where_the_environment_says(tmp_path, monkeypatch):
    monkeypatch.setenv("VOLGRAD_DATA", str(tmp_path))
    assert runtime.find_data() == tmp_path
    monkeypatch.setenv("VOLGRAD_DATA", str(tmp_path / "nowhere"))
    assert runtime.find_data() is None


def test_a_device_that_is_not_there_is_told_in_a_sentence():
    words = [sys.executable, "-m", "volgrad", "doctor"]
    wanted = os.environ | {"JAX_PLATFORMS": "rocm"}
    done = subprocess.run(words, env=wanted, capture_output=True, text=True, check=False)
    assert done.returncode == 2
    assert done.stderr.count("\n") == 1
    assert "JAX_PLATFORMS asks for 'rocm'" in done.stderr
    assert "unset it to run on the CPU" in done.stderr
