"""The studies `implied-vol` and `regression`: what goes in, what comes out, and that they obey the contract."""

import tomllib
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from volgrad.data.image import Feature, Image
from volgrad.data.image.quotes import QUOTE_FEATURES
from volgrad.errors import InputError, SchemaError, UnknownOptionError
from volgrad.learning.batching.loader import Loader, batch_of
from volgrad.learning.contract import check_task
from volgrad.learning.recipe import read_recipe, resolve
from volgrad.learning.study_contract import batch_from
from volgrad.learning.training.first_order import named
from volgrad.learning.training.loop import begin, make_step
from volgrad.simulate.market import simulate
from volgrad.tasks.implied_vol_study import ImpliedVol, ImpliedVolData, ImpliedVolModel, inputs_of
from volgrad.tasks.network import NetworkModel, huber, located
from volgrad.tasks.regression import Regression, RegressionData, RegressionModel
from volgrad.tasks.studies import STUDIES, find_study

ROOT = Path(__file__).parents[2]
RECIPES = sorted((ROOT / "recipes").glob("implied-vol*.toml"))
NORMS = ("none", "batch", "ghost", "renorm", "stream")
SMALL = {"width": 8, "depth": 2}


@pytest.fixture(scope="module")
def market(tmp_path_factory):
    """Ten simulated chains as a file of quotes."""
    path = tmp_path_factory.mktemp("market") / "quotes.parquet"
    pq.write_table(pa.concat_tables([chain.quotes for chain in simulate(seed=1, chains=10)]), path)
    return path


@pytest.fixture(scope="module")
def image(market, tmp_path_factory):
    folder = tmp_path_factory.mktemp("image")
    return ImpliedVol().image(ImpliedVolData(sources=market.name), market.parent, folder / "image")


def batches(image, clusters, steps, rows=None):
    loader = Loader(image, range(image.clusters), 0, rows)
    stack = loader.stack(0, steps, clusters)
    loader.close()
    return stack


def trained(task, image, steps, clusters, rows=None, rate=1e-2):
    """The state after some steps, and the first and last losses."""
    optimizer = named("adam", learning_rate=rate, clip=10.0)
    step = make_step(task, optimizer)
    scan = jax.jit(lambda state, parts: jax.lax.scan(lambda at, one: step(at, batch_of(*one)), state, parts))
    state, info = scan(begin(task, optimizer, jax.random.key(0)), tuple(batches(image, clusters, steps, rows)))
    return state, np.asarray(info.loss)


# --------------------------------------------------------------------------------------------------------- implied-vol


def test_a_cluster_is_a_chain_in_the_order_of_time(image):
    assert image.clusters == 10
    assert tuple(image.features) == QUOTE_FEATURES
    assert (np.diff(image.start_us) > 0).all()


@pytest.mark.parametrize("norm", ["ghost", "renorm"])
def test_other_normalisations_obey_the_contract(image, norm):
    train = range(7)
    task = ImpliedVol().task(ImpliedVolModel(norm=norm, **SMALL), image, train)
    check_task(task, batch_from(image, train))


def test_a_network_of_noughts_says_the_expirys_level(image):
    """The output is the logarithm of a ratio: 0 is the level itself."""
    task = ImpliedVol().task(ImpliedVolModel(norm="none", **SMALL), image, range(7))
    variables, statistics = jax.tree.map(jnp.zeros_like, task.init(jax.random.key(0)))
    batch = batch_of(*(part[0] for part in batches(image, 3, 1)))
    found = task.evaluate(variables, statistics, batch)
    real = np.asarray(batch.rows.values)[np.asarray(batch.rows.mask)]
    at = [feature.name for feature in QUOTE_FEATURES].index
    error = real[:, at("nearest_iv")] - real[:, at("mid_iv")]
    assert float(found["rmse_vol_points"]) == pytest.approx(100 * np.sqrt((error**2).mean()), rel=1e-4)
    half = np.maximum(real[:, at("half_spread_iv")], 1e-3)
    assert float(found["inside"]) == pytest.approx((np.abs(error) <= half).mean(), abs=2e-3)


@pytest.mark.parametrize("loss", ["half-spreads", "squares"])
def test_training_lowers_every_loss(image, loss):
    task = ImpliedVol().task(ImpliedVolModel(loss=loss, **SMALL), image, range(10))
    _, losses = trained(task, image, steps=150, clusters=4, rows=64)
    assert np.isfinite(losses).all()
    assert losses[-20:].mean() < 0.5 * losses[:5].mean()


def test_inputs_are_the_same_in_numpy_and_in_jax(image):
    rows = np.asarray(image.rows[:50])
    np.testing.assert_allclose(inputs_of(jnp.asarray(rows)), inputs_of(rows), rtol=1e-5, atol=1e-6)


def test_no_source_and_no_image_of_quotes_are_refused(tmp_path):
    with pytest.raises(InputError, match=r"data\.sources is empty"):
        ImpliedVol().image(ImpliedVolData(), tmp_path, tmp_path)
    other = Image.of(np.zeros((3, 1), np.float32), [1] * 3, range(3), range(3), [Feature("x", "1")])
    with pytest.raises(SchemaError, match="an image of quotes"):
        ImpliedVol().task(ImpliedVolModel(), other, range(2))


@pytest.mark.parametrize("path", RECIPES, ids=lambda path: path.stem)
def test_every_recipe_reads(path):
    raw = read_recipe(path)
    study = find_study(raw.use, raw.base)
    assert resolve(raw, study.Data, study.Model).model.network(8, 1)


def test_every_normalisation_has_a_recipe():
    found = {tomllib.loads(path.read_text())["model"]["norm"] for path in RECIPES}
    assert found == set(NORMS)


