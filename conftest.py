"""Settings of every test and doctest: float64, no rank promotion, a compilation cache, no deadlines."""

import os
from pathlib import Path

import hypothesis
import jax
import pytest

from volgrad import runtime

runtime.use_double_precision()
runtime.enable_compilation_cache(Path(__file__).parent / ".cache" / "xla")
jax.config.update("jax_numpy_rank_promotion", "raise")

hypothesis.settings.register_profile("laws", deadline=None, print_blob=True, max_examples=40)
hypothesis.settings.load_profile("laws")


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """The folder of real market data; tests that need it skip where there is none."""
    folder = runtime.find_data()
    if folder is None:
        where = os.environ.get("VOLGRAD_DATA") or "../shared/data beside the checkout"
        pytest.skip(f"no real data: {where} is not a folder (set VOLGRAD_DATA)")
    return folder
