"""The names that a user may rely on, and what importing them costs."""

import json
import subprocess
import sys

import pytest

import volgrad

PUBLIC = [
    "InputError",
    "Sampler",
    "Surfaces",
    "VolgradError",
    "WorkError",
    "__version__",
    "choose_batch_size",
    "double_precision",
    "fit",
    "ingest",
    "load_run",
    "load_surfaces",
    "train",
]


def test_the_front_door_offers_exactly_these_names():
    assert sorted(volgrad.__all__) == PUBLIC
    assert dir(volgrad) == PUBLIC


@pytest.mark.parametrize("name", PUBLIC)
def test_every_offered_name_is_there_and_documented(name):
    value = getattr(volgrad, name)
    assert isinstance(value, str) or value.__doc__


def test_an_unknown_name_says_what_there_is():
    with pytest.raises(AttributeError, match=r"no attribute 'fitt'; it offers .*VolgradError"):
        volgrad.fitt  # noqa: B018


IMPORT_EVERYTHING = """
import importlib, json, pkgutil, sys
import volgrad
light = sorted({"jax", "numpy", "pyarrow", "plotly", "scipy", "rich"} & set(sys.modules))
import jax
before = dict(jax.config.values)
for module in pkgutil.walk_packages(volgrad.__path__, "volgrad."):
    if not module.name.endswith("__main__"):
        importlib.import_module(module.name)
changed = [name for name, value in before.items() if jax.config.values[name] != value]
print(json.dumps({"loaded": light, "changed": changed}))
"""


def test_importing_is_light_and_changes_no_setting_of_jax():
    done = subprocess.run([sys.executable, "-c", IMPORT_EVERYTHING], capture_output=True, text=True, check=False)
    assert done.stderr == ""
    assert json.loads(done.stdout) == {"loaded": [], "changed": []}
