"""Laws of the page of a batch-size choice: whole, self-contained, safe, true to what was found, and bearing with what
is missing.
"""

import dataclasses
import json
import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.report.test_page import Reader, own_part
from volgrad.learning.batch_size.decision import Chosen, Decision, Moment
from volgrad.learning.batching.noise_scale import noise_scale
from volgrad.learning.batching.size_choice import Bounds, Timed, Work, choose
from volgrad.report.batch_size_figures import (
    branch_figures,
    noise_figure,
    predicted_figure,
    relative_times,
    sharpness_figure,
)
from volgrad.report.batch_size_hardware import linear_fit, memory_figure, pace_figure, step_figure
from volgrad.report.batch_size_page import batch_size_html, write_batch_size
from volgrad.report.batch_size_words import HEADINGS, ladder_rows, likeness_words, noise_words, rows_words

EVIL = "</script><script>alert(1)</script>&<b>'\""
ROWS = 64


def noise(signal=0.3, seed=0, units=48, halves=True):
    """A noise scale of clusters whose two halves share half of their noise."""
    random = np.random.default_rng(seed)
    clusters = random.standard_normal((units, 1, 30)) + signal
    parts = (clusters + random.standard_normal((units, 2, 30))).reshape(2 * units, 30)
    vectors = parts if halves else clusters[:, 0]
    return noise_scale(vectors @ vectors.T, rows_per_cluster=ROWS, halves=halves)


def rung(clusters, **more):
    step = 1e-4 + 2e-5 * clusters
    return Timed(clusters, clusters * ROWS, step, 0.1 * step, 50_000 * clusters + 400_000, **more)


def decided(ladder=None, scale=None, **more):
    """A decision as the chooser makes it, of a ladder with a size that was not timed and one that does not fit."""
    lost = Timed(512, 512 * ROWS, math.nan, math.nan, 10**12, fits=False, measured=False)
    ladder = ladder or (*(rung(1 << power) for power in range(8)), rung(256, measured=False), lost)
    scale = scale or noise()
    found = choose(ladder, max(scale.lo, 0.1), Work(10_000, 32), "time", Bounds())
    best = ladder[found.place]
    usual = {
        "moments": tuple(Moment(500 * at, noise(0.5 - 0.1 * at, at)) for at in range(4)),
        "branches": tuple(branch(size, rounds) for size, rounds in ((4, 2), (8, 2), (16, 1))),
        "sharpness": tuple(sharp(size) for size in (1, 8, 128)),
        "rows_choice": tuple(
            {"rows_per_cluster": rows, "relative_time": 1.0 + abs(rows - 8) / 8, "best": rows == 8, "drawn": rows == 64}
            for rows in (4, 8, 64)
        ),
        "notes": ("batches of 512 clusters and more do not fit into memory",),
    }  # fmt: skip
    return Decision(
        Chosen(best.clusters, float(ROWS), best.rows), "time", ladder, found.predicted_s, found.samples, scale,
        probe_s=12.0, compile_s=3.0, reason="Batches of some clusters: for a reason.", **(usual | more),
    )  # fmt: skip


def branch(clusters, rounds):
    losses = [0.4 + 0.001 * clusters, 0.5 + 0.001 * clusters]
    return {
        "clusters": clusters, "rows": clusters * ROWS, "steps": 100, "samples": 100 * clusters, "seconds": 1.5 * rounds,
        "rounds": rounds, "loss": float(np.mean(losses)), "losses": losses, "loss_before": 0.9,
    }  # fmt: skip


def sharp(clusters):
    found = {"eigenvalue": 10.0 * clusters, "residual": 0.1, "loss": 0.4, "neighbourhood": 0.2, "worst": 0.3}
    return {"clusters": clusters, "rows": clusters * ROWS, "radius": 0.05, **found}


def told(**more):
    return decided(**more).to_dict() | {"settings": ["batch.clusters=4", "optimizer.reference_batch=32"], "wall_s": 9.0}


def drawn(figure, name):
    (trace,) = [trace for trace in figure.data if trace["name"] == name]
    return dict(zip(trace["x"], trace["y"], strict=True))


def test_a_page_is_written_whole_and_within_its_bound(tmp_path):
    target = tmp_path / "deep" / "batch-size.html"
    assert write_batch_size(target, told(), title="t") == target
    assert target.stat().st_size < 15_000_000
    assert [path.name for path in target.parent.iterdir()] == ["batch-size.html"]


