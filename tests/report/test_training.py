"""Laws of the pages of a training run and of a range test: whole, self-contained, safe, true to the files, and bearing
with what is missing from them.
"""

import json
import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.report.test_page import Reader, own_part
from volgrad.errors import InputError
from volgrad.learning.run_folder import Metrics, run_folder
from volgrad.learning.training.guard import Action, Guard, GuardRule
from volgrad.learning.training.range_test import judge
from volgrad.report.range_page import range_figure, range_html, write_range_test
from volgrad.report.run_record import RunRecord, read_run
from volgrad.report.training_figures import (
    MOST_POINTS,
    gradient_figure,
    loss_figure,
    metric_figures,
    pace_figure,
    rate_figure,
    thinned,
)
from volgrad.report.training_page import training_html, write_training

EVIL = "</script><script>alert(1)</script>&<b>'\""
RECIPE = """seed = 3

[task]
use = "waves"

[optimizer]
name = "adam"
learning_rate = 0.01
clip_norm = 1.0

[schedule]
name = "SCHEDULE"
"""
LEVEL = np.ones(4)
USUAL = Guard(levels=(1.0,) * 8, first=1.0, best=1.0)


def message(action):
    """What the guard says when it asks for this."""
    told = {
        Action.ROLL_BACK: USUAL.judge(500.0 * LEVEL, LEVEL > 0),
        Action.REMEDY: USUAL.judge(LEVEL, LEVEL > 0, GuardRule(patience=2)),
        Action.GIVE_UP: USUAL._replace(rollbacks=5).judge(500.0 * LEVEL, LEVEL > 0),
    }[action]
    assert told.action is action
    return told.message


