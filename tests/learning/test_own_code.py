"""A user's own code: its noise as planted, its times as the clock says, and nothing of the user's is touched."""

import json
import math

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from volgrad.errors import InputError
from volgrad.learning.batch_size.chooser import Effort, Wish
from volgrad.learning.batch_size.own_calls import OwnFunction, RowData, next_params
from volgrad.learning.batch_size.own_code import OwnCode, choose_own
from volgrad.learning.batch_size.own_noise import OwnNoise, pieces
from volgrad.learning.batching.noise_scale import noise_scale
from volgrad.learning.batching.size_choice import Bounds, Work

QUICK = Effort(timing=0.01, pilot=0.01, branches=0.0)
D, FAR, NOISE = 6, 0.5, 1.0  # inputs, distance of the params from the truth, deviation of the targets


def loss(w, batch):
    x, y = batch
    return 0.5 * ((x @ w - y) ** 2).mean()


slope = jax.grad(loss)


def step(w, batch):
    return w - 0.01 * slope(w, batch)


def rows(count=2000, dtype=np.float32, seed=0):
    """Linear data; at params of 0 the distance to the truth is FAR."""
    random = np.random.default_rng(seed)
    x = random.standard_normal((count, D))
    y = x @ np.full(D, FAR / math.sqrt(D)) + NOISE * random.standard_normal(count)
    return x.astype(dtype), y.astype(dtype)


def clustered(counts, alike, seed=0):
    """The same where rows of a cluster share their inputs and a part of the noise; ids in random order of rows."""
    random = np.random.default_rng(seed)
    ids = np.repeat(np.arange(len(counts)), counts)
    x = random.standard_normal((len(counts), D))[ids]
    common = random.standard_normal(len(counts))[ids]
    noise = NOISE * (math.sqrt(alike) * common + math.sqrt(1.0 - alike) * random.standard_normal(len(ids)))
    order = random.permutation(len(ids))
    return (x[order], (x @ np.full(D, FAR / math.sqrt(D)) + noise)[order]), ids[order]


def own(data, step=step, grad=slope, params=None, clusters=None, samples=2000, reference=16):
    params = jnp.zeros(D, data[0].dtype) if params is None else params
    return OwnCode(step, grad, params, RowData(data, clusters), Work(samples, reference))


def probe_of(code):
    return OwnNoise(OwnFunction(code.grad), code.data, code.params, lambda: 0.0)


def wish(least=8, most=16, objective="time"):
    return Wish(objective, Bounds(least, most))


# ------------------------------------------------------------------------------------------------------------ the noise


@pytest.mark.parametrize("seed", range(3))
def test_the_noise_scale_of_a_linear_model_is_its_closed_form(seed):
    """`g = x (x'u - e)` with normal x: `E g = u`, trace `(d + 1) |u|^2 + d sigma^2`."""
    found = probe_of(code := own(rows(16_384, seed=seed))).at(code.params, 0)
    expected = (D + 1) + D * NOISE**2 / FAR**2
    assert found.clusters == pytest.approx(expected, rel=0.15)
    assert found.significant
    assert 0.0 < found.lo < found.clusters < found.hi < 2.0 * expected


@pytest.mark.parametrize("alike", [0.0, 0.6])
def test_the_noise_of_clusters_is_told_from_that_of_rows(alike):
    m = 8
    data, ids = clustered(np.full(2048, m), alike)
    code = own(data, clusters=ids)
    found = probe_of(code).at(code.params, 0)
    between = (D + 1) * FAR**2 + D * NOISE**2 * alike
    within = D * NOISE**2 * (1.0 - alike)
    assert found.rows_per_cluster == m
    assert found.clusters == pytest.approx((between + within / m) / FAR**2, rel=0.2)
    assert found.intraclass == pytest.approx(between / (between + within), abs=0.05)
    # rows taken for independent say less than the truth, by the design effect or so
    assert found.per_row < 0.6 * found.rows


