"""A batch spread over two devices is normalised as on one."""

import os
import subprocess
import sys
import textwrap
from pathlib import Path

ROOT = Path(__file__).parents[3]

# two devices exist only where the platform is asked for them before it starts, hence a process of its own
PROGRAM = textwrap.dedent(
    """
    import jax, jax.numpy as jnp, numpy as np
    from jax.sharding import PartitionSpec as P

    from volgrad.models.networks.normalisation import BatchNorm, BatchRenorm, GhostNorm, StreamNorm

    jax.config.update("jax_enable_x64", True)
    mesh = jax.make_mesh((2,), ("data",), axis_types=(jax.sharding.AxisType.Auto,))
    random = np.random.default_rng(0)
    x = 60_000.0 + np.linspace(0, 40, 8)[:, None, None] + random.standard_normal((8, 5, 3))
    mask, dy = random.random((8, 5)) < 0.7, random.standard_normal(x.shape)
    mask[4], mask[0, 0] = False, False
    layers = {
        "batch": (True, lambda axis: BatchNorm(3, axis_name=axis)),
        "ghost": (True, lambda axis: GhostNorm(3, 2, axis_name=axis)),
        "renorm": (True, lambda axis: BatchRenorm(3, hold_clusters=0.0, ramp_clusters=4.0, axis_name=axis)),
        "stream": (False, lambda axis: StreamNorm(BatchNorm(3, axis_name=axis), 5.0)),
    }
    for name, (training, make) in layers.items():
        variables, start = jax.tree.map(lambda leaf: leaf.astype(jnp.float64), make(None).init(jax.random.key(0)))
        start = jax.jit(lambda s: make(None)(variables, s, x[:3], mask[:3], True)[1])(start)

        def both(axis, x, mask, dy):
            def along(x):
                y, after = make(axis)(variables, start, x, mask, training)
                return (y * dy).sum(), (y, after)

            return jax.grad(along, has_aux=True)(x)

        spread = jax.shard_map(
            lambda *given: both("data", *given), mesh=mesh, in_specs=(P("data"),) * 3,
            out_specs=(P("data"), (P("data"), P())), check_vma=False,
        )
        found, wanted = jax.jit(spread)(x, mask, dy), jax.jit(lambda *given: both(None, *given))(x, mask, dy)
        for left, right in zip(jax.tree.leaves(found), jax.tree.leaves(wanted), strict=True):
            np.testing.assert_allclose(left, right, rtol=1e-7, atol=1e-7, err_msg=name)
    print("equal on", jax.device_count())
    """
)


def test_two_devices_normalise_as_one():
    environment = os.environ | {
        "XLA_FLAGS": "--xla_force_host_platform_device_count=2",
        "JAX_PLATFORMS": "cpu",
        "PYTHONPATH": str(ROOT / "src"),
    }
    command = [sys.executable, "-c", PROGRAM]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False, timeout=120)
    assert done.stdout.strip() == "equal on 2", done.stderr
