"""Paired branches: sizes that could be best run from one state on the same data for the same seconds, and are compared.

Successive halving (Jamieson and Talwalkar 2016, arXiv 1502.07943 [paper]): all run for a while, the better half goes on
for twice as long. A branch takes as many steps as its measured seconds a step allow, never what a clock says: so
branches repeat, and a busy machine favours none. The state that they start from is copied, not touched.

A larger batch jitters less about the same path, which is no progress along it: branches are judged by the mean of their
variables over the second half of their way, where jitter averages out (Polyak and Juditsky 1992 [paper]).
"""

import math
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import PyTree

from volgrad.learning.batch_size.subject import Subject
from volgrad.learning.batch_size.timing import Trial
from volgrad.learning.batching.size_choice import Timed
from volgrad.learning.training.dispatch import evaluate_program
from volgrad.learning.training.state import State

__all__ = ["Branch", "Judge", "Proof", "prove", "winner"]

_POINTS = 4  # of a branch's second half whose variables are averaged
_LEAST_GAIN = 0.03  # of what a winner gained that it must be ahead of the predicted size by (assumption)


class Branch(NamedTuple):
    """How far one size came from the common state, over all replicates.

    clusters, rows: a batch.
    steps, samples, seconds: of each replicate; seconds by the measured ladder.
    rounds: that it took part in.
    losses: at its end, on the batch that all are judged on, by replicate.
    state: at the end of the first replicate.
    """

    clusters: int
    rows: int
    steps: int
    samples: int
    seconds: float
    rounds: int
    losses: tuple[float, ...]
    state: State

    @property
    def loss(self) -> float:
        """Mean over replicates."""
        return float(np.mean(self.losses))

    def as_dict(self, before: float) -> dict[str, Any]:
        """What is told of it; `before` is the loss of the common state."""
        told = {name: getattr(self, name) for name in ("clusters", "rows", "steps", "samples", "seconds", "rounds")}
        return told | {"loss": self.loss, "losses": list(self.losses), "loss_before": before}


class Proof(NamedTuple):
    """What branches showed.

    branches: by size, those that dropped out included.
    before: loss of the common state.
    confirmed: whether the predicted size was not beaten in every replicate.
    clusters: the size to take.
    """

    branches: tuple[Branch, ...]
    before: float
    confirmed: bool
    clusters: int


class Judge:
    """The loss, in serving, on the batch that branches are judged on."""

    def __init__(self, subject: Subject) -> None:
        """Compile it."""
        self._subject = subject
        state = subject.state
        like = State(state.variables, state.statistics, None, state.key, state.samples)
        self._program = evaluate_program(subject.task, like, subject.held.values.shape)

    def loss(self, variables: PyTree, statistics: PyTree) -> float:
        """Loss of these variables."""
        subject = self._subject
        found = self._program(variables, statistics, subject.state.key, subject.task, *subject.held)
        return float(found["loss"])


def prove(
    subject: Subject,
    trials: dict[int, Trial],
    rungs: Sequence[Timed],
    predicted: Sequence[float],
    budget_s: float,
    *,
    replicates: int = 2,
    tell: Callable[[str], None] = lambda _: None,
) -> Proof:
    """Run the candidates against each other.

    Args:
        subject: with the state that all start from.
        trials: compiled steps by size.
        rungs: the candidates.
        predicted: seconds to the target that each was predicted to take; the least is what must be beaten.
        budget_s: by the measured ladder, for all branches together.
        replicates: on other data each.
        tell: told what runs.
    """
    judge = Judge(subject)
    before = judge.loss(subject.state.variables, subject.state.statistics)
    favourite = rungs[int(np.argmin(predicted))].clusters
    alive = {rung.clusters: rung for rung in rungs}
    runs = {size: [_Run(subject, trials[size], part) for part in range(replicates)] for size in alive}
    rounds = dict.fromkeys(alive, 0)
    # rounds of 1, 2, 4 ... units of time, with all, half, a quarter ... of the candidates
    count = max(1, math.ceil(math.log2(len(alive)))) if len(alive) > 1 else 1
    unit = budget_s / replicates / sum(2**r * max(2, -(-len(alive) // 2**r)) for r in range(count))
    results: dict[int, Branch] = {}
    for number in range(count):
        for size, rung in alive.items():
            tell(f"branch of {size:,} clusters, round {number + 1} of {count}")
            until = unit * (2 ** (number + 1) - 1)
            losses = [run.on(until, rung.step_s_median, judge) for run in runs[size]]
            rounds[size] += 1
            results[size] = runs[size][0].told(rung, rounds[size], losses)
        keep = max(2, -(-len(alive) // 2))
        ranked = sorted(alive, key=lambda size: _order(results[size].loss))[:keep]
        if favourite not in ranked:  # it is what the others must beat
            ranked = [*ranked[: keep - 1], favourite]
        alive = {size: alive[size] for size in ranked}
    best = winner(results, favourite, list(alive), before)
    ordered = tuple(results[size] for size in sorted(results))
    return Proof(ordered, before, best == favourite, best)


def winner(results: dict[int, Branch], favourite: int, finalists: Sequence[int], before: float) -> int:
    """The size to take: the predicted one, unless another gained clearly more in every replicate."""
    best = favourite
    for size in finalists:
        if size == favourite or not all(map(math.isfinite, results[size].losses)):
            continue
        pairs = list(zip(results[size].losses, results[favourite].losses, strict=True))
        ahead = [
            not math.isfinite(theirs) or theirs - mine > _LEAST_GAIN * abs(before - mine) for mine, theirs in pairs
        ]
        if all(ahead) and (best == favourite or results[size].loss < results[best].loss):
            best = size
    return best


class _Run:
    """One replicate of a branch, which can be taken further."""

    def __init__(self, subject: Subject, trial: Trial, part: int) -> None:
        self._trial = trial
        self._state = jax.tree.map(jnp.copy, subject.state)
        # replicates begin where no other one of them comes: a part of an epoch apart
        self._start = int(subject.state.samples) + part * max(1, subject.clusters // 2)
        self.calls = 0

    def on(self, until_s: float, step_s: float, judge: Judge) -> float:
        """Go on until so many seconds have passed by the ladder; the loss of the mean of the second half."""
        goal = max(self.calls + 1, round(until_s / (step_s * self._trial.steps)))
        first = goal - (goal - self.calls) // 2
        every = max(1, (goal - first) // _POINTS)
        total, count = jax.tree.map(jnp.zeros_like, self._state.variables), 0
        while self.calls < goal:
            stack = self._trial.load(self._start + self.calls * self._trial.samples)
            self._state = self._trial.call(self._state, stack)
            self.calls += 1
            if self.calls >= first and (goal - self.calls) % every == 0:
                total, count = jax.tree.map(jnp.add, total, self._state.variables), count + 1
        mean = jax.tree.map(lambda leaf: leaf / count, total)
        return judge.loss(mean, self._state.statistics)

    def told(self, rung: Timed, rounds: int, losses: list[float]) -> Branch:
        """So far."""
        steps = self.calls * self._trial.steps
        return Branch(
            rung.clusters,
            rung.rows,
            steps,
            steps * rung.clusters,
            steps * rung.step_s_median,
            rounds,
            tuple(losses),
            self._state,
        )


def _order(loss: float) -> float:
    return loss if math.isfinite(loss) else math.inf
