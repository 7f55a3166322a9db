"""Seconds a step and bytes of every size, measured as a run takes them: compiled ahead, in turns, never compilation.

Sizes take turns within each round, so that a machine that slows down slows all alike; a size's figure is the median
over rounds. Loading runs beside computing in a run, so that a step takes the longer of the two.
"""

import math
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from volgrad.learning.batch_size.rungs import drawn_on, lost, timed
from volgrad.learning.batch_size.subject import Subject
from volgrad.learning.batching.memory import free_bytes
from volgrad.learning.batching.rows_choice import RowCost
from volgrad.learning.batching.size_choice import Timed
from volgrad.learning.training.dispatch import train_program
from volgrad.learning.training.state import State

__all__ = [
    "Clock",
    "Ladder",
    "Trial",
    "out_of_memory",
    "program_bytes",
    "row_cost",
    "time_calls",
    "time_ladder",
    "tried",
]

Clock = Callable[[], float]

_ROWS_A_CALL = 4096  # of a trial: enough that the call itself (.1 ms) is little beside its steps
_MOST_STEPS, _LEAST_STEPS = 64, 2
_CALL_SHARE = 0.01  # of the run's samples that a call sees at most: pilots and branches are made of whole calls
_LEAST_ROUNDS, _MOST_ROUNDS = 3, 15
_LEAST_S = 0.3  # of three rounds of a size that are always worth their time
_SPARED = 0.8  # of the free memory that a step may need by the compiler's account (assumption)