@pytest.mark.parametrize("most", [5, 40])
def test_clusters_of_unequal_rows_count_by_their_rows(most):
    """Against all clusters: `g_c = n_c / n * mean over its rows`, whose mean is the gradient over all rows."""
    counts = np.random.default_rng(5).integers(1, most, 1500)
    data, ids = clustered(counts, 0.3)
    code = own(data, clusters=ids)
    x, y = data
    single = x * (-y)[:, None]
    exact = np.stack([single[ids == c].sum(0) for c in range(len(counts))]) / counts.mean()
    mean = exact.mean(0)
    np.testing.assert_allclose(mean, single.mean(0), rtol=1e-9)
    found = probe_of(code).at(code.params, 0)
    expected = exact.var(0, ddof=1).sum() / (mean @ mean)
    assert found.lo < expected < found.hi
    assert found.clusters == pytest.approx(expected, rel=0.25)


@pytest.mark.parametrize("odd", [1, 0], ids=["few rows", "halved"])
def test_of_few_clusters_all_are_counted(odd):
    """Each by its very `g_c`. Rows of small clusters are nearly without noise here."""
    counts = np.random.default_rng(3).integers(1, 7, 120) if odd else 2 * np.random.default_rng(3).integers(1, 12, 120)
    data, ids = clustered(counts, 0.3)
    x, y = data
    y = np.where(counts[ids] > counts.mean(), 3.0 * y, 0.3 * y)
    code = own((x, y), clusters=ids)
    single = x * (-y)[:, None]
    exact = np.stack([single[ids == c].sum(0) for c in range(len(counts))]) / counts.mean()
    exact = exact[[ids[members[0]] for members in code.data.drawn(0, len(counts))]]
    found, expected = probe_of(code).at(code.params, 0), noise_scale(exact @ exact.T)
    assert (found.units, math.isfinite(found.within)) == (len(counts), not odd)
    for name in ("clusters", "trace", "gradient_square"):
        assert getattr(found, name) == pytest.approx(getattr(expected, name), rel=1e-9)


def test_gradients_of_unequal_clusters_need_few_programs():
    data, ids = clustered(np.arange(1, 200), 0.3)
    lengths = set()

    def watched(w, batch):
        lengths.add(len(batch[1]))
        return slope(w, batch)

    code = own(data, grad=watched, clusters=ids)
    probe_of(code).at(code.params, 0)
    assert len(lengths) <= 8 + 2  # powers of two below 200, and the two of the trial


@given(st.integers(1, 5000))
def test_pieces_are_all_rows_once_in_few_lengths(count):
    found = list(pieces(np.arange(count)))
    np.testing.assert_array_equal(np.concatenate(found), np.arange(count))
    assert all(len(piece).bit_count() == 1 for piece in found)
    assert len(found) == count.bit_count()


def test_gradients_that_do_not_add_up_are_taken_of_larger_batches():
    def normalised(w, batch):
        x, y = batch
        x = (x - x.mean(0)[None]) / (x.std(0) + 1e-3)[None]
        return 0.5 * ((x @ w - y) ** 2).mean()

    code = own(rows(640), grad=jax.grad(normalised))
    probe = probe_of(code)
    assert (probe.unit, probe.units) == (32, 20)
    assert "couples rows" in probe.notes[0]
    assert probe.at(code.params, 0).clusters > 0.0


# ------------------------------------------------------------------------------------------------------------- the time


class Clock:
    """Stands still but for what steps add."""

    def __init__(self):
        self.now = 0.0

    def __call__(self):
        return self.now


def numpy_slope(w, batch):
    x, y = batch
    return x.T @ (x @ w - y) / len(y)


def timed(cost, objective="time"):
    clock = Clock()

    def slow(w, batch):
        clock.now += cost(len(batch[1]))
        return w - 0.0 * numpy_slope(w, batch)

    code = own(rows(2048, np.float64), slow, numpy_slope, np.zeros(D))
    return choose_own(code, Wish(objective), Effort(1e6, 1e-9, 0.0), clock)


@pytest.mark.parametrize(("fixed", "a_row"), [(1.0, 0.0), (0.0, 1.0), (1.0, 0.01), (1.0, 0.2), (0.1, 0.3)])
def test_the_choice_follows_the_clock(fixed, a_row):
    decision = timed(lambda count: fixed + a_row * count)
    sizes = np.array([rung.rows for rung in decision.ladder])
    assert sizes.tolist() == [1 << power for power in range(12)]
    np.testing.assert_allclose([rung.step_s_median for rung in decision.ladder], fixed + a_row * sizes)
    cost = (1.0 + decision.noise.rows / sizes) * (fixed + a_row * sizes)
    assert cost[sizes.tolist().index(decision.chosen.rows)] <= 1.021 * cost.min()
    assert decision.predicted_s[0] / decision.predicted_s[-1] == pytest.approx(cost[0] / cost[-1])


