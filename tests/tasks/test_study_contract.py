"""What every study that comes with volgrad must obey, and its task with it.

Concrete subclasses are found by themselves; each needs a factory here.
"""

from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from tests.discovery import concrete_subclasses
from volgrad.learning.study import Study
from volgrad.learning.study_contract import judge_study
from volgrad.learning.training.task import Task
from volgrad.simulate.market import simulate
from volgrad.tasks.implied_vol_study import ImpliedVol, ImpliedVolData, ImpliedVolModel, QuoteRegression
from volgrad.tasks.regression import Regression, RegressionData, RegressionModel, RowRegression
from volgrad.tasks.studies import STUDIES, find_study
from volgrad.tasks.surface_net.study import Shapes, SurfaceNetData, SurfaceNetModel, SurfaceNetStudy

SMALL = {"width": 8, "depth": 2}


class Subject(NamedTuple):
    """Tables of a small recipe, and the task that comes of it."""

    data: Any
    model: Any
    task: type[Task]


def implied_vol(folder: Path) -> Subject:
    pq.write_table(pa.concat_tables([chain.quotes for chain in simulate(seed=1, chains=10)]), folder / "quotes.parquet")
    return Subject(ImpliedVolData(sources="quotes.parquet"), ImpliedVolModel(**SMALL), QuoteRegression)


def regression(folder: Path) -> Subject:
    random = np.random.default_rng(0)
    pq.write_table(pa.table({name: random.standard_normal(400) for name in "aby"}), folder / "table.parquet")
    data = RegressionData(source="table.parquet", features=("a", "b"), target="y")
    return Subject(data, RegressionModel(**SMALL), RowRegression)


def surface_net(folder: Path) -> Subject:
    return Subject(SurfaceNetData(markets=2, chains=5, views=("interp",)), SurfaceNetModel(width=8), Shapes)


#: Each writes what it reads into a folder; add a line for a new study, with its task.
FACTORIES: dict[type[Study], Callable[[Path], Subject]] = {
    ImpliedVol: implied_vol,
    Regression: regression,
    SurfaceNetStudy: surface_net,
}
#: Tasks that are judged here, by way of their studies.
TASKS: frozenset[type[Task]] = frozenset({QuoteRegression, RowRegression, Shapes})


@pytest.mark.parametrize("kind", concrete_subclasses(Study), ids=lambda kind: kind.__name__)
def test_every_study_of_the_package_is_under_this_contract(kind):
    assert FACTORIES.get(kind), f"give {kind.__qualname__} a factory in {__name__}"
    assert kind.name in STUDIES, f"give {kind.__qualname__} a line in volgrad.tasks.studies.STUDIES"
    assert type(find_study(kind.name, Path())) is kind


@pytest.mark.parametrize("kind", FACTORIES, ids=lambda kind: kind.__name__)
def test_a_study_and_its_task_obey_every_law(kind, tmp_path):
    subject = FACTORIES[kind](tmp_path)
    judged = judge_study(kind(), tmp_path / "image", subject.data, subject.model, base=tmp_path)
    assert [one for one in judged.verdicts if one.status == "fail"] == []
    assert judged.task == subject.task.__name__
    assert subject.task in TASKS
