"""Choosing a batch size: hardware measured, noise measured, predicted, proved.

The pieces: `time_ladder` (seconds a step, memory), `fly` (a pilot, and the noise on its way), `choose` (what follows),
`prove` (paired branches). What they find is put into words here.
"""

import contextlib
import dataclasses
import math
import time
from collections.abc import Callable, Iterator, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from volgrad.errors import InputError
from volgrad.learning.batch_size.branches import Branch, Proof, prove
from volgrad.learning.batch_size.decision import Chosen, Decision, Moment
from volgrad.learning.batch_size.noise_probe import NoiseProbe
from volgrad.learning.batch_size.pilot import Pilot, fly
from volgrad.learning.batch_size.subject import Subject, ladder_sizes
from volgrad.learning.batch_size.timing import Clock, Ladder, Trial, row_cost, time_ladder, tried
from volgrad.learning.batching.loader import batch_of
from volgrad.learning.batching.noise_scale import NoiseScale, pooled
from volgrad.learning.batching.rows_choice import RowsChoice, choose_rows
from volgrad.learning.batching.size_choice import Bounds, Choice, Objective, Timed, Work, choose
from volgrad.learning.batching.size_policy import steering
from volgrad.learning.training.sharpness import sharpness

__all__ = ["Effort", "Wish", "choose_size", "effort_for", "late_noise"]

_PROBE_SHARE = 0.02  # of the run's time that probes may take
_LEAST_S, _MOST_S = 1.0, 60.0  # seconds of probing, whatever the run's length
_PILOT_SHARE = 0.05  # of the run's samples that a pilot sees at most
_HOPELESS = 4.0  # times the best, at the noise that the run may come to: larger sizes are not timed (assumption)
_GROWTH = 8.0  # that the noise scale may have by the end of a run over that of its beginning (assumption)
_WORTH_S = 1.0  # of a run for which a size is chosen, unless seconds of probing were asked for (assumption)
_BRANCHES_SHARE = 0.5  # of the run's predicted time that all branches together take at most (assumption)


class Wish(NamedTuple):
    """What a user wants.

    objective: what counts.
    bounds: sizes that are allowed.
    rows: whether the rows drawn of each cluster are to be chosen, too.
    """

    objective: Objective = "time"
    bounds: Bounds = Bounds()
    rows: bool = False


class Effort(NamedTuple):
    """Seconds that each part of the probing may take; 0 leaves a part out.

    timing: of the ladder.
    pilot: going through the beginning.
    branches: by the measured ladder.
    sharpness: whether the minima that branches reached are looked at.
    whole_ladder: whether sizes are timed that are far too large to win, too.
    """

    timing: float = 3.0
    pilot: float = 5.0
    branches: float = 12.0
    sharpness: bool = False
    whole_ladder: bool = False


def effort_for(run_s: float, share: float = _PROBE_SHARE) -> Effort:
    """Effort that a run of so many seconds is worth: a share of it, within bounds; no branches where that is little.

    >>> effort_for(20.0).branches, round(effort_for(1000.0).branches, 1)
    (0.0, 12.0)
    """
    whole = min(max(share * run_s, _LEAST_S), _MOST_S)
    return Effort(0.2 * whole, 0.2 * whole, 0.6 * whole if whole > 2.0 * _LEAST_S else 0.0)


def choose_size(
    subject: Subject,
    wish: Wish = Wish(),  # noqa: B008 - a tuple
    effort: Effort | None = None,
    clock: Clock = time.perf_counter,
    tell: Callable[[str], None] = lambda _: None,
) -> Decision:
    """Choose a batch size for a subject; its state is not touched.

    Args:
        subject: what is learned, and where it stands.
        wish: what counts.
        effort: seconds of probing; by default what the run is worth.
        clock: seconds.
        tell: told what goes on.

    Raises:
        InputError: no size fits into memory, or none is allowed.
    """
    return _Choosing(subject, wish, clock, tell).decide(effort)


