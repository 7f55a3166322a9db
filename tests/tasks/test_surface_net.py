"""`surface-net`: silent weights are local-vol; whatever is said is free of arbitrage; memory tells what is missing."""

import dataclasses
from functools import cache

import jax
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.tasks.chains import DAY_US, TS_US, chain_of
from volgrad.errors import DamagedError, InputError
from volgrad.learning.batching.loader import Loader, batch_of
from volgrad.learning.training.first_order import named
from volgrad.learning.training.loop import begin
from volgrad.market.chain import Chain
from volgrad.market.clock import clock_years
from volgrad.models.local_vol import KNOTS
from volgrad.models.slices import SlicedSurface
from volgrad.models.surface_net import OUTPUTS, spoken
from volgrad.tasks.fit import FitOptions, Fitter, fit_chain
from volgrad.tasks.fitted import FittedChain
from volgrad.tasks.surface_net import SurfaceNet, load_weights, silent
from volgrad.tasks.surface_net.features import FEATURES, tell
from volgrad.tasks.surface_net.memory import Memory, own_parts, remember, unquoted
from volgrad.tasks.surface_net.missing import with_missing
from volgrad.tasks.surface_net.study import SurfaceNetData, SurfaceNetModel, SurfaceNetStudy
from volgrad.tasks.surface_net.views import VIEWS, hidden, kept, kinked
from volgrad.tasks.surface_net.weights import packed, shipped
from volgrad.tasks.surfaces import Surfaces

DAYS = (2, 9, 30, 60, 90, 180)
HOUR_US = 3_600_000_000


def smile(k, years):
    return (
        0.5 + 0.03 * np.log(years + 0.05) + 0.1 * np.tanh(k / np.sqrt(years)) ** 2 - 0.03 * np.tanh(k / np.sqrt(years))
    )


@cache
def chain() -> Chain:
    return chain_of(smile, DAYS, strikes=11)


def kink(level: float, place: int = 3) -> Chain:
    """The chain with one expiry's volatilities moved."""
    own = np.zeros(len(DAYS))
    own[place] = level
    return kinked(chain(), own, np.zeros((len(DAYS), KNOTS.size)))


def later(made: Chain, hours: int) -> Chain:
    """The same quotes at a later time."""
    return dataclasses.replace(
        made, ts_us=made.ts_us + hours * HOUR_US, expiry_years=made.expiry_years - hours / 8760.0
    )


def without(made: Chain, place: int) -> Chain:
    return kept(made, made.expiry_index != place)


def sliced(found: FittedChain) -> SlicedSurface:
    """Its surface, which must be there."""
    assert isinstance(found.surface, SlicedSurface)
    return found.surface


def clean(found: FittedChain) -> bool:
    return found.certificate is not None and found.certificate.clean


def fitter(weights, history: int = 0) -> Fitter:
    made = Fitter(FitOptions(history=history))
    made._model = SurfaceNet(weights)
    return made


def speaking(**outputs: float):
    """Weights that say the same of every expiry: outputs by place in the last layer's bias."""
    weights = silent()
    variables = jax.tree.map(np.array, weights.variables)
    bias = variables["decoder"][-1].bias
    for name, value in outputs.items():
        first = {"fast": 0, "slow": 1, "level": 2, "smile": 3, "share": 3 + KNOTS.size, "shape": 3 + 2 * KNOTS.size}[
            name
        ]
        bias[first : first + (1 if name in ("fast", "slow", "level") else KNOTS.size)] = value
    return weights._replace(variables=variables)


# ------------------------------------------------------------------------------------------------------ what is said


def test_nothing_said_is_local_vol():
    plain, net = fit_chain(chain()), fitter(silent(), 1).fit(chain())
    k, years = np.linspace(-1.0, 1.0, 21), np.array([0.01, 0.05, 0.11, 0.3, 0.6])
    expected = sliced(plain).total_variance(k[None, :], years[:, None])
    np.testing.assert_allclose(sliced(net).total_variance(k[None, :], years[:, None]), expected, rtol=1e-12)


