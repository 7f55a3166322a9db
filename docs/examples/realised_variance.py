"""Forecast the realised variance of the next day from hourly bars and DVOL: a study and a task in one file.

    volgrad train docs/examples/realised-variance.toml --out RUN
    volgrad check docs/examples/realised_variance.py

A cluster is an hour, a row one underlying then. The network learns what HAR (Corsi 2009), fitted to the training range,
leaves over: the calendar, DVOL, jumps, signs of returns.
"""

from pathlib import Path

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pyarrow as pa
from jaxtyping import Array, Float

from volgrad.data.image import Feature, Image
from volgrad.data.ingest import ingest
from volgrad.data.schema import Dataset
from volgrad.errors import EmptyInputError, InputError
from volgrad.learning.batching.batch import Batch
from volgrad.learning.study import Study, StudyData, StudyModel
from volgrad.learning.training.task import Task
from volgrad.models.networks.mlp import Mlp
from volgrad.models.networks.normalisation import make_normalisation
from volgrad.simulate.path import MarketState, Walk

HOUR_US, DAY_US = 3_600_000_000, 86_400_000_000
DAY, WEEK, MONTH = 24, 168, 720  # hours
HAR = ("log_rv_day", "log_rv_week", "log_rv_month")
NAMES = (*HAR, "log_rv_6h", "dvol", "dvol_day", "dvol_week", "down_day", "down_week", "jump_day", "jump_week",
         "return_day", "return_week", *(f"{wave}{turn}" for turn in (1, 2, 3) for wave in ("sin", "cos")))  # fmt: skip
# the last two columns are no inputs: which underlying a row is of, and what is to be forecast
COLUMNS = [*(Feature(name, "1") for name in NAMES), Feature("underlying", "1"), Feature("log_rv_next", "1")]


class Data(StudyData, frozen=True, kw_only=True):
    """Keys of `[data]`; a simulated market where no file is named."""

    bars: tuple[str, ...] = ()
    """Files of hourly bars, one or more underlyings."""
    dvol: str = ""
    """A file of the volatility index, daily. It serves all underlyings: there need be only one."""


class Model(StudyModel, frozen=True, kw_only=True):
    """Keys of `[model]`."""

    width: int = 16
    depth: int = 2
    norm: str = "batch"
    penalty: float = 0.001
    """Weight of the squared weights in the loss: 500 days that overlap are few."""
    noise: float = 1.0
    """Deviation of the noise on scaled inputs in training (Bishop 1995), against the same."""


class RealisedVariance(Study):
    """The study: hourly bars and DVOL in, the variance of the next 24 hours out."""

    name, Data, Model, clusters = "realised-variance", Data, Model, 256

    def image(self, data: Data, base: Path, folder: Path) -> Image:
        """Clusters of one row an underlying, for each hour at which all of them have everything."""
        closes, dvol = _read(data, base, folder) if data.bars else _simulated()
        # a bar is stamped when it opens, and known at its end; a missing one counts as a straight line
        first, last = (pick(end(ts) for ts, _ in closes.values()) for pick, end in ((max, np.min), (min, np.max)))
        stamps = np.arange(first, last + 1, HOUR_US) + HOUR_US
        if len(stamps) < MONTH + 2 * DAY:
            raise EmptyInputError(f"{len(stamps)} hours of bars: {MONTH + 2 * DAY} are needed at least")
        index, prices = _index(*dvol, stamps), [np.interp(stamps, ts + HOUR_US, close) for ts, close in closes.values()]
        stacked = np.stack([_rows(price, index, stamps, u) for u, price in enumerate(prices)], axis=1)
        known = np.isfinite(stacked).all((1, 2))  # of hours, underlyings, columns
        kept, start = stacked[known], stamps[known]
        counts = np.full(len(kept), len(closes))
        return Image.of(kept.reshape(-1, len(COLUMNS)).astype(np.float32), counts, start, start + DAY_US, COLUMNS)

    def task(self, model: Model, image: Image, train: range) -> "Forecast":
        """Scales and HAR are fitted to the training clusters only."""
        rows = image.rows[image.first_row[train.start] : image.first_row[train.stop]].astype(float)
        inputs, which, target = rows[:, : len(NAMES)], rows[:, -2].astype(int), rows[:, -1]
        design = np.column_stack([inputs[:, : len(HAR)], np.ones(len(rows))])
        har = np.stack([np.linalg.lstsq(design[which == u], target[which == u])[0] for u in range(which.max() + 1)])
        missed = target - (design * har[which]).sum(1)
        network = Mlp(
            len(NAMES) + 1, 1, width=model.width, depth=model.depth, normalisation=make_normalisation(model.norm)
        )
        fitted = (inputs.mean(0), inputs.std(0) + 1e-6, har, np.log(missed.std()))
        return Forecast(
            network, *(jnp.asarray(part, jnp.float32) for part in fitted), penalty=model.penalty, noise=model.noise
        )


