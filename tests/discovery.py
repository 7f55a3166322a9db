"""Finds the subjects of a contract: every concrete subclass in the package, imported or not."""

import importlib
import inspect
import pkgutil
from typing import TypeVar

import volgrad

_Class = TypeVar("_Class", bound=type)


def concrete_subclasses(contract: _Class) -> list[_Class]:
    """All concrete subclasses of `contract` that the package defines, by name."""
    for module in pkgutil.walk_packages(volgrad.__path__, "volgrad."):
        if not module.name.endswith("__main__"):
            importlib.import_module(module.name)
    found, waiting = set(), [contract]
    while waiting:
        for one in waiting.pop().__subclasses__():
            waiting.append(one)
            if not inspect.isabstract(one) and one.__module__.startswith("volgrad."):
                found.add(one)
    return sorted(found, key=lambda one: one.__qualname__)