def test_all_numbers_are_bounded():
    said = spoken(np.full((2, OUTPUTS), 1e9, np.float32))
    assert float(abs(said.level_shares).max()) <= 1.0
    assert float(abs(said.shape).max()) <= 0.6001
    assert float(abs(said.level).max()) <= 0.03001


@pytest.mark.parametrize("seed", range(3))
def test_whatever_is_said_the_surface_is_clean(seed):
    random = np.random.default_rng(seed)
    weights = silent()
    wild = jax.tree.map(lambda leaf: (3.0 * random.normal(size=leaf.shape)).astype(np.float32), weights.variables)
    made = fitter(weights._replace(variables=wild), 1)
    made.fit(kink(0.1))
    found = made.fit(later(without(kink(0.1), 3), 1))
    assert clean(found)


def test_the_prior_alone_is_moved_where_there_are_quotes():
    plain, net = fit_chain(chain()), fitter(speaking(shape=1.0)).fit(chain())
    assert not np.allclose(plain.model_iv, net.model_iv, rtol=1e-9)
    assert net.inside == 1.0
    far = np.array([-0.9])
    assert sliced(net).total_variance(far, 30 / 365) > sliced(plain).total_variance(far, 30 / 365)


# ------------------------------------------------------------------------------------------------------------- memory


@given(st.lists(st.floats(-1e3, 1e3), min_size=76, max_size=76))
def test_memory_comes_back_from_its_numbers(numbers):
    np.testing.assert_array_equal(Memory.of(np.array(numbers)).numbers(), numbers)


def test_a_smooth_term_structure_leaves_no_expiry_a_level_of_its_own():
    def flat(k, years):  # in the variance clock
        clock = clock_years(TS_US, TS_US + np.rint(years * 365 * DAY_US).astype(np.int64))
        return 0.5 * np.sqrt(clock / years) + 0.0 * k

    found = fit_chain(chain_of(flat, DAYS, strikes=11))
    own = own_parts(sliced(found), found.chain.expiry_us)
    assert np.abs(own.level).max() < 4e-3  # the fit meets mids within a half-spread of .01
    assert own.known.tolist() == [False, True, True, True, True, False]


@pytest.mark.parametrize("level", [-0.04, 0.04])
def test_a_kink_is_the_own_level_of_its_expiry(level):
    plain, kinky = (fit_chain(one) for one in (kink(0.0), kink(level)))
    own = [own_parts(sliced(one), one.chain.expiry_us).level[3] for one in (plain, kinky)]
    assert own[1] - own[0] == pytest.approx(level, rel=0.2)


def test_running_means_weigh_what_is_seen():
    found = fit_chain(kink(0.04))
    stamps = found.chain.expiry_us
    shape = np.stack([found.shape[one] for one in stamps.tolist()])
    memory: dict[int, Memory] = {}
    for _ in range(3):
        memory = remember(memory, sliced(found), stamps, shape, found.chain)
    own = own_parts(sliced(found), stamps).level[3]
    kept_ = memory[int(stamps[3])]
    np.testing.assert_allclose(kept_.level, own, rtol=1e-12)
    np.testing.assert_allclose(kept_.seen, [1.75, 1 + 0.85 + 0.85**2])


@pytest.mark.parametrize("level", [-0.04, 0.04])
def test_a_missing_expiry_is_where_it_was_remembered(level):
    silence, memory = fitter(silent(), 1), fitter(speaking(slow=20.0), 1)
    for made in (silence, memory):
        made.fit(kink(level))
    whole = later(kink(level), 1)
    rows = whole.rows(3)
    errors = []
    for made in (silence, memory):
        found = made.fit(without(whole, 3))
        vol = sliced(found).implied_vol(whole.log_moneyness[rows], whole.row_expiry_years[rows])
        errors.append(np.abs(vol - whole.mid_iv[rows]).mean())
        assert clean(found)
    assert errors[1] < 0.4 * errors[0]


def test_what_was_missing_is_still_remembered_by_the_next():
    made = fitter(silent(), 1)
    made.fit(chain())
    stamp = int(chain().expiry_us[3])
    shape = made.fit(later(without(chain(), 3), 1)).shape
    assert Memory.of(shape[stamp]).ts_us == chain().ts_us
    assert Memory.of(shape[int(chain().expiry_us[2])]).ts_us > chain().ts_us


