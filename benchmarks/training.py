"""What a training step costs in `volgrad train`, beside the same loop written by hand and in other frameworks.

    python -m benchmarks.training --seed 0 --json FILE [--sizes 32,128,512,2048,8192] [--turns 5] [--seconds 10]

The network: 8 features, 4 x 64 with batch normalisation and SiLU, 1 output, float32, Adam, squared error; a million
rows in memory, shuffled. What each loop does in its steps:

* volgrad: `volgrad train` on a training image with `[task] use = "regression"`: keyed shuffle and gather on the host
  beside the steps, inputs scaled in the step, running statistics (debiased, clocked in samples), schedule clocked in
  samples, clipping, gradient norm, finite check of every step, guard, metrics file, checkpoints, and an evaluation of
  65,536 validation rows at the middle and the end of a run. Timed from the first dispatch to the last file.
- by hand: a `lax.scan` over optax's Adam on the tree of parameters; data on the device, shuffled by `jax.random`;
  running statistics; the losses come back. No guard, no checkpoint, no evaluation.
- torch: eager, fused Adam, batches by indexing a shuffled permutation (no DataLoader); the better of 1 and 2 threads.
- Keras on JAX: `fit` on the arrays.

All take turns within one process, so that a busy machine slows all alike; a figure is the median over turns, ratios are
medians of each turn's ratio. Compilation is left out. `share of peak` is the network's multiplications (6 x weights a
row: forward, and back by inputs and by weights) over the best rate of a large float32 matrix product on this machine.
Rivals that are not installed are named as left out.
"""

import importlib
import importlib.metadata
import importlib.util
import json
import os
import platform
import statistics
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from time import perf_counter
from typing import Annotated, Any

import cyclopts
import numpy as np

FEATURES, WIDTH, DEPTH = 8, 64, 4
WEIGHTS = FEATURES * WIDTH + (DEPTH - 1) * WIDTH * WIDTH + WIDTH
Loop = Callable[[int], float]


