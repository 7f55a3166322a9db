"""The benchmark of normalisation: data as documented, steps counted as told, figures that are drawn."""

import xml.etree.ElementTree as ET

import numpy as np
import pytest

from benchmarks import normalisation, normalisation_plots
from benchmarks.normalisation_data import FEATURES, TARGETS, Quotes, simulated
from benchmarks.normalisation_runs import LOOK, Kind, Setting


@pytest.fixture(scope="module")
def market() -> Quotes:
    return simulated(3, 2)


def test_rows_are_options_of_chains_in_the_order_of_time(market):
    assert market.features.shape[2] == len(FEATURES)
    assert np.all(np.diff(market.stamps_us) >= 0)
    rows, targets = market.features[market.mask], market.targets[market.mask]
    assert np.all(np.isfinite(rows))
    k, scaled, root, log_tau = rows[:, :4].T
    np.testing.assert_allclose(scaled, k / root)
    np.testing.assert_allclose(2.0 * np.log(root), log_tau)
    level, shape = targets[:, TARGETS.index("level")], targets[:, TARGETS.index("shape")]
    assert np.all(np.abs(level) < 3.0)
    near = np.abs(k) < 0.02 * root
    assert np.abs(shape[near]).mean() < np.abs(shape[~near]).mean()  # at the money there is little left


def test_parts_go_forward_in_time_and_are_scaled_by_the_training_part(market):
    early, late = market.part(0.0, 0.5), market.part(0.6, 1.0)
    assert early.stamps_us.max() < late.stamps_us.min()
    rows = early.scaled(early).features[early.mask]
    np.testing.assert_allclose(rows.mean(axis=0), 0.0, atol=1e-5)
    np.testing.assert_allclose(rows.std(axis=0)[:4], 1.0, atol=1e-4)


def test_steps_are_counted_to_the_first_look_at_the_target():
    losses = np.array([3.0, 1.0, 2.0, 0.5])
    assert [normalisation.steps_to(losses, target) for target in (1.0, 0.5)] == [2 * LOOK, 4 * LOOK]
    assert normalisation.steps_to(losses, 0.1) == normalisation.NEVER


def test_kinds_are_compared_at_equal_settings():
    made = normalisation.settings(4)
    groups = {normalisation.group_of(one) for one in made}
    assert "adam, 128 rows, 12 layers of 32" in groups
    assert {one.kind.label for one in made if normalisation.group_of(one) == "sgd, 128 rows"} >= {"plain", "batch"}
    assert Kind("none", 0.1).label == "plain + dropout 0.1"
    assert Setting(Kind("batch"), 32, 4).target == "level"


def test_figures_are_well_formed_and_name_every_kind():
    lines = [
        normalisation_plots.Line(label, [1e-3, 1e-2], [0.5, np.inf], [0.4, 0.4], [0.6, np.inf])
        for label in ("plain", "batch")
    ]
    drawn = normalisation_plots.figure([normalisation_plots.Panel("adam, 128 rows", "learning rate", lines)] * 4)
    root = ET.fromstring(drawn)
    told = {text.text for text in root.iter("{http://www.w3.org/2000/svg}text")}
    assert {"plain", "batch", "learning rate", "adam, 128 rows"} <= told
