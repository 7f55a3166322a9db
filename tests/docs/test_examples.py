"""The examples of the documents: each obeys its contract, and the one on realised variance does not look ahead."""

import gzip
import re
from pathlib import Path

import jax
import numpy as np
import pytest

from volgrad.cli.check import examine
from volgrad.learning.batching.loader import Loader, batch_of
from volgrad.learning.recipe import read_recipe, resolve
from volgrad.learning.training.first_order import named
from volgrad.learning.training.loop import begin, make_step
from volgrad.learning.user_code import load_module
from volgrad.tasks.studies import find_study

DOCS = Path(__file__).parents[2] / "docs"
NO_STUDY = {"own_step.py"}  # a training step without volgrad's contracts: run by tests/tasks/test_choose_batch_size.py
EXAMPLES = sorted(path for path in (DOCS / "examples").glob("*.py") if path.name not in NO_STUDY)
RECIPES = sorted((DOCS / "examples").glob("*.toml"))
HOUR_US = 3_600_000_000


@pytest.mark.parametrize("path", EXAMPLES, ids=lambda path: path.stem)
def test_every_example_obeys_its_contract(path):
    checked = examine(str(path))
    assert [one.kind for one in checked].count("study") >= 1
    assert [(one.name, *verdict) for one in checked for verdict in one.verdicts if verdict.status == "fail"] == []


@pytest.mark.parametrize("path", RECIPES, ids=lambda path: path.stem)
def test_every_recipe_reads(path):
    raw = read_recipe(path)
    study = find_study(raw.use, raw.base)
    assert resolve(raw, study.Data, study.Model).task.use == raw.use


def test_the_document_shows_every_example_as_it_is():
    shown = re.findall(r"```(?:python|toml)\n(.*?)```", (DOCS / "extending.md").read_text(encoding="utf-8"), re.DOTALL)
    for path in (*EXAMPLES, *RECIPES):
        assert path.read_text(encoding="utf-8") in shown, f"docs/extending.md shows another {path.name}"


# --------------------------------------------------------------------------------------------------- realised variance


@pytest.fixture(scope="module")
def example():
    return load_module(DOCS / "examples" / "realised_variance.py")


@pytest.fixture(scope="module")
def market(example):
    """Bars of two underlyings, and an index."""
    return example._simulated(days=60)


def bars(path, ts, close):
    lines = [
        f"{stamp},{price!r},{price!r},{price!r},{price!r},1.0"
        for stamp, price in zip(text(ts), close.tolist(), strict=True)
    ]
    return _write(path, "timestamp,open,high,low,close,volume", lines)


def index(path, ts, close):
    lines = [f"{stamp[:10]},,,,{100.0 * level!r}" for stamp, level in zip(text(ts), close.tolist(), strict=True)]
    return _write(path, "date,open,high,low,close", lines)


def text(ts):
    return [str(stamp).replace("T", " ") + "+00:00" for stamp in np.asarray(ts, "M8[us]").astype("M8[s]")]


def _write(path, head, lines):
    with gzip.open(path, "wt") as file:
        file.write("\n".join([head, *lines]) + "\n")
    return path.name


def image_of(example, folder, closes, dvol):
    """The example's image of these series, by way of files as users have them."""
    names = [
        bars(folder / f"{coin}usdt_1h.csv.gz", *one) for coin, one in zip(("btc", "eth"), closes.values(), strict=True)
    ]
    data = example.Data(bars=tuple(names), dvol=index(folder / "btc_dvol_daily.csv.gz", *dvol))
    return example.RealisedVariance().image(data, folder, folder / "image")


@pytest.fixture(scope="module")
def image(example, market, tmp_path_factory):
    return image_of(example, tmp_path_factory.mktemp("files"), *market)