def test_the_page_loads_nothing_and_its_links_lead_somewhere():
    own = own_part(batch_size_html(told(), title="t"))
    assert "http:" not in own
    assert "https:" not in own
    attributes = Reader(own).attributes
    anchors = [value for _, name, value in attributes if name == "id"]
    links = {value[1:] for tag, name, value in attributes if (tag, name) == ("a", "href")}
    assert len(anchors) == len(set(anchors))
    assert links <= set(anchors)
    assert {"time", "hardware", "noise", "branches", "sharpness", "rows", "use"} <= set(anchors)


def test_the_page_follows_from_the_file():
    found = told()
    assert batch_size_html(json.loads(json.dumps(found)), title="t") == batch_size_html(found, title="t")


def test_every_figure_is_on_the_page():
    found = told()
    figures = [
        predicted_figure(found), step_figure(found), pace_figure(found), memory_figure(found), noise_figure(found),
        *branch_figures(found), sharpness_figure(found),
    ]  # fmt: skip
    shown = Reader(own_part(batch_size_html(found, title="t"))).figures
    assert [one["data"] for one in shown] == [json.loads(json.dumps(figure.data)) for figure in figures]


def test_no_text_becomes_markup():
    found = told(notes=(EVIL,)) | {"reason": EVIL, "version": EVIL, "command": [EVIL], "settings": [EVIL]}
    page = own_part(batch_size_html(found, title=EVIL))
    assert "<script>alert" not in page
    assert "<b>" not in page
    Reader(page)


def test_what_was_not_looked_at_has_no_section():
    found = told(branches=(), sharpness=(), rows_choice=(), notes=())
    del found["settings"]
    anchors = {
        value for _, name, value in Reader(own_part(batch_size_html(found, title="t"))).attributes if name == "id"
    }
    assert {"branches", "sharpness", "rows"} & anchors == set()
    assert {"time", "hardware", "noise", "use"} <= anchors


def test_a_single_size_has_a_page():
    lone = told(ladder=(rung(1),), moments=(Moment(0, noise()),), branches=())
    assert "1 cluster" in batch_size_html(lone, title="t")


def test_the_ladder_is_drawn_as_measured():
    found = told()
    fitting = [one for one in found["ladder"] if one["fits"]]
    steps = {one["rows"]: one["step_s_median"] for one in fitting}
    rest = {256 * ROWS: steps.pop(256 * ROWS)}
    assert drawn(step_figure(found), "median") == pytest.approx(steps, rel=1e-4)
    assert drawn(step_figure(found), "drawn on") == pytest.approx(rest, rel=1e-4)
    (medians,) = [trace for trace in step_figure(found).data if trace["name"] == "median"]
    spread = [0.5 * one["step_s_iqr"] for one in fitting if one["measured"]]
    assert medians["error_y"]["array"] == pytest.approx(spread, rel=1e-4)
    base = next(one for one in fitting if one["clusters"] == found["chosen"]["clusters"])["predicted_s"]
    assert drawn(predicted_figure(found), "predicted") == pytest.approx(
        {one["rows"]: one["predicted_s"] / base for one in fitting}, rel=1e-4
    )
    assert drawn(memory_figure(found), "does not fit") == {512 * ROWS: 10**12}
    assert 256 * ROWS not in drawn(pace_figure(found), "rows a second")


def test_the_table_marks_the_choice_and_what_was_not_timed():
    found = told()
    rows = {cells.cells[0]: cells for cells in ladder_rows(found)}
    assert len(rows) == len(found["ladder"])
    assert [size for size, cells in rows.items() if cells.chosen] == [str(found["chosen"]["clusters"])]
    assert rows[str(found["chosen"]["clusters"])].cells[-2:] == ("1", "chosen")
    assert (rows["256"].cells[-1], rows["512"].cells[-1]) == ("not timed", "does not fit")
    assert {len(cells.cells) for cells in rows.values()} == {len(HEADINGS)}


def test_the_noise_scale_is_drawn_with_its_interval():
    found = told()
    (trace,) = [trace for trace in noise_figure(found).data if trace["name"] == "whole clusters"]
    sure = [one for one in found["moments"] if one["significant"]]
    assert trace["x"] == [one["samples"] for one in sure]
    assert trace["y"] == pytest.approx([one["rows"] for one in sure], rel=1e-4)
    above = np.add(trace["y"], trace["error_y"]["array"])
    below = np.subtract(trace["y"], trace["error_y"]["arrayminus"])
    assert above == pytest.approx([one["hi"] for one in sure], rel=1e-3)
    assert below == pytest.approx([one["lo"] for one in sure], rel=1e-3)


