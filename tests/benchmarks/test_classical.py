"""The classical rivals fit what they can be, keep the conditions, and the benchmark says why it skips."""

import json

import numpy as np
import pytest

from benchmarks import classical, surface
from benchmarks.rivals import raw_svi, wings
from tests.models.examples import YEARS, essvi_surface, ssvi_surface, svi_surface
from tests.tasks.chains import chain_of, simulated_chains
from volgrad.models.ssvi import SsviSlices, slack

OWN = {"essvi": lambda: essvi_surface(2, 0.3), "ssvi": ssvi_surface, "svi": svi_surface}


@pytest.mark.parametrize("family", classical.FAMILIES)
def test_every_scipy_rival_meets_quotes_of_its_own_kind(family):
    true = OWN[family]()
    chain = chain_of(true.implied_vol, YEARS * 365.0, strikes=11, half_spread=0.004)
    curve = classical.SCIPY[family](chain)
    found = curve.implied_vol(chain.log_moneyness, chain.row_expiry_years)
    assert np.abs(found - chain.mid_iv).max() < 0.004
    between = curve.implied_vol(np.zeros(3), np.array([0.001, 0.05, 1.5]))
    assert np.all((between > 0.3) & (between < 1.0))


@pytest.mark.parametrize("family", ["ssvi", "essvi"])
def test_the_wings_rivals_keep_every_condition(family):
    for chain in simulated_chains():
        curve = classical.SCIPY[family](chain)
        told = slack(SsviSlices(curve.theta, curve.rho, curve.psi))
        assert min(values.min() for values in told.values()) >= -1e-9


def test_raw_svi_stays_within_lees_bound():
    for chain in simulated_chains():
        _, b, rho, _, sigma = raw_svi.svi(chain).parameters.T
        assert np.all(b * (1.0 + np.abs(rho)) <= 2.0 + 1e-9)
        assert np.all(sigma > 0.0)


def test_quotes_are_the_chains():
    chain = simulated_chains()[0]
    told = wings.quotes_of(chain)
    assert sum(rows.stop - rows.start for rows in told.slices()) == chain.n_rows
    assert np.all(np.diff(told.theta) > 0.0)


def test_what_cannot_run_is_named():
    chosen, absent = classical.methods(["essvi"])
    names = [method.name for method in chosen]
    assert names[:2] == ["volgrad essvi", "scipy essvi"]
    assert {"quantflow essvi"} == ({*names[2:]} | {*absent})


def test_no_data_is_a_skip_with_its_reason(tmp_path, capsys):
    out = tmp_path / "out.json"
    classical.main(seed=3, quotes=surface.Quotes(data=tmp_path), json_file=out)
    assert str(tmp_path) in json.loads(out.read_text())["skipped"]
    assert "skipped" in capsys.readouterr().out


def test_an_unknown_family_is_wrong_usage(tmp_path, capsys):
    with pytest.raises(SystemExit) as ended:
        classical.main(quotes=surface.Quotes(prepared=tmp_path), only="sabr")
    assert ended.value.code == 2
    assert "sabr" in capsys.readouterr().err