def test_the_past_does_not_change_with_the_future(example, market, image, tmp_path):
    """Whatever is known at an hour is the same, were all bars and the index after it others."""
    closes, (days, level) = market
    now = int(image.start_us[image.clusters // 2])
    other = {name: (ts, np.where(ts + HOUR_US > now, close * 1.5, close)) for name, (ts, close) in closes.items()}
    spoilt = image_of(example, tmp_path, other, (days, np.where(days + 24 * HOUR_US > now, level * 2.0, level)))
    until = image.first_row[np.searchsorted(image.start_us, now, "right")]
    inputs = len(example.NAMES)
    np.testing.assert_array_equal(spoilt.rows[:until, :inputs], image.rows[:until, :inputs])
    assert not np.array_equal(spoilt.rows[until : until + 2, :inputs], image.rows[until : until + 2, :inputs])
    # and labels are known when the image says
    labels = image.first_row[np.searchsorted(image.known_us, now, "right")]
    np.testing.assert_array_equal(spoilt.rows[:labels], image.rows[:labels])
    assert not np.array_equal(spoilt.rows[labels : labels + 2], image.rows[labels : labels + 2])


def test_the_columns_are_what_they_are_called(example, market, image):
    """Against sums written out, for one hour of the second underlying."""
    ts, close = list(market[0].values())[1]
    cluster = image.clusters // 3
    now = int(image.start_us[cluster])
    row = dict(zip([feature.name for feature in image.features], image.rows[image.first_row[cluster] + 1], strict=True))
    at = int(np.searchsorted(ts, now))  # the first bar that opens then
    move = np.diff(np.log(close))  # move[i]: from bar i to bar i + 1
    past = {hours: move[at - 1 - hours : at - 1] for hours in (6, 24, 168, 720)}
    assert row["log_rv_day"] == pytest.approx(np.log((past[24] ** 2).sum()), rel=1e-4)
    assert row["log_rv_week"] == pytest.approx(np.log((past[168] ** 2).sum() / 7), rel=1e-4)
    assert row["log_rv_month"] == pytest.approx(np.log((past[720] ** 2).sum() / 30), rel=1e-4)
    assert row["down_day"] == pytest.approx((past[24][past[24] < 0] ** 2).sum() / (past[24] ** 2).sum(), rel=1e-3)
    assert row["log_rv_next"] == pytest.approx(np.log((move[at - 1 : at + 23] ** 2).sum()), rel=1e-4)
    days, level = market[1]
    last = level[np.searchsorted(days + 24 * HOUR_US, now, "right") - 1]
    assert row["dvol"] == pytest.approx(np.log(last**2 / 365), rel=1e-4)


def test_the_start_is_har_and_training_gains_on_it(example):
    """On the simulated market: HAR by least squares is where training begins."""
    study = example.RealisedVariance()
    image = study.image(example.Data(), DOCS, DOCS)
    train = range(image.clusters * 2 // 3)
    task = study.task(example.Model(), image, train)
    optimizer = named("adam", learning_rate=3e-3, clip=10.0)
    state = begin(task, optimizer, jax.random.key(0))
    loader = Loader(image, train, 0)
    batch = batch_of(*(part[0] for part in loader.stack(0, 1, len(train))))
    first = task.evaluate(state.variables, state.statistics, batch)
    assert float(first["log_rmse"]) == pytest.approx(float(first["har_log_rmse"]), rel=1e-5)
    assert float(first["qlike"]) == pytest.approx(float(first["har_qlike"]), rel=1e-5)
    step = make_step(task, optimizer)
    scan = jax.jit(lambda state, parts: jax.lax.scan(lambda at, one: step(at, batch_of(*one)), state, parts)[0])
    state = scan(state, tuple(loader.stack(0, 100, 256)))
    loader.close()
    found = task.evaluate(state.variables, state.statistics, batch)
    assert float(found["log_rmse"]) < 0.97 * float(first["log_rmse"])
    assert float(found["har_log_rmse"]) == pytest.approx(float(first["har_log_rmse"]), rel=1e-6)


def test_qlike_is_least_at_the_mean(example):
    """Patton (2011): of all constants the mean of a variance scores best, however noisy the proxy."""
    variance = np.random.default_rng(0).lognormal(sigma=1.0, size=1000)
    around = np.log(variance.mean()) + np.linspace(-0.5, 0.5, 21)
    scores = [float(example.qlike(np.log(variance), level).mean()) for level in around]
    assert np.argmin(scores) == 10
    assert float(example.qlike(0.3, 0.3)) == 0.0
