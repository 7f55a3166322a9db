"""When a run changes its batch size: by the noise measured on the way, with hysteresis, up and down, and with reasons.

A pure function of what it is shown. The noise scale is remembered as an exponential mean that is divided last; the best
rung for it is that of `size_choice.choose`. A run moves only where that pays by some percent at two probes running, so
that an estimate's noise does not make the size flap. Where losses leave their band, the guard had to act, or the noise
is clearly another one than before at two probes running, the memory is dropped and the size follows at once.

>>> ladder = [Timed(size, size, 1e-4 + 1e-6 * size, 0.0, 0) for size in (16, 64, 256, 1024)]
>>> policy = SizePolicy(ladder, Work(samples=1_000_000, reference=64))
>>> policy.init(64).due, policy.init(64).clusters
(10000, 64)
"""

import math
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from volgrad.learning.batching.noise_intervals import Evidence
from volgrad.learning.batching.noise_scale import NoiseScale, pooled
from volgrad.learning.batching.size_choice import Bounds, Choice, Objective, Timed, Work, choose

__all__ = ["Observation", "PolicyRule", "SizePolicy", "SizeState", "steering"]

_PERCENT = (1, 2, 4, *range(8, 100, 5))  # of the run: where probes lie (assumption)
_ALIKE = 0.05  # two noise scales that are told as one
_FREE = 0.5  # of what probes may cost that may be spent at once; the rest becomes free as the run goes on (assumption)


class PolicyRule(NamedTuple):
    """When a size is changed. The defaults are assumptions, but for what is said of them.

    gain: share of the predicted cost that a move must save.
    running: probes in a row that must ask for it. Both together: .1 turns of direction in a run at a constant noise
        scale of 300 clusters, estimated from 24 units each time; 1.4 without them [measured, 12 seeds].
    rungs: that a size moves at a time at most.
    half_life: probes in which the mean forgets half. Time lost over constant, growing, falling and jumping noise
        scales, each value off by e^.8: 4.4 % for 1 probe, 5.3 % for 2, 6.1 % for 4 [measured, 8 seeds each].
    jump: factor between two noise scales whose intervals do not meet that counts as a change of regime, at two probes
        running. With one probe alone the 4.4 % above were 5.5 %, and two resets a run had no cause [measured].
    window: losses of segments that make the band.
    width: of the band above the median, in standard deviations (from the median absolute deviation).
    rise: share of the usual loss that a departure from the band reaches too.
    share: of the run's time that probes may take.
    """

    gain: float = 0.03
    running: int = 2
    rungs: int = 2
    half_life: float = 1.0
    jump: float = 4.0
    window: int = 20
    width: float = 6.0
    rise: float = 0.25
    share: float = 0.01


class Observation(NamedTuple):
    """What a segment of a run showed.

    samples: clusters seen at its end.
    loss: mean over it; NaN where no step was taken.
    acted: what the guard did, in words; empty where it did nothing.
    noise: measured at its end; None where it was not, or could not be.
    probed: whether it was tried to measure it.
    lost: clusters a batch for which memory did not suffice; None where it did.
    """

    samples: int
    loss: float = math.nan
    acted: str = ""
    noise: NoiseScale | None = None
    probed: bool = False
    lost: int | None = None


class SizeState(NamedTuple):
    """What the policy remembers: plain numbers, so that a checkpoint may hold them.

    clusters: a batch, from now on.
    due: samples seen at which the noise is to be measured next.
    mean: of the noise so far, its recent part above all; None before the first.
    odd: a noise scale clearly apart from the mean, held back until the next one tells; None where there is none.
    basis: the noise scale by which the present size was settled on, in clusters; None before it was measured.
    streak: probes in a row that asked for larger batches; for smaller ones below 0.
    levels: losses of the last segments in batches of this size, oldest first.
    first: the first loss of all, the scale where losses come near zero; None before it.
    alarm: why the memory is to be dropped, in words; empty where it is not.
    most: clusters a batch beyond which memory did not suffice; None where it did.
    spent_s: seconds that probes took, by the ladder.
    reason: of the last change or reset, in words; empty where this update made none.
    """

    clusters: int
    due: int
    mean: NoiseScale | None = None
    odd: NoiseScale | None = None
    basis: float | None = None
    streak: int = 0
    levels: tuple[float, ...] = ()
    first: float | None = None
    alarm: str = ""
    most: int | None = None
    spent_s: float = 0.0
    reason: str = ""

    def as_dict(self) -> dict[str, Any]:
        """For JSON."""
        noises = {name: _noise_dict(getattr(self, name)) for name in ("mean", "odd")}
        return self._asdict() | noises | {"levels": list(self.levels)}

    @classmethod
    def from_dict(cls, stored: Mapping[str, Any]) -> "SizeState":
        """From what `as_dict` gave."""
        fields = dict(stored)
        noises = {name: _noise_of(fields.pop(name)) for name in ("mean", "odd")}
        return cls(levels=tuple(fields.pop("levels")), **noises, **fields)


