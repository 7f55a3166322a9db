"""volgrad: mini-batch learning from option markets.

The names below are the front door. Each is loaded on first use, so that `import volgrad` stays instant and
changes no setting of JAX.

>>> import volgrad
>>> volgrad.__version__.count(".")
2
"""

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from volgrad.data.ingest import ingest
    from volgrad.errors import InputError, VolgradError, WorkError
    from volgrad.learning.batching.sampler import Sampler
    from volgrad.runtime import double_precision
    from volgrad.tasks.batch_size import choose_batch_size
    from volgrad.tasks.desk import fit
    from volgrad.tasks.surfaces import Surfaces, load_surfaces
    from volgrad.tasks.training import load_run, train

__version__ = "0.3.0"

# where each public name lives
_HOMES = {
    "InputError": "volgrad.errors",
    "Sampler": "volgrad.learning.batching.sampler",
    "Surfaces": "volgrad.tasks.surfaces",
    "VolgradError": "volgrad.errors",
    "WorkError": "volgrad.errors",
    "choose_batch_size": "volgrad.tasks.batch_size",
    "double_precision": "volgrad.runtime",
    "fit": "volgrad.tasks.desk",
    "ingest": "volgrad.data.ingest",
    "load_run": "volgrad.tasks.training",
    "load_surfaces": "volgrad.tasks.surfaces",
    "train": "volgrad.tasks.training",
}

__all__ = [
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


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module 'volgrad' has no attribute '{name}'; it offers {', '.join(sorted(__all__))}")
    value = getattr(importlib.import_module(_HOMES[name]), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted(__all__)
