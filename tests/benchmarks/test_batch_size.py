"""The benchmark of batch sizes: crossings, ladders, others' rules and tables, as their definitions say."""

import itertools
import math
import xml.etree.ElementTree as ET

import numpy as np
import pytest

from benchmarks import batch_size, batch_size_plots, batch_size_report
from benchmarks import batch_size_lines as lines
from benchmarks import batch_size_rivals as rivals
from benchmarks import batch_size_runs as runs
from benchmarks import batch_size_sweep as sweep
from benchmarks import batch_size_workloads as catalogue
from benchmarks.batch_size_data import Planted, ladder


def test_a_crossing_lies_where_the_curve_meets_the_target():
    steps = np.unique(np.geomspace(1, 10_000, 200).astype(int))
    values = 3.0 * steps**-0.5
    assert runs.crossing(steps, values, 0.1) == pytest.approx(900.0, rel=0.03)
    assert runs.crossing(steps, values, 0.01) == runs.NEVER


def test_one_lucky_look_is_no_crossing():
    steps, values = np.arange(100, 107), np.array([4.0, 4.0, 1.0, 4.0, 4.0, np.nan, 4.0])
    assert runs.crossing(steps, values, 2.0) == runs.NEVER
    assert runs.smoothed(steps, values)[3] == 4.0
    assert runs.smoothed(np.array([1, 10, 100]), np.array([3.0, 2.0, 1.0])).tolist() == [3.0, 2.0, 1.0]


def test_looks_ascend_to_the_end():
    found = runs.looks(1, 1.08, 3000)
    assert found[0] == 1
    assert found[-1] == 3000
    assert np.all(np.diff(found) > 0)
    assert max(b / a for a, b in itertools.pairwise(found[20:])) < 1.13


@pytest.mark.parametrize("scale", [0.5, 30.0, 4000.0])
def test_the_law_of_steps_is_recovered_from_its_own_points(scale):
    sizes = 2.0 ** np.arange(12)
    level, found = runs.fit_steps(sizes, 200.0 * (1.0 + scale / sizes))
    assert level == pytest.approx(200.0, rel=1e-2)
    assert found == pytest.approx(scale, rel=1e-2)


def test_rates_are_extended_until_the_best_is_no_edge():
    assert sweep.beyond([0.5, 1.0, 2.0], [(1.0, 10.0), (1.0, 20.0)], 1.0) == []
    assert sweep.beyond([0.5, 1.0, 2.0], [(0.5, 10.0), (2.0, 20.0)], 1.0) == [0.25, 4.0]
    assert sweep.beyond([0.5, 1.0, 2.0], [None, None], 1.0) == [0.25, 4.0]


def test_sizes_that_cannot_win_are_left_out():
    assert sweep.hopeless([100.0, 99.0], larger=True)
    assert not sweep.hopeless([100.0, 60.0], larger=True)
    assert sweep.hopeless([100.0, 400.0], larger=False)
    assert not sweep.hopeless([100.0, 200.0], larger=False)
    assert sweep.hopeless([sweep.NEVER, sweep.NEVER], larger=True)


def line(steps, judged=(0, 1)):
    return {"steps": list(steps), "judged": list(judged)}


def test_a_rate_is_tuned_on_two_seeds_and_then_on_six():
    known = lines.Sizes()
    for seed in lines.TUNING_SEEDS:
        known.lines[runs.Lane(0.1, seed)] = line([10.0, 100.0])
        known.lines[runs.Lane(0.2, seed)] = line([5.0, 90.0])
    assert known.best(1) == (0.2, pytest.approx(90.0))
    for seed in lines.FINAL_SEEDS:
        known.lines[runs.Lane(0.1, seed)] = line([10.0, 100.0])
        known.lines[runs.Lane(0.2, seed)] = line([5.0, None])  # lucky twice, and then never again
    assert known.best(0) == (0.2, pytest.approx(5.0))
    assert known.best(1) == (0.1, pytest.approx(100.0))
    assert known.finalists() == [0.1, 0.2]