class _Hopeless:
    """Tells of sizes, ascending, from which on none can win, even were the noise to grow."""

    def __init__(self, work: Work, noise: float) -> None:
        self._least, self._noise = work.least_steps(noise), noise
        self._best = math.inf

    def __call__(self, clusters: int, step_s: float) -> bool:
        predicted_s = self._least * (1.0 + self._noise / clusters) * step_s
        self._best = min(self._best, predicted_s)
        return predicted_s > _HOPELESS * self._best


class _Choosing:
    """One choice on its way."""

    def __init__(self, subject: Subject, wish: Wish, clock: Clock, tell: Callable[[str], None]) -> None:
        self.subject, self.wish, self.clock, self.tell = subject, wish, clock, tell
        self.compile_s, self.began = 0.0, clock()

    def decide(self, effort: Effort | None) -> Decision:
        """Probe along a pilot, choose rows, time, predict, prove."""
        probe = self._probe()
        trial = self._pilot_trial(probe.unit)
        run_s = self._run_s(trial)
        if effort is None and run_s < _WORTH_S and self.wish.bounds.hold(trial.clusters):
            return self._left(probe, trial, run_s)
        given = effort or effort_for(run_s)
        pilot = self._pilot(probe, trial, given)
        noise = late_noise(pilot)
        table = self._rows(noise, given) if probe.split else None
        if table is None or not self.wish.rows or table.rows_per_cluster >= self.subject.loader.rows:
            return self._decided(given, probe.unit, (pilot, noise), table, trial)
        thin = noise.at(table.rows_per_cluster)
        alike = thin.trace / noise.trace
        self.subject = self.subject.with_rows(table.rows_per_cluster, alike)
        try:
            decision = self._decided(given, probe.unit, (pilot, thin), table, None)
            return dataclasses.replace(decision, rows_drawn=table.rows_per_cluster, alike=alike)
        finally:
            self.subject.loader.close()

    def _left(self, probe: NoiseProbe, trial: Trial, run_s: float) -> Decision:
        """The size that the learning rate is meant for, where the run is over before a choice could pay."""
        subject, clock = self.subject, self.clock
        ladder = time_ladder(subject, [trial.clusters], clock, 0.0, self.tell, None, trial)
        before = clock()
        with _finite_at_first():
            noise = probe.at(subject, int(subject.state.samples))
        noise_s, rung = clock() - before, ladder.rungs[0]
        choice = choose(ladder.rungs, steering(noise), subject.work)
        return Decision(
            Chosen(rung.clusters, subject.loader.mean_drawn, rung.rows),
            self.wish.objective,
            ladder.rungs,
            choice.predicted_s,
            choice.samples,
            noise,
            (Moment(int(subject.state.samples), noise),),
            (),
            probe_s=max(0.0, clock() - self.began - self.compile_s),
            compile_s=self.compile_s,
            reason=(
                f"Batches of {_size(rung)}, as near as can be to what the learning rate is meant for: the run takes "
                f"some {_duration(run_s)}, less than choosing would."
            ),
            reference=subject.work.reference,
            noise_s=noise_s,
        )

    def _decided(
        self,
        effort: Effort,
        unit: int,
        found: tuple[Pilot, NoiseScale],
        table: RowsChoice | None,
        ready: Trial | None,
    ) -> Decision:
        subject, (pilot, noise) = self.subject, found
        sizes = ladder_sizes(subject.clusters, self.wish.bounds.most, unit, subject.work.reference)
        whole = effort.whole_ladder or self.wish.bounds.least > 1  # smaller ones say nothing of those that are allowed
        hopeless = None if whole else _Hopeless(subject.work, _GROWTH * steering(noise))
        ladder = time_ladder(subject, sizes, self.clock, effort.timing, self.tell, hopeless, ready)
        self.compile_s += ladder.compile_s
        choice = choose(ladder.rungs, steering(noise), subject.work, self.wish.objective, self.wish.bounds)
        proof, sharp = self._proved(ladder, choice, pilot, effort)
        place = choice.place
        if proof is not None and not proof.confirmed:
            place = next(at for at, rung in enumerate(ladder.rungs) if rung.clusters == proof.clusters)
        rung = ladder.rungs[place]
        return Decision(
            Chosen(rung.clusters, subject.loader.mean_drawn, rung.rows),
            self.wish.objective,
            ladder.rungs,
            choice.predicted_s,
            choice.samples,
            noise,
            pilot.moments,
            () if proof is None else tuple(branch.as_dict(proof.before) for branch in proof.branches),
            probe_s=max(0.0, self.clock() - self.began - self.compile_s),
            compile_s=self.compile_s,
            reason=_reason(self.wish, ladder, choice, noise, place, proof),
            sharpness=sharp,
            rows_choice=() if table is None else _rows_told(table, subject.loader.rows),
            reference=subject.work.reference,
            noise_s=pilot.probe_s if ready is not None else None,  # other rows a cluster take another time
            confirmed=None if proof is None else proof.confirmed,
            notes=(pilot.note, *ladder.notes) if pilot.note else ladder.notes,
        )

    def _probe(self) -> NoiseProbe:
        self.tell("compiling the noise probe")
        before = self.clock()
        probe = NoiseProbe(self.subject, stream=not self.subject.loader.order.shuffle)
        probe.compile(self.subject)
        self.compile_s += self.clock() - before
        return probe

    def _pilot_trial(self, unit: int) -> Trial:
        """The size that the learning rate is meant for, or the next smaller one that fits.

        Whatever size the noise at the start would ask for is no good one: in small batches a run jitters, its gradients
        are those of the jitter, and the noise scale looks small [measured: 1 to 2 clusters in place of 8 to 16].
        """
        sizes = ladder_sizes(self.subject.clusters, self.wish.bounds.most, unit, self.subject.work.reference)
        usual = [size for size in sizes if size <= self.subject.work.reference] or sizes[:1]
        before = self.clock()
        try:
            for size in reversed(usual):
                self.tell(f"compiling batches of {size:,}")
                if isinstance(found := tried(self.subject, size), Trial):
                    return found
        finally:
            self.compile_s += self.clock() - before
        raise InputError("no batch size fits into memory, not even the smallest: use a smaller model, or fewer rows")

    def _run_s(self, trial: Trial) -> float:
        """Seconds that the run would take in batches of the pilot's size."""
        before = self.clock()
        trial.call(jax.tree.map(jnp.copy, self.subject.state), trial.load(0))
        return (self.clock() - before) * self.subject.work.samples / trial.samples

    def _pilot(self, probe: NoiseProbe, trial: Trial, effort: Effort) -> Pilot:
        samples = math.ceil(_PILOT_SHARE * self.subject.work.samples)
        with _finite_at_first():
            return fly(self.subject, probe, trial, samples, self.clock, effort.pilot, self.tell)

    def _rows(self, noise: NoiseScale, effort: Effort) -> RowsChoice:
        """What other numbers of rows a cluster would cost."""
        self.tell("timing rows and clusters")
        cost, _, compile_s = row_cost(self.subject, self.clock, 0.25 * effort.timing)
        self.compile_s += compile_s
        return choose_rows(noise, cost, self.subject.loader.rows)

    def _proved(
        self, ladder: Ladder, choice: Choice, pilot: Pilot, effort: Effort
    ) -> tuple[Proof | None, tuple[dict[str, Any], ...]]:
        """Branches of the best sizes, and of the ends of the ladder where minima are to be compared."""
        able = [at for at, rung in enumerate(ladder.rungs) if rung.clusters in ladder.trials]
        able = [at for at in able if self.wish.bounds.hold(ladder.rungs[at].clusters)]
        if not effort.branches or len(able) < 2 or choice.place not in able:
            return None, ()
        near = [at for at in able if abs(at - choice.place) <= 1 or at == choice.place + 2]
        chosen = sorted({*near, able[0], able[-1]} if effort.sharpness else near)
        at = self.subject.at(pilot.state)
        proof = prove(
            at,
            ladder.trials,
            [ladder.rungs[place] for place in chosen],
            [choice.predicted_s[place] if place != choice.place else 0.0 for place in chosen],
            min(effort.branches, _BRANCHES_SHARE * choice.predicted_s[choice.place]),
            tell=self.tell,
        )
        sharp = _sharpness(at, proof.branches) if effort.sharpness else ()
        return proof, sharp


