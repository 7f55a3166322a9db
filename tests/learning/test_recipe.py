"""Laws of recipes: what is written is read, what is misspelt is told, and a recipe in full reads back to itself."""

import math
import tomllib
from typing import Literal

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from volgrad.errors import InputError, UnknownOptionError
from volgrad.learning.recipe import Recipe, read_recipe, resolve
from volgrad.learning.recipe_tables import (
    BatchChange,
    BatchTable,
    BudgetTable,
    CheckpointTable,
    EvaluateTable,
    GuardTable,
    OptimizerTable,
    ScheduleTable,
    TaskTable,
)
from volgrad.learning.study import StudyData, StudyModel
from volgrad.learning.toml_text import toml_text
from volgrad.learning.training import first_order, schedules
from volgrad.learning.training.averaging import Averaging
from volgrad.learning.training.guard import GuardRule

SHORTEST = """
[task]
use = "surface-net"
[budget]
samples = 1000
"""

LONG = """
seed = 7
[task]
use = "mine.py:Mine"
[data]
path = "quotes"
months = ["2026-01", "2026-02"]
[model]
width = 32
[model.head]
depth = 3
[optimizer]
name = "adamw"
learning_rate = 1
[schedule]
name = "warm-up-stable-decay"
[batch]
clusters = 8
then = [{samples = 100, clusters = 16}, {samples = 500, clusters = 64}]
[budget]
epochs = 2.5
[guard]
rollbacks = 1
"""


class Data(StudyData):
    path: str = "here"
    months: tuple[str, ...] = ()
    kind: Literal["bars", "quotes"] = "quotes"


class Head(msgspec.Struct, frozen=True, kw_only=True):
    depth: int = 2


class Model(StudyModel):
    width: int = 64
    head: Head = Head()
    rate: float | None = None


def resolved(tmp_path, text, *overrides):
    file = tmp_path / "recipe.toml"
    file.write_text(text)
    return resolve(read_recipe(file, list(overrides)), Data, Model)


def refused(tmp_path, text, *overrides, kind=InputError):
    with pytest.raises(kind) as caught:
        resolved(tmp_path, text, *overrides)
    assert "\n" not in str(caught.value)
    return str(caught.value).replace(f"{tmp_path}/", "")


# --- reading ---


def test_the_shortest_recipe_has_every_default(tmp_path):
    recipe = resolved(tmp_path, SHORTEST)
    assert recipe.seed == 0
    assert recipe.task == TaskTable(use="surface-net")
    assert recipe.budget == BudgetTable(samples=1000)
    assert recipe.data == Data()
    assert recipe.model == Model()
    assert recipe.optimizer == OptimizerTable()
    assert recipe.schedule == ScheduleTable()
    assert recipe.batch == BatchTable()


def test_a_long_recipe_is_read_as_it_stands(tmp_path):
    recipe = resolved(tmp_path, LONG)
    assert recipe.seed == 7
    assert recipe.data == Data(path="quotes", months=("2026-01", "2026-02"))
    assert recipe.model == Model(width=32, head=Head(depth=3))
    assert repr(recipe.optimizer.learning_rate) == "1.0"
    assert recipe.batch.then == (BatchChange(samples=100, clusters=16), BatchChange(samples=500, clusters=64))
    assert recipe.guard == GuardTable(rollbacks=1)


def test_the_folder_and_the_task_are_known_before_its_tables_are(tmp_path):
    file = tmp_path / "recipe.toml"
    file.write_text(LONG)
    raw = read_recipe(file)
    assert (raw.use, raw.base) == ("mine.py:Mine", tmp_path)


@pytest.mark.parametrize(
    ("override", "table", "key", "value"),
    [
        ("batch.accumulate=4", "batch", "accumulate", 4),
        ("optimizer.learning_rate=3e-4", "optimizer", "learning_rate", 3e-4),
        ("optimizer.name=sgd", "optimizer", "name", "sgd"),
        ('optimizer.name="lion"', "optimizer", "name", "lion"),
        ("optimizer.scale_with_batch=false", "optimizer", "scale_with_batch", False),
        ("data.path=some/where, = here", "data", "path", "some/where, = here"),
        ("data.path=2026-01-01", "data", "path", "2026-01-01"),
        ("data.path=7", "data", "path", "7"),
        ("data.months=['a', 'b']", "data", "months", ("a", "b")),
        ("data.path=1\n[batch]\nsize = 3", "data", "path", "1\n[batch]\nsize = 3"),
        ("model.head = {depth = 9}", "model", "head", Head(depth=9)),
        ("model.head.depth=9", "model", "head", Head(depth=9)),
        ("schedule.warm_up=5", "schedule", "warm_up", 5.0),
    ],
)
def test_what_is_set_takes_the_place_of_the_file(tmp_path, override, table, key, value):
    assert getattr(getattr(resolved(tmp_path, LONG, override), table), key) == value


