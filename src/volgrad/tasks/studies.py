"""The studies that come with volgrad, by the names that recipes use, and a user's own."""

import importlib
from pathlib import Path

from volgrad.errors import UnknownOptionError
from volgrad.learning.study import Study
from volgrad.learning.user_code import is_reference, load

__all__ = ["STUDIES", "find_study"]

#: Name -> where its class is; each is imported when it is asked for.
STUDIES: dict[str, str] = {
    "implied-vol": "volgrad.tasks.implied_vol_study:ImpliedVol",
    "regression": "volgrad.tasks.regression:Regression",
    "surface-net": "volgrad.tasks.surface_net.study:SurfaceNetStudy",
}


def find_study(use: str, base: Path) -> Study:
    """The study that a recipe's `[task] use` means.

    Args:
        use: a name of `STUDIES`, or `file.py:Name`.
        base: folder that a relative file starts from.

    Raises:
        UnknownOptionError: no such name; carries the nearest one.
        InputError: a user's file that is not there, fails, or holds no such study.

    >>> find_study("regression", Path()).name
    'regression'
    """
    if is_reference(use):
        return load(use, base)()
    if use not in STUDIES:
        raise UnknownOptionError.of("task", use, STUDIES)
    module, _, name = STUDIES[use].partition(":")
    return getattr(importlib.import_module(module), name)()