# ---------------------------------------------------------------------------------------------------------- regression


def table(rows=400, stamps=True):
    random = np.random.default_rng(0)
    x = random.standard_normal((rows, 3))
    y = 5.0 + 10.0 * (x[:, 0] - 0.5 * x[:, 1])
    columns = {"a": x[:, 0] * 1e4 + 6e4, "b": x[:, 1], "c": x[:, 2], "y": y}
    if stamps:
        columns["ts"] = pa.array(np.arange(rows) * 1000, pa.timestamp("us", "UTC"))
    return pa.table(columns)


@pytest.fixture(scope="module")
def parquet(tmp_path_factory):
    path = tmp_path_factory.mktemp("table") / "table.parquet"
    pq.write_table(table(), path)
    return path


NAMED = RegressionData(source="table.parquet", features=("b", "a"), target="y", ts="ts")


def test_the_image_holds_the_columns_named(parquet, tmp_path):
    image = Regression().image(NAMED, parquet.parent, tmp_path / "image")
    assert [feature.name for feature in image.features] == ["b", "a", "y"]
    expected = np.column_stack([table()[name] for name in ("b", "a", "y")]).astype(np.float32)
    np.testing.assert_array_equal(image.rows, expected)
    assert image.start_us.tolist() == [1000 * row for row in range(400)]


def test_an_image_made_before_is_used_again_and_another_is_not(parquet, tmp_path):
    first = Regression().image(NAMED, parquet.parent, tmp_path / "image")
    born = (tmp_path / "image" / "image.json").stat().st_mtime_ns
    again = Regression().image(NAMED, parquet.parent, tmp_path / "image")
    assert (tmp_path / "image" / "image.json").stat().st_mtime_ns == born
    assert again.digest == first.digest
    other = RegressionData(source="table.parquet", features=("c",), target="y")
    assert len(Regression().image(other, parquet.parent, tmp_path / "image").features) == 2


def test_an_image_is_taken_as_it_is(parquet, tmp_path):
    made = Regression().image(NAMED, parquet.parent, tmp_path / "image")
    found = Regression().image(RegressionData(source="image"), tmp_path, tmp_path / "other")
    assert found.digest == made.digest
    model = RegressionModel(inputs=("y", "b"), target="a", **SMALL)
    assert Regression().task(model, found, range(300)).inputs == (2, 0)
    with pytest.raises(InputError, match="holds the target"):
        Regression().task(RegressionModel(inputs=("y",), target="y"), found, range(300))


def test_a_line_is_learned_whatever_the_units(parquet, tmp_path):
    image = Regression().image(NAMED, parquet.parent, tmp_path / "image")
    task = Regression().task(RegressionModel(norm="none", width=8, depth=0), image, range(400))
    state, losses = trained(task, image, steps=400, clusters=64, rate=3e-2)
    batch = batch_of(*(part[0] for part in batches(image, 400, 1)))
    found = task.evaluate(state.variables, state.statistics, batch)
    assert losses[0] > 0.1
    assert float(found["rmse"]) < 0.05  # of a deviation of 11
    assert float(found["mae"]) <= float(found["rmse"])


@pytest.mark.parametrize(
    ("data", "said"),
    [
        (RegressionData(), r"data\.source is empty"),
        (RegressionData(source="nothing.parquet"), "no such file"),
        (RegressionData(source="table.parquet"), r"data\.features"),
        (RegressionData(source="table.parquet", features=("z",), target="y"), "no column 'z'"),
        (RegressionData(source="table.parquet", features=("ts",), target="y"), "no numbers"),
        (RegressionData(source="table.parquet", features=("a",), target="y", ts="b"), "no stamps"),
    ],
)
def test_what_is_wrong_with_a_table_is_said(parquet, tmp_path, data, said):
    with pytest.raises(InputError, match=said):
        Regression().image(data, parquet.parent, tmp_path / "image")


def test_what_is_no_parquet_file_is_said(tmp_path):
    (tmp_path / "x.parquet").write_text("a,b\n")
    with pytest.raises(InputError, match="no Parquet file"):
        Regression().image(RegressionData(source="x.parquet", features=("a",), target="b"), tmp_path, tmp_path / "i")


# -------------------------------------------------------------------------------------------------------------- common


def test_settings_of_another_normalisation_are_refused():
    with pytest.raises(UnknownOptionError, match="clusters_per_group"):
        NetworkModel(norm="batch", clusters_per_group=4)
    with pytest.raises(InputError, match=r"model\.activation"):
        NetworkModel(activation="step")
    with pytest.raises(InputError, match=r"model\.width"):
        NetworkModel(width=0)


def test_huber_is_the_square_near_0_and_a_line_far_out():
    error = jnp.linspace(-5.0, 5.0, 41)
    np.testing.assert_allclose(huber(error, None), 0.5 * error**2)
    slope = jax.vmap(jax.grad(lambda x: huber(x, 2.0)))(error)
    np.testing.assert_allclose(slope, np.clip(error, -2.0, 2.0))


def test_a_path_starts_from_the_recipe_else_from_here(tmp_path, monkeypatch):
    (tmp_path / "here").mkdir()
    (tmp_path / "here" / "market").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    assert located(tmp_path, "market") == Path("market")
    assert located(tmp_path, "nowhere") == tmp_path / "nowhere"
    (tmp_path / "market").mkdir()
    assert located(tmp_path, "market") == tmp_path / "market"


@pytest.mark.parametrize("name", STUDIES)
def test_a_study_is_found_by_its_own_name(name):
    assert find_study(name, Path()).name == name


def test_an_unknown_study_is_met_with_the_nearest_name():
    with pytest.raises(UnknownOptionError, match="'implied-vol'"):
        find_study("implied-vols", Path())
