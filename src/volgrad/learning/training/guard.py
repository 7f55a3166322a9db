"""The judge of a run: fine, to be rolled back, stalled, or hopeless. A pure function of the losses it is shown.

It never acts. Whoever runs the steps rolls back, shrinks the step and tells, as the verdict says.
"""

import enum
import math
from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Bool, Float

__all__ = ["Action", "Guard", "GuardRule", "Verdict"]

_LARGEST = 1e300  # of losses, so that sums of them are finite


class Action(enum.StrEnum):
    """What is to be done after a dispatch."""

    GO_ON = "go-on"
    ROLL_BACK = "roll-back"
    REMEDY = "remedy"
    GIVE_UP = "give-up"


class GuardRule(NamedTuple):
    """When the guard steps in. The defaults are assumptions, but for what is said of them.

    window: dispatches whose levels make the band.
    width: of the band above the median, in standard deviations (from the median absolute deviation).
    multiple: of the usual loss that a runaway reaches too; both must be passed, twice running.
    certain: multiple of the usual loss that needs no second look.
    drift: multiple of the best loss that the band itself may not reach, however slowly; at least `multiple`.
    refused: steps not taken, in a row or in a dispatch of which they are a tenth, for a roll-back; fewer are skipped.
    patience: steps without progress that count as a stall; None: stalls are not looked for.
    tolerance: share of the loss that counts as progress.
    factor: on the step at each roll-back and at each remedy.
    rollbacks: before the guard gives up.
    remedies: for stalls before the guard gives up.
    """

    window: int = 50
    width: float = 8.0
    multiple: float = 3.0
    certain: float = 100.0
    drift: float = 10.0
    refused: int = 3
    patience: int | None = None
    tolerance: float = 1e-3
    factor: float = 1.0 / 3.0
    rollbacks: int = 5
    remedies: int = 3


_USUAL_RULE = GuardRule()


class Verdict(NamedTuple):
    """What the guard says of a dispatch.

    action: what is to be done.
    factor: on the optimiser's step; 1 where nothing is to be done.
    message: in words, for the log; empty where nothing is to be done.
    guard: its state from now on. On a roll-back it is *not* rolled back: it counts.
    """

    action: Action
    factor: float
    message: str
    guard: "Guard"