@pytest.mark.parametrize(("hours", "remembered"), [(1, 3), (2, 0)])
def test_strikes_quoted_no_more_are_remembered_for_an_hour(hours, remembered):
    made = fitter(silent(), 1)
    carried = made.fit(chain()).shape
    shown_ = later(kept(chain(), ~np.isin(np.arange(chain().n_rows), [24, 25, 27])), hours)
    memory = {stamp: Memory.of(numbers) for stamp, numbers in carried.items()}
    found = unquoted(memory[int(chain().expiry_us[2])], shown_, 2)
    assert len(found) == remembered
    if remembered:
        np.testing.assert_allclose(found[:, 0], chain().log_moneyness[[24, 25, 27]], atol=1e-12)
        assert (found[:, 2] > chain().half_spread_iv[[24, 25, 27]]).all()
    fitted = made.fit(shown_)
    assert fitted.model_iv.size == shown_.n_rows
    assert clean(fitted)


def test_a_missing_expiry_stands_in_the_surfaces_file(tmp_path):
    made = fitter(speaking(slow=20.0), 1)
    first = made.fit(kink(0.04))
    second = made.fit(later(without(kink(0.04), 3), 1))
    Surfaces.of([first, second]).write(tmp_path / "surfaces.parquet")
    table = pq.read_table(tmp_path / "surfaces.parquet")
    stamps = table["expiry"].cast(pa.int64()).to_numpy()
    assert stamps.reshape(2, -1)[1].tolist() == chain().expiry_us.tolist()
    assert table["quoted_high"].to_numpy().reshape(2, -1)[1][3] == 0.0


# ------------------------------------------------------------------------------------------------- missing expiries


@settings(max_examples=15)
@given(st.floats(-0.5, 0.5), st.floats(-1.0, 1.0), st.integers(0, 2**31))
def test_an_expectation_gives_way_to_the_certificate(level, size, seed):
    smile_ = size * np.random.default_rng(seed).normal(size=(1, KNOTS.size))
    surface = dataclasses.replace(sliced(fit_chain(without(chain(), 3))), reach=np.empty(0))
    stamp = chain().expiry_us[3:4]
    made, certificate = with_missing(surface, stamp, np.array([level]), smile_)
    assert certificate.clean
    assert made.theta.size in (5, 6)


def test_expiries_outside_the_chain_are_left_alone():
    surface = sliced(fit_chain(chain()))
    stamps = np.array([chain().ts_us + HOUR_US, chain().expiry_us[2], chain().expiry_us[-1] + HOUR_US])
    made, _ = with_missing(surface, stamps, np.full(3, 0.1), np.zeros((3, KNOTS.size)))
    assert made.theta.size == len(DAYS)


# -------------------------------------------------------------------------------------------------- features and views


def test_the_network_is_told_nothing_of_a_missing_expirys_quotes():
    made = Fitter(FitOptions()).fit(chain())
    shape = np.stack([made.shape[one] for one in chain().expiry_us.tolist()])
    memory = remember({}, sliced(made), chain().expiry_us, shape, chain())
    seen = []
    for level in (0.0, 0.3):
        shown = without(later(kink(level), 1), 3)
        framed = SurfaceNet(silent()).base.frame(shown, (), 1.0)
        mean = np.asarray(framed.task.frame.mean)[: framed.expiries.size]
        told = tell(shown, framed.expiries, framed.theta, mean, memory)
        assert told.listed.tolist() == [True, True, True, False, True, True]
        seen.append(told.values)
    np.testing.assert_array_equal(*seen)
    assert seen[0].shape == (6, len(FEATURES))
    assert np.isfinite(seen[0]).all()


@pytest.mark.parametrize("view", VIEWS)
def test_views_hide_what_they_say(view):
    random = np.random.default_rng(0)
    gone = hidden(chain(), view, random).reshape(len(DAYS), 11)
    expected = {"interp": 3, "wing": 2, "thin": 7, "full": 0}[view]
    assert gone.sum(1).tolist() == [expected] * len(DAYS)
    if view == "wing":
        assert gone[:, [0, -1]].all()
    if view == "interp":
        assert not gone[:, [0, -1]].any()