class Forecast(Task):
    """The task: the logarithm of the variance is normal about HAR's forecast plus the network's."""

    network: Mlp
    centre: Float[Array, " inputs"]
    spread: Float[Array, " inputs"]
    har: Float[Array, "underlyings 4"]
    log_deviation: Float[Array, ""]
    penalty: float = eqx.field(static=True)
    noise: float = eqx.field(static=True)

    def init(self, key):
        """The network as drawn, its last layer at 0: the start is HAR itself."""
        layers, statistics = self.network.init(key)
        last = jax.tree.map(jnp.zeros_like, layers[-1])
        return {"layers": (*layers[:-1], last), "log_deviation": jnp.zeros((), jnp.float32)}, statistics

    def predict(self, variables, statistics, batch: Batch, training: bool, key=None):
        """Log variance that HAR forecasts and that we do, the standard deviation of its error, and new statistics."""
        inputs, which = batch.rows.values[..., : len(NAMES)], batch.rows.values[..., -2]
        coefficients = self.har[which.astype(int)]
        har = (coefficients[..., :-1] * inputs[..., : len(HAR)]).sum(-1) + coefficients[..., -1]
        scaled = jnp.clip((inputs - self.centre[None, None]) / self.spread[None, None], -4.0, 4.0)
        if training:
            scaled = scaled + self.noise * jax.random.normal(key, scaled.shape, scaled.dtype)
        x = jnp.concatenate([scaled, which[..., None]], axis=-1)
        mask = batch.rows.mask & batch.mask[:, None]
        more, statistics = self.network(variables["layers"], statistics, x, mask, training, key)
        return har, har + more[..., 0], jnp.exp(self.log_deviation + variables["log_deviation"]), statistics

    def loss(self, variables, statistics, batch, key):
        """Negative log likelihood, and the penalty on weights."""
        _, log_rv, deviation, statistics = self.predict(variables, statistics, batch, True, key)
        errors = (batch.rows.values[..., -1] - log_rv) / deviation
        weights = sum((leaf**2).sum() for leaf in jax.tree.leaves(variables["layers"]) if leaf.ndim == 2)
        return _mean(0.5 * errors**2 + jnp.log(deviation), batch.rows.mask) + self.penalty * weights, statistics

    def evaluate(self, variables, statistics, batch):
        """Root mean square error in logs and QLIKE; HAR's beside them."""
        har, log_rv, deviation, _ = self.predict(variables, statistics, batch, False)
        mask, target = batch.rows.mask & batch.mask[:, None], batch.rows.values[..., -1]
        found = {"log_rmse": jnp.sqrt(_mean((target - log_rv) ** 2, mask, None))}
        found["har_log_rmse"] = jnp.sqrt(_mean((target - har) ** 2, mask, None))
        # the mean of a variance whose logarithm is normal; a line of its own for HAR, whose errors are wider
        for name, forecast, sigma in (("qlike", log_rv, deviation), ("har_qlike", har, jnp.exp(self.log_deviation))):
            found[name] = _mean(qlike(target, forecast + 0.5 * sigma**2), mask, None)
        return found


def qlike(log_realised, log_forecast):
    """QLIKE (Patton 2011): `y / f - log(y / f) - 1`; its best forecast is the mean, however noisy the proxy."""
    gap = log_realised - log_forecast
    return jnp.exp(gap) - gap - 1.0


def _mean(values, mask, axis=-1):
    return jnp.where(mask, values, 0.0).sum(axis) / jnp.maximum(mask.sum(axis), 1)