class Guard(NamedTuple):
    """What the guard remembers: plain numbers, so that a checkpoint may hold them.

    levels: median losses of the last good dispatches, oldest first.
    first: the first of all, the scale where losses come near zero; NaN is not in it, None is.
    best: least median over half a window.
    quiet: steps since `best` fell.
    high: dispatches in a row above the band.
    refused: steps in a row that were not taken.
    rollbacks, remedies: how many so far.
    noise: standard deviation of the last good dispatch's level, by the losses in it.
    """

    levels: tuple[float, ...] = ()
    first: float | None = None
    best: float | None = None
    quiet: int = 0
    high: int = 0
    refused: int = 0
    rollbacks: int = 0
    remedies: int = 0
    noise: float = 0.0

    def as_dict(self) -> dict[str, Any]:
        """For JSON."""
        return self._asdict() | {"levels": list(self.levels)}

    @classmethod
    def from_dict(cls, stored: Mapping[str, Any]) -> "Guard":
        """From what `as_dict` gave.

        >>> Guard.from_dict(Guard((1.0, 2.0), 1.0).as_dict())
        Guard(levels=(1.0, 2.0), first=1.0, best=None, quiet=0, high=0, refused=0, rollbacks=0, remedies=0,
              noise=0.0)
        """
        fields = dict(stored)
        return cls(tuple(fields.pop("levels")), **fields)

    def judge(
        self, losses: Float[np.ndarray, " steps"], accepted: Bool[np.ndarray, " steps"], rule: GuardRule = _USUAL_RULE
    ) -> Verdict:
        """Judge a dispatch by the losses of its steps, and by which of them were taken.

        >>> rule, usual = GuardRule(), Guard(levels=(1.0, 1.1, 0.9, 1.0), first=2.0)
        >>> usual.judge(np.array([1.2, 0.8]), np.array([True, True]), rule).action
        <Action.GO_ON: 'go-on'>
        >>> print(usual.judge(np.array([500.0]), np.array([True]), rule).message)
        loss 500 ran away (usual: 1): back to the last good state, step times 0.333 (roll-back 1 of 5)
        """
        losses, accepted = np.asarray(losses, float), np.asarray(accepted, bool)
        taken = accepted & np.isfinite(losses)
        good = np.clip(losses[taken], -_LARGEST, _LARGEST)
        missed = self.refused + taken.size if not taken.any() else int(np.argmax(taken[::-1]))
        after = self._replace(refused=missed)
        refused = int(taken.size - good.size)
        if (longest := _longest(taken, self.refused)) >= rule.refused or refused >= max(rule.refused, 0.1 * taken.size):
            what = f"{refused} of {taken.size} losses or gradients were not finite, {longest} in a row"
            return after._back(rule, what)
        if not good.size:
            return Verdict(Action.GO_ON, 1.0, "", after)
        level = float(np.median(good))
        if self.levels:
            usual = float(np.median(self.levels))
            over = level - usual
            high = over > self._margin(rule.multiple, usual, rule)
            if over > self._margin(rule.certain, usual, rule) or (high and self.high):
                return after._back(rule, f"loss {level:.4g} ran away (usual: {usual:.4g})")
            if high:
                return Verdict(Action.GO_ON, 1.0, "", after._replace(high=1))
        # of a median of so many losses, were they normal: what levels differ by when there are few of them yet
        noise = 1.2533 * 1.4826 * float(np.median(np.abs(good - level))) / math.sqrt(good.size)
        return after._replace(high=0, noise=noise)._progress(level, taken.size, rule)

    def _margin(self, multiple: float, loss: float, rule: GuardRule) -> float:
        """How far above `loss` a level must lie to be no noise, and `multiple` of it too."""
        levels = np.asarray(self.levels)
        spread = max(1.4826 * float(np.median(np.abs(levels - np.median(levels)))), self.noise)
        return max(rule.width * spread, (multiple - 1.0) * self._scale(loss))

    def _drift(self, best: float, rule: GuardRule) -> float:
        """The same for the band itself, by the noise alone: that of differences, which a trend hardly moves."""
        steps = np.diff(self.levels)
        spread = 1.4826 * float(np.median(np.abs(steps - np.median(steps)))) / math.sqrt(2.0)
        return max(rule.width * spread, (max(rule.drift, rule.multiple) - 1.0) * self._scale(best))

    def _scale(self, loss: float) -> float:
        """What losses are compared with: they may be negative (a log-likelihood) or vanish (exact data)."""
        return max(abs(loss), 1e-3 * abs(self.first or 0.0), 1e-30)

    def _back(self, rule: GuardRule, what: str) -> Verdict:
        count = self.rollbacks + 1
        after = self._replace(high=0, refused=0, rollbacks=count)
        if count > rule.rollbacks:
            message = (
                f"{what}, after {rule.rollbacks} roll-backs: gave up; lower the learning rate, enlarge the batch, or "
                "look for extreme values in the data"
            )
            return Verdict(Action.GIVE_UP, 1.0, message, after)
        message = (
            f"{what}: back to the last good state, step times {rule.factor:.3g} (roll-back {count} of {rule.rollbacks})"
        )
        return Verdict(Action.ROLL_BACK, rule.factor, message, after)

    def _progress(self, level: float, steps: int, rule: GuardRule) -> Verdict:
        first = level if self.first is None else self.first
        after = self._replace(levels=(*self.levels, level)[-rule.window :], first=first)
        recent = float(np.median(after.levels[-max(1, rule.window // 2) :]))
        best = math.inf if self.best is None else self.best
        if len(self.levels) >= max(3, rule.window // 2) and recent - best > self._drift(best, rule):
            fresh = self._replace(levels=())  # the band went along: it is made anew
            return fresh._back(rule, f"loss {recent:.4g} drifted away (best: {best:.4g})")
        gained = self.best is None or recent < best - rule.tolerance * after._scale(best)
        after = after._replace(best=min(recent, best) if gained else best, quiet=0 if gained else self.quiet + steps)
        if rule.patience is None or after.quiet < rule.patience:
            return Verdict(Action.GO_ON, 1.0, "", after)
        count = after.remedies + 1
        what = f"loss {recent:.4g} has not fallen by {rule.tolerance:.1%} in {after.quiet:,} steps"
        after = after._replace(quiet=0, remedies=count)
        if count > rule.remedies:
            message = (
                f"{what}, after {rule.remedies} remedies: gave up; the variables are as good as this set-up makes them"
            )
            return Verdict(Action.GIVE_UP, 1.0, message, after)
        message = f"{what}: stalled, step times {rule.factor:.3g} (remedy {count} of {rule.remedies})"
        return Verdict(Action.REMEDY, rule.factor, message, after)


def _longest(taken: np.ndarray, before: int) -> int:
    """Most steps in a row that were not taken, those at the end of the dispatch before included."""
    if taken.all():
        return 0
    longest, run = 0, before
    for one in taken:
        run = 0 if one else run + 1
        longest = max(longest, run)
    return longest
