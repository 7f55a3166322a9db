"""A few recorded chains of each kind of file: answered, clean, and well inside the quotes."""

import numpy as np
import pytest

from volgrad.data import build, read_quotes
from volgrad.tasks.fit import fit_chains

FILES = {
    "deribit_snap_202601.parquet": ("2026-01-06", "2026-01-06T23:00", 0.97),
    "deribit_ticker5m_20230412.parquet": ("2023-04-12T10:40", "2023-04-12T10:46", 0.97),
}


@pytest.mark.parametrize("name", FILES)
def test_recorded_chains_are_answered_and_clean(shared_data, name):
    begin, end, least = FILES[name]
    chains = build(read_quotes(shared_data / name, from_=begin, to=end)).chains[:4]
    assert len(chains) >= 2
    for one in fit_chains(chains):
        assert one.status == "converged", one.why
        assert one.certificate.clean
        assert one.inside >= least
        found = one.surface.implied_vol(one.chain.log_moneyness, one.chain.row_expiry_years)
        assert np.all(np.isfinite(found))
