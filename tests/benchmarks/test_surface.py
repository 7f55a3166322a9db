"""The surface benchmark says why it skips, and refuses names that do not exist."""

import json

import pytest

from benchmarks import surface


def test_no_data_is_a_skip_with_its_reason(tmp_path, capsys) -> None:
    out = tmp_path / "out.json"
    surface.main(seed=3, quotes=surface.Quotes(data=tmp_path), json_file=out)
    told = json.loads(out.read_text())
    assert told["seed"] == 3
    assert str(tmp_path) in told["skipped"]
    assert "skipped" in capsys.readouterr().out


def test_an_unknown_rival_is_wrong_usage(tmp_path, capsys) -> None:
    with pytest.raises(SystemExit) as ended:
        surface.main(quotes=surface.Quotes(prepared=tmp_path), rivals_named="svj")
    assert ended.value.code == 2
    assert "svj" in capsys.readouterr().err


def test_summary_is_read_by_medians_and_counts(tmp_path) -> None:
    chains = [
        {
            "status": "converged",
            "fit_ms": ms,
            "certificate_ms": 1.0,
            "iterations": 5,
            "certificate": {"clean": ms < 9},
        }
        for ms in (3.0, 5.0, 10.0)
    ]
    refused = {
        "status": "refused",
        "fit_ms": None,
        "certificate_ms": None,
        "iterations": 0,
        "certificate": None,
    }
    path = tmp_path / "summary.json"
    path.write_text(json.dumps({"compile_s": 1.5, "threads": 1, "mode": "batched", "chains": [*chains, refused]}))
    told = surface.read_summary(path)
    assert told["ms_a_chain"] == 5.0
    assert told["statuses"] == {"converged": 3, "refused": 1}
    assert told["certified_clean"] == 2
