"""Options from the environment: VOLGRAD_OPTION for every option of a verb, and what to say of a misspelt one."""

import os

from volgrad.errors import UnknownOptionError, suggest

__all__ = ["PREFIX", "refuse_misspelt_variables", "unknown_variables"]

PREFIX = "VOLGRAD_"
_BESIDE_OPTIONS = ("CACHE", "DATA", "SCORER")  # SCORER: of the benchmarks


def unknown_variables() -> dict[str, str | None]:
    """Variables with the prefix that nothing reads, each with the nearest name that is read (or None)."""
    known = {*_BESIDE_OPTIONS, *_option_variables()}
    given = sorted(name for name in os.environ if name.upper().startswith(PREFIX))
    unknown = [name for name in given if name not in {f"{PREFIX}{option}" for option in known}]
    names = sorted(option.lower() for option in known)
    nearest = {name: suggest(name[len(PREFIX) :], names) for name in unknown}
    return {name: None if near is None else f"{PREFIX}{near.upper()}" for name, near in nearest.items()}


def refuse_misspelt_variables() -> None:
    """Refuse a variable that looks like a misspelt option: it would be ignored without a word.

    Raises:
        UnknownOptionError: there is one. Variables that resemble no option are left alone.
    """
    for name, nearest in unknown_variables().items():
        if nearest is not None:
            raise UnknownOptionError(
                f"environment variable {name} is no option: did you mean {nearest}? Rename or unset it.",
                suggestion=nearest,
            )


def _option_variables() -> set[str]:
    """What may follow the prefix for an option of any verb, such as STEPS_CSV."""
    from volgrad.cli import VERBS, build_app

    app = build_app()
    names = {name for verb, *_ in VERBS for one in app[verb].assemble_argument_collection() for name in one.names}
    return {name.lstrip("-").replace("-", "_").upper() for name in names if name != "*"}
