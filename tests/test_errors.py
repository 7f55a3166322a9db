"""The tree of exceptions: drawn as it is, every leaf with an exit code, every message with its place."""

import inspect

import pytest
from hypothesis import given
from hypothesis import strategies as st

from volgrad import errors

CLASSES = [kind for _, kind in inspect.getmembers(errors, inspect.isclass) if kind.__module__ == errors.__name__]


@pytest.mark.parametrize("kind", CLASSES, ids=lambda kind: kind.__name__)
def test_every_exception_hangs_in_the_tree_that_the_module_draws(kind):
    assert issubclass(kind, errors.VolgradError)
    assert kind.__name__ in errors.__all__
    assert f"-- {kind.__name__} " in (errors.__doc__ or "") or kind is errors.VolgradError


@pytest.mark.parametrize("kind", CLASSES, ids=lambda kind: kind.__name__)
def test_the_branch_decides_the_exit_code(kind):
    assert kind("went wrong").exit_code == (2 if issubclass(kind, errors.InputError) else 1)
    assert str(kind("went wrong")) == "went wrong"


@pytest.mark.parametrize("kind", [kind for kind in CLASSES if issubclass(kind, errors.InputError)])
def test_a_message_names_the_file_once(kind):
    assert str(kind("no column bid", file="q.parquet")) == "q.parquet: no column bid"
    assert str(kind("q.parquet has no column bid", file="q.parquet")) == "q.parquet has no column bid"


@given(st.sampled_from(["local-vol", "essvi", "surface-net"]), st.data())
def test_one_slip_of_the_hand_is_understood(name, data):
    place = data.draw(st.integers(0, len(name) - 1))
    slip = name[:place] + name[place + 1 :]
    error = errors.UnknownOptionError.of("model", slip, ["local-vol", "essvi", "surface-net"])
    assert error.suggestion == name
    assert f"'{slip}'" in str(error)
    assert f"did you mean '{name}'" in str(error)


def test_nothing_near_means_no_suggestion():
    error = errors.UnknownOptionError.of("model", "zzzzzz", ["essvi"])
    assert error.suggestion is None
    assert "did you mean" not in str(error)


def test_an_instrument_error_says_what_it_is_instead():
    assert errors.InstrumentNameError("BTC-PERPETUAL is a perpetual", kind="perpetual").kind == "perpetual"