def test_slower_rows_make_for_smaller_batches():
    chosen = [timed(lambda count, a_row=a_row: 1.0 + a_row * count).chosen.rows for a_row in (0.0, 0.01, 1.0)]
    assert chosen == sorted(chosen, reverse=True)
    assert len(set(chosen)) == 3


def test_steps_that_would_take_too_long_are_drawn_on():
    clock = Clock()

    def slow(w, batch):
        clock.now += 1e-3 * len(batch[1])
        return w

    decision = choose_own(own(rows(2048, np.float64), slow, numpy_slope, np.zeros(D)), effort=QUICK, clock=clock)
    by_size = {rung.rows: rung for rung in decision.ladder}
    assert not by_size[2048].measured
    assert by_size[2048].step_s_median == pytest.approx(2.048)
    assert any("not timed" in note for note in decision.notes)


def test_what_does_not_fit_is_found_out():
    def large(w, batch):
        if len(batch[1]) > 64:
            raise MemoryError
        return w - 0.01 * numpy_slope(w, batch)

    decision = choose_own(own(rows(1000, np.float64), large, numpy_slope, np.zeros(D)), effort=Effort(0.1, 0.01, 0.0))
    assert [rung.rows for rung in decision.ladder if rung.fits] == [1, 2, 4, 8, 16, 32, 64]
    assert decision.chosen.rows <= 64
    assert all(math.isinf(seconds) for seconds in decision.predicted_s[7:])
    assert "batches of 128 rows and more do not fit into memory" in decision.notes


# ------------------------------------------------------------------------------------------ what is the user's, and how


def test_params_data_and_random_states_are_as_before():
    """Though the step takes all that it is given apart."""
    state = {"w": jnp.ones(D, jnp.float32), "key": jax.random.key(1), "count": jnp.zeros((), jnp.int32)}
    data = tuple(map(jnp.asarray, rows(200)))
    before = jax.tree.map(np.array, (state["w"], data))
    random_state = np.random.get_state()[1].copy()

    def greedy(state, batch):
        key, used = jax.random.split(state["key"])
        x, y = batch
        w = state["w"] - 0.01 * slope(state["w"], (x + 0.01 * jax.random.normal(used, x.shape, x.dtype), y))
        return {"w": w, "key": key, "count": state["count"] + 1}, x, y

    code = own(data, jax.jit(greedy, donate_argnums=(0, 1)), lambda state, batch: slope(state["w"], batch), state)
    decision = choose_own(code, wish(), QUICK)
    assert decision.moments[-1].samples > 0
    jax.tree.map(np.testing.assert_array_equal, (state["w"], data), before)
    assert (jax.random.key_data(state["key"]) == jax.random.key_data(jax.random.key(1))).all()
    np.testing.assert_array_equal(np.random.get_state()[1], random_state)


def test_a_gradient_that_takes_its_params_apart_is_given_copies():
    code = own(rows(100), grad=jax.jit(lambda w, batch: w + slope(w, batch), donate_argnums=0))
    assert probe_of(code).at(code.params, 0) is not None
    assert not code.params.is_deleted()


def test_numpy_code_that_changes_its_params_in_place_is_given_copies():
    params, data = {"w": np.ones(D)}, rows(100, np.float64)
    before = [column.copy() for column in data]

    def in_place(params, batch):
        params["w"] -= 0.01 * numpy_slope(params["w"], batch)
        batch[0][:] = 0.0
        return params

    decision = choose_own(own(data, in_place, lambda p, b: numpy_slope(p["w"], b), params), wish(), QUICK)
    np.testing.assert_array_equal(params["w"], np.ones(D))
    jax.tree.map(np.testing.assert_array_equal, list(data), before)
    assert all(rung.bytes == 0 for rung in decision.ladder)
    assert any("no code that JAX can trace" in note for note in decision.notes)
    assert decision.moments[-1].samples > 0


