"""`volgrad demo`: it runs offline, beats the raw quotes against the truth, and leaves files that others can read."""

import json
import os
import signal
import subprocess
import sys
from itertools import pairwise
from subprocess import PIPE

import numpy as np
import pyarrow.parquet as pq
import pytest
from rich.console import Console

from volgrad.cli import main
from volgrad.cli.braille import Bars, Canvas, Curve, Range, sparkline
from volgrad.cli.demo_run import STAGES, Look, Middles, follow, plan, table
from volgrad.cli.live_view import SMALLEST, LiveView, told
from volgrad.data import build, read_quotes
from volgrad.models.certificate import certify
from volgrad.simulate.market import simulate
from volgrad.tasks.fit import FitOptions, Fitter


@pytest.fixture(scope="module")
def environment(request):
    """Compiled programs where the other tests keep theirs; one thread; nothing set by the machine."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith("VOLGRAD_")}
    return {**kept, "VOLGRAD_CACHE": str(request.config.rootpath / ".cache"), "COLUMNS": "100"}


@pytest.fixture(scope="module")
def looks() -> list[Look]:
    """Half a day whose clock stands still, so that no chain is late."""
    return list(follow(3, plan(0.1), Fitter(FitOptions(warm=True)), 1.0, lambda: 0.0))


def test_json_tells_what_the_files_hold(environment, tmp_path):
    command = [sys.executable, "-m", "volgrad", "demo", "--json", "--seconds", "0.1", "--out", str(tmp_path)]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")
    told_json = json.loads(done.stdout)
    assert [row["stage"] for row in told_json["stages"]] == [*STAGES, "all"]
    for row in told_json["stages"]:
        assert row["clean"] == row["chains"] - row["refused"]
        assert row["refused"] == 0
        assert row["inside"] > 0.9
        assert row["rmse_vol_points"] < row["mid_rmse_vol_points"]
    *stages, everything = told_json["stages"]
    assert everything["chains"] == sum(row["chains"] for row in stages) == told_json["chains"]
    assert told_json["cold_ms_p50"] > 0
    assert told_json["compile_s"] < told_json["wall_s"]

    built = build(read_quotes(tmp_path / "quotes.parquet"))
    assert len(built.chains) == told_json["chains"]
    assert sum(chain.n_rows for chain in built.chains) == told_json["quotes"]
    truth = pq.read_table(tmp_path / "truth.parquet")
    assert truth.column_names == ["ts", "ccy", "tau_years", "k", "iv"]
    assert 0.05 < np.min(truth["iv"].to_numpy()) < np.max(truth["iv"].to_numpy()) < 5.0
    assert "plotly" in (tmp_path / "report.html").read_text()
    assert sorted(path.name for path in tmp_path.iterdir()) == sorted(told_json["files"])


def test_ctrl_c_shows_what_was_done(environment, tmp_path):
    command = [sys.executable, "-m", "volgrad", "demo", "--seconds", "60", "--out", str(tmp_path)]
    child = subprocess.Popen(command, env=environment, stdout=PIPE, stderr=PIPE, text=True)
    assert child.stderr is not None
    for line in child.stderr:
        if line.startswith("chain "):
            break
    child.send_signal(signal.SIGINT)
    text, errors = child.communicate()
    assert child.returncode == 130
    assert "Stopped by Ctrl-C" in text
    assert "report.html" in text
    assert "Traceback" not in errors
    assert (tmp_path / "report.html").exists()


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (["--seconds", "0"], "--seconds is 0: give how long to fit, above 0 and at most 300."),
        (["--seconds", "nan"], "--seconds is nan"),
        (["--threads", "0"], "threads must be 1 or more, not 0"),
        (["--seed", "-1"], "--seed is -1: give a whole number from 0 upwards."),
        (["--out", __file__], "is a file: give a folder."),
        (["--second", "3"], "Did you mean --seconds?"),
    ],
    ids=" ".join,
)
def test_wrong_options_are_refused_before_any_work(words, sentence, capsys):
    assert main(["demo", *words]) == 2
    output = capsys.readouterr()
    assert sentence in output.err
    assert output.out == ""


def test_every_chain_of_an_unhurried_run_is_fitted_and_each_warm_but_the_first(looks):
    assert [look.number for look in looks] == list(range(plan(0.1)))
    assert [look.fitted.warm for look in looks] == [False] + [True] * (len(looks) - 1)
    assert [look.stage for look in looks] == ["before"] * 6 + ["at"] + ["after"] * 5
    assert all(later.simulated.ts_us > look.simulated.ts_us for look, later in pairwise(looks))


def test_a_late_run_skips_chains_but_not_the_shock():
    ticks = iter(range(10**6))
    chains = plan(20.0)
    numbers = [
        look.number for look in follow(3, chains, Fitter(FitOptions(warm=True)), 1e-3, lambda: float(next(ticks)))
    ]
    assert len(numbers) <= 10
    assert {0, chains // 2, chains // 2 + 1, chains - 1} <= set(numbers)


def test_the_fit_is_nearer_to_the_truth_than_the_raw_middles(looks):
    for row in table(looks):
        assert row["rmse_vol_points"] < row["mid_rmse_vol_points"]
    assert table(looks)[-1]["atm_rmse_vol_points"] < table(looks)[-1]["mid_atm_rmse_vol_points"]


def test_the_truth_passes_the_certificate_of_the_fits():
    truth = next(simulate(3, 1)).truth
    assert certify(truth, np.linspace(0.002, 1.0, 40)).clean


def test_joined_middles_go_through_the_middles(looks):
    chain = looks[0].fitted.chain
    found = Middles(chain).total_variance(chain.log_moneyness, chain.row_expiry_years)
    np.testing.assert_allclose(np.sqrt(found / chain.row_expiry_years), chain.mid_iv, rtol=1e-12)
    assert np.isnan(Middles(chain).total_variance(np.array([9.0]), chain.expiry_years[:1])).all()
    assert np.isnan(Middles(chain).total_variance(np.array([0.0]), np.array([0.123]))).all()


@pytest.mark.parametrize(("width", "height"), [SMALLEST, (80, 24), (120, 40), (300, 60)])
def test_the_picture_fits_the_terminal(looks, width, height):
    console = Console(width=width, height=height, force_terminal=True, color_system=None)
    view = LiveView(len(looks), looks[0])
    for look in looks:
        view.add(look, 1.0)
        with console.capture() as capture:
            console.print(view)
        lines = capture.get().splitlines()
        assert len(lines) < height
        assert max(map(len, lines)) <= width
    assert "after the shock" in lines[0]
    assert f"chain {len(looks)} of {len(looks)}" in lines[-1]
    assert told(looks[0], len(looks)).startswith(f"chain   1 of {len(looks)}  2026-01-05 09:17  before the shock")


def test_a_canvas_shows_what_is_inside_and_nothing_else():
    canvas = Canvas(4, 2, Range(0.0, 1.0), Range(0.0, 1.0))
    canvas.draw(Bars(np.array([0.0, 2.0]), np.array([0.0, 0.0]), np.array([1.0, 1.0]), "blue"))
    assert [line.plain for line in canvas.lines()] == ["⡇   ", "⡇   "]
    canvas.draw(Curve(np.array([0.0, 1.0]), np.array([np.nan, np.nan]), "green"))
    canvas.draw(Curve(np.array([2.0, 3.0]), np.array([0.5, 0.5]), "green"))
    assert [line.plain for line in canvas.lines()] == ["⡇   ", "⡇   "]
    canvas.draw(Curve(np.array([0.0, 1.0]), np.array([1.0, 1.0]), "green"))
    assert [line.plain for line in canvas.lines()] == ["⡏⠉⠉⠉", "⡇   "]


def test_a_sparkline_shows_the_last_values():
    assert sparkline([9.0, 0.0, 1.0], 2, 1.0) == "▁█"
    assert sparkline([], 5, 1.0) == ""
