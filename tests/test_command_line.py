"""What holds for every verb: light help, typos refused with a hint, exit codes, failure in a sentence."""

import errno
import io
import json
import signal
import subprocess
import sys
from subprocess import PIPE

import pytest

from volgrad import errors
from volgrad.cli import VERBS, build_app, main
from volgrad.cli.common import CommonOptions, print_json, progress

NAMES = [name for name, _, _ in VERBS]
HEAVY = {
    "equinox",
    "jax",
    "jaxlib",
    "jaxtyping",
    "msgspec",
    "numpy",
    "optax",
    "plotly",
    "polars",
    "pyarrow",
    "scipy",
}


def failing_app(error):
    """An application whose only verb, `work`, raises `error`."""
    app = build_app(())

    @app.command
    def work(*, common: CommonOptions = CommonOptions()):  # noqa: B008
        raise error

    return app


@pytest.mark.parametrize("words", [["--help"], *([name, "--help"] for name in NAMES)], ids=" ".join)
def test_help_loads_nothing_heavy(words):
    program = f"import sys; from volgrad.cli import main; code = main({words}); print(*sys.modules); sys.exit(code)"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    *text, modules = done.stdout.splitlines()
    assert text[0].startswith("Usage: volgrad")
    assert HEAVY & set(modules.split()) == set()
    assert done.stderr == ""


def test_the_module_is_the_command():
    done = subprocess.run([sys.executable, "-m", "volgrad", "--version"], capture_output=True, text=True, check=True)
    assert done.stdout.strip().count(".") == 2


@pytest.mark.parametrize("name", NAMES)
def test_help_names_every_verb_and_each_has_the_common_options(name, capsys):
    assert main(["--help"]) == 0
    assert name in capsys.readouterr().out
    assert main([name, "--help"]) == 0
    text = capsys.readouterr().out
    assert "--json" in text
    assert "--debug" in text
    assert "VOLGRAD_JSON" in text


@pytest.mark.parametrize("name", NAMES)
def test_a_mistyped_verb_is_refused_with_a_suggestion(name, capsys):
    assert main([name[:-1]]) == 2
    assert f"unknown verb {name[:-1]}. Did you mean {name}?" in capsys.readouterr().err


@pytest.mark.parametrize("name", NAMES)
def test_a_mistyped_option_is_refused_with_a_suggestion(name, capsys):
    assert main([name, "--jsn"]) == 2
    output = capsys.readouterr()
    assert "--jsn" in output.err
    assert "Did you mean --json?" in output.err
    assert output.out == ""


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (["--vesion"], "unknown verb --vesion. Did you mean --version?"),
        (["--json"], "--json follows the verb: volgrad VERB --json."),
        (["doctor", "extra"], "volgrad doctor does not take extra. See volgrad doctor --help."),
        (["doctor", "--json=maybe"], 'invalid value for --json: unable to convert "maybe" into bool.'),
    ],
    ids=["flag", "order", "argument", "value"],
)
def test_wrong_usage_is_told_in_one_sentence(words, sentence, capsys):
    assert main(words) == 2
    assert sentence in capsys.readouterr().err


def test_the_environment_sets_options_and_the_flag_wins(monkeypatch, capsys):
    monkeypatch.setenv("VOLGRAD_JSON", "1")
    assert main(["doctor"]) == 0
    assert json.loads(capsys.readouterr().out)["ok"] is True
    assert main(["doctor", "--json=false"]) == 0
    assert "All is well" in capsys.readouterr().out
    monkeypatch.setenv("VOLGRAD_JSON", "perhaps")
    assert main(["doctor"]) == 2
    assert "VOLGRAD_JSON" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("error", "code", "sentence"),
    [
        (errors.SchemaError("no column bid", file="q.parquet"), 2, "volgrad: q.parquet: no column bid"),
        (errors.FitError("no surface"), 1, "volgrad: no surface"),
        (
            FileNotFoundError(errno.ENOENT, "No such file or directory", "q.parquet"),
            2,
            "q.parquet: No such file",
        ),
        (OSError(errno.ENOSPC, "No space left on device", "out"), 1, "out: No space left on device."),
        (
            ValueError("shapes (3,)\nand (4,)."),
            1,
            "unexpected ValueError: shapes (3,) and (4,). Run it again with",
        ),
        (KeyboardInterrupt(), 130, "volgrad: interrupted."),
    ],
    ids=lambda value: type(value).__name__ if isinstance(value, BaseException) else "",
)
def test_every_failure_has_its_exit_code_and_one_sentence(error, code, sentence, capfd):
    assert main(["work"], lambda: failing_app(error)) == code
    output = capfd.readouterr()
    assert sentence in output.err
    assert "Traceback" not in output.err
    assert len(output.err.splitlines()) <= 1
    assert output.out == ""