@contextlib.contextmanager
def _finite_at_first() -> Iterator[None]:
    """Says what to do where gradients are not finite before the first step."""
    try:
        yield
    except ValueError as error:
        raise InputError(
            f"the noise cannot be measured at the first variables ({error}): look for extreme values in the data"
        ) from error


def late_noise(pilot: Pilot) -> NoiseScale:
    """Noise over the later half of a pilot: the mean of what was measured there, before dividing."""
    end = pilot.moments[-1].samples
    start = pilot.moments[0].samples
    late = [moment.noise for moment in pilot.moments if moment.samples - start >= 0.5 * (end - start)]
    return pooled(late)


def _rows_told(table: RowsChoice, drawn: int) -> tuple[dict[str, Any], ...]:
    return tuple(
        {
            "rows_per_cluster": rows,
            "relative_time": cost,
            "best": rows == table.rows_per_cluster,
            "drawn": rows == drawn,
        }
        for rows, cost in zip(table.options, table.relative, strict=False)
    )


def _sharpness(subject: Subject, branches: Sequence[Branch]) -> tuple[dict[str, Any], ...]:
    batch = batch_of(*(jnp.asarray(part) for part in subject.held))
    found = []
    for branch in branches:
        state = branch.state
        told = sharpness(subject.task, state.variables, state.statistics, batch, jax.random.key(0))
        parts = {name: float(value) for name, value in told._asdict().items()}
        at = {"clusters": branch.clusters, "rows": branch.rows, "seconds": branch.seconds, "samples": branch.samples}
        found.append(at | parts)
    return tuple(found)


