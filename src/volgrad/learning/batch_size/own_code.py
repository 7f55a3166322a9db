"""Choosing the batch size of a user's own training step: measured and predicted as for volgrad's own tasks.

`step(params, batch)` is timed, `grad(params, batch)` gives the noise: at the params given and, where `step` answers
with new ones, along a pilot. Nothing says how good params are, so there are no branches.

No setting of JAX is changed: a float32 step stays one.
"""

import math
import time
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import jax
from jaxtyping import PyTree

from volgrad.errors import InputError
from volgrad.learning.batch_size.chooser import Effort, Wish, effort_for, late_noise
from volgrad.learning.batch_size.decision import Chosen, Decision, Moment
from volgrad.learning.batch_size.own_calls import OwnFunction, RowData, next_params
from volgrad.learning.batch_size.own_noise import OwnNoise
from volgrad.learning.batch_size.pilot import Pilot
from volgrad.learning.batch_size.rungs import drawn_on, lost, timed
from volgrad.learning.batch_size.subject import ladder_sizes
from volgrad.learning.batch_size.timing import Clock, out_of_memory, time_calls
from volgrad.learning.batching.memory import free_bytes
from volgrad.learning.batching.noise_scale import NoiseScale
from volgrad.learning.batching.size_choice import Choice, Timed, Work, choose
from volgrad.learning.batching.size_policy import steering
from volgrad.learning.training.batch_rules import Hyperparameters, hyperparameters

__all__ = ["OwnCode", "choose_own"]

_CALL_S = 2e-3  # of steps between two looks at the clock (assumption: far above what a look costs)
_MOST_STEPS = 64
_LOOKS = 3  # the least of which is what a step takes on a busy machine
_LEAST_ROUNDS = 3
_SPARED = 0.8  # of the free memory that a step may need by the compiler's account (assumption)
_PILOT_SHARE = 0.05  # of the run's samples that a pilot sees at most


class OwnCode(NamedTuple):
    """A user's training step, its gradient, where it stands, its rows, and how long the run is.

    step: `(params, batch) -> new params`, `(new params, anything)` or anything else.
    grad: `(params, batch) ->` pytree of the mean gradient over the rows of the batch.
    params: what both take first: variables, or a state that holds them.
    data: rows, and what is drawn of them.
    work: samples of the run, in clusters, and the size that the step's learning rate is meant for.
    """

    step: Callable[[PyTree, PyTree], Any]
    grad: Callable[[PyTree, PyTree], PyTree]
    params: PyTree
    data: RowData
    work: Work


def choose_own(
    code: OwnCode,
    wish: Wish = Wish(),  # noqa: B008 - a tuple
    effort: Effort | None = None,
    clock: Clock = time.perf_counter,
    tell: Callable[[str], None] = lambda _: None,
) -> Decision:
    """Choose a batch size for a user's code; its params and rows are not touched.

    Args:
        code: what is run.
        wish: what counts.
        effort: seconds of probing; by default what the run is worth. There are no branches.
        clock: seconds.
        tell: told what goes on.

    Raises:
        InputError: no size fits into memory, or none is allowed; gradients that say nothing.
    """
    began, given = clock(), Effort() if effort is None else effort
    tell("trying grad")
    probe = OwnNoise(OwnFunction(code.grad), code.data, code.params, clock)
    first = probe.at(code.params, 0)
    if first is None:
        raise InputError("grad gave numbers that are not finite for some rows at the given params: look for such rows")
    ladder = _Ladder.timed(code, _sizes(code.data.clusters, wish), clock, given.timing, tell)
    choice = _choice(ladder, first, code.work, wish)
    if effort is None:
        given = effort_for(choice.predicted_s[choice.place])
    flight, notes = _fly(code, probe, ladder, first, clock, given.pilot, tell)
    noise = late_noise(flight)
    choice = _choice(ladder, noise, code.work, wish)
    rung, compile_s = ladder.rungs[choice.place], ladder.compile_s + probe.compile_s
    return Decision(
        Chosen(rung.clusters, code.data.mean_rows, rung.rows),
        wish.objective,
        ladder.rungs,
        choice.predicted_s,
        choice.samples,
        noise,
        flight.moments,
        (),
        probe_s=max(0.0, clock() - began - compile_s),
        compile_s=compile_s,
        reason=_reason(wish, ladder.rungs, choice, noise, code.data.grouped),
        notes=(*ladder.notes, *probe.notes, *notes, _rate_note(code.work, rung, noise)),
    )


