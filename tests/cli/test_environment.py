"""Misspelt variables are refused with a suggestion; foreign ones are nobody's business."""

import pytest

from volgrad.cli import main
from volgrad.cli.environment import refuse_misspelt_variables, unknown_variables
from volgrad.errors import UnknownOptionError


def test_a_misspelt_variable_is_refused_before_any_work(monkeypatch, tmp_path, capsys):
    monkeypatch.setenv("VOLGRAD_HISTROY", "3")
    assert main(["fit", str(tmp_path / "none.parquet"), "--out", str(tmp_path / "out")]) == 2
    told = capsys.readouterr().err
    assert "did you mean VOLGRAD_HISTORY?" in told
    assert "Traceback" not in told
    assert not (tmp_path / "out").exists()


def test_what_resembles_no_option_is_left_alone(monkeypatch):
    monkeypatch.setenv("VOLGRAD_ZZQQXXWW", "1")
    refuse_misspelt_variables()
    assert unknown_variables()["VOLGRAD_ZZQQXXWW"] is None


def test_options_are_known(monkeypatch):
    monkeypatch.setenv("VOLGRAD_STEPS_CSV", "steps.csv")
    assert "VOLGRAD_STEPS_CSV" not in unknown_variables()
    monkeypatch.setenv("VOLGRAD_SEDE", "1")
    with pytest.raises(UnknownOptionError, match="VOLGRAD_SEED"):
        refuse_misspelt_variables()