@pytest.mark.parametrize("x64", [False, True])
def test_single_precision_stays_single(x64):
    seen = set()

    def watched(w, batch):
        seen.update(leaf.dtype for leaf in (w, *batch))
        return step(w, batch)

    def watched_slope(w, batch):
        seen.update(leaf.dtype for leaf in (w, *batch))
        return slope(w, batch)

    with jax.enable_x64(x64):
        settings = dict(jax.config.values)
        code = own(rows(100), watched, watched_slope, jnp.zeros(D, jnp.float32))
        choose_own(code, wish(), QUICK)
        assert jax.config.values == settings
    assert seen == {np.dtype(np.float32)}


@pytest.mark.parametrize(
    "answer",
    [
        step,
        jax.jit(step),
        eqx.filter_jit(step),
        lambda w, batch: (step(w, batch), loss(w, batch)),
        lambda w, batch: (1.0 * step(w, batch)).astype(w.dtype),
    ],
    ids=["params", "jitted", "equinox", "with loss", "cast"],
)
def test_a_step_that_tells_its_params_is_flown(answer):
    decision = choose_own(own(rows(400), answer), wish(), QUICK)
    assert decision.moments[0].samples == 0 < decision.moments[-1].samples
    assert decision.branches == ()
    assert "tells no loss" in decision.reason
    assert all(rung.bytes > 0 for rung in decision.ladder)


def test_a_step_that_keeps_its_params_to_itself_is_not():
    decision = choose_own(own(rows(400), loss), wish(), QUICK)
    assert [moment.samples for moment in decision.moments] == [0]
    assert any("at the given params only" in note for note in decision.notes)


def test_params_of_a_weak_type_are_flown_too():
    params = {"w": jnp.zeros(D), "scale": jnp.asarray(1.0)}
    assert params["scale"].weak_type
    decision = choose_own(
        own(
            rows(400, np.float64),
            lambda p, batch: {"w": step(p["w"], batch), "scale": p["scale"] * 0.9},
            lambda p, batch: slope(p["w"], batch),
            params,
        ),
        wish(),
        QUICK,
    )
    assert decision.moments[-1].samples > 0


def test_a_pilot_may_be_left_out():
    decision = choose_own(own(rows(400)), wish(), QUICK._replace(pilot=0.0))
    assert [moment.samples for moment in decision.moments] == [0]


def test_a_pilot_ends_with_its_share_of_the_run():
    """And is looked at half way: the noise gone by is that of the two."""
    decision = choose_own(own(rows(400), samples=20_000), wish(), QUICK._replace(pilot=1e6))
    samples = [moment.samples for moment in decision.moments]
    assert len(samples) in (2, 3)
    assert samples[-1] >= 0.05 * 20_000 > samples[0] == 0
    assert decision.noise.units == sum(moment.noise.units for moment in decision.moments[1:])


def test_a_pilot_that_runs_away_is_told():
    decision = choose_own(own(rows(400), lambda w, batch: w - 1e30 * slope(w, batch)), wish(), QUICK)
    assert any("ran away" in note for note in decision.notes)
    assert math.isfinite(decision.noise.clusters)


def test_a_batch_of_clusters_has_their_rows():
    data, ids = clustered(np.random.default_rng(0).integers(2, 9, 60), 0.3)
    decision = choose_own(own(data, clusters=ids, params=jnp.zeros(D)), wish(), QUICK)
    assert [rung.clusters for rung in decision.ladder] == [8, 16]
    assert [rung.rows for rung in decision.ladder] == [round(size * len(ids) / 60) for size in (8, 16)]
    assert decision.chosen.rows_per_cluster == len(ids) / 60
    assert "clusters (" in decision.reason


def test_the_decision_reads_as_its_file():
    decision = choose_own(own(rows(100)), wish(), QUICK)
    told = json.loads(json.dumps(decision.to_dict(), allow_nan=False))
    assert {"chosen", "ladder", "noise", "branches", "probe_s", "compile_s", "reason"} <= set(told)
    assert set(told["chosen"]) == {"clusters", "rows_per_cluster", "rows"}
    assert {"rows", "step_s_median", "step_s_iqr", "bytes", "predicted_s"} <= set(told["ladder"][0])
    assert {"rows", "lo", "hi", "significant"} <= set(told["noise"])
    assert decision["chosen"]["rows"] == decision.chosen.rows == told["chosen"]["rows"]


# ------------------------------------------------------------------------------------------------------------- the data


