"""The beginning of a run, gone through for what it tells of the rest, and thrown away.

Noise at the first variables says little: gradients are largest there, so that the noise scale is at its least and grows
as the run goes on (McCandlish et al. 2018, 2.2 [paper, measured here too: docs/batch-size.md]).
"""

from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp

from volgrad.learning.batch_size.decision import Moment
from volgrad.learning.batch_size.noise_probe import NoiseProbe
from volgrad.learning.batch_size.subject import Subject
from volgrad.learning.batch_size.timing import Clock, Trial
from volgrad.learning.training.state import State

__all__ = ["Pilot", "fly"]

_POINTS = 10  # at which the noise is measured on the way, or fewer where that would take too long
_LEAST_POINTS = 3


class Pilot(NamedTuple):
    """Where a pilot came, and the noise on its way.

    state: at its end.
    moments: noise at ever later points; the first is the start.
    seconds: that it took.
    probe_s: that measuring the noise once took.
    note: what went wrong on the way, in words; empty where nothing did.
    """

    state: State
    moments: tuple[Moment, ...]
    seconds: float
    probe_s: float = 0.0
    note: str = ""


def fly(
    subject: Subject,
    probe: NoiseProbe,
    trial: Trial,
    samples: int,
    clock: Clock,
    budget_s: float,
    tell: Callable[[str], None] = lambda _: None,
) -> Pilot:
    """Step from the subject's state over so many samples, and measure the noise at up to ten points on the way.

    Args:
        subject: where to start; its state is not touched.
        probe: of the noise.
        trial: the size to step with.
        samples: to see at most.
        clock: seconds.
        budget_s: that it may take, a half of it for measuring; one call and three measurements are made anyhow.
        tell: told how far it is.
    """
    began = clock()
    state = jax.tree.map(jnp.copy, subject.state)
    start, seen = int(state.samples), 0
    moments = [Moment(start, probe.at(subject, start))]
    once = clock() - began
    points = int(min(max(0.5 * budget_s / max(once, 1e-9), _LEAST_POINTS), _POINTS))
    stepped, kept, note = 0.0, subject.state, ""
    while seen < samples and (not seen or stepped < 0.5 * budget_s):
        before = clock()
        for _ in range(max(1, round(samples / points / trial.samples))):
            state = trial.call(state, trial.load(start + seen))
            seen += trial.samples
            if stepped + clock() - before >= 0.5 * budget_s:
                break
        stepped += clock() - before
        tell(f"pilot, {seen:,} samples")
        try:
            place = start + len(moments) * probe.clusters  # other clusters each time, as long as there are any
            moments.append(Moment(start + seen, probe.at(subject.at(state), place)))
        except ValueError:
            note = (
                f"gradients were no longer finite after {seen:,} samples in batches of {trial.clusters:,}: the noise "
                "is that of before; lower the learning rate (see volgrad lr-range)"
            )
            break
        kept = jax.tree.map(jnp.copy, state)
    return Pilot(kept if note else state, tuple(moments), clock() - began, once, note)
