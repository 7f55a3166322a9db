"""The loop of a run: dispatch after dispatch, judged while the next one computes, from one sound state to the next.

A *segment* is some dispatches. The state at its start is kept; if the guard finds the loss running away within it, the
run goes back there, or to the segment before where the fault began then, with a smaller step. At its end the pipeline
is empty: there a run is evaluated and stored. Whatever decides where a run goes (losses, positions) is data: the clock
is read for telling only.
"""

import time
from collections.abc import Callable, Iterator
from contextlib import closing
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from volgrad.learning.batching.loader import Loader, Stack
from volgrad.learning.batching.prefetch import Prefetch
from volgrad.learning.training.dispatch import Dispatch, Plan, Rung, evaluate_program, train_program
from volgrad.learning.training.first_order import FirstOrder, rescale
from volgrad.learning.training.guard import Action, Guard, GuardRule, Verdict
from volgrad.learning.training.state import Info, State
from volgrad.learning.training.task import Task

__all__ = ["Progress", "Segment", "Trainer", "Validation", "first_progress", "scaled"]

_EVALUATED_ROWS = 65_536  # most rows of the validation split that are looked at each time


class Progress(NamedTuple):
    """All that a run carries between segments, and a checkpoint holds.

    state: on the device.
    sound: the last state from which a dispatch was judged to go on well: where a roll-back leads.
    guard: what the guard remembers.
    step, sound_step: steps taken until either state, those that were rolled back not counted.
    """

    state: State
    sound: State
    guard: Guard
    step: int
    sound_step: int


class Segment(NamedTuple):
    """What became of a segment.

    progress: where the run goes on.
    action: what the guard asked for, if anything.
    message: the guard's, in words.
    loss: mean over the segment's steps that were taken; NaN where none was.
    learning_rate, gradient_norm: of its last step.
    clusters: a batch.
    rows: looked at, those rolled back included.
    refused: steps that were not taken, as their loss or gradient was not finite.
    seconds: on the wall.
    """

    progress: Progress
    action: Action
    message: str
    loss: float
    learning_rate: float
    gradient_norm: float
    clusters: int
    rows: int
    refused: int
    seconds: float