class _Trial:
    """The step of one size, ready.

    Attributes:
        clusters: a batch.
        steps: between two looks at the clock.
        bytes: by the compiler's account; 0 where it is not compiled.
        advances: whether a step answers with new params.
    """

    def __init__(self, code: OwnCode, step: OwnFunction, clusters: int) -> None:
        self._data, self._step = code.data, step
        self.clusters, self.steps = clusters, 1
        self._call, self.bytes = step.program(code.params, code.data.batch(0, clusters))
        self.advances = False
        self._index = [code.data.index(0, clusters)]

    def fresh(self, params: PyTree) -> PyTree:
        """A copy that the step may take apart."""
        return self._step.fresh(params)

    def warm(self, params: PyTree, clock: Clock) -> None:
        """Memory is taken for the first time; the calls after it tell how many go between two looks at the clock."""
        answer = jax.block_until_ready(self._call(self._step.fresh(params), self._data.batch(0, self.clusters)))
        self.advances = next_params(answer, self._step.fresh(params)) is not None
        del answer
        once = min(self.seconds(params, clock)[0] for _ in range(_LOOKS))
        self.steps = _MOST_STEPS if once <= 0.0 else min(_MOST_STEPS, max(1, int(_CALL_S / once)))
        self._index = [self._data.index(number * self.clusters, self.clusters) for number in range(self.steps)]

    def seconds(self, params: PyTree, clock: Clock) -> tuple[float, float]:
        """Seconds a step, and of all. What the step may take apart or change is copied, which counts for no step."""
        started = clock()
        batches = [self._data.take(index) for index in self._index]
        starts = [self._step.fresh(params) for _ in range(1 if self.advances else self.steps)]
        jax.block_until_ready((batches, starts))
        began = clock()
        if self.advances:
            at = starts[0]
            for batch in batches:
                at = next_params(self._call(at, batch), params)
            jax.block_until_ready(at)
        else:
            jax.block_until_ready([self._call(at, batch) for at, batch in zip(starts, batches, strict=True)])
        ended = clock()
        return (ended - began) / self.steps, ended - started

    def walk(self, params: PyTree, position: int) -> PyTree:
        """Params after the steps of one look; those given are lost where the step takes them apart."""
        for number in range(self.steps):
            batch = self._data.batch(position + number * self.clusters, self.clusters)
            params = next_params(self._call(params, batch), params)
        return jax.block_until_ready(params)


class _Ladder(NamedTuple):
    """A measured ladder.

    rungs: by ascending size.
    trials: by size, of those that were timed.
    compile_s: seconds of compiling.
    notes: sentences on what could not be timed.
    """

    rungs: tuple[Timed, ...]
    trials: dict[int, _Trial]
    compile_s: float
    notes: tuple[str, ...]

    @classmethod
    def timed(
        cls, code: OwnCode, sizes: Sequence[int], clock: Clock, budget_s: float, tell: Callable[[str], None]
    ) -> "_Ladder":
        """Time all sizes for which three rounds stay within the budget; larger ones are drawn on from the largest."""
        step, trials, beyond_memory = OwnFunction(code.step), [], []
        compile_s, beyond = 0.0, len(sizes)
        for place, clusters in enumerate(sizes):
            tell(f"compiling batches of {clusters:,}")
            began = clock()
            found = _tried(code, step, clusters)
            compile_s += clock() - began
            if isinstance(found, Timed):
                beyond_memory = [found, *(lost(larger, code.data.rows_in(larger)) for larger in sizes[place + 1 :])]
                break
            try:
                found.warm(code.params, clock)
            except (jax.errors.JaxRuntimeError, MemoryError) as error:
                if not out_of_memory(error):
                    raise
                beyond_memory = [lost(larger, code.data.rows_in(larger)) for larger in sizes[place:]]
                break
            trials.append(found)
            a_step = found.seconds(code.params, clock)[0]
            if place + 1 < len(sizes) and _LEAST_ROUNDS * a_step * sizes[place + 1] / clusters > budget_s:
                beyond = place + 1
                break
        tell("timing")
        calls = [lambda trial=trial: trial.seconds(code.params, clock) for trial in trials]
        rounds, _ = time_calls(calls, budget_s)
        rungs = [
            timed(trial.clusters, code.data.rows_in(trial.clusters), column, trial.bytes)
            for trial, column in zip(trials, rounds.T, strict=True)
        ]
        drawn = (
            []
            if beyond_memory
            else [drawn_on(rungs[-1], larger, code.data.rows_in(larger)) for larger in sizes[beyond:]]
        )
        notes = []
        if beyond_memory:
            notes.append(f"batches of {beyond_memory[0].rows:,} rows and more do not fit into memory")
        if drawn:
            notes.append(
                f"batches of {drawn[0].rows:,} rows and more were not timed (a step of theirs takes some "
                f"{drawn[0].step_s_median:.2g} s): their times are drawn on from {rungs[-1].rows:,} rows"
            )
        if not step.compiled:
            notes.append("step is no code that JAX can trace: it was timed as it is, and its memory is not known")
        return cls(
            (*rungs, *drawn, *beyond_memory), {trial.clusters: trial for trial in trials}, compile_s, tuple(notes)
        )