def _read(data: Data, base: Path, folder: Path):
    """Stamps and closes of each underlying, and of the index, by volgrad's own readers."""
    store = ingest([base / file for file in (*data.bars, data.dvol) if file], folder / "store").store
    found: dict[tuple[Dataset, str], list[pa.Table]] = {}
    for dataset in (Dataset.BARS, Dataset.VOLATILITY_INDEX):
        for part in store.scan(dataset, columns=("ts", "ccy", "close")):
            found.setdefault((dataset, part.partition.underlying), []).append(part.table)
    series = {}
    for key, tables in found.items():
        table = pa.concat_tables([one.select(["ts", "close"]) for one in tables]).sort_by("ts")
        series[key] = table["ts"].cast(pa.int64()).to_numpy(), table["close"].to_numpy()
    closes = {name: one for (dataset, name), one in series.items() if dataset is Dataset.BARS}
    index = [one for (dataset, _), one in series.items() if dataset is Dataset.VOLATILITY_INDEX]
    if not closes or len(index) != 1:
        raise InputError(
            f"{len(closes)} underlyings with bars and {len(index)} volatility indices: give bars and one index"
        )
    return closes, index[0]


def _simulated(days: int = 240, seed: int = 0):
    """Bars and an index of a simulated market, of the same shape as `_read`'s."""
    hours = np.arange(days * DAY, dtype=np.int64) * HOUR_US + 1_704_067_200_000_000
    markets = [Walk([seed, number], MarketState(100.0), int(hours[0]), (0.4, 0.5), True) for number in (0, 1)]
    paths = [market.advance(hours, HOUR_US) for market in markets]
    index = hours[::DAY], 0.45 * np.exp(paths[0].values["short"])[::DAY]
    return {name: (hours, path.values["spot_usd"]) for name, path in zip("AB", paths, strict=True)}, index


def _index(ts, close, stamps):
    """Daily variance by the index, and its changes over a day and a week: of the last day that had ended by then."""
    place = np.searchsorted(ts + DAY_US, stamps, side="right") - 1
    level = np.log(close**2 / 365.0)
    stale = (place < 7) | (stamps - ts[place] > 2 * DAY_US)
    columns = [level[place], level[place] - level[place - 1], level[place] - level[place - 7]]
    return [np.where(stale, np.nan, column) for column in columns]


def _rows(close, index, stamps, underlying):
    """Columns of one underlying at each stamp; NaN where the past, or the future, is too short."""
    move = np.diff(np.log(close), prepend=np.nan)
    square, down = move**2, np.where(move < 0.0, move**2, 0.0)
    pair = 0.5 * np.pi * np.abs(move * np.concatenate([[np.nan], move[:-1]]))  # bipower (Barndorff-Nielsen 2004)

    def past(values, hours):
        """Sum of the last `hours`, this one included."""
        sums = np.concatenate([[0.0], np.cumsum(np.nan_to_num(values))])
        return np.concatenate([np.full(hours + 1, np.nan), sums[hours + 2 :] - sums[2:-hours]])

    rv = {hours: past(square, hours) + 1e-9 for hours in (6, DAY, WEEK, MONTH)}
    column = {"log_rv_6h": np.log(4.0 * rv[6]), "log_rv_day": np.log(rv[DAY])}
    column |= {"log_rv_week": np.log(rv[WEEK] / 7.0), "log_rv_month": np.log(rv[MONTH] / 30.0)}
    column |= dict(zip(("dvol", "dvol_day", "dvol_week"), index, strict=True))
    for name, hours in (("day", DAY), ("week", WEEK)):
        column[f"down_{name}"] = past(down, hours) / rv[hours]
        column[f"jump_{name}"] = np.log(rv[hours] / (past(pair, hours) + 1e-9))
        column[f"return_{name}"] = past(move, hours) / np.sqrt(rv[hours])
    for turns in (1, 2, 3):
        angle = 2.0 * np.pi * turns * (stamps // HOUR_US % WEEK) / WEEK
        column |= {f"sin{turns}": np.sin(angle), f"cos{turns}": np.cos(angle)}
    following = np.concatenate([np.log(rv[DAY])[DAY:], np.full(DAY, np.nan)])
    return np.column_stack([*(column[name] for name in NAMES), np.full(len(close), float(underlying)), following])