def test_the_last_of_two_settings_counts(tmp_path):
    assert resolved(tmp_path, LONG, "seed=1", "seed=2").seed == 2


def test_one_way_to_say_a_size_or_a_budget_replaces_the_other(tmp_path):
    recipe = resolved(tmp_path, LONG, "budget.seconds=5", "batch.size=512")
    assert recipe.budget == BudgetTable(seconds=5.0)
    assert (recipe.batch.size, recipe.batch.clusters) == (512, None)
    assert "samples and seconds are given" in refused(tmp_path, LONG, "budget.seconds=5", "budget.samples=5")


# --- what is refused, and in which words ---


@pytest.mark.parametrize(
    ("lines", "message", "suggestion"),
    [
        (
            "[batch]\nsise = 3",
            "recipe.toml: unknown key 'batch.sise': did you mean 'batch.size'? Known: batch.acc",
            "batch.size",
        ),
        ("[data]\npaht = 'x'", "unknown key 'data.paht': did you mean 'data.path'? Known: data.embargo", "data.path"),
        (
            "[model.head]\ndept = 3",
            "unknown key 'model.head.dept': did you mean 'model.head.depth'?",
            "model.head.depth",
        ),
        (
            "[optimizer]\nclusters = 3",
            "unknown key 'optimizer.clusters': did you mean 'batch.clusters'?",
            "batch.clusters",
        ),
        ("[bach]\nsize = 3", "unknown table 'bach': did you mean 'batch'? Known: batch, budget", "batch"),
        (
            "[batch]\nthen = [{sampels = 3}]",
            "unknown key 'batch.then[0].sampels': did you mean",
            "batch.then[0].samples",
        ),
        ("[optimizer]\nname = 'adm'", "unknown optimizer.name 'adm': did you mean 'adam'? Known: adam, ada", "adam"),
        ("[data]\nkind = 'bar'", "unknown data.kind 'bar': did you mean 'bars'? Known: bars, quotes", "bars"),
    ],
)
def test_a_misspelt_name_is_told_with_the_nearest(tmp_path, lines, message, suggestion):
    with pytest.raises(UnknownOptionError) as caught:
        resolved(tmp_path, SHORTEST + lines)
    assert message in str(caught.value).replace(f"{tmp_path}/", "")
    assert caught.value.suggestion == suggestion
    assert caught.value.exit_code == 2


def test_a_key_outside_its_table_is_told_where_it_belongs(tmp_path):
    assert "unknown key 'clusters': did you mean 'batch.clusters'" in refused(tmp_path, "clusters = 3\n" + SHORTEST)
    assert "unknown key 'sed': did you mean 'seed'" in refused(tmp_path, "sed = 3\n" + SHORTEST)


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("batch.sise=3", "--set batch.sise=3: unknown key 'batch.sise': did you mean 'batch.size'?"),
        ("bach.size=3", "--set bach.size=3: unknown table 'bach': did you mean 'batch'?"),
        ("sed=3", "--set sed=3: unknown key 'sed': did you mean 'seed'?"),
        ("batch.size=many", "--set batch.size=many: batch.size = 'many': must be a whole number"),
        ("batch.size=-3", "--set batch.size=-3: batch.size = -3: must be 1 or more"),
        ("optimizer.name=adm", "--set optimizer.name=adm: unknown optimizer.name 'adm'"),
        ("seed=1\n[batch]\nsize = 3", "--set seed=1 [batch] size = 3: seed = "),
        ("seed=x", "--set seed=x: seed = 'x': must be a whole number"),
        ("batch.size", "--set batch.size: write key=value"),
        ("batch..size=3", "--set batch..size=3: write key=value"),
        ("seed.x=3", "--set seed.x=3: seed is no table"),
        ("batch=3", "--set batch=3: batch = 3: must be a table"),
    ],
)
def test_a_wrong_setting_is_told_as_it_was_typed(tmp_path, override, message):
    assert refused(tmp_path, "seed = 1\n" + SHORTEST, override).startswith(message)