def table(rows: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Standard normal features and a smooth noisy target."""
    random = np.random.default_rng(seed)
    x = random.standard_normal((rows, FEATURES), np.float32)
    y = np.sin(2.0 * x[:, 0]) * x[:, 1] + 0.3 * x[:, 2] ** 2 + 0.1 * random.standard_normal(rows).astype(np.float32)
    return x, y.astype(np.float32)[:, None]


# --------------------------------------------------------------------------------------------------------- volgrad


def volgrad_loop(image: Path, size: int, seed: int) -> Loop:
    """Seconds of so many steps, from the end of compilation to the end of the run."""
    from volgrad.learning.run import Hooks
    from volgrad.tasks.training import train

    recipe = image.parent / "recipe.toml"
    recipe.write_text(
        f'seed = {seed}\n[task]\nuse = "regression"\n[data]\nsource = "{image.name}"\n'
        f'[model]\nwidth = {WIDTH}\ndepth = {DEPTH}\nnorm = "batch"\n[budget]\nepochs = 1\n'
    )

    def loop(steps: int) -> float:
        stages: dict[str, float] = {}
        hooks = Hooks(stage=lambda name: stages.__setitem__(name, perf_counter()))
        settings = [f"batch.size={size}", f"budget.samples={steps * size}", "evaluate.every=0.5"]
        with tempfile.TemporaryDirectory() as folder:
            train(recipe, Path(folder) / "run", settings=settings, hooks=hooks)
        return perf_counter() - stages["training"]

    return loop


def write_image(folder: Path, x: np.ndarray, y: np.ndarray) -> Path:
    """The table as a training image; a row is a cluster."""
    from volgrad.data.image import Feature, ImageWriter

    features = [*(Feature(f"x{place}", "1") for place in range(x.shape[1])), Feature("y", "1")]
    stamps = np.arange(len(x), dtype=np.int64)
    with ImageWriter(folder / "image", features) as writer:
        writer.append(np.concatenate([x, y], 1), np.ones(len(x), np.int64), stamps, stamps)
        writer.seal({"made": "for a benchmark"})
    return folder / "image"


# ----------------------------------------------------------------------------------------------------------- by hand


def hand_loop(x: np.ndarray, y: np.ndarray, size: int, seed: int) -> Loop:
    """The loop that a good engineer writes in an afternoon."""
    import jax
    import jax.numpy as jnp
    import optax

    def init(key):
        shapes = [(FEATURES, WIDTH)] + [(WIDTH, WIDTH)] * (DEPTH - 1) + [(WIDTH, 1)]
        keys = jax.random.split(key, len(shapes))
        layers = [
            {"w": jax.random.normal(k, s, jnp.float32) * jnp.float32(np.sqrt(2 / s[0])), "b": jnp.zeros(s[1], "f4")}
            for k, s in zip(keys, shapes, strict=True)
        ]
        norms = [{"g": jnp.ones(WIDTH, "f4"), "b": jnp.zeros(WIDTH, "f4")} for _ in range(DEPTH)]
        running = [{"m": jnp.zeros(WIDTH, "f4"), "v": jnp.ones(WIDTH, "f4")} for _ in range(DEPTH)]
        return {"layers": layers, "norms": norms}, running

    def forward(params, running, x):
        after = []
        for layer, norm, old in zip(params["layers"][:-1], params["norms"], running, strict=True):
            x = x @ layer["w"] + layer["b"][None, :]
            mean = x.mean(0)
            centred = x - mean[None, :]
            variance = (centred**2).mean(0)
            x = centred * jax.lax.rsqrt(variance + 1e-5)[None, :] * norm["g"][None, :] + norm["b"][None, :]
            x = jax.nn.silu(x)
            after.append({"m": 0.99 * old["m"] + 0.01 * mean, "v": 0.99 * old["v"] + 0.01 * variance})
        return x @ params["layers"][-1]["w"] + params["layers"][-1]["b"][None, :], after

    optimizer = optax.adam(1e-3)

    def loss(params, running, x, y):
        out, after = forward(params, running, x)
        return ((out - y) ** 2).mean(), after

    def step(carry, index):
        params, running, moments = carry
        (value, running), gradient = jax.value_and_grad(loss, has_aux=True)(params, running, xd[index], yd[index])
        updates, moments = optimizer.update(gradient, moments, params)
        return (optax.apply_updates(params, updates), running, moments), value

    @jax.jit
    def many(carry, order):
        return jax.lax.scan(step, carry, order)

    shuffle = jax.jit(lambda key: jax.random.permutation(key, len(x)))
    xd, yd = jnp.asarray(x), jnp.asarray(y)
    params, running = init(jax.random.key(seed))
    carry = (params, running, optimizer.init(params))
    chunk = max(4, min(1024, 65_536 // size))
    compiled = many.lower(carry, jax.ShapeDtypeStruct((chunk, size), jnp.int64)).compile()

    def loop(steps: int) -> float:
        nonlocal carry
        began, done, epoch = perf_counter(), 0, 0
        order, losses = np.zeros(0, np.int64), np.zeros(0)
        while done < steps:
            if len(order) < chunk * size:
                fresh = np.asarray(shuffle(jax.random.key(epoch)), np.int64)
                order, epoch = np.concatenate([order, fresh]), epoch + 1
            part, order = order[: chunk * size], order[chunk * size :]
            carry, losses = compiled(carry, part.reshape(chunk, size))
            done += chunk
        np.asarray(losses)
        return (perf_counter() - began) * steps / done

    return loop


# ------------------------------------------------------------------------------------------------------------ rivals


def torch_loop(x: np.ndarray, y: np.ndarray, size: int, seed: int, threads: int) -> Loop:
    """Eager torch with the fused optimiser, batches by index."""
    torch: Any = importlib.import_module("torch")
    torch.manual_seed(seed)
    layers: list[Any] = []
    for place in range(DEPTH):
        layers += [torch.nn.Linear(WIDTH if place else FEATURES, WIDTH), torch.nn.BatchNorm1d(WIDTH), torch.nn.SiLU()]
    model = torch.nn.Sequential(*layers, torch.nn.Linear(WIDTH, 1))
    optimizer = torch.optim.Adam(model.parameters(), fused=True)
    xt, yt = torch.from_numpy(x), torch.from_numpy(y)

    def loop(steps: int) -> float:
        torch.set_num_threads(threads)
        began = perf_counter()
        order = torch.randperm(len(xt))
        for step in range(steps):
            at = step * size % (len(xt) - size + 1)
            index = order[at : at + size]
            optimizer.zero_grad(set_to_none=True)
            loss = torch.nn.functional.mse_loss(model(xt[index]), yt[index])
            loss.backward()
            optimizer.step()
        return perf_counter() - began

    return loop


def keras_loop(x: np.ndarray, y: np.ndarray, size: int, seed: int) -> Loop:
    """`Model.fit` of Keras on its JAX backend."""
    os.environ["KERAS_BACKEND"] = "jax"
    import jax

    with jax.enable_x64(False):
        keras: Any = importlib.import_module("keras")
        keras.utils.set_random_seed(seed)
        layers: list[Any] = []
        for _ in range(DEPTH):
            layers += [keras.layers.Dense(WIDTH), keras.layers.BatchNormalization(), keras.layers.Activation("silu")]
        model = keras.Sequential([keras.Input((FEATURES,)), *layers, keras.layers.Dense(1)])
        model.compile(optimizer="adam", loss="mse", jit_compile=True)
        model.fit(x[: 4 * size], y[: 4 * size], batch_size=size, epochs=1, verbose=0)

    def loop(steps: int) -> float:
        with jax.enable_x64(False):
            began, done = perf_counter(), 0
            while done < steps:
                rows = min(len(x) // size, steps - done) * size
                model.fit(x[:rows], y[:rows], batch_size=size, epochs=1, shuffle=True, verbose=0)
                done += rows // size
            return perf_counter() - began

    return loop


# ----------------------------------------------------------------------------------------------------------- the run


def peak_flops() -> float:
    """Best rate of a float32 matrix product on all cores, operations a second."""
    import jax
    import jax.numpy as jnp

    a = jnp.ones((1536, 1536), jnp.float32)
    product = jax.jit(lambda a: a @ a)
    product(a).block_until_ready()
    times = []
    for _ in range(8):
        began = perf_counter()
        product(a).block_until_ready()
        times.append(perf_counter() - began)
    return 2 * 1536**3 / min(times)


def loops(image: Path, x: np.ndarray, y: np.ndarray, size: int, seed: int) -> tuple[dict[str, Loop], list[str]]:
    """Every loop that can run here, and what is left out, with the reason."""
    found: dict[str, Loop] = {"volgrad": volgrad_loop(image, size, seed), "by hand": hand_loop(x, y, size, seed)}
    left_out = []
    if importlib.util.find_spec("torch"):
        found |= {f"torch, {threads} threads": torch_loop(x, y, size, seed, threads) for threads in (1, 2)}
    else:
        left_out.append("torch (not installed)")
    if importlib.util.find_spec("keras"):
        found["keras on jax"] = keras_loop(x, y, size, seed)
    else:
        left_out.append("keras on jax (not installed)")
    return found, left_out


def measure(found: dict[str, Loop], size: int, turns: int, seconds_a_turn: float) -> dict[str, list[float]]:
    """Seconds a step of each loop in every turn."""
    steps = {}
    for name, loop in found.items():
        loop(8)
        few, many = 64, 64 + max(256, 262_144 // size)  # a run has costs that are not those of its steps
        spent = loop(few)
        steps[name] = max(64, int(seconds_a_turn * (many - few) / max(loop(many) - spent, 1e-3)))
    seconds: dict[str, list[float]] = {name: [] for name in found}
    for _ in range(turns):
        for name, loop in found.items():
            seconds[name].append(loop(steps[name]) / steps[name])
    return seconds


def main(
    *,
    seed: int = 0,
    json_: Annotated[Path | None, cyclopts.Parameter(name="--json")] = None,
    rows: int = 1_000_000,
    sizes: str = "32,128,512,2048,8192",
    turns: int = 5,
    seconds: float = 10.0,
) -> None:
    """Measure, print a table, and write the figures."""
    from volgrad import runtime

    runtime.start()
    x, y = table(rows, seed)
    peak = peak_flops()
    result: dict[str, Any] = {
        "command": ["benchmarks.training", *sys.argv[1:]],
        "machine": f"{platform.machine()}, {os.cpu_count()} cores",
        "versions": {name: importlib.metadata.version(name) for name in ("jax", "numpy", "optax")},
        "peak_gflops": peak / 1e9,
        "sizes": {},
    }
    print(f"matrix peak {peak / 1e9:.0f} GFLOP/s")
    scratch = tempfile.TemporaryDirectory()
    image = write_image(Path(scratch.name), x, y)
    for size in map(int, sizes.split(",")):
        found, result["left_out"] = loops(image, x, y, size, seed)
        spent = measure(found, size, turns, seconds)
        ours = spent["volgrad"]
        told = {}
        for name, times in spent.items():
            ratio = statistics.median(other / own for other, own in zip(times, ours, strict=True))
            told[name] = {
                "ms": 1e3 * statistics.median(times),
                "times_ours": ratio,
                "turns_ms": [1e3 * t for t in times],
            }
        share = 6 * WEIGHTS * size / statistics.median(ours) / peak
        result["sizes"][size] = told | {"share_of_peak": share}
        line = "  ".join(f"{name} {told[name]['ms']:.3f} ms ({told[name]['times_ours']:.2f})" for name in told)
        print(f"B = {size}: {line}; {100 * share:.0f} % of peak", flush=True)
    scratch.cleanup()
    print(f"left out: {', '.join(result['left_out']) or 'nothing'}")
    if json_ is not None:
        json_.write_text(json.dumps(result, indent=1))


if __name__ == "__main__":
    cyclopts.run(main)
