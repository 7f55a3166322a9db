"""The command line: one module a verb, each of which parses, calls and prints.

A verb is a line in `VERBS` and a function in the module that it names. Modules of verbs import what they
need inside the function, after `volgrad.runtime.start`: so `volgrad --help` loads nothing heavy, and a limit
of threads still counts.
"""

import sys
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from cyclopts import App

__all__ = ["VERBS", "build_app", "main"]

# verb, where its function lives, one line for --help; a verb appears here when it works, never before
VERBS = (
    ("fit", "volgrad.cli.fit:fit", "Fit certified arbitrage-free surfaces to files of option quotes."),
    (
        "demo",
        "volgrad.cli.demo:demo",
        "See it work, offline: fit a simulated market and compare with its true surface.",
    ),
    ("ingest", "volgrad.cli.ingest:ingest", "Read files of every kind into a store that checks itself."),
    ("simulate", "volgrad.cli.simulate:simulate", "Write option quotes of a simulated market whose truth is known."),
    ("describe", "volgrad.cli.describe:describe", "Tell what quotes are worth: how alike, how independent, how stale."),
    ("train", "volgrad.cli.train:train", "Train what a recipe says by mini-batches; killed, it goes on bit for bit."),
    ("lr-range", "volgrad.cli.lr_range:lr_range", "Raise the learning rate step by step; say which a recipe can take."),
    ("batch-size", "volgrad.cli.batch_size:batch_size", "Measure which batch size serves a recipe best, and say why."),
    ("check", "volgrad.cli.check:check", "Hold the studies, tasks and layers of a file against their contracts."),
    ("doctor", "volgrad.cli.doctor:doctor", "Check this installation: versions, devices, precision, caches."),
)

_ABOUT = "Learned, certified arbitrage-free volatility surfaces from option quotes."
_AFTER = "volgrad VERB --help tells its options; each can be set as VOLGRAD_OPTION in the environment."


def build_app(verbs: Sequence[tuple[str, str, str]] = VERBS) -> "App":
    """The command line as a cyclopts application; the modules of its verbs are not loaded yet."""
    from cyclopts import App
    from cyclopts.config import Env

    import volgrad

    app = App(
        name="volgrad",
        help=_ABOUT,
        help_epilogue=_AFTER,
        help_format="plaintext",
        version=volgrad.__version__,
        config=Env("VOLGRAD_", command=False),
        exit_on_error=False,
        print_error=False,
        suppress_keyboard_interrupt=False,
        result_action="return_value",
    )
    for verb, place, summary in verbs:
        app.command(place, name=verb, help=summary, help_epilogue="")
    return app


def main(arguments: Sequence[str] | None = None, make_app: "Callable[[], App]" = build_app) -> int:
    """Run one command; exit code 0 done, 1 failed while working, 2 wrong usage or input, 130 Ctrl-C.

    Args:
        arguments: what follows `volgrad`; by default that of the process.
        make_app: makes the application.
    """
    words = list(sys.argv[1:] if arguments is None else arguments)
    try:
        from volgrad.cli.common import run

        return run(make_app, words)
    except KeyboardInterrupt:
        print("volgrad: interrupted.", file=sys.stderr)
        return 130