@pytest.mark.parametrize(
    ("lines", "message"),
    [
        ("[batch]\nsize = 'atuo'", "recipe.toml: batch.size = 'atuo': must be a whole number or 'auto'"),
        ("[batch]\nsize = 'auto'\nclusters = 8", 'batch.size = "auto" finds the size, its changes and what fits into'),
        (
            "[batch]\nsize = 'auto'\nthen = [{samples = 5, size = 1}]",
            "drop batch.then; batch.least and batch.most bound",
        ),
        ("[batch]\nsize = 'auto'\naccumulate = 4", "drop batch.accumulate"),
        ("[batch]\nsize = 'auto'\nleast = 9\nmost = 4", "batch.least = 9 is more than batch.most = 4"),
        ("[batch]\nsize = 'auto'\nmost = 0", "batch.most = 0: must be 1 or more"),
        ("[batch]\nsize = 'auto'\nobjective = 'tmie'", "unknown batch.objective 'tmie': did you mean 'time'"),
        ("[batch]\nmost = 8", 'batch.most = 8 says something only with size = "auto"'),
        ("[batch]\nrows_per_cluster = 'auto'", "batch.rows_per_cluster = 'auto' says something only with size"),
        ("[batch]\nsize = 3.0", "batch.size = 3.0: must be a whole number"),
        ("[batch]\nsize = true", "batch.size = True: must be a whole number"),
        ("[batch]\nsize = 0", "recipe.toml: batch.size = 0: must be 1 or more"),
        (
            "[batch]\nsize = 8\nclusters = 8",
            "batch.size = 8 and batch.clusters = 8 both say how large a batch is: drop one",
        ),
        ("[batch]\nthen = [{samples = 5}]", "batch.then at 5 samples names no size"),
        (
            "[batch]\nthen = [{samples = 5, size = 1}, {samples = 5, size = 2}]",
            "begins at [5, 5] samples: they must ascend",
        ),
        ("[batch]\nthen = [3]", "batch.then has 3 in it: must be a list of tables"),
        ("[batch]\nthen = [{size = 3}]", "batch.then[0].samples is missing: it must be a whole number"),
        ("[batch]\nthen = [{samples = 'x', size = 3}]", "batch.then[0].samples = 'x': must be a whole number"),
        ("[batch]\nthen = 3", "batch.then = 3: must be a list, each entry a table"),
        ("[optimizer]\nlearning_rate = 'fast'", "optimizer.learning_rate = 'fast': must be a finite number"),
        ("[optimizer]\nlearning_rate = nan", "optimizer.learning_rate = nan: must be a finite number"),
        ("[optimizer]\nlearning_rate = inf", "optimizer.learning_rate = inf: must be a finite number"),
        ("[optimizer]\nlearning_rate = 0", "optimizer.learning_rate = 0.0: must be above 0"),
        ("[optimizer]\nbeta2 = 1.0", "optimizer.beta2 = 1.0: must be from 0 to below 1"),
        ("[optimizer]\nclip_norm = -1", "optimizer.clip_norm = -1.0: must be 0 or more"),
        ("[optimizer]\nname = 3", "optimizer.name = 3: must be one of 'adam', 'adamw', 'lion'"),
        ("[optimizer]\nscale_with_batch = 1", "optimizer.scale_with_batch = 1: must be true or false"),
        ("[schedule]\nend = 2", "schedule.end = 2.0: must be a share from 0 to 1"),
        ("[checkpoint]\nkeep = 0", "checkpoint.keep = 0: must be 1 or more"),
        ("[guard]\nmultiple = 1", "guard.multiple = 1.0: must be above 1"),
        ("[evaluate]\nevery = 0", "evaluate.every = 0.0: must be above 0"),
        ("[data]\nvalidation = 1.5", "recipe.toml: data.validation = 1.5: must be a share"),
        ("[data]\nmonths = [1]", "data.months = [1]: must be a list, each entry text in quotes"),
        ("[data]\npath = 2026-01-01", "data.path = datetime.date(2026, 1, 1): must be text in quotes"),
        ("[model]\nhead = 3", "model.head = 3: must be a table"),
    ],
)
def test_a_wrong_value_is_told_with_its_key_and_what_was_expected(tmp_path, lines, message):
    assert message in refused(tmp_path, SHORTEST + lines)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("[budget]\nsamples = 3", "recipe.toml: task.use is missing"),
        ("task = 3", "task.use is missing"),
        ("[task]\nuse = 3", "task.use = 3: must be text in quotes"),
        ("[task]\nuse = ' '", "task.use = ' ': must be the name of a study"),
        ("[task]\nuse = 'x'", "[budget] takes one of samples, epochs and seconds: none of them is given"),
        (SHORTEST + "seconds = 5", "[budget] takes one of samples, epochs and seconds: samples and seconds are given"),
        (SHORTEST.replace("1000", "0"), "budget.samples = 0: must be above 0"),
        ("seed = -1" + SHORTEST, "seed = -1: must be a whole number from 0"),
        ("seed = 1.5" + SHORTEST, "seed = 1.5: must be a whole number from 0"),
        ("seed = true" + SHORTEST, "seed = True: must be a whole number from 0"),
        ("batch = 3" + SHORTEST, "batch = 3: must be a table, [batch]"),
        ("[task", "recipe.toml: this is not TOML"),
    ],
)
def test_what_a_recipe_needs_is_told(tmp_path, text, message):
    assert message in refused(tmp_path, text)