class SizePolicy:
    """Moves a run's batch size along a measured ladder.

    Attributes:
        ladder: sizes with their seconds a step, ascending.
        work: how long the run is.
        probe_s: seconds that measuring the noise takes.

    Args:
        ladder: as measured.
        work: how long the run is, in samples.
        objective: what a size is chosen for.
        bounds: sizes that are allowed.
        probe_s: seconds that measuring the noise takes; probes are left out where they would take too much of the run.
        change_s: seconds that a change costs (compiling): it must save more than that in the rest of the run.
        rule: when a size is changed.
    """

    def __init__(
        self,
        ladder: Sequence[Timed],
        work: Work,
        objective: Objective = "time",
        bounds: Bounds = Bounds(),  # noqa: B008 - a tuple
        *,
        probe_s: float = 0.0,
        change_s: float = 0.0,
        rule: PolicyRule = PolicyRule(),  # noqa: B008 - a tuple
    ) -> None:
        self.ladder, self.work, self.probe_s = tuple(ladder), work, probe_s
        self._objective: Objective = objective
        self._bounds, self._change_s, self._rule = bounds, change_s, rule

    def init(self, clusters: int, noise: NoiseScale | None = None) -> SizeState:
        """At the start of a run in batches of `clusters`, one of the ladder, with the noise measured before it."""
        return SizeState(clusters, self._after(0), noise, basis=None if noise is None else steering(noise))

    def due(self, state: SizeState, samples: int) -> bool:
        """Whether the noise is to be measured now, and may be: probes take a hundredth of the run's time at most."""
        if not state.due <= samples < self.work.samples:
            return False
        free = _FREE + (1.0 - _FREE) * samples / self.work.samples
        return state.spent_s + self.probe_s <= self._rule.share * free * self.seconds(state.clusters)

    def seconds(self, clusters: int) -> float:
        """Of the whole run in batches of this size, without probes."""
        return self.work.samples / clusters * self.ladder[self._place(clusters)].step_s_median

    def probes(self, clusters: int) -> int:
        """How many there are in a run in batches of this size at most: by their positions, and by their cost."""
        positions, at = 0, self._after(0)
        while at < self.work.samples:
            positions, at = positions + 1, self._after(at)
        if not self.probe_s:
            return positions
        return min(positions, int(self._rule.share * self.seconds(clusters) / self.probe_s))

    def update(self, state: SizeState, seen: Observation) -> SizeState:
        """The state after a segment. Its `reason` says what was changed, and is empty where nothing was."""
        state = state._replace(reason="")
        if seen.lost is not None:
            return self._lost(state, seen)
        state = self._watched(state, seen)
        if seen.probed or seen.noise is not None:
            state = state._replace(due=self._after(seen.samples), spent_s=state.spent_s + self.probe_s)
        return state if seen.noise is None else self._measured(state, seen.samples, seen.noise)

    def explain(self, state: SizeState) -> str:
        """Where the size stands, and what every other would cost.

        >>> ladder = [Timed(size, size, 1e-4 + 1e-6 * size, 0.0, 0) for size in (64, 256)]
        >>> policy = SizePolicy(ladder, Work(samples=1_000_000, reference=64))
        >>> print(policy.explain(policy.init(64)))
        batches of 64 clusters; the noise was not measured yet
        """
        here = f"batches of {state.clusters:,} cluster{'' if state.clusters == 1 else 's'}"
        if state.mean is None:
            return f"{here}; the noise was not measured yet"
        choice = self._choice(state, steering(state.mean))
        cost = choice.predicted_s[self._place(state.clusters)]
        others = [
            f"{rung.clusters:,}: {_percent(seconds / cost - 1.0)}"
            for rung, seconds in zip(self.ladder, choice.predicted_s, strict=True)
            if rung.clusters != state.clusters and math.isfinite(seconds)
        ]
        told = f"{here}; the gradient noise scale is {_told(state.mean)} clusters"
        return f"{told}; time to the same progress in others: {', '.join(others)}" if others else told

    # ------------------------------------------------------------------------------------------------------- watching

    def _watched(self, state: SizeState, seen: Observation) -> SizeState:
        """The state with the segment's loss in the band, or an alarm where it left it."""
        if seen.acted:
            return state._replace(alarm=seen.acted, levels=(), due=seen.samples)
        if not math.isfinite(seen.loss):
            return state
        first = seen.loss if state.first is None else state.first
        if len(state.levels) >= self._rule.window // 2:
            levels = np.asarray(state.levels)
            usual = float(np.median(levels))
            spread = 1.4826 * float(np.median(np.abs(levels - usual)))
            scale = max(abs(usual), 1e-3 * abs(first))
            if seen.loss - usual > max(self._rule.width * spread, self._rule.rise * scale):
                alarm = f"the loss rose from {usual:.4g} to {seen.loss:.4g}"
                return state._replace(alarm=alarm, levels=(seen.loss,), first=first, due=seen.samples)
        return state._replace(levels=(*state.levels, seen.loss)[-self._rule.window :], first=first)

    def _measured(self, state: SizeState, samples: int, noise: NoiseScale) -> SizeState:
        """The state with a noise scale taken in, and the size that follows from it."""
        dropped, mean, odd = state.alarm, noise, None
        if state.mean is not None and not dropped:
            dropped, mean, odd = self._taken_in(state.mean, state.odd, noise)
        state = state._replace(mean=mean, odd=odd, alarm="")
        here = self._place(state.clusters)
        there = self._wanted(state, here, at_once=bool(dropped))
        left = max(0.0, 1.0 - samples / self.work.samples) * self.seconds(state.clusters)
        choice = self._choice(state, steering(mean))
        gain = self._gain(choice, here, there)
        pays = there != here and gain >= self._rule.gain and gain * left > self._change_s
        if not pays:
            told = f"{dropped}: the noise scale is measured anew, {_told(mean)} clusters" if dropped else ""
            basis = steering(mean) if dropped or state.basis is None else state.basis
            return state._replace(streak=0, reason=told, basis=basis)
        side = 1 if there > here else -1
        streak = state.streak + side if state.streak * side >= 0 else side
        if not dropped and abs(streak) < self._rule.running:
            return state._replace(streak=streak)
        why = f"noise scale {_from_to(state.basis, mean)} clusters"
        return self._moved(state, here, there, f"{dropped}; {why}" if dropped else why, gain)

    def _moved(self, state: SizeState, here: int, there: int, why: str, gain: float) -> SizeState:
        old, new = self.ladder[here].clusters, self.ladder[there].clusters
        what = {"time": "sooner", "samples": "cheaper", "memory": "cheaper"}[self._objective]
        told = f"{why}: batches of {old:,} -> {new:,} clusters reach the same {100.0 * gain:.0f} % {what}"
        assert state.mean is not None
        return state._replace(clusters=new, streak=0, levels=(), reason=told, basis=steering(state.mean))

    def _lost(self, state: SizeState, seen: Observation) -> SizeState:
        """The state after memory did not suffice: the rung below it, where there is one."""
        assert seen.lost is not None
        allowed = [rung.clusters for rung in self.ladder if rung.fits and self._bounds.hold(rung.clusters)]
        below = [size for size in allowed if size < seen.lost]
        clusters = below[-1] if below else seen.lost
        told = f"memory does not suffice for batches of {seen.lost:,} clusters: back to {clusters:,}, and no larger"
        return state._replace(clusters=clusters, most=clusters, streak=0, levels=(), reason=told)

    # ------------------------------------------------------------------------------------------------------- deciding

    def _wanted(self, state: SizeState, here: int, *, at_once: bool) -> int:
        """The rung that the noise asks for, as far as it may be gone to in one move."""
        mean = state.mean
        assert mean is not None
        if not mean.significant:  # "at least so many": one rung up where even that asks for it, and never down
            best = self._choice(state, steering(mean)).place
            return here + 1 if best > here else here
        best = self._choice(state, steering(mean)).place
        if at_once:
            return best
        return here + max(-self._rule.rungs, min(self._rule.rungs, best - here))

    def _choice(self, state: SizeState, noise: float) -> Choice:
        held = self._bounds
        most = min((size for size in (held.most, state.most) if size is not None), default=None)
        return choose(self.ladder, noise, self.work, self._objective, Bounds(min(held.least, most or held.least), most))

    def _gain(self, choice: Choice, here: int, there: int) -> float:
        """Share of the cost that a move saves: of time, or of what a smaller size is to spare."""
        costs: Sequence[float] = choice.predicted_s
        if there < here and self._objective == "samples":
            costs = choice.samples
        elif there < here and self._objective == "memory":
            costs = [float(rung.bytes) for rung in self.ladder]
        return 1.0 - costs[there] / costs[here] if costs[here] > 0.0 else 0.0

    def _taken_in(
        self, mean: NoiseScale, odd: NoiseScale | None, noise: NoiseScale
    ) -> tuple[str, NoiseScale, NoiseScale | None]:
        """Why the memory is dropped, in words; the mean from now on; and a value that is held back for being odd.

        The squared gradient of a single state is itself a matter of luck, by a factor of 3 and more either way late in
        a run [measured on a small network under Adam]: two odd values running, not one, are another regime.
        """
        side = self._apart(mean, noise)
        if not side:
            return "", self._mixed(mean if odd is None else self._mixed(mean, odd), noise), None
        if odd is None:
            return "", mean, noise
        if self._apart(mean, odd) != side:
            return "", self._mixed(mean, odd), noise
        both = self._mixed(odd, noise)
        factor = both.clusters / mean.clusters
        told = f"the gradient's signal {'fell' if side > 0 else 'rose'} {max(factor, 1.0 / factor):.1f}-fold"
        return told, both, None

    def _mixed(self, mean: NoiseScale, noise: NoiseScale) -> NoiseScale:
        """The exponential mean with a new value, both on the scale of their own trace.

        Adam's preconditioner and the fall of gradients change the scale of both parts between probes, and their ratio
        alone can be compared. The trace is known well; the squared gradient is not, and is averaged before it divides.
        """
        share = 1.0 - 0.5 ** (1.0 / self._rule.half_life)
        if not (mean.trace > 0.0 and noise.trace > 0.0):
            return noise
        mixed = pooled([mean, noise], [(1.0 - share) / mean.trace, share / noise.trace])
        return mixed._replace(units=noise.units)

    def _apart(self, mean: NoiseScale, noise: NoiseScale) -> int:
        """1 where the noise is clearly larger than before, -1 where it is clearly smaller, else 0."""
        if not (mean.significant and noise.significant and mean.clusters > 0.0 and noise.clusters > 0.0):
            return 0
        if noise.lo > mean.hi and noise.clusters >= self._rule.jump * mean.clusters:
            return 1
        return -1 if noise.hi < mean.lo and noise.clusters <= mean.clusters / self._rule.jump else 0

    def _after(self, samples: int) -> int:
        """Position of the first probe after `samples`: 1, 2, 4, 8 % of the run, and then every 5 %."""
        total = self.work.samples
        return next((at for percent in _PERCENT if (at := -(-percent * total // 100)) > samples), total)

    def _place(self, clusters: int) -> int:
        return next(place for place, rung in enumerate(self.ladder) if rung.clusters == clusters)


def steering(noise: NoiseScale) -> float:
    """The noise scale to go by, in clusters: what is known for sure where the signal is not significant; 1 at worst."""
    if noise.significant and math.isfinite(noise.clusters):
        return max(noise.clusters, 0.0)
    return noise.lo if math.isfinite(noise.lo) and noise.lo > 0.0 else 1.0


def _noise_dict(noise: NoiseScale | None) -> dict[str, Any] | None:
    if noise is None:
        return None
    known = {name: list(part) if isinstance(part, tuple) else part for name, part in noise.evidence._asdict().items()}
    plain = {name: value.item() if hasattr(value, "item") else value for name, value in noise._asdict().items()}
    return plain | {"evidence": known}


def _noise_of(stored: Mapping[str, Any] | None) -> NoiseScale | None:
    if stored is None:
        return None
    fields = dict(stored)
    known: Any = fields.pop("evidence")
    parts: dict[str, Any] = {name: tuple(part) if isinstance(part, list) else part for name, part in known.items()}
    return NoiseScale(**fields, evidence=Evidence(**parts))


def _told(noise: NoiseScale) -> str:
    return f"{_count(noise.clusters)}" if noise.significant else f"at least {_count(noise.lo)}"


def _from_to(before: float | None, after: NoiseScale) -> str:
    if not before or abs(steering(after) / before - 1.0) < _ALIKE:
        return f"is {_told(after)}"
    return f"{'rose' if steering(after) > before else 'fell'} from {_count(before)} to {_told(after)}"


def _count(clusters: float) -> str:
    return f"{clusters:,.0f}" if clusters >= 10.0 else f"{clusters:.2g}"


def _percent(share: float) -> str:
    return f"{100.0 * share:+.0f} %"