def told(samples, **more):
    """A line of the metrics."""
    usual = {"loss": 1.0 / (1.0 + samples), "lr": 0.01, "batch": 16, "rows_per_s": 1e5 + samples}
    return usual | {"samples": samples, "step": samples // 16, "event": None, "gradient_norm": 0.5, "refused": 0} | more


def run_of(lines, schedule="constant", **more):
    return RunRecord(tuple(lines), RECIPE.replace("SCHEDULE", schedule), **more)


def written(root, lines, final=None, recipe=RECIPE):
    """The folder of a run, by what writes it."""
    with run_folder(root) as folder:
        folder.begin(recipe)
        with Metrics(root / "metrics.jsonl", 0) as metrics:
            for line in lines:
                metrics.write(**line)
        if final is not None:
            folder.finish(final)
    return root


def ten(**more):
    return [told(160 * place, **more) for place in range(1, 11)]


def drawn(figure, name):
    (trace,) = [trace for trace in figure.data if trace["name"] == name]
    return dict(zip(trace["x"], trace["y"], strict=True))


def kinds(run):
    return [(event.samples, event.kind) for event in run.events]


def test_a_page_is_written_whole_and_within_its_bound(tmp_path):
    lines = [
        told(place, **{f"validation_m{name}": math.pi * place for name in range(80)}, event=f"{place}: {EVIL * 20}")
        for place in range(1, 3001)
    ]
    target = tmp_path / "deep" / "report.html"
    assert write_training(target, run_of(lines), title="t") == target
    assert target.stat().st_size < 15_000_000
    assert [path.name for path in target.parent.iterdir()] == ["report.html"]


def test_the_page_loads_nothing_and_its_links_lead_somewhere(tmp_path):
    folder = written(tmp_path, ten(validation_loss=0.5, validation_inside=0.9), {"status": "done"})
    for page in (training_html(folder, title="t"), range_html(falling(), title="t")):
        own = own_part(page)
        assert "http:" not in own
        assert "https:" not in own
        attributes = Reader(own).attributes
        anchors = [value for _, name, value in attributes if name == "id"]
        links = {value[1:] for tag, name, value in attributes if (tag, name) == ("a", "href")}
        assert len(anchors) == len(set(anchors))
        assert links <= set(anchors)


def test_the_same_files_give_the_same_page(tmp_path):
    folder = written(tmp_path, ten(validation_a=1.0, validation_b=2.0))
    assert training_html(folder, title="t") == training_html(folder, title="t")


def test_no_text_of_the_files_becomes_markup():
    lines = [told(16, event=EVIL), told(32, event=EVIL, **{f"validation_{EVIL}": 1.0})]
    final = {"status": EVIL, "notes": [EVIL, f"{EVIL} again"], "state_sha256": EVIL, "best": {EVIL: EVIL}}
    evil = json.dumps(EVIL)
    recipe = f"seed = {evil}\n[task]\nuse = {evil}\n[optimizer]\nname = {evil}\nlearning_rate = {evil}\n"
    run = RunRecord(tuple(lines), recipe, {EVIL: EVIL, "before": [EVIL]}, final)
    assert run.setting("task", "use") == EVIL
    page = own_part(training_html(run, title=EVIL, summary={"version": EVIL, "command": [EVIL]}))
    for figure in Reader(page).figures:  # what plotly would read as mark-up
        for trace in figure["data"]:
            assert "<b>" not in trace["name"]
            assert "<b>" not in "".join(trace.get("text", ()))
    assert "<script>alert" not in page
    assert "<b>'" not in page


def test_the_curves_hold_what_was_measured():
    run = run_of([
        told(160, loss=0.5, lr=0.001, gradient_norm=2.0, rows_per_s=10.0),
        told(320, loss=0.4, lr=0.002, gradient_norm=None, rows_per_s=30.0, validation_loss=0.3, validation_inside=0.9),
        told(480, loss=None, lr=0.003, gradient_norm=3.0, rows_per_s=20.0, validation_loss=0.2, validation_inside=0.8),
    ])  # fmt: skip
    figure = loss_figure(run)
    assert drawn(figure, "training") == {160: 0.5, 320: 0.4}
    assert drawn(figure, "validation") == {320: 0.3, 480: 0.2}
    assert drawn(figure, "best") == {480: 0.2}
    assert drawn(rate_figure(run), "learning rate") == {160: 0.001, 320: 0.002, 480: 0.003}
    assert drawn(gradient_figure(run), "gradient norm") == {160: 2, 480: 3}
    assert gradient_figure(run).layout["shapes"][0]["y0"] == 1.0
    assert drawn(pace_figure(run), "rows a second") == {160: 10, 320: 30, 480: 20}
    assert pace_figure(run).layout["shapes"][0]["y0"] == 20.0
    (inside,) = metric_figures(run)
    assert (inside.title, inside.key) == ("inside", "0.8 at the best loss")
    assert drawn(inside, "inside") == {320: 0.9, 480: 0.8}


def test_positions_are_exact_however_many_samples():
    assert list(drawn(loss_figure(run_of([told(123_456_789_012)])), "training")) == [123_456_789_012]


@pytest.mark.parametrize(("least", "kind"), [(0.1, "log"), (0.0, None), (-0.1, None)])
def test_the_axis_is_logarithmic_where_all_losses_are_positive(least, kind):
    figure = loss_figure(run_of([told(16, loss=0.5), told(32, loss=0.4, validation_loss=least)]))
    assert figure.layout["yaxis"].get("type") == kind


@given(st.lists(st.floats(-1e6, 1e6), min_size=1, max_size=200), st.integers(4, 50))
def test_a_thinned_curve_keeps_its_ends_and_extremes(values, most):
    y = np.array(values)
    kept = thinned(y, most)
    assert kept.size <= max(most, 0)
    assert (np.diff(kept) > 0).all()
    assert (kept[0], kept[-1]) == (0, y.size - 1)
    assert (y[kept].min(), y[kept].max()) == (y.min(), y.max())


def test_no_curve_has_more_points_than_can_be_seen():
    rng = np.random.default_rng(0)
    run = run_of(
        [told(16 * place, loss=loss, validation_loss=loss) for place, loss in enumerate(rng.uniform(size=9000))]
    )
    for figure in (loss_figure(run), rate_figure(run), gradient_figure(run), pace_figure(run)):
        assert all(len(trace["x"]) == len(trace["y"]) <= MOST_POINTS for trace in figure.data)


def test_steps_that_were_taken_back_are_not_in_the_curve():
    run = run_of([
        told(160, loss=0.5), told(160, loss=1e9, lr=7.0, event=message(Action.ROLL_BACK)), told(320, loss=0.4),
    ])  # fmt: skip
    assert drawn(loss_figure(run), "training") == {160: 0.5, 320: 0.4}
    assert 7 not in drawn(rate_figure(run), "learning rate").values()
    assert drawn(loss_figure(run), "roll-back") == {160: 0.5}


def test_what_the_guard_says_is_told_apart_and_marked():
    actions = Action.ROLL_BACK, Action.REMEDY, Action.GIVE_UP
    run = run_of([told(160), *(told(160 + place, event=message(action)) for place, action in enumerate(actions))])
    assert kinds(run) == [(160, "roll-back"), (161, "remedy"), (162, "gave up")]
    assert run.status == "gave up"
    figure = loss_figure(run)
    assert {trace["name"] for trace in figure.data} == {"training", "roll-back", "remedy", "gave up"}
    assert [shape["x0"] for shape in figure.layout["shapes"]] == [160, 161, 162]


def test_a_run_that_gives_up_keeps_the_steps_it_stands_on():
    stalled = USUAL._replace(remedies=3).judge(LEVEL, LEVEL > 0, GuardRule(patience=2))
    assert stalled.action is Action.GIVE_UP
    assert run_of([told(160), told(320, event=stalled.message)]).taken_back.tolist() == [False, False]
    assert run_of([told(160), told(160, event=message(Action.GIVE_UP))]).taken_back.tolist() == [False, True]


def test_a_change_of_the_batch_size_is_an_event_and_drawn():
    run = run_of([told(160, batch=16), told(320, batch=16), told(480, batch=64)])
    assert kinds(run) == [(320, "batch size")]
    figure = rate_figure(run)
    assert drawn(figure, "clusters a batch") == {160: 16, 320: 16, 480: 64}
    assert figure.layout["yaxis2"]["tickvals"] == [16, 64]
    assert "of 16 clusters throughout" in rate_figure(run_of(ten())).says


def test_cuts_of_a_plateau_are_found_and_nothing_else_is_taken_for_one():
    rates = 0.01, 0.01, 0.005, 0.005
    lines = [told(160 * place, lr=rate) for place, rate in enumerate(rates, 1)]
    assert kinds(run_of(lines, "plateau")) == [(320, "rate cut")]
    assert kinds(run_of(lines, "warm-up-cosine")) == []
    lines[1] |= {"event": message(Action.ROLL_BACK)}  # it is what shrank the step
    assert kinds(run_of(lines, "plateau")) == [(320, "roll-back")]


def test_the_tiles_tell_what_the_run_ended_with(tmp_path):
    final = {
        "status": "done", "samples": 1600, "steps": 100, "rollbacks": 2, "wall_s": 13.83, "compile_s": 9.5,
        "best": {"samples": 320, "loss": 0.125, "inside": 0.75}, "notes": ["a note"], "state_sha256": "abc",
    }  # fmt: skip
    page = own_part(training_html(written(tmp_path, ten(), final), title="t"))
    for text in ("<dd>done</dd>", "<dd>1,600</dd>", "in 100 steps", "<dd>0.125</dd>", "at 320 samples", "13.8 s",
                 "9.5 s compiling", "<dd>2</dd>", "a note", "<dd>100,880</dd>", "abc"):  # fmt: skip
        assert text in page, text
    assert "waves, adam at a learning rate of 0.01, schedule" in page
    assert "clip_norm = 1.0" in page


@pytest.mark.parametrize("lines", [[], ten()[:1], ten()], ids=["none", "one", "ten"])
def test_a_run_that_goes_on_has_a_page(tmp_path, lines):
    folder = written(tmp_path, lines)
    with (folder / "metrics.jsonl").open("a") as stream:
        stream.write('{"samples": 99999, "lo')  # the line that is being written
    run = read_run(folder)
    assert (len(run.lines), run.status, run.best) == (len(lines), "not finished", None)
    page = own_part(training_html(folder, title="t"))
    Reader(page)
    assert "not finished" in page
    assert ">nan" not in page.lower()


def test_the_best_of_a_run_that_goes_on_is_looked_up():
    losses = [0.5, math.nan, 0.2, 0.3]
    run = run_of([told(160 * place, validation_loss=loss, validation_a=place) for place, loss in enumerate(losses, 1)])
    assert run.best == {"samples": 480, "loss": 0.2, "a": 3}


@pytest.mark.parametrize("name", ["metrics.jsonl", "versions.json", "final.json", "recipe.toml"])
@pytest.mark.parametrize("damage", [None, b"", b"null\n", b"[1, 2]", b"\xff\xfe{", b"[" * 100_000], ids=str)
def test_a_file_that_is_missing_or_damaged_costs_its_own_part_only(tmp_path, name, damage):
    folder = written(tmp_path, ten(validation_loss=0.5), {"status": "done"})
    if damage is None:
        (folder / name).unlink()
    else:
        (folder / name).write_bytes(damage)
    Reader(own_part(training_html(folder, title="t")))


@pytest.mark.parametrize("value", [None, "text", True, [1], {}, 1e999, -1e999, 10**400, -5, 0], ids=repr)
def test_a_value_that_is_no_number_does_not_stop_the_page(value):
    keys = (*told(16), "validation_loss", "validation_a")
    run = run_of([told(16), dict.fromkeys(keys, value), told(32)], "plateau", final=dict.fromkeys(
        ("status", "samples", "steps", "best", "wall_s", "compile_s", "rollbacks", "notes", "state_sha256"), value
    ))  # fmt: skip
    page = own_part(training_html(run, title="t"))
    assert not {"nan", "inf", "-inf"} & {cell.lower() for cell in Reader(page).cells}
    assert "<dd>nan" not in page
    assert "<dd>inf" not in page


def test_where_there_is_no_run_the_reader_is_told(tmp_path):
    with pytest.raises(InputError, match="no run is here"):
        read_run(tmp_path / "nowhere")


def falling(runaway=True):
    """A range test whose loss falls, and runs away beyond 0.3."""
    rates = np.geomspace(1e-6, 10.0, 200)
    losses = 1.0 / (1.0 + 30.0 * rates) + 0.01 * np.random.default_rng(0).standard_normal(200)
    return judge(rates, np.where((rates > 0.3) & runaway, losses + (rates / 0.3) ** 8, losses))


def flat():
    rates = np.geomspace(1e-6, 10.0, 200)
    return judge(rates, 0.5 + 0.1 * np.random.default_rng(0).standard_normal(200))


def test_a_range_test_is_drawn_with_what_it_found():
    found = falling()
    figure = range_figure(found)
    dots = drawn(figure, "loss")
    assert list(dots) == pytest.approx(found.rates.tolist(), rel=1e-4)
    assert list(dots.values()) == pytest.approx(found.losses.tolist(), rel=1e-4)
    for name, rate in (
        ("suggestion", found.suggestion), ("steepest", found.steepest), ("largest stable", found.largest_stable)
    ):  # fmt: skip
        assert rate is not None
        (mark,) = [trace for trace in figure.data if trace["name"].startswith(f"{name} ")]
        assert mark["x"] == [rate, rate]


def test_what_runs_away_does_not_flatten_the_picture():
    found = falling()
    low, high = range_figure(found).layout["yaxis"]["range"]
    least, most = math.log10(found.smoothed.min()), math.log10(found.smoothed[0])
    assert low < least
    assert (most - least) > 0.4 * (high - low)
    assert "above the picture" in range_figure(found).says
    assert found.losses.max() > 10**high


def test_the_page_of_a_range_test_says_what_to_put_into_the_recipe(tmp_path):
    found = falling()
    target = write_range_test(tmp_path / "lr-range.html", found, title="t", summary={"wall_s": 3.0})
    page = own_part(target.read_text())
    assert f"learning_rate = {found.suggestion:.2g}" in page
    assert f"--set optimizer.learning_rate={found.suggestion:.2g}" in page
    assert found.why[1:] in page
    assert target.stat().st_size < 15_000_000


@pytest.mark.parametrize(
    "found", [falling(runaway=False), flat(), judge(np.geomspace(0.1, 1, 30), np.full(30, np.nan))],
    ids=["no-limit", "no-fall", "nothing-finite"],
)  # fmt: skip
def test_a_range_test_that_found_less_has_a_page(found):
    page = own_part(range_html(found, title=EVIL, summary={"version": EVIL}))
    reader = Reader(page)
    assert "<dd>–</dd>" in page
    assert ("learning_rate = " in page) == (found.suggestion is not None)
    assert len(reader.figures) == 1
    assert "nan" not in page.lower()
    assert "<b>'" not in page