@given(st.lists(st.integers(1, 5), min_size=1, max_size=9), st.integers(0, 30), st.integers(1, 9))
def test_batches_are_of_whole_clusters_and_one_shape(counts, position, size):
    ids = np.random.default_rng(1).permutation(np.repeat(np.arange(len(counts)), counts))
    data = RowData({"id": ids, "row": np.arange(len(ids))}, ids)
    assert data.counts.tolist() == counts
    epoch = data.drawn(0, data.clusters)
    assert sorted(np.concatenate(epoch).tolist()) == list(range(len(ids)))
    for members in epoch:
        assert len(set(ids[members])) == 1
    batch = data.batch(position, size)
    assert len(batch["row"]) == data.rows_in(size) == max(1, round(size * len(ids) / len(counts)))
    np.testing.assert_array_equal(batch["id"], ids[batch["row"]])


def test_the_order_depends_on_the_seed_only():
    one, same, other = (RowData(np.arange(50), seed=seed) for seed in (1, 1, 2))
    np.testing.assert_array_equal(one.batch(3, 20), same.batch(3, 20))
    assert (one.batch(3, 20) != other.batch(3, 20)).any()
    np.testing.assert_array_equal(np.concatenate([one.batch(0, 20), one.batch(20, 30)]), one.batch(0, 50))


def test_leaves_stay_of_their_kind():
    batch = RowData((np.zeros(3, np.int16), {"a": jnp.zeros((3, 2), jnp.bfloat16)})).batch(0, 2)
    assert isinstance(batch[0], np.ndarray)
    assert isinstance(batch[1]["a"], jax.Array)
    assert (batch[0].dtype, batch[1]["a"].dtype) == (np.int16, jnp.bfloat16)


@pytest.mark.parametrize(
    ("data", "clusters", "said"),
    [
        ((np.zeros(3), {"y": np.zeros((4, 2))}), None, r"unequal rows: data\[0\] has 3, data\[1\]\['y'\] has 4"),
        ((np.zeros((0, 2)), np.zeros(0)), None, "data of no rows"),
        ((), None, "no array"),
        ([1.0, 2.0], None, r"data\[0\] is float without rows"),
        (np.zeros(3), [1, 2], r"clusters of shape \(2,\): give one id for each of the 3 rows"),
    ],
    ids=["unequal", "no rows", "nothing", "numbers", "ids"],
)
def test_data_that_cannot_be_used_are_told(data, clusters, said):
    with pytest.raises(InputError, match=said):
        RowData(data, clusters)


@pytest.mark.parametrize(
    ("data", "grad", "said"),
    [
        ((np.full((9, D), np.nan), np.zeros(9)), slope, "6 of 6 numbers that are not finite"),
        (rows(100), lambda w, batch: len(batch[1]) * slope(w, batch), "gave the sum over rows"),
        (rows(100), lambda w, batch: None, "NoneType without numbers"),
        (rows(1), slope, "data of 1 cluster"),
    ],
    ids=["not a number", "sum", "nothing", "one row"],
)
def test_gradients_that_say_nothing_are_refused(data, grad, said):
    with pytest.raises(InputError, match=said):
        choose_own(own(data, grad=grad), wish(1, 2), QUICK)


def test_a_single_bad_row_is_refused():
    x, y = rows(600)
    y[np.random.default_rng(0).permutation(600)[64:].max()] = np.inf  # none of those that the trial looks at
    with pytest.raises(InputError, match="not finite for some rows"):
        choose_own(own((x, y)), wish(), QUICK)


def test_what_the_users_code_raises_is_passed_on():
    def broken(w, batch):
        raise ZeroDivisionError("mine")

    with pytest.raises(ZeroDivisionError, match="mine"):
        choose_own(own(rows(50), broken), wish(), QUICK)


@pytest.mark.parametrize("answer", [None, 0.5, (), (0.5,), {"w": np.ones(2)}, np.ones(3), np.ones(2, np.float32)])
def test_what_has_not_the_form_of_params_is_none(answer):
    assert next_params(answer, np.ones(2)) is None


def test_params_that_are_a_tuple_themselves_are_told_apart():
    params = (np.ones(2), np.ones(3))
    assert next_params((np.zeros(2), np.zeros(3)), params)[1].shape == (3,)
    assert next_params((params, 1.0), params) == params
