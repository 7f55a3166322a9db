"""What workloads of the benchmark of batch sizes are made of: planted regressions, quotes, fits, the forecast.

Data come from seeds, or are cut from recorded files when asked for; images that take long are kept in the temporary
folder.
"""

import functools
import tempfile
from dataclasses import dataclass, replace
from datetime import timedelta
from pathlib import Path
from typing import Any

import numpy as np

from volgrad import runtime
from volgrad.data.image import Feature, Image
from volgrad.learning.batching.batch import Batch
from volgrad.learning.batching.loader import Loader, batch_of
from volgrad.learning.batching.splits import Splits

MOST_ROWS = 8192  # of a batch
CACHE = Path(tempfile.gettempdir()) / "volgrad-batch-size"
EXAMPLES = Path(__file__).resolve().parents[1] / "docs" / "examples"
DAY_US = 86_400_000_000


class UnavailableError(Exception):
    """Data that are not there; the message is the reason."""


@dataclass(frozen=True)
class Workload:
    """What is trained, and when it counts as done.

    Attributes:
        name: as on the command line.
        task, image, train: what is learned from which clusters.
        validation: a fixed batch.
        metric: of `Task.evaluate`, by which targets are judged; "loss" is the mean loss where the task names none.
        optimizer: "adam" or "sgd".
        clusters, learning_rate: a customary batch and its rate; the rules move it to other sizes.
        rows_per_cluster: drawn of each cluster a visit.
        targets: of the metric: an easy one and a hard one; no numbers where a pilot run is to set them.
        budget: samples after which a run has failed.
        clip: longest gradient, or None.
        pilot_steps: of the customary batch, for those whose targets a pilot run sets.
        held_back: whether the policy was frozen before anybody looked at it.
    """

    name: str
    task: Any
    image: Image
    train: range
    validation: Batch
    optimizer: str
    clusters: int
    learning_rate: float
    rows_per_cluster: int | None
    targets: tuple[float, float]
    budget: int
    metric: str = "loss"
    clip: float | None = None
    pilot_steps: int = 1024
    held_back: bool = False

    @property
    def rows(self) -> int:
        """Places for rows in a cluster of a batch."""
        longest = int(self.image.counts[self.train.start : self.train.stop].max())
        return longest if self.rows_per_cluster is None else min(self.rows_per_cluster, longest)

    @property
    def largest(self) -> int:
        """The largest batch that fits: the least of the data and 8192 rows."""
        return min(len(self.train), max(1, MOST_ROWS // self.rows))

    def sizes(self) -> list[int]:
        """Clusters a batch: powers of two up to the largest, and the whole data where that is the largest."""
        return ladder(self.largest, self.largest == len(self.train))

    def optimizer_at(self, clusters: int) -> Any:
        """The optimiser at a size by the customary rules, its rate constant."""
        from volgrad.learning.training.first_order import named

        made = named(self.optimizer, learning_rate=self.learning_rate, clip=self.clip)
        return made.at(clusters, self.clusters)


def ladder(largest: int, whole: bool) -> list[int]:
    """Powers of two up to `largest`, itself included where it is the whole data.

    >>> ladder(10, False), ladder(10, True)
    ([1, 2, 4, 8], [1, 2, 4, 8, 10])
    """
    sizes = [1 << power for power in range(largest.bit_length())]
    return sizes if sizes[-1] == largest or not whole else [*sizes, largest]


def metric_of(workload: Workload, task: Any, variables: Any, statistics: Any, key: Any, batch: Batch) -> Any:
    """The number that targets are set in; the same rule for "loss" as the trainer's. For use in compiled code."""
    from volgrad.learning.training.state import mean_loss

    found = task.evaluate(variables, statistics, batch)
    if workload.metric in found:
        return found[workload.metric]
    return mean_loss(task.loss(variables, statistics, batch, key)[0], batch)


# ------------------------------------------------------------------------------------------------- data and splits


def fixed_batch(image: Image, clusters: range, most: int, rows: int | None = None) -> Batch:
    """Some clusters of a range, the same every time."""
    loader = Loader(image, clusters, 12_345, rows, blocks=None)
    try:
        stack = loader.stack(0, 1, min(most, len(clusters)))
    finally:
        loader.close()
    return batch_of(*(part[0] for part in stack))


def _split(image: Image, purge_us: int = 0) -> tuple[range, range]:
    """Training and validation clusters, forward in time; nothing is kept for a test."""
    parts = Splits.forward(image.start_us, image.known_us, validation=0.2, test=0.0, purge_us=purge_us)
    return parts.train, parts.validation


@dataclass(frozen=True)
class Planted:
    """A regression whose truth is known: ridge functions of normal inputs, and noise.

    rows: of training; validation has 4,096 more.
    noise: deviation, in deviations of the signal; Student's with three degrees of freedom where `heavy`.
    ridges, steep: how many waves, and how short they are: what makes it long to learn.
    in_cluster: rows of a cluster, which share half of the variance of inputs and of noise.
    """

    rows: int
    noise: float
    features: int = 8
    ridges: int = 6
    steep: float = 2.0
    in_cluster: int = 1
    heavy: bool = False
    seed: int = 0

    def image(self) -> tuple[Image, range, range]:
        """The image, and its training and validation clusters."""
        random = np.random.default_rng([5, self.seed])
        count, m = (self.rows + 4096) // self.in_cluster, self.in_cluster

        def drawn(*shape: int) -> np.ndarray:
            if m == 1:
                return random.normal(size=(count, m, *shape))
            common, own = random.normal(size=(count, 1, *shape)), random.normal(size=(count, m, *shape))
            return np.sqrt(0.5) * (common + own)

        x = drawn(self.features)
        ridge = random.normal(size=(self.features, self.ridges)) / np.sqrt(self.features)
        signal = np.sin(self.steep * x @ ridge) @ random.normal(size=self.ridges) + 0.5 * x[..., 0] * x[..., 1]
        shock = random.standard_t(3.0, size=(count, m)) / np.sqrt(3.0) if self.heavy else drawn()
        y = signal / signal.std() + self.noise * shock
        rows = np.concatenate([x, y[..., None]], axis=-1).reshape(count * m, -1).astype(np.float32)
        stamps = np.arange(count)
        names = [Feature(f"x{place}", "1") for place in range(self.features)] + [Feature("y", "1")]
        train = self.rows // m
        return Image.of(rows, np.full(count, m), stamps, stamps, names), range(train), range(train, count)


def regression(name: str, planted: Planted, model: dict[str, Any], **settings: Any) -> Workload:
    """A network on a planted regression."""
    from volgrad.tasks.regression import Regression, RegressionModel

    image, train, check = planted.image()
    task = Regression().task(RegressionModel(**model), image, train)
    batch = fixed_batch(image, check, 2048 // planted.in_cluster)
    return Workload(name, task, image, train, batch, **settings)


@functools.cache
def market(seed: int, days: int, hours: int) -> Path:
    """Files of a restless simulated market with real quirks."""
    from volgrad.simulate.files import write_market
    from volgrad.simulate.market import BITCOIN, ETHER
    from volgrad.simulate.plan import Plan, prepare_folder
    from volgrad.simulate.quoting import REAL

    folder = CACHE / f"market-{seed}-{days}-{hours}"
    if not (folder / "done").exists():
        folder.mkdir(parents=True, exist_ok=True)
        markets = tuple(
            replace(one, every=timedelta(hours=hours), quirks=REAL, restless=True) for one in (BITCOIN, ETHER)
        )
        plan = Plan(seed, markets, 24 * days // hours, False, "benchmark")
        prepare_folder(folder, plan.files())
        write_market(folder, plan, lambda _moments: None)
        (folder / "done").touch()
    return folder


def recorded(file: str) -> Path:
    """A recorded file.

    Raises:
        UnavailableError: it is not there.
    """
    folder = runtime.find_data()
    if folder is None or not (folder / file).exists():
        raise UnavailableError(f"no recorded {file} (set VOLGRAD_DATA)")
    return folder / file


def quotes(name: str, data: dict[str, Any], model: dict[str, Any], **settings: Any) -> Workload:
    """The implied-volatility study on quotes, forward in time."""
    from volgrad.tasks.implied_vol_study import ImpliedVol, ImpliedVolData, ImpliedVolModel

    study = ImpliedVol()
    image = study.image(ImpliedVolData(**data), Path(), CACHE / f"image-{name}")
    train, check = _split(image)
    task = study.task(ImpliedVolModel(**model), image, train)
    return Workload(name, task, image, train, fixed_batch(image, check, 128, 16), **settings)


def surface_net(name: str, data: dict[str, Any], model: dict[str, Any], **settings: Any) -> Workload:
    """The surface network on simulated markets."""
    from volgrad.tasks.surface_net.study import SurfaceNetData, SurfaceNetModel, SurfaceNetStudy

    study, folder = SurfaceNetStudy(), CACHE / name
    folder.mkdir(parents=True, exist_ok=True)
    image = study.image(SurfaceNetData(**data), Path(), folder)
    train, check = _split(image)
    task = study.task(SurfaceNetModel(**model), image, train)
    return Workload(name, task, image, train, fixed_batch(image, check, 256), rows_per_cluster=None, **settings)


def surface_fit(name: str, chain: Any, **settings: Any) -> Workload:
    """The local-volatility fit of one chain, quote by quote; its targets are of the chain's mean loss."""
    from volgrad.learning.batching.indexed import indexed
    from volgrad.models.local_vol import Prior
    from volgrad.tasks.framing import frame_chain

    framed = frame_chain(chain, Prior())
    task, image = indexed(framed.task, framed.data)
    train = range(image.clusters)
    batch = fixed_batch(image, train, len(train))
    return Workload(name, task, image, train, batch, rows_per_cluster=1, clip=10.0, **settings)


def chain(file: str, ccy: str, place: float) -> Any:
    """A recorded chain: at a share of the way through its file."""
    from volgrad.data import build, read_quotes

    chains = [one for one in build(read_quotes([recorded(file)])).chains if one.ccy == ccy]
    return sorted(chains, key=lambda one: one.ts_us)[int(place * len(chains))]


def forecast(name: str, bars: tuple[str, ...], model: dict[str, Any], **settings: Any) -> Workload:
    """The example that forecasts realised variance, its error told of training clusters.

    That of later ones falls and rises within the first few steps of a high rate: no measure of how far a run is.
    """
    from volgrad.learning.user_code import load

    study = load("realised_variance.py:RealisedVariance", EXAMPLES)()
    data = study.Data()
    if bars:
        files = {"bars": bars, "dvol": "btc_dvol_daily_20211109_20251112.csv.gz"}
        base = next(recorded(one) for one in (*bars, files["dvol"])).parent
        data = study.Data(**files)
    else:
        base = EXAMPLES
    with tempfile.TemporaryDirectory() as kept:
        image = study.image(data, base, Path(kept))
    train, _ = _split(image, DAY_US)
    task = study.task(study.Model(**model), image, train)
    batch = fixed_batch(image, train, 2048)
    return Workload(
        name, task, image, train, batch, rows_per_cluster=None, metric="log_rmse", clip=10.0, **settings
    )  # fmt: skip
