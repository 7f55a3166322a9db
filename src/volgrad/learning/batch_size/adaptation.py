"""The batch size of a run that finds it itself: chosen before the first step, and kept right while the run goes on.

What decides is data: the ladder as it was measured once, the noise of the run's own gradients, its losses. The clock is
read for telling only, so that a run which was killed and resumed changes its size where one that was not does.
"""

import contextlib
import time
from collections.abc import Mapping
from typing import Any, NamedTuple

import jax

from volgrad.learning.assemble import Optimizers
from volgrad.learning.batch_size.decision import Decision
from volgrad.learning.batch_size.noise_probe import NoiseProbe
from volgrad.learning.batch_size.subject import Subject
from volgrad.learning.batch_size.timing import Clock, out_of_memory
from volgrad.learning.batching.noise_scale import NoiseScale
from volgrad.learning.batching.size_choice import Timed, Work
from volgrad.learning.batching.size_policy import Observation, PolicyRule, SizePolicy, SizeState
from volgrad.learning.recipe_tables import BatchTable
from volgrad.learning.training.dispatch import Plan, Rung
from volgrad.learning.training.guard import Action
from volgrad.learning.training.trainer import Progress, Segment

__all__ = ["Adaptation", "Start", "affordable_rows", "probe_of", "samples_for", "time_probe"]


_WANTED = 12  # probes that a run should be able to afford: two thirds of those there would be (assumption)


class Start(NamedTuple):
    """What a run begins with, in plain numbers, so that a checkpoint may hold it.

    clusters: a batch at first.
    ladder: sizes as measured.
    probe_s: seconds that measuring the noise takes.
    probe_rows: that measuring it looks at, at most; None: as many as usual.
    change_s: seconds that compiling another size takes.
    spent_s: seconds that choosing took.
    alike: clusters as the run draws them that are worth one as the recipe does.
    """

    clusters: int
    ladder: tuple[Timed, ...]
    probe_s: float = 0.0
    probe_rows: int | None = None
    change_s: float = 0.0
    spent_s: float = 0.0
    alike: float = 1.0

    @classmethod
    def of(cls, decision: Decision, probe_s: float, probe_rows: int | None = None) -> "Start":
        """From a choice; what was compiled for it tells what compiling one more size takes."""
        return cls(
            decision.clusters,
            tuple(decision.ladder),
            float(probe_s),
            probe_rows,
            float(decision.compile_s / max(1, sum(rung.measured for rung in decision.ladder))),
            float(decision.probe_s),
            float(decision.alike),
        )

    def as_dict(self) -> dict[str, Any]:
        """For JSON."""
        kinds = (int, int, float, float, int, bool, bool)  # not numpy's
        ladder = [[kind(value) for kind, value in zip(kinds, rung, strict=True)] for rung in self.ladder]
        return self._asdict() | {"ladder": ladder}

    @classmethod
    def from_dict(cls, stored: Mapping[str, Any]) -> "Start":
        """From what `as_dict` gave."""
        fields = dict(stored)
        return cls(ladder=tuple(Timed(*rung) for rung in fields.pop("ladder")), **fields)