class Validation:
    """Some clusters of the validation split, drawn once, the same at every evaluation.

    Attributes:
        clusters: how many are looked at.
    """

    def __init__(self, loader: Loader) -> None:
        """Draw them; the loader may be closed afterwards."""
        self.clusters = min(len(loader.clusters), max(1, _EVALUATED_ROWS // loader.rows))
        # one batch, so that metrics are those of all rows, whatever a task makes of them (a root, a median)
        self._batch = Stack(*(part[0] for part in loader.stack(0, 1, self.clusters)))
        self._program: Any = None

    def compile(self, task: Task, optimizer: FirstOrder, state: State) -> None:
        """Make the program ahead of time."""
        like = State(optimizer.serving(state), state.statistics, None, state.key, state.samples)
        self._program = evaluate_program(task, like, self._batch.values.shape)

    def metrics(self, task: Task, optimizer: FirstOrder, state: State) -> dict[str, float]:
        """Metrics of the variables that would serve now; `loss` among them."""
        serving = optimizer.serving(state)
        found = self._program(serving, state.statistics, state.key, task, *self._batch)
        return {name: float(value) for name, value in jax.device_get(found).items()}


class Trainer:
    """Runs segments of a plan.

    Attributes:
        plan: which dispatches there are.
    """

    def __init__(
        self,
        task: Task,
        optimizers: Callable[[int, float | None], FirstOrder],
        loader: Loader,
        plan: Plan,
        rule: GuardRule,
    ) -> None:
        """Nothing is compiled yet.

        Args:
            task: what is learned.
            optimizers: the optimiser for batches of so many clusters, given the noise scale in clusters where it was
                measured; all share one form of state.
            loader: of the training split.
            plan: of the run.
            rule: of the guard.
        """
        self.plan = plan
        self._task, self._optimizers, self._loader, self._rule = task, optimizers, loader, rule
        self._programs: dict[tuple[int, int, float | None], Any] = {}

    def compile(self, state: State) -> None:
        """Make the programs of the whole plan ahead of time."""
        for steps, clusters in self.plan.ladder():
            self._program(steps, Rung(0, clusters), state)

    def missing(self, position: int, dispatches: int) -> bool:
        """Whether a segment from `position` on needs programs that are not there yet."""
        needed = ((one.steps, *self.plan.rung(one.start)[1:]) for one in self._planned(position, dispatches))
        return any(key not in self._programs for key in needed)

    def compile_segment(self, state: State, dispatches: int) -> None:
        """Make the programs of a segment from `state` on, those only."""
        for one in self._planned(int(state.samples), dispatches):
            self._program(one.steps, self.plan.rung(one.start), state)

    def segment(self, progress: Progress, dispatches: int) -> Segment:
        """Run up to `dispatches` dispatches from `progress` on; `progress` itself stays as it is."""
        began = time.perf_counter()
        planned = list(self._planned(int(progress.state.samples), dispatches))
        state = jax.tree.map(jnp.copy, progress.state)  # what goes into a dispatch is donated to it
        watch = _Watch(progress.guard, self._rule)
        requests = [(one.start, one.steps, one.clusters) for one in planned]
        before: tuple[Info, Stack] | None = None
        done = rows = 0
        with closing(Prefetch(self._loader, requests)) as stacks:
            for one, stack in zip(planned, stacks, strict=True):
                program = self._program(one.steps, self.plan.rung(one.start), state)
                state, info = program(state, self._task, *(jax.device_put(part) for part in stack))
                done, rows = done + 1, rows + int(stack.count.sum())
                if before is not None:
                    watch.look(before[0])
                    stacks.release(before[1])
                before = info, stack
                if watch.verdict.action is not Action.GO_ON:
                    break
            if before is not None and watch.verdict.action in (Action.GO_ON, Action.REMEDY):
                watch.look(before[0])
        steps = sum(one.steps for one in planned[:done])
        after = self._after(progress, state, steps, watch)
        return Segment(
            after,
            watch.verdict.action,
            watch.verdict.message,
            watch.loss,
            watch.learning_rate,
            watch.gradient_norm,
            planned[-1].clusters,
            rows,
            watch.refused,
            time.perf_counter() - began,
        )

    def _planned(self, position: int, most: int) -> Iterator[Dispatch]:
        for _ in range(most):
            one = self.plan.next(position)
            if one is None:
                return
            yield one
            position = one.stop

    def _after(self, progress: Progress, state: State, steps: int, watch: "_Watch") -> Progress:
        """Where the run goes on: at the end of the segment, or back at the last sound state.

        The start of this segment is sound once a dispatch from it on was judged to go on well: losses are those before
        a step, so that a loss which runs away in the last dispatch of a segment shows in the next one only.
        """
        verdict = watch.verdict
        sound, sound_step = progress.sound, progress.sound_step
        if watch.start_is_sound:
            sound, sound_step = progress.state, progress.step
        stalled = verdict.action is Action.GIVE_UP and verdict.guard.remedies > self._rule.remedies
        if verdict.action is Action.ROLL_BACK or (verdict.action is Action.GIVE_UP and not stalled):
            back = _rescaled(sound, verdict.factor)
            return Progress(back, back, verdict.guard, sound_step, sound_step)
        return Progress(_rescaled(state, verdict.factor), sound, verdict.guard, progress.step + steps, sound_step)

    def _program(self, steps: int, rung: Rung, state: State) -> Any:
        key = (steps, rung.clusters, rung.noise)
        if key not in self._programs:
            shape = (steps, rung.clusters, self._loader.rows, len(self._loader.image.features))
            optimizer = self._optimizers(rung.clusters, rung.noise)
            self._programs[key] = train_program(self._task, optimizer, state, shape)
        return self._programs[key]


class _Watch:
    """Looks at dispatches in their order, and keeps the guard's first verdict that asks for something."""

    def __init__(self, guard: Guard, rule: GuardRule) -> None:
        self._rule = rule
        self.verdict = Verdict(Action.GO_ON, 1.0, "", guard)
        self.learning_rate = self.gradient_norm = float("nan")
        self.refused = 0
        self.start_is_sound = False
        self._looked = False
        self._sum, self._count = 0.0, 0

    @property
    def loss(self) -> float:
        return self._sum / self._count if self._count else float("nan")

    def look(self, info: Info) -> None:
        """Wait for a dispatch, and judge it."""
        found = jax.device_get(info)
        losses, accepted = np.asarray(found.loss, np.float64), np.asarray(found.accepted)
        self._sum += float(losses[accepted].sum())
        self._count += int(accepted.sum())
        self.refused += int((~accepted).sum())
        self.learning_rate = float(found.learning_rate[-1])
        self.gradient_norm = float(found.gradient_norm[-1])
        if self.verdict.action is Action.GO_ON:
            self.verdict = self.verdict.guard.judge(losses, accepted, self._rule)
            if not self._looked:
                self.start_is_sound = self.verdict.action is Action.GO_ON and not self.verdict.guard.high
        self._looked = True


def _rescaled(state: State, factor: float) -> State:
    if factor == 1.0:
        return state
    return State(state.variables, state.statistics, rescale(state.optimizer, factor), state.key, state.samples)


def first_progress(state: State) -> Progress:
    """Of a run that begins."""
    return Progress(state, state, Guard(), 0, 0)


def scaled(progress: Progress, factor: float) -> Progress:
    """The same with steps `factor` as long: what a plateau asks for."""
    return progress._replace(state=_rescaled(progress.state, factor))