def _reason(wish: Wish, ladder: Ladder, choice: Choice, noise: NoiseScale, place: int, proof: Proof | None) -> str:
    """The recommendation in words."""
    rungs = ladder.rungs
    rung, seconds = rungs[place], choice.predicted_s
    step = _duration(rung.step_s_median)
    told = [f"Batches of {_size(rung)}: the gradient noise scale is {noise.words()}, and a step takes {step}."]
    others = []
    last = _last_timed(rungs)
    for name, other in (("largest that was timed", last), ("smallest", 0)):
        if other != place and rungs[other].fits and (last or name == "smallest"):
            others.append(
                f"the {name} ({_size(rungs[other])}) would take {seconds[other] / seconds[place]:.2g} times as long"
            )
    if others:
        told.append(f"To get as far, {' and '.join(others)}.")
    if wish.objective == "samples":
        told.append("Chosen to spare data: the fastest that needs at most a tenth more samples than can be.")
    elif wish.objective == "memory":
        told.append("Chosen to spare memory: the least that takes at most a quarter longer than the fastest.")
    if proof is not None:
        told.append(_proof_words(rungs, choice, place, proof))
    return " ".join(told)


def _proof_words(rungs: Sequence[Timed], choice: Choice, place: int, proof: Proof) -> str:
    sizes = ", ".join(f"{branch.clusters:,}" for branch in proof.branches)
    if proof.confirmed:
        return f"Branches of {sizes} clusters from one state, in the same seconds, did not get clearly further."
    before = rungs[choice.place].clusters
    return (
        f"Predicted were {before:,} clusters, but of branches of {sizes} clusters from one state, in the same seconds, "
        f"that of {rungs[place].clusters:,} got clearly further every time."
    )


def _last_timed(rungs: Sequence[Timed]) -> int:
    return max(at for at, rung in enumerate(rungs) if rung.measured)


def _size(rung: Timed) -> str:
    plural = "" if rung.clusters == 1 else "s"
    return f"{rung.clusters:,} cluster{plural}" + (f" ({rung.rows:,} rows)" if rung.rows != rung.clusters else "")


def _duration(seconds: float) -> str:
    """In the unit that suits.

    >>> _duration(2.5e-4), _duration(0.012), _duration(3.0)
    ('250 us', '12 ms', '3 s')
    """
    for unit, name in ((1.0, "s"), (1e-3, "ms"), (1e-6, "us")):
        if seconds >= unit:
            return f"{seconds / unit:.3g} {name}"
    return f"{seconds / 1e-6:.3g} us"