def test_debug_shows_the_traceback(capsys):
    assert main(["work", "--debug"], lambda: failing_app(ValueError("bad"))) == 1
    text = capsys.readouterr().err
    assert "Traceback" in text
    assert text.rstrip().endswith("volgrad: unexpected ValueError: bad.")


def test_machines_are_told_of_failure_too(capsys):
    assert main(["work", "--json"], lambda: failing_app(errors.UnitsError("65 is no fraction"))) == 2
    told = json.loads(capsys.readouterr().out)
    assert told == {"error": {"kind": "UnitsError", "message": "65 is no fraction", "exit_code": 2}}


WAITING = """
import sys, time
from volgrad.cli import build_app, main
app = build_app(())
@app.default
def wait():
    print("ready", flush=True)
    time.sleep(60)
sys.exit(main([], lambda: app))
"""


def test_ctrl_c_ends_cleanly():
    child = subprocess.Popen([sys.executable, "-c", WAITING], stdout=PIPE, stderr=PIPE, text=True)
    assert child.stdout is not None
    assert child.stdout.readline() == "ready\n"
    child.send_signal(signal.SIGINT)
    _, told = child.communicate()
    assert child.returncode == 130
    assert told == "volgrad: interrupted.\n"


ENDLESS = """
import sys
from volgrad.cli import build_app, main
app = build_app(())
@app.default
def talk():
    while True:
        print("word " * 1000)
sys.exit(main([], lambda: app))
"""


def test_a_reader_that_leaves_is_no_error_to_tell():
    child = subprocess.Popen([sys.executable, "-c", ENDLESS], stdout=PIPE, stderr=PIPE, text=True)
    assert child.stdout is not None
    assert child.stderr is not None
    child.stdout.readline()
    child.stdout.close()
    assert child.stderr.read() == ""
    assert child.wait() == 1
    child.stderr.close()


def test_json_output_is_plain(capsys):
    import numpy as np

    print_json({"a": np.float64(1.5), "b": [float("nan"), np.arange(2)], "c": None, "d": True, "e": float("inf")})
    assert json.loads(capsys.readouterr().out) == {
        "a": 1.5,
        "b": [None, [0, 1]],
        "c": None,
        "d": True,
        "e": None,
    }


def test_progress_is_silent_where_there_is_no_terminal(capsys):
    with progress("fitting chains", 3) as advance:
        advance(1)
    output = capsys.readouterr()
    assert output.out == output.err == ""


class Terminal(io.StringIO):
    """Standard error as a terminal."""

    def isatty(self):
        return True


def test_progress_on_a_terminal_says_what_comes_first_once(monkeypatch):
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setenv("COLUMNS", "100")
    monkeypatch.setattr(sys, "stderr", terminal := Terminal())
    with progress("fitting chains", 3, at_first="compiling on first use") as advance:
        advance(1)
        before, _, after = terminal.getvalue().partition("compiling on first use")
        assert "fitting" not in before
        assert after
    assert "1/3" in terminal.getvalue().rpartition("fitting chains")[2]


def test_progress_shows_nothing_on_a_terminal_when_quiet(monkeypatch):
    monkeypatch.setattr(sys, "stderr", terminal := Terminal())
    with progress("fitting chains", 3, at_first="compiling on first use", quiet=True) as advance:
        advance(1)
    assert terminal.getvalue() == ""