def test_noise_without_signal_is_a_lower_bound_or_unknown():
    weak = noise(signal=0.0, seed=3)
    assert not weak.significant
    found = told(scale=weak, moments=(Moment(0, noise()), Moment(10, weak)))
    figure = noise_figure(found)
    assert drawn(figure, "at least") == pytest.approx({10: weak.rows_lo}, rel=1e-4)
    assert "at least" in noise_words(found["noise"])
    assert likeness_words(found["noise"]) == ""
    assert "≥" in batch_size_html(found, title="t")
    nothing = dict.fromkeys(("clusters", "clusters_lo", "clusters_hi", "rows", "lo", "hi")) | {"units": 2}
    assert "not known" in noise_words(nothing | {"significant": False})
    assert "too few" in noise_words(nothing | {"significant": False, "clusters_lo": 0.0})


def test_rows_that_are_alike_are_told():
    words = likeness_words(told()["noise"])
    scale = noise()
    assert f"{scale.rows / scale.per_row:.3g} times too few" in words
    assert likeness_words(told(scale=noise(halves=False))["noise"]) == ""


def test_fewer_rows_are_spoken_of_where_they_are_much_faster():
    assert "8 rows of each cluster in place of 64 would be 8 times as fast" in rows_words(told())
    assert rows_words(told(rows_choice=())) == ""
    alike = [
        {"rows_per_cluster": rows, "relative_time": cost, "best": rows == 8, "drawn": rows == 64}
        for rows, cost in ((8, 1.0), (64, 1.1))
    ]
    assert rows_words(told(rows_choice=tuple(alike))) == ""


def test_branches_are_drawn_by_replicate():
    found = told()
    by_time, by_size = branch_figures(found)
    for one in found["branches"]:
        own = [trace for trace in by_time.data if trace["name"] == f"{one['clusters']} clusters"]
        assert [trace["y"] for trace in own] == [[0.9, pytest.approx(loss)] for loss in one["losses"]]
        assert all(trace["x"] == [0, one["seconds"]] for trace in own)
    last = {one["rows"]: one["losses"][0] for one in found["branches"] if one["rounds"] == 2}
    assert drawn(by_size, "replicate 1") == pytest.approx(last)
    assert list(drawn(by_size, "dropped out")) == [16 * ROWS]


def test_a_branch_that_ran_away_is_left_out():
    away = branch(16, 2) | {"losses": [math.nan, 0.7], "loss": math.nan}
    found = told(branches=(branch(4, 2), away))
    by_time, by_size = branch_figures(found)
    assert len([trace for trace in by_time.data if trace["name"] == "16 clusters"]) == 1
    assert drawn(by_size, "replicate 1")[16 * ROWS] is None
    assert "–" in Reader(own_part(batch_size_html(found, title="t"))).cells


@given(st.floats(1e-6, 1.0), st.floats(1e-9, 1e-3))
def test_a_straight_line_is_found(fixed, each):
    rows = 2.0 ** np.arange(0, 20, 2)
    found = linear_fit(rows, fixed + each * rows)
    assert found == pytest.approx((fixed, each), rel=1e-4, abs=1e-6 * (fixed + each))


@given(st.lists(st.floats(1e-5, 1.0), min_size=2, max_size=8))
def test_a_step_never_costs_less_than_nothing(steps):
    fixed, each = linear_fit(2.0 ** np.arange(len(steps)), np.array(steps))
    assert fixed >= 0.0
    assert each >= 0.0
    assert fixed + each > 0.0


def test_time_relative_to_the_chosen_size():
    """At the noise that was gone by it is what was predicted; where noise is all, only throughput counts."""
    decision = decided()
    found = decision.to_dict()
    own = relative_times(found, max(decision.noise.lo, 0.1))
    base = next(one for one in found["ladder"] if one["clusters"] == found["chosen"]["clusters"])
    assert own[:-1] == pytest.approx([one["predicted_s"] / base["predicted_s"] for one in found["ladder"][:-1]])
    assert own[-1] is None
    pace = [one["rows"] / one["step_s_median"] for one in found["ladder"][:-1]]
    chosen = base["rows"] / base["step_s_median"]
    assert relative_times(found, math.inf)[:-1] == pytest.approx([chosen / one for one in pace])


def test_a_choice_that_branches_made_shows_what_was_predicted():
    decision = decided()
    other = dataclasses.replace(decision, chosen=Chosen(64, float(ROWS), 64 * ROWS)).to_dict()
    names = [trace["name"] for trace in predicted_figure(other).data]
    assert "chosen: 64 clusters" in names
    assert f"least predicted: {decision.clusters} clusters" in names
    assert not any(name.startswith("least predicted") for name in [t["name"] for t in predicted_figure(told()).data])