class Trial:
    """The compiled step of a size, some to a call.

    Attributes:
        clusters, steps: a batch, and batches a call.
        bytes: that the compiled call needs; 0 where the compiler does not say.
    """

    def __init__(self, subject: Subject, clusters: int) -> None:
        """Compile it.

        Raises:
            jax.errors.JaxRuntimeError: memory does not suffice for what the compiler does.
        """
        loader = subject.loader
        self.clusters = clusters
        many = min(_ROWS_A_CALL // max(1, clusters * loader.rows), int(_CALL_SHARE * subject.work.samples / clusters))
        self.steps = int(np.clip(many, _LEAST_STEPS, _MOST_STEPS))
        shape = (self.steps, clusters, loader.rows, len(loader.image.features))
        self._task, self._loader = subject.task, loader
        self._program = train_program(subject.task, subject.optimizers(clusters, None), subject.state, shape)
        self.bytes = program_bytes(self._program)

    @property
    def samples(self) -> int:
        """Clusters that a call sees."""
        return self.steps * self.clusters

    def load(self, position: int) -> tuple[Any, ...]:
        """The batches of one call, from `position` of the order on."""
        return tuple(jax.device_put(part) for part in self._loader.stack(position, self.steps, self.clusters))

    def call(self, state: State, stack: tuple[Any, ...]) -> State:
        """One call, waited for; `state` is donated to it."""
        return jax.block_until_ready(self._program(state, self._task, *stack))[0]


class Ladder(NamedTuple):
    """A measured ladder, what it was measured with, and what that took.

    rungs: by ascending size.
    trials: by size, of those that were timed.
    probe_s, compile_s: seconds of timing, and of compiling.
    notes: sentences on what could not be timed.
    """

    rungs: tuple[Timed, ...]
    trials: dict[int, Trial]
    probe_s: float
    compile_s: float
    notes: tuple[str, ...]


def out_of_memory(error: BaseException) -> bool:
    """Whether an error says that memory did not suffice."""
    return isinstance(error, MemoryError) or "RESOURCE_EXHAUSTED" in str(error) or "Out of memory" in str(error)


def program_bytes(program: Any) -> int:
    """What the compiler says that a program needs: arguments, results and scratch, less what they share."""
    found = program.memory_analysis()
    if found is None:
        return 0
    parts = (found.argument_size_in_bytes, found.output_size_in_bytes, found.temp_size_in_bytes)
    return int(sum(parts) - found.alias_size_in_bytes)


def time_ladder(
    subject: Subject,
    sizes: Sequence[int],
    clock: Clock,
    budget_s: float,
    tell: Callable[[str], None] = lambda _: None,
    hopeless: Callable[[int, float], bool] | None = None,
    ready: Trial | None = None,
) -> Ladder:
    """Time all sizes for which three rounds stay within the budget.

    Larger ones are drawn on from the largest that was timed, in proportion to their rows. Where memory does not
    suffice, by the compiled program's account or in the trial, that is what is found; larger ones are not tried.

    Args:
        subject: what is timed.
        sizes: clusters a batch, ascending.
        clock: seconds.
        budget_s: that timing may take, compiling apart; three rounds are taken whatever they cost.
        tell: told what is compiled.
        hopeless: says by clusters and seconds a step whether larger sizes need no timing.
        ready: a size that is compiled already.
    """
    trials: list[Trial] = []
    beyond_memory: list[Timed] = []
    compile_s, spent, beyond = 0.0, 0.0, len(sizes)
    for place, clusters in enumerate(sizes):
        tell(f"compiling batches of {clusters:,}")
        began = clock()
        found = ready if ready is not None and ready.clusters == clusters else tried(subject, clusters)
        compile_s += clock() - began
        if isinstance(found, Timed):
            beyond_memory = [found, *(lost(larger, subject.rows(larger)) for larger in sizes[place + 1 :])]
            break
        trials.append(found)
        once = _call_s(found, subject, clock)
        spent += once
        if place + 1 == len(sizes):
            break
        long = _LEAST_ROUNDS * once * sizes[place + 1] / clusters > max(budget_s, _LEAST_S)
        if long or (hopeless is not None and hopeless(clusters, once / found.steps)):
            beyond = place + 1
            break
    tell("timing")
    calls = [_timed_call(trial, subject, clock) for trial in trials]
    rounds, taken = time_calls(calls, budget_s)
    rungs = [
        timed(trial.clusters, subject.rows(trial.clusters), column, trial.bytes)
        for trial, column in zip(trials, rounds.T, strict=True)
    ]
    drawn = [] if beyond_memory else [drawn_on(rungs[-1], larger, subject.rows(larger)) for larger in sizes[beyond:]]
    notes = []
    if beyond_memory:
        notes.append(f"{_from(beyond_memory[0])} do not fit into memory")
    elif drawn:
        notes.append(
            f"{_from(drawn[0])} were not timed (a step takes some {drawn[0].step_s_median:.2g} s): their times are "
            f"drawn on from batches of {rungs[-1].clusters:,}"
        )
    by_size = {trial.clusters: trial for trial in trials}
    return Ladder((*rungs, *drawn, *beyond_memory), by_size, spent + taken, compile_s, tuple(notes))


def time_calls(calls: Sequence[Callable[[], tuple[float, float]]], budget_s: float) -> tuple[np.ndarray, float]:
    """Seconds a step by round and call, in turns, and what that took. Shape: (rounds, calls).

    Args:
        calls: each gives its seconds a step, and the seconds that it took.
        budget_s: after at least three rounds, no more are begun that would go beyond.
    """
    found: list[list[float]] = []
    spent = 0.0
    while len(found) < _MOST_ROUNDS and (len(found) < _LEAST_ROUNDS or spent * (1.0 + 1.0 / len(found)) <= budget_s):
        took = [call() for call in calls]
        found.append([step for step, _ in took])
        spent += sum(whole for _, whole in took)
    return np.array(found).reshape(len(found), len(calls)), spent


def row_cost(subject: Subject, clock: Clock, budget_s: float) -> tuple[RowCost, float, float]:
    """What a cluster and a row cost, from steps over as many rows of few whole clusters and of many thin ones.

    Returns:
        The cost, and seconds of timing and of compiling.
    """
    rows = subject.loader.mean_drawn
    few = max(1, min(subject.clusters, round(_ROWS_A_CALL / rows)))
    thin_rows = max(1, math.ceil(few * rows / subject.clusters))  # as thin as there are clusters for
    thin = subject.with_rows(thin_rows)
    try:
        many = max(few, min(subject.clusters, round(few * rows / thin.loader.mean_drawn)))
        began = clock()
        trials = [(Trial(subject, few), subject), (Trial(thin, many), thin)]
        compile_s = clock() - began
        for trial, owner in trials:
            _call_s(trial, owner, clock)
        steps_s, spent = time_calls([_timed_call(trial, owner, clock) for trial, owner in trials], budget_s)
    finally:
        thin.loader.close()
    more = many * thin.loader.mean_drawn - few * rows  # rows, where these do not divide
    whole_s, thin_s = np.median(steps_s, axis=0)
    row_s = whole_s / (few * rows)
    cluster_s = max(0.0, (thin_s - whole_s - more * row_s) / max(1, many - few))
    return RowCost(float(cluster_s), float(max(row_s - cluster_s / rows, 0.1 * row_s))), spent, compile_s


def _timed_call(trial: Trial, subject: Subject, clock: Clock) -> Callable[[], tuple[float, float]]:
    def call() -> tuple[float, float]:
        state = jax.block_until_ready(jax.tree.map(jnp.copy, subject.state))
        began = clock()
        stack = trial.load(0)
        loaded = clock()
        trial.call(state, stack)
        ended = clock()
        return max(loaded - began, ended - loaded) / trial.steps, ended - began

    return call


def tried(subject: Subject, clusters: int) -> Trial | Timed:
    """A trial that ran once; a rung without time where memory does not suffice."""
    try:
        trial = Trial(subject, clusters)
        free = free_bytes() if jax.default_backend() == "cpu" else None
        if free is not None and trial.bytes > _SPARED * free:
            return lost(clusters, subject.rows(clusters), trial.bytes)
        trial.call(jax.tree.map(jnp.copy, subject.state), trial.load(0))  # memory is taken for the first time
    except (jax.errors.JaxRuntimeError, MemoryError) as error:
        if not out_of_memory(error):
            raise
        return lost(clusters, subject.rows(clusters))
    return trial


def _call_s(trial: Trial, subject: Subject, clock: Clock) -> float:
    return _timed_call(trial, subject, clock)()[1]


def _from(rung: Timed) -> str:
    return f"batches of {rung.clusters:,} {'cluster' if rung.clusters == 1 else 'clusters'} and more"