def test_what_is_no_recipe_at_all_is_told(tmp_path):
    with pytest.raises(InputError, match=r"none\.toml: no such file"):
        read_recipe(tmp_path / "none.toml")
    with pytest.raises(InputError, match="cannot be read"):
        read_recipe(tmp_path)
    (tmp_path / "binary.toml").write_bytes(b"\xff\xfe")
    with pytest.raises(InputError, match="no text in UTF-8"):
        read_recipe(tmp_path / "binary.toml")
    (tmp_path / "large.toml").write_bytes(b"#" * 2_000_000)
    with pytest.raises(InputError, match="larger than 1 MB"):
        read_recipe(tmp_path / "large.toml")
    (tmp_path / "deep.toml").write_text("x = " + "[" * 100_000)
    with pytest.raises(InputError, match="not TOML"):
        read_recipe(tmp_path / "deep.toml")


# --- writing ---

TEXT = st.text(st.characters(exclude_categories=["Cs"]))
SCALARS = st.one_of(st.booleans(), st.integers(), st.floats(), TEXT)
VALUES = st.recursive(
    SCALARS, lambda below: st.lists(below, max_size=3) | st.dictionaries(TEXT, below, max_size=3), max_leaves=8
)


@given(st.dictionaries(TEXT, VALUES, max_size=4))
def test_what_is_written_reads_back(tables):
    assert repr(sorted(_plain(tomllib.loads(toml_text(tables))).items())) == repr(sorted(_plain(tables).items()))


def _plain(value):
    """Keys in order: a table's own values come before the tables in it."""
    if isinstance(value, dict):
        return {key: _plain(value[key]) for key in sorted(value)}
    if isinstance(value, list):
        return [_plain(item) for item in value]
    return math.copysign(math.nan, 1.0) if isinstance(value, float) and math.isnan(value) else value


def test_what_toml_has_no_place_for_is_refused():
    with pytest.raises(ValueError, match="a bytes has no place"):
        toml_text({"a": b"x"})
    with pytest.raises(ValueError, match="half a surrogate"):
        toml_text({"a": "\ud800"})


shares = st.floats(0.001, 0.999)
positive = st.floats(1e-12, 1e12)
counts = st.integers(1, 2**62)
RECIPES = st.builds(
    Recipe,
    seed=st.integers(0, 2**63 - 1),
    task=st.builds(TaskTable, use=TEXT.filter(str.strip)),
    data=st.builds(Data, path=TEXT, months=st.lists(TEXT, max_size=2).map(tuple), validation=st.floats(0, 0.4)),
    model=st.builds(Model, width=counts, head=st.builds(Head, depth=counts), rate=st.none() | positive),
    optimizer=st.builds(
        OptimizerTable,
        name=st.sampled_from(["adam", "adamw", "sgd", "lion"]),
        learning_rate=positive,
        beta1=shares,
        average_half_life=positive,
        scale_with_batch=st.booleans(),
    ),
    schedule=st.builds(ScheduleTable, warm_up=st.none() | positive, end=st.none() | shares),
    batch=st.builds(
        BatchTable,
        clusters=st.none() | counts,
        then=st.lists(counts, unique=True, max_size=3).map(
            lambda starts: tuple(BatchChange(samples=start, size=start) for start in sorted(starts))
        ),
    ),
    budget=st.one_of(st.builds(BudgetTable, samples=counts), st.builds(BudgetTable, seconds=positive)),
    evaluate=st.builds(EvaluateTable, every=positive),
    guard=st.builds(GuardTable, factor=shares),
    checkpoint=st.builds(CheckpointTable, keep=counts),
)