class Adaptation:
    """Watches a run, measures its noise now and then, and changes the plan's batch size.

    Args:
        start: what the run began with.
        subject: the run at any state of it.
        probe: of its noise.
        of: the optimisers of the run, whose learning rate is told.
        table: what the user wants.
        budget: samples of the run.
        plan: that is changed.

    Attributes:
        plan: of the run.
        state: the policy's.
        changes: so far: samples, size before and after, and the reason.
        compile_s, probe_s: seconds of compiling the probe and of probing, on the clock, for telling.
    """

    def __init__(
        self,
        start: Start,
        subject: Subject,
        probe: NoiseProbe,
        of: Optimizers,
        table: BatchTable,
        budget: int,
        plan: Plan,
    ) -> None:
        self.plan = plan
        self._start, self._subject, self._of = start, subject, of
        self._probe = probe
        work = Work(budget, subject.work.reference)
        self.policy = SizePolicy(
            start.ladder,
            work,
            table.objective or "time",
            table.bounds,
            probe_s=start.probe_s,
            change_s=start.change_s,
        )
        self.state = SizeState(0, 0)
        self.changes: list[dict[str, Any]] = []
        self.compile_s = self.probe_s = 0.0

    def begin(self, noise: NoiseScale) -> None:
        """Take the first size, and the noise that it was chosen by."""
        self.state = self.policy.init(self._start.clusters, noise)

    def resume(self, stored: Mapping[str, Any]) -> None:
        """Go on from what `host` gave."""
        self.state = SizeState.from_dict(stored["policy"])
        self.plan.rungs = [Rung(*rung) for rung in stored["rungs"]]
        self.changes, self.probe_s = list(stored["changes"]), float(stored["probe_s"])

    def host(self) -> dict[str, Any]:
        """What a checkpoint holds."""
        return {
            "start": self._start.as_dict(),
            "policy": self.state.as_dict(),
            "rungs": [list(rung) for rung in self.plan.rungs],
            "changes": self.changes,
            "probe_s": self.probe_s,
        }

    def told(self) -> dict[str, Any]:
        """For `final.json`."""
        return {
            "first": self._start.clusters,
            "last": self.plan.rungs[-1].clusters,
            "changes": self.changes,
            "probe_s": self._start.spent_s + self.probe_s,
            "in_words": self.policy.explain(self.state),
        }

    def notes(self) -> list[str]:
        """Sentences on what is out of the ordinary, before the first step."""
        if self.policy.probes(self._start.clusters):
            return []
        run_s, probe_s = self.policy.seconds(self._start.clusters), self.policy.probe_s
        told = f"the batch size stays as it was chosen: to measure the noise again takes {probe_s:.2g} s"
        return [f"{told}, more than a hundredth of this run of {run_s:.2g} s"]

    def after(self, progress: Progress, segment: Segment) -> tuple[str, NoiseScale | None]:
        """Take in a segment: what was changed and why, in words (else nothing), and the noise where it was measured."""
        position = int(progress.state.samples)
        acted = segment.message if segment.action is Action.ROLL_BACK else ""
        self.state = self.policy.update(self.state, Observation(position, segment.loss, acted))
        if segment.action is Action.GIVE_UP or not self.policy.due(self.state, position):
            return "", None
        noise = self._measured(progress, position)
        self.state = self.policy.update(self.state, Observation(position, noise=noise, probed=True))
        if noise is None:
            return "", None
        return self._changed(position), noise

    def without(self, position: int) -> str:
        """Go on in smaller batches, as memory did not suffice: in words; empty where there are none."""
        lost = self.plan.rung(position).clusters
        self.state = self.policy.update(self.state, Observation(position, lost=lost))
        return self._changed(position) if self.state.clusters < lost else ""

    def _measured(self, progress: Progress, position: int) -> NoiseScale | None:
        """The noise at a state; None where a gradient is not finite, or memory does not suffice for the probe."""
        subject = self._subject.at(progress.state)
        before = compiled = time.perf_counter()
        try:
            self._probe.compile(subject)
            compiled = time.perf_counter()
            self.compile_s += compiled - before
            return self._probe.at(subject, position)
        except ValueError:
            return None
        except (jax.errors.JaxRuntimeError, MemoryError) as error:
            if not out_of_memory(error):
                raise
            return None
        finally:
            self.probe_s += time.perf_counter() - compiled

    def _changed(self, position: int) -> str:
        """Bring the plan into line with the policy, and say what changed."""
        old, clusters, why = self.plan.rung(position), self.state.clusters, self.state.reason
        if clusters == old.clusters:
            self.plan.change(old)  # a change that lay ahead, before the run was rolled back, is none any more
            return why
        mean = self.state.mean
        cap = mean.clusters if mean is not None and mean.significant and mean.clusters > 0.0 else None
        self.plan.change(Rung(position, clusters, cap))
        rate = float(
            self._of(clusters, cap).hyper.learning_rate / self._of(old.clusters, old.noise).hyper.learning_rate
        )
        told = f"{why or f'batches of {old.clusters:,} -> {clusters:,} clusters'}; learning rate x{rate:.3g}"
        self.changes.append({"samples": position, "from": old.clusters, "to": clusters, "reason": told})
        return told


def time_probe(probe: NoiseProbe, subject: Subject, clock: Clock = time.perf_counter) -> float:
    """Seconds that measuring the noise takes, compiling apart: the shorter of two."""
    probe.compile(subject)
    taken = []
    for _ in range(2):
        before = clock()
        with contextlib.suppress(ValueError):  # a gradient that is not finite costs as much as any other
            probe.at(subject, int(subject.state.samples))
        taken.append(clock() - before)
    return min(taken)


def probe_of(subject: Subject, rows: int | None = None) -> NoiseProbe:
    """The probe of a run's noise; it looks at so many rows at most."""
    stream = not subject.loader.order.shuffle
    return NoiseProbe(subject, stream=stream) if rows is None else NoiseProbe(subject, stream=stream, most_rows=rows)


def affordable_rows(probe: NoiseProbe, subject: Subject, probe_s: float, run_s: float) -> int | None:
    """Rows that a probe may look at, so that a run of so many seconds can afford some; None: as many as it does.

    Many small probes tell more than few large ones: the squared gradient of one state is a matter of luck however well
    it is measured.
    """
    share = PolicyRule().share * run_s / (_WANTED * probe_s) if probe_s else 1.0
    return None if share >= 1.0 else int(share * probe.clusters * subject.loader.mean_drawn)


def samples_for(seconds: float, start: Start) -> int:
    """Samples that a run sees in so many seconds, less those that choosing took and that probes will take.

    One batch at least, however long the choosing took.
    """
    step_s = next(rung.step_s_median for rung in start.ladder if rung.clusters == start.clusters)
    left = max(seconds - start.spent_s, 0.0)
    whole = Work(max(1, int(left / step_s)) * start.clusters, start.clusters)
    policy = SizePolicy(start.ladder, whole, probe_s=start.probe_s)
    left -= policy.probes(start.clusters) * start.probe_s
    return max(1, int(left / step_s)) * start.clusters