def test_fresh_runs_count_for_the_target_that_their_rate_was_tuned_for():
    known = lines.Sizes({runs.Lane(0.1, seed): line([10.0, 100.0]) for seed in lines.TUNING_SEEDS})
    known.lines[runs.Lane(0.1, 0)] = line([None, 120.0], judged=[1])
    known.lines[runs.Lane(0.1, 1)] = line([12.0, None])
    assert known.by_seed(1) == {0: pytest.approx(120.0), 1: math.inf}
    assert known.by_seed(0) == {1: pytest.approx(12.0)}


def test_times_are_compared_seed_by_seed():
    assert batch_size.paired({1: 10.0, 2: 400.0, 3: 30.0}, {1: 5.0, 2: 200.0, 3: 15.0, 4: 1.0}) == 2.0
    assert batch_size.paired({1: math.inf, 2: math.inf, 3: 1.0}, {1: 5.0, 2: 5.0, 3: 1.0}) == math.inf


def test_pilots_set_targets_by_their_best_run():
    steps = np.array(runs.looks(1, 1.08, 1000))
    slow, fast = (runs.Curve(steps, level / steps, 1000) for level in (3.0, 1.0))
    easy, hard = sweep.targets_of([slow, fast])
    assert easy == pytest.approx(7.0 / 1000.0, rel=0.1)
    assert hard == pytest.approx(1.0 / 600.0, rel=0.1)


def test_ladders_hold_powers_of_two_and_the_whole_data():
    assert ladder(194, True) == [1, 2, 4, 8, 16, 32, 64, 128, 194]
    assert ladder(512, False)[-1] == 512
    assert sweep.coarse([1, 2, 4, 8, 10]) == [1, 4, 10]


def known(**changes):
    """Eight sizes; a step takes a fixed time and one by cluster; the noise scale is 40 clusters."""
    sizes = [1 << power for power in range(8)]
    noise = [rivals.Noise(8.0, 0.3, 20.0, 1.1, 0.5), rivals.Noise(8.0, 0.1, 20.0, 0.9, 0.5)]
    settings = {
        "sizes": sizes,
        "seconds": {size: 1.0 + size / 16.0 for size in sizes},
        "rows": 4.0,
        "customary": 8,
        "rate": 0.1,
        "optimizer": "sgd",
        "noise": noise,
    }
    return rivals.Known(**(settings | changes))


def test_rules_follow_their_formulas():
    found = rivals.choices(known())
    assert found["largest that fits"] == 128
    assert found["32 rows"] == 8
    assert found["1024 rows"] == 128
    assert found["noise scale alone"] == 32  # 40 clusters, in logarithms nearer to 32 than to 64
    assert found["CABS"] == 2  # .1 * 8 / .5 = 1.6
    assert rivals.choices(known(optimizer="adam"))["CABS"] is None


def test_the_knee_is_the_smallest_size_near_the_best_rate():
    assert rivals.knee(known()) == 64  # 12.8 rows a second, and 14.2 is the best
    assert rivals.knee(known(seconds={size: size**0.5 for size in known().sizes})) == 128
    assert rivals.knee(known(seconds={size: float(size) for size in known().sizes})) == 1


def test_goodput_is_throughput_times_efficiency():
    case = known()
    goodput = rivals.goodput(case)
    assert goodput[16] == pytest.approx(16.0 / 2.0 * (40.0 + 8.0) / (40.0 + 16.0))
    assert rivals.pollux(case) == max(goodput, key=lambda size: goodput[size])
    # with t = a + b B its best is near sqrt(phi a / b), the law of the least time
    assert rivals.pollux(case) == rivals.nearest(case.sizes, math.sqrt(40.0 * 16.0))


