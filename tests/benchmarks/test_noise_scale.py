"""The benchmark of noise scales: that its truths are true, and that it names what misses."""

import json

import numpy as np
import pytest

from benchmarks import noise_scale as bench

SMALL = [
    bench.Case("linear", 32, rows=2, dimension=5),
    bench.Case("quadratic", 32, dimension=6, tails=5),
    bench.Case("stream", 64, rows=2, dimension=6, memory=0.5),
    bench.Case("isotropic", 64, rows=2, dimension=6, ghost=4, moments=2),
]


@pytest.mark.parametrize(
    "case", [*SMALL[:3], bench.Case("linear", 16, dimension=4, correlation=0.6)], ids=lambda case: case.name
)
def test_the_planted_truth_is_true(case):
    rng = np.random.default_rng(0)
    rows = np.concatenate([bench.gradients(case, rng) for _ in range(600)])
    of_clusters = rows.mean(axis=1)
    mean = of_clusters.mean(axis=0)
    trace = of_clusters.var(axis=0).sum()
    assert mean @ mean == pytest.approx(1.0, rel=0.15)
    assert trace == pytest.approx(case.truth, rel=0.12)
    whole = rows.reshape(-1, case.dimension).var(axis=0).sum()
    between = (rows.shape[1] * trace - whole) / (rows.shape[1] - 1)
    assert between / whole == pytest.approx(case.correlation, abs=0.05)


def test_a_stream_needs_more_clusters_than_its_variance_tells():
    plain = bench.Case("stream", 64, rows=2, memory=0.0)
    assert bench.truth_of(plain) == plain.truth
    assert bench.truth_of(SMALL[2]) == pytest.approx(SMALL[2].truth * (0.3 * 3.0 + 0.35) / 0.65)


def test_the_report_names_cases_and_misses(tmp_path, capsys):
    file = tmp_path / "report.json"
    bench.main(draws=3, json_file=file, chosen=lambda: SMALL)
    told = json.loads(file.read_text())
    text = capsys.readouterr().out
    assert [one["case"] for one in told["cases"]] == [case.name for case in SMALL]
    for one in told["cases"]:
        assert set(one["rivals"]) == {"whole", "straddling", "per row", "averaged"}
        assert one["covered"] == pytest.approx(1.0 - one["lo_above"] - one["hi_below"])
        assert one["case"] in text
        for miss in one["missed"]:
            assert f"missed: {one['case']}: " in text
            assert miss in text


def test_all_cases_can_be_drawn():
    names = [case.name for case in bench.cases()]
    assert len(set(names)) == len(names)
    for case in bench.cases():
        if case.dimension < 1000 and case.clusters < 256:
            assert np.isfinite(bench.gradients(case, np.random.default_rng(0))).all()
