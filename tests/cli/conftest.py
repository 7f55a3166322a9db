"""Running a command inside the test's process, as a user would: words in; exit code, text and files out."""

import contextlib
import io
import os
from dataclasses import dataclass

import pytest

from volgrad.cli import main


@dataclass(frozen=True)
class Done:
    """What a command ended with."""

    code: int
    out: str
    err: str


@pytest.fixture(scope="module")
def volgrad(request):
    """A function that runs `volgrad WORDS...`; nothing of the machine's environment reaches it."""
    with pytest.MonkeyPatch.context() as patch:
        for name in [name for name in os.environ if name.startswith("VOLGRAD_")]:
            patch.delenv(name)
        # compiled programs lie where the other tests keep theirs
        patch.setenv("VOLGRAD_CACHE", str(request.config.rootpath / ".cache"))
        yield _run


def _run(*words) -> Done:
    out, err = io.StringIO(), io.StringIO()
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        code = main([str(word) for word in words])
    return Done(code, out.getvalue(), err.getvalue())