def test_without_a_signal_the_noise_scale_is_infinite():
    silent = [rivals.Noise(8.0, -0.1, 8.0, -0.1, 0.5)]
    assert rivals.noise_scale(8.0, -0.1) == math.inf
    assert rivals.noise_alone(known(noise=silent)) == 128
    assert rivals.pollux(known(noise=silent)) == 128


def test_trace_and_square_are_unbiased():
    random = np.random.default_rng(0)
    mean, deviation = np.array([0.5, 0.0, -0.2]), 2.0
    found = []
    for _ in range(4000):
        slopes = mean + deviation * random.normal(size=(8, 3))
        found.append(rivals._trace_and_square(slopes.sum(0), (slopes**2).sum(), 8, 1))
    trace, square = np.mean(found, axis=0)
    assert trace == pytest.approx(12.0, rel=0.02)
    assert square == pytest.approx(0.29, abs=0.05)


def test_planted_regressions_have_the_noise_that_they_are_told():
    image, train, check = Planted(2048, 1.0, in_cluster=4).image()
    assert (len(train), len(check), image.equal_rows) == (512, 1024, 4)
    clean, _, _ = Planted(2048, 0.0, in_cluster=4).image()
    assert np.var(image.rows[:, -1]) / np.var(clean.rows[:, -1]) == pytest.approx(2.0, rel=0.1)


def test_workloads_are_enough_and_those_held_back_are_apart():
    assert len(catalogue.DEVELOPMENT) >= 12
    assert len(catalogue.HELD_BACK) >= 4
    assert not catalogue.DEVELOPMENT.keys() & catalogue.HELD_BACK.keys()
    made = catalogue.make("small-clean")
    assert made.sizes()[-1] == made.largest == 4096
    assert not made.held_back
    assert made.targets[0] > made.targets[1]


def told():
    """Two workloads, two cases each: one method always best, one that fails."""
    picks = {"volgrad": 4, "largest that fits": 16, "32 rows": 4}
    cases = [
        {
            "target": target,
            "value": 0.1,
            "picks": picks,
            "best": 4,
            "b_c": 3.0,
            "times": {1: 3.0, 4: 1.0, 16: math.inf},
            "regret": {"volgrad": 0.02, "largest that fits": math.inf if target == "hard" else 2.0, "32 rows": 0.0},
            "end_to_end": [{"regret": regret, "steps": {4: 10.0}, "probe_s": 0.1} for regret in (0.1, 0.2, math.inf)],
        }
        for target in ("easy", "hard")
    ]
    shared = {"optimizer": "adam", "train": 64, "rows_per_cluster": 1, "cases": cases}
    return [{"workload": name, **shared} for name in ("one", "other")]


def test_tables_count_failures_as_failures_and_ties_as_firsts():
    found = batch_size_report.summary(told())
    assert found["volgrad"]["first_or_tied"] == found["32 rows"]["first_or_tied"] == 4
    assert found["volgrad"]["first_or_tied_workloads"] == 2
    assert found["volgrad, end to end"]["median"] == 0.2
    assert found["volgrad, end to end"]["first_or_tied"] == 0
    assert found["largest that fits"]["failed"] == 2
    assert found["largest that fits"]["worst"] == math.inf
    assert found["volgrad"]["speed_up"] > 2.9


def test_what_is_typical_counts_runs_that_never_arrive():
    assert batch_size.typical([1.0, 4.0]) == pytest.approx(2.0)
    assert batch_size.typical([1.0, math.inf, 3.0]) == 3.0
    assert batch_size.typical([1.0, math.inf, math.inf]) == math.inf
    assert batch_size.typical([]) == math.inf
    assert batch_size.regret(math.inf, 1.0) == math.inf


def test_figures_are_well_formed_and_name_every_workload(tmp_path):
    for path in batch_size_plots.draw(told(), tmp_path):
        texts = {text.text for text in ET.parse(path).getroot().iter("{http://www.w3.org/2000/svg}text")}
        assert {"one", "other"} <= texts or "largest that fits" in texts