def _sizes(clusters: int, wish: Wish) -> list[int]:
    """Powers of two, but none below the least that is allowed: the user's code may not take it."""
    least = min(wish.bounds.least, clusters)
    return sorted({least, *(size for size in ladder_sizes(clusters, wish.bounds.most) if size >= least)})


def _tried(code: OwnCode, step: OwnFunction, clusters: int) -> _Trial | Timed:
    try:
        trial = _Trial(code, step, clusters)
    except (jax.errors.JaxRuntimeError, MemoryError) as error:
        if not out_of_memory(error):
            raise
        return lost(clusters, code.data.rows_in(clusters))
    free = free_bytes() if jax.default_backend() == "cpu" else None
    if free is not None and trial.bytes > _SPARED * free:
        return lost(clusters, code.data.rows_in(clusters), trial.bytes)
    return trial


def _choice(ladder: _Ladder, noise: NoiseScale, work: Work, wish: Wish) -> Choice:
    return choose(ladder.rungs, steering(noise), work, wish.objective, wish.bounds)


def _fly(
    code: OwnCode,
    probe: OwnNoise,
    ladder: _Ladder,
    first: NoiseScale,
    clock: Clock,
    budget_s: float,
    tell: Callable[[str], None],
) -> tuple[Pilot, tuple[str, ...]]:
    """Step through the beginning of the run and measure the noise on the way, where the step tells its params."""
    began, moments = clock(), [Moment(0, first)]
    usual = [size for size in ladder.trials if size <= code.work.reference]
    trial = ladder.trials[max(usual, default=min(ladder.trials))]
    params = trial.fresh(code.params)
    if not trial.advances:
        note = "step does not answer with new params, alone or first: noise is that at the given params only"
        return Pilot(params, tuple(moments), 0.0), (note,)
    if budget_s <= 0.0:
        return Pilot(params, tuple(moments), 0.0), ()
    samples, notes = math.ceil(_PILOT_SHARE * code.work.samples), ()
    seen, stepped, looks = 0, 0.0, (0.5, 1.0)  # noise takes longer than steps: half way, and at the end
    while looks:
        before = clock()
        params = trial.walk(params, seen)
        seen, stepped = seen + trial.steps * trial.clusters, stepped + clock() - before
        gone = max(seen / samples, stepped / budget_s)
        if gone < looks[0]:
            continue
        looks = tuple(look for look in looks if look > gone)
        tell(f"pilot, {seen:,} samples")
        noise = probe.at(params, seen)
        if noise is None:
            notes = (f"the pilot ran away within {seen:,} samples: choose a lower learning rate",)
            break
        moments.append(Moment(seen, noise))
    return Pilot(params, tuple(moments), clock() - began), notes


def _rate_note(work: Work, rung: Timed, noise: NoiseScale) -> str:
    """What becomes of the learning rate, by the rules that volgrad's own optimisers follow."""
    cap = max(steering(noise), 1e-9)  # of no noise at all
    sgd, adam = (
        float(hyperparameters(name, Hyperparameters(1.0), rung.clusters, work.reference, cap).learning_rate)
        for name in ("sgd", "adam")
    )
    start = f"times are predicted for learning rates that suit each size: one chosen for batches of {work.reference:,}"
    if sgd == adam == 1.0:
        return f"{start} stays as it is"
    return f"{start} should become {sgd:.2g} times as large with SGD, {adam:.2g} times with Adam"


def _reason(wish: Wish, rungs: Sequence[Timed], choice: Choice, noise: NoiseScale, grouped: bool) -> str:
    """The recommendation in words."""
    rung, seconds = rungs[choice.place], choice.predicted_s

    def size(one: Timed) -> str:
        rows = f"{one.rows:,} row{'' if one.rows == 1 else 's'}"
        return f"{one.clusters:,} cluster{'' if one.clusters == 1 else 's'} ({rows})" if grouped else rows

    scale, step_ms = noise.words(), 1e3 * rung.step_s_median
    told = [f"Batches of {size(rung)}: the gradient noise scale is {scale}, and a step takes {step_ms:.3g} ms."]
    last = max(at for at, one in enumerate(rungs) if one.measured)
    others = [
        f"{seconds[at] / seconds[choice.place]:.2g} times as long with the {name}, {size(rungs[at])}"
        for name, at in (("largest that was timed", last), ("smallest", 0))
        if at != choice.place and rungs[at].fits
    ]
    if others:
        told.append(f"To get as far takes {', and '.join(others)}.")
    if wish.objective == "samples":
        told.append("Chosen to spare data: the fastest size that needs at most a tenth more samples than the smallest.")
    elif wish.objective == "memory":
        told.append("Chosen to spare memory: the least that takes at most a quarter longer than the fastest.")
    told.append("No branches were run, as the code tells no loss to compare them by.")
    return " ".join(told)
