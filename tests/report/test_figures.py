"""Laws of the figures: they show what is there, and nothing else."""

import dataclasses

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.report.fitted_chains import as_fitted, fitted, part, truth
from volgrad.report.accuracy import learning_figure, residual_figures, truth_figures
from volgrad.report.figure import BAD, MUTED, expiry_colours, log_days, numbers, tenor_axis
from volgrad.report.overview import overview_figures
from volgrad.report.proof import proof_figures
from volgrad.report.shape import density_figure, surface_figure, term_figure
from volgrad.report.shown import Shown
from volgrad.report.smiles import smile_figures


@pytest.fixture
def shown() -> Shown:
    return Shown(fitted()[0], "worst", "chain-0", truth(fitted()[0].chain))


@given(st.lists(st.floats(-1e9, 1e9, allow_nan=False), min_size=1, max_size=5), st.integers(2, 8))
def test_rounded_numbers_are_near(values, digits):
    for exact, short in zip(values, numbers(values, digits), strict=True):
        assert short == pytest.approx(exact, rel=0.5 * 10.0 ** (1 - digits))


@given(st.floats(1e-4, 2.0), st.floats(1.0, 5000.0))
def test_every_tenor_axis_has_ticks_and_holds_its_range(least, ratio):
    made = tenor_axis(least, least * ratio)
    low, high = made["range"]
    assert low < log_days(least) <= log_days(least * ratio) < high
    assert made["tickvals"]
    assert len(made["tickvals"]) == len(made["ticktext"])
    assert all(low - 1e-3 <= tick <= high + 1e-3 for tick in made["tickvals"])


@given(st.integers(1, 60))
def test_expiries_have_colours_of_their_own(count):
    colours = expiry_colours(count)
    assert len(set(colours)) == count
    assert all(len(colour) == 7 for colour in colours)


def test_a_bar_is_red_exactly_where_the_surface_misses_it(shown):
    chain = shown.fitted.chain
    model = shown.surface.implied_vol(chain.log_moneyness, chain.row_expiry_years)
    missed = (model < chain.bid_iv) | (model > chain.ask_iv)
    traces = [trace for figure in smile_figures(shown) for trace in figure.data]
    for colour, which in ((MUTED, ~missed), (BAD, missed)):
        bars = [trace for trace in traces if trace.get("line", {}).get("color") == colour]
        assert sum(len(trace["x"]) // 3 for trace in bars) == np.sum(which)
    assert missed.any()  # else this test says little


def test_every_quote_has_its_residual(shown):
    chain = shown.fitted.chain
    for figure in residual_figures(shown):
        points = figure.data[0]
        assert len(points["y"]) == chain.n_rows
        assert np.abs(np.asarray(points["y"])).max() <= figure.layout["yaxis"]["range"][1]


def test_densities_are_positive_and_nearly_whole(shown):
    for curve in density_figure(shown).data[1:]:
        assert min(curve["y"]) >= 0.0
        assert 0.93 < np.trapezoid(curve["y"], curve["x"]) < 1.01


def test_densities_agree_with_those_of_the_surface(shown):
    x = np.array([-2.0, -0.5, 0.0, 1.0])
    k = x[None, :] * shown.deviation[:, None]
    expected = shown.surface.density(k, shown.years[:, None]) * shown.deviation[:, None]
    for row, curve in zip(expected, density_figure(shown).data[1:], strict=True):
        np.testing.assert_allclose(np.interp(x, curve["x"], curve["y"]), row, atol=0.01)


def test_the_term_structure_meets_every_expiry(shown):
    figure = term_figure(shown)
    line, marks = figure.data[0], figure.data[-1]
    assert np.interp(marks["x"], line["x"], line["y"]) == pytest.approx(marks["y"], abs=0.02)


def test_the_certificate_is_drawn_red_only_where_there_is_arbitrage(shown):
    butterfly, calendar, least = proof_figures(shown)
    assert butterfly.title.startswith("No ")
    assert np.min(butterfly.data[0]["z"]) >= 0.0
    assert np.min(calendar.data[0]["z"]) >= 0.0
    assert least.layout["yaxis"]["range"][0] < 0.0
    bent = dataclasses.replace(shown.surface, variance=shown.surface.variance[:, ::-1] ** 2)
    certificate = shown.fitted.certificate._replace(clean=False, min_g=-1.0)
    worse = Shown(dataclasses.replace(shown.fitted, surface=bent, certificate=certificate), "worst", "a")
    butterfly = proof_figures(worse)[0]
    assert butterfly.title.startswith("There is ")
    assert np.min(butterfly.data[0]["z"]) < 0.0


def test_the_truth_is_at_distance_zero_from_itself(shown):
    _, by_expiry = truth_figures(shown)
    for curve in by_expiry.data:
        assert np.abs(curve["y"]).max() < 0.05  # the splines of the published slices


def test_the_surface_is_as_large_as_it_says(shown):
    sheet, quotes = surface_figure(shown).data
    assert np.shape(sheet["z"]) == (len(sheet["y"]), len(sheet["x"]))
    assert len(quotes["x"]) == len(quotes["z"]) > 0
    chain = fitted()[0].chain
    alone = Shown(as_fitted(part(chain, 3, chain.rows(3)), truth(chain)), "the chain", "a")
    assert np.shape(surface_figure(alone).data[0]["z"])[0] == 2


def test_a_loss_of_zero_has_no_place_on_a_logarithmic_axis(shown):
    assert learning_figure(shown).data[0]["y"][-1] is None


def test_every_underlying_is_in_the_overview():
    many = []
    for day in range(300):
        for ccy in ("BTC", "ETH"):
            chain = dataclasses.replace(fitted()[0].chain, ccy=ccy, ts_us=day * 86_400_000_000)
            many.append(dataclasses.replace(fitted()[0], chain=chain))
    inside, level = overview_figures(many)
    assert [(trace["name"], len(trace["x"])) for trace in inside.data] == [("BTC", 300), ("ETH", 300)]
    assert [trace["name"] for trace in level.data] == ["BTC", "ETH"]
    assert all(100 <= len(trace["x"]) <= 240 for trace in level.data)
    assert overview_figures(many[:2]) == []  # one moment has no course