# ------------------------------------------------------------------------------------------------------------- weights


def test_weights_come_back_from_their_file(tmp_path):
    weights = speaking(shape=0.3)
    file = tmp_path / "weights.safetensors"
    file.write_bytes(packed(weights))
    again = load_weights(file)
    for one, two in zip(jax.tree.leaves(weights.variables), jax.tree.leaves(again.variables), strict=True):
        np.testing.assert_array_equal(one, two)


@pytest.mark.parametrize("cut", [0, 7, 100, 5000])
def test_damaged_weights_are_refused(tmp_path, cut):
    file = tmp_path / "weights.safetensors"
    file.write_bytes(packed(silent())[:cut])
    with pytest.raises(DamagedError, match="train again"):
        load_weights(file)


def test_other_arrays_are_no_weights(tmp_path):
    from safetensors.numpy import save

    file = tmp_path / "weights.safetensors"
    file.write_bytes(save({"a": np.zeros(3, np.float32)}))
    with pytest.raises(InputError, match="no weights of surface-net"):
        load_weights(file)


def test_missing_weights_are_named(tmp_path):
    with pytest.raises(InputError, match="no such weights"):
        load_weights(tmp_path / "nothing.safetensors")


def test_weights_belong_to_surface_net(tmp_path):
    with pytest.raises(InputError, match="weights are of model surface-net"):
        FitOptions(weights=tmp_path)


def test_shipped_weights_are_of_simulated_markets_only():
    told = shipped().told
    assert told["recipe"]["data.sources"] in ("", [], None)
    assert sum(leaf.size for leaf in jax.tree.leaves(shipped().variables)) <= 100_000


# --------------------------------------------------------------------------------------------------------------- study


SMALL = SurfaceNetData(markets=2, chains=5, views=("interp", "thin"))


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("image")


@pytest.fixture(scope="module")
def image(folder):
    return SurfaceNetStudy().image(SMALL, folder, folder)


def whole_batch(image):
    stack = Loader(image, range(image.clusters), 0).stack(0, 1, image.clusters)
    return batch_of(stack.values[0], stack.count[0], stack.weight[0])


def test_examples_have_what_is_to_be_learned(image):
    column = {feature.name: place for place, feature in enumerate(image.features)}
    rows = np.array(image.rows)
    listed = rows[:, column["missing"]] == 0.0
    weight = rows[:, [column[f"move_weight_{knot}"] for knot in range(KNOTS.size)]]
    assert np.isfinite(rows).all()
    assert image.clusters >= 10
    assert (rows[listed, column["own_level_weight"]] == 0.0).all()
    assert (weight[~listed] == 0.0).all()
    assert rows[~listed, column["own_level_weight"]].sum() > 0.0
    assert (weight[listed].max(axis=1) > 0.9).mean() > 0.5


def test_silence_is_worth_what_nothing_is(image):
    task = SurfaceNetStudy().task(SurfaceNetModel(width=8, depth=1), image, range(5))
    variables, statistics = task.init(jax.random.key(0))
    told = task.evaluate(variables, statistics, whole_batch(image))
    assert [float(told[name]) for name in ("level", "smile", "shape")] == pytest.approx([1.0] * 3)


def test_steps_lower_the_loss(image):
    task = SurfaceNetStudy().task(SurfaceNetModel(width=16, depth=1), image, range(5))
    optimizer = named("adam", learning_rate=5e-3)
    data = whole_batch(image)
    state = begin(task, optimizer, jax.random.key(0))
    before = float(task.evaluate(state.variables, state.statistics, data)["loss"])
    step = jax.jit(lambda one: optimizer.step(task, one, data)[0])
    for _ in range(40):
        state = step(state)
    assert float(task.evaluate(state.variables, state.statistics, data)["loss"]) < 0.8 * before


@pytest.mark.parametrize("wrong", [{"markets": 0}, {"chains": 1}, {"views": ("wings",)}, {"views": ()}])
def test_data_that_cannot_be_is_refused(wrong):
    with pytest.raises(InputError, match=r"data\."):
        SurfaceNetData(**wrong)