@given(recipe=RECIPES)
def test_a_recipe_in_full_reads_back_to_itself(tmp_path_factory, recipe):
    file = tmp_path_factory.getbasetemp() / "full.toml"
    file.write_text(recipe.to_toml(), encoding="utf-8", newline="\n")
    again = resolve(read_recipe(file), Data, Model)
    assert again == recipe
    assert again.to_toml() == recipe.to_toml()
    assert repr(again.identity()) == repr(recipe.identity())


def test_every_default_is_written_out(tmp_path):
    recipe = resolved(tmp_path, SHORTEST)
    tables = tomllib.loads(recipe.to_toml())
    for name, struct in msgspec.structs.asdict(recipe).items():
        if name != "seed":
            due = {key for key, value in msgspec.structs.asdict(struct).items() if value is not None}
            assert set(tables[name]) == due


def test_the_identity_is_flat_and_leaves_out_what_changes_no_number(tmp_path):
    one = resolved(tmp_path, LONG).identity()
    assert resolved(tmp_path, LONG, "checkpoint.keep=9").identity() == one
    assert (one["batch.clusters"], one["model.head.depth"], one["data.path"], one["seed"]) == (8, 3, "quotes", 7)
    for override in ("seed=8", "model.width=1", "optimizer.eps=1e-3", "batch.accumulate=2", "guard.rollbacks=2"):
        key = override.partition("=")[0]
        other = resolved(tmp_path, LONG, override).identity()
        assert {name for name in one if one[name] != other[name]} == {key}


# --- what the tables work out ---


def test_sizes_in_rows_and_in_clusters():
    assert BatchTable().rungs(rows=64, default=32) == [(0, 32)]
    assert BatchTable(size=512).rungs(rows=64, default=32) == [(0, 8)]
    assert BatchTable(size=1).rungs(rows=64, default=32) == [(0, 1)]
    assert BatchTable(clusters=3).rungs(rows=64, default=32) == [(0, 3)]
    assert BatchTable(size="auto", least=4, rows_per_cluster="auto").rungs(rows=64, default=32) == [(0, 32)]


@pytest.mark.parametrize("name", first_order.NAMES)
def test_every_optimizer_can_be_named_and_has_its_customary_values(tmp_path, name):
    recipe = resolved(tmp_path, SHORTEST, f"optimizer.name={name}")
    assert recipe.optimizer.hyper == first_order.named(name).hyper._asdict()
    assert f"learning_rate = {recipe.optimizer.learning_rate!r}" in recipe.to_toml()
    named = first_order.named(name, recipe.schedule.over(1000), **recipe.optimizer.hyper)
    assert named == first_order.named(name, named.schedule)


@pytest.mark.parametrize("name", schedules.NAMES)
def test_every_schedule_can_be_named_and_is_its_own_default(tmp_path, name):
    optimizer = "schedule-free" if name == "schedule-free" else "adam"
    recipe = resolved(tmp_path, SHORTEST, f"schedule.name={name}", f"optimizer.name={optimizer}")
    assert recipe.schedule.over(1000) == schedules.schedule(name, 1000)
    assert recipe.schedule.plateau == schedules.PlateauRule()


def test_a_schedule_and_an_optimizer_must_suit(tmp_path):
    assert resolved(tmp_path, SHORTEST, "optimizer.name=schedule-free").schedule.name == "schedule-free"
    told = refused(tmp_path, SHORTEST, "schedule.name=schedule-free")
    assert "schedule.name = 'schedule-free' does not go with optimizer.name = 'adam'" in told
    refused(tmp_path, SHORTEST, "schedule.name=one-cycle", "optimizer.name=schedule-free")
    assert "averages by itself" in refused(tmp_path, SHORTEST, "optimizer.name=schedule-free", "optimizer.average=ema")


def test_the_guard_by_default_is_the_guard_s_own():
    assert GuardTable().rule == GuardRule()


def test_shares_are_of_the_budget_below_one_and_samples_from_one_on():
    assert OptimizerTable().averaging(1000) is None
    assert OptimizerTable(average="mean", average_start=0.75).averaging(1000) == Averaging(None, 750)
    assert OptimizerTable(average="ema", average_half_life=64.0, average_start=10.0).averaging(1000) == Averaging(
        64.0, 10
    )
    assert EvaluateTable(every=0.999).samples(10) == 10
    assert EvaluateTable(every=1.0).samples(10) == 1
