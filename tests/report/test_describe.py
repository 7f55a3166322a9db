"""Laws of the description's page: whole, self-contained, safe, and true to what was found."""

import dataclasses
import math

import numpy as np
import pytest

from tests.report.test_page import Reader, own_part
from tests.tasks.described import described, market, smooth
from tests.tasks.test_description import shocks
from volgrad.report.describe_figures import (
    autocorrelation_figures,
    content_figure,
    likeness_figures,
    standing_figure,
    survival_figure,
    worth_figure,
)
from volgrad.report.describe_page import description_html, write_description

EVIL = "</script><script>alert(1)</script>&<b>'\""


@pytest.fixture(scope="module")
def found():
    rng = np.random.default_rng(0)
    standing = rng.uniform(size=(40, 24)) < 0.5
    stamps = [*range(20), *range(60, 80)]
    return described(
        market(shocks(1, 40), stamps=stamps, standing=standing), market(shocks(2, 40), ccy="ETH", stamps=stamps)
    )


def test_a_page_is_written_whole_and_within_its_bound(found, tmp_path):
    target = tmp_path / "deep" / "describe.html"
    assert write_description(target, found, title="t") == target
    assert target.stat().st_size < 15_000_000
    assert [path.name for path in target.parent.iterdir()] == ["describe.html"]


def test_the_page_loads_nothing_and_its_links_lead_somewhere(found):
    page = own_part(description_html(found, title="t"))
    assert "http:" not in page
    assert "https:" not in page
    attributes = Reader(page).attributes
    anchors = [value for _, name, value in attributes if name == "id"]
    links = {value[1:] for tag, name, value in attributes if (tag, name) == ("a", "href")}
    assert len(anchors) == len(set(anchors))
    assert links <= set(anchors)


def test_no_text_of_the_input_becomes_markup(found):
    inventory = dataclasses.replace(
        found.inventory,
        set_aside=({"source": EVIL, "why": EVIL},),
        left_out={EVIL: 3},
        underlyings=tuple(dataclasses.replace(one, underlying=EVIL) for one in found.inventory.underlyings),
    )
    likeness = tuple(dataclasses.replace(one, why=EVIL) for one in found.likeness)
    staleness = dataclasses.replace(found.staleness, why=EVIL, survival=())
    bad = dataclasses.replace(found, inventory=inventory, likeness=likeness, staleness=staleness, notes=(EVIL,))
    page = own_part(description_html(bad, title=EVIL, summary={"version": EVIL, "command": [EVIL]}))
    Reader(page)  # well-formed all the same
    assert "<script>alert" not in page
    assert "<b>'" not in page


def test_every_period_and_gap_is_drawn(found):
    figure = content_figure(found)
    assert sum(sum(trace["y"]) for trace in figure.data) == found.inventory.used
    assert len(figure.layout["shapes"]) == len(found.inventory.gaps) == 2


def test_every_estimate_is_drawn_with_its_interval(found):
    correlation, effect = likeness_figures(found)
    for figure, field in ((correlation, "correlation"), (effect, "design_effect")):
        drawn = sorted(value for trace in figure.data for value in trace["x"])
        assert drawn == pytest.approx(sorted(getattr(one, field) for one in found.likeness), rel=1e-4)
        for trace in figure.data:
            assert min(value for value in trace["error_x"]["array"]) >= 0.0
            assert min(value for value in trace["error_x"]["arrayminus"]) >= 0.0


def test_no_interval_leaves_the_logarithmic_axis(found):
    high = likeness_figures(found)[1].layout["xaxis"]["range"][1]
    assert max(one.design_effect_high for one in found.likeness) < 10**high


def test_the_window_is_drawn_where_it_ends(found):
    for figure, quantities in zip(
        autocorrelation_figures(found), (("innovation", "surprise"), ("level", "gradient")), strict=True
    ):
        ends = [found.of(name).window * found.of(name).step_hours for name in quantities]
        assert [shape["x0"] for shape in figure.layout["shapes"][:2]] == pytest.approx(ends)
        for trace in figure.data:
            assert trace["y"][0] == 1


def test_worth_never_exceeds_the_rows(found):
    rows, within, worth = (trace["y"] for trace in worth_figure(found).data)
    assert all(a >= b for a, b in zip(rows, within, strict=True))
    assert worth == pytest.approx(
        [found.of(name).rows_effective for name in ("innovation", "surprise", "level", "gradient")], rel=1e-2
    )


def test_standing_quotes_are_drawn_as_they_were_counted(found):
    sheet = standing_figure(found).data[0]
    for drawn, row in zip(sheet["z"], found.staleness.table_unchanged, strict=True):
        for value, share in zip(drawn, row, strict=True):
            assert (value is None) == math.isnan(share)
            assert value is None or value == pytest.approx(100 * share, rel=1e-2)
    curve = survival_figure(found).data[0]
    assert curve["y"][0] == 100
    assert all(a >= b for a, b in zip(curve["y"], curve["y"][1:], strict=False))


def test_where_nothing_can_be_said_the_page_says_so():
    page = own_part(description_html(described(market(smooth(1))), title="t"))
    reader = Reader(page)
    assert "nan" not in page.lower()
    assert "–" in reader.cells
    assert "in two chains in a row" in page
