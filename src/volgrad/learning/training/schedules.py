"""Learning-rate schedules clocked in samples: the same curve whatever the batch size, and however often it changes.

The shapes are optax's, fed with samples in place of steps.
"""

from typing import Any, NamedTuple

import equinox as eqx
import jax.numpy as jnp
import optax
from jaxtyping import Array, Float, Float32, Int

from volgrad.errors import InputError, UnknownOptionError

__all__ = ["NAMES", "Plateau", "PlateauRule", "Schedule", "schedule"]


class Schedule(eqx.Module):
    """A multiplier of the learning rate as a function of the samples seen. Make one with `schedule`.

    Attributes:
        name: one of `NAMES`.
        samples: length of the whole curve; it stays at its end afterwards. 0 where the curve has no end.
        warm_up: samples of the linear rise from `start` to 1 (one-cycle: of its cosine rise).
        decay: samples of the fall at the end (warm-up-stable-decay only).
        start: multiplier at the first sample.
        end: multiplier at the end.
        momentum_low: momentum where the rate is highest (one-cycle only).
        momentum_high: momentum where the rate is lowest (one-cycle only).
    """

    name: str = eqx.field(default="constant", static=True)
    samples: int = eqx.field(default=0, static=True)
    warm_up: int = eqx.field(default=0, static=True)
    decay: int = eqx.field(default=0, static=True)
    start: float = eqx.field(default=1.0, static=True)
    end: float = eqx.field(default=1.0, static=True)
    momentum_low: float = eqx.field(default=0.85, static=True)
    momentum_high: float = eqx.field(default=0.95, static=True)

    def __call__(self, samples: Int[Array, ""]) -> Float32[Array, ""]:
        """The multiplier after `samples`; in [0, 1]."""
        # float32 counts to 2**24: beyond, a clock of 1e9 samples is read to 64, which no curve notices
        found = _shape(self)(jnp.asarray(samples).astype(jnp.float32))
        return jnp.asarray(found).astype(jnp.float32)

    def momentum(self, samples: Int[Array, ""], base: Float[Array, ""]) -> Float[Array, ""]:
        """The momentum (or first moment's decay) after `samples`: `base`, but for one-cycle.

        There it falls while the rate rises and rises while it falls (Smith 2018, arXiv 1803.09820) [paper].
        """
        if self.name != "one-cycle":
            return base
        height = jnp.clip((self(samples) - self.start) / (1.0 - self.start), 0.0, 1.0).astype(base.dtype)
        return self.momentum_high - (self.momentum_high - self.momentum_low) * height

    def describe(self) -> str:
        """One sentence for a report.

        >>> schedule("warm-up-cosine", samples=1_000_000).describe()
        'rises to its top over 20,000 samples, then falls as a cosine to 0 of it at 1,000,000'
        """
        return _DESCRIBE[self.name].format(
            **{f: getattr(self, f) for f in self.__dataclass_fields__}, stable=self.samples - self.decay
        )


_RISE = "rises to its top over {warm_up:,} samples"
_DESCRIBE = {
    "constant": "stays at its top",
    "warm-up-cosine": _RISE + ", then falls as a cosine to {end:g} of it at {samples:,}",
    "one-cycle": _RISE + " and falls to {end:g} of it at {samples:,}; momentum mirrors it, {momentum_high:g} to "
    "{momentum_low:g}",
    "warm-up-stable-decay": _RISE + ", stays there until {stable:,}, then falls in a line to {end:g} of it at "
    "{samples:,}",
    "plateau": _RISE + ", then is cut whenever the validation loss stops falling",
    "schedule-free": _RISE + " and stays there; averaging takes the place of a decay",
}
#: Schedules by name.
NAMES = tuple(_DESCRIBE)
_NEEDS_END = {"warm-up-cosine", "one-cycle", "warm-up-stable-decay"}
_KEYS = {
    "constant": set(),
    "warm-up-cosine": {"warm_up", "start", "end"},
    "one-cycle": {"warm_up", "start", "end", "momentum_low", "momentum_high"},
    "warm-up-stable-decay": {"warm_up", "decay", "start", "end"},
    "plateau": {"warm_up", "start"},
    "schedule-free": {"warm_up", "start"},
}
# Shares of the whole curve: one-cycle's are optax's and Smith's [paper]; the others' are assumptions
_WARM_UP = {"one-cycle": 0.3, "constant": 0.0}
_START = {"one-cycle": 1.0 / 25.0, "constant": 1.0}
_END = {"one-cycle": 4e-6, "constant": 1.0, "plateau": 1.0, "schedule-free": 1.0}


def schedule(name: str, samples: int = 0, **options: Any) -> Schedule:
    """The schedule `name` over `samples`; `options` are the attributes of `Schedule` that it has.

    `warm_up` and `decay` below 1 are shares of `samples`, otherwise samples.

    Raises:
        UnknownOptionError: no such schedule, or it has no such option.
        InputError: a length that is missing, negative or too long; a multiplier outside [0, 1].

    >>> curve = schedule("warm-up-stable-decay", 1000, warm_up=100, decay=0.2)
    >>> [round(float(curve(samples)), 3) for samples in (0, 50, 100, 800, 900, 1000, 5000)]
    [0.0, 0.5, 1.0, 1.0, 0.5, 0.0, 0.0]
    """
    if name not in _DESCRIBE:
        raise UnknownOptionError.of("schedule", name, NAMES)
    for key in options:
        if key not in _KEYS[name]:
            raise UnknownOptionError.of(f"key of schedule '{name}'", key, {*_KEYS[name], "samples"})
    if samples < 0 or (name in _NEEDS_END and samples < 2):
        raise InputError(f"schedule '{name}' over {samples} samples: it needs a length of at least 2 samples")
    warm_up = _samples(name, "warm_up", options.pop("warm_up", _WARM_UP.get(name, 0.02)), samples)
    decay = _samples(name, "decay", options.pop("decay", 0.2), samples) if name == "warm-up-stable-decay" else 0
    if name in _NEEDS_END and warm_up + decay > samples - (name != "warm-up-stable-decay"):
        raise InputError(
            f"schedule '{name}': warm_up {warm_up} and decay {decay} do not fit into {samples} samples: shorten them"
        )
    levels = {"start": _START.get(name, 0.0), "end": _END.get(name, 0.0)} | options
    for key, value in levels.items():
        if not 0.0 <= value <= 1.0:
            raise InputError(f"schedule '{name}': {key} is {value}: it must lie in [0, 1]")
    if name == "one-cycle" and not (warm_up and 0.0 < levels["start"] < 1.0 and levels["end"] > 0.0):
        raise InputError(
            f"schedule 'one-cycle': it rises from start {levels['start']} over {warm_up} samples and falls to end "
            f"{levels['end']}: start must lie in (0, 1), the others above 0"
        )
    return Schedule(name, samples, warm_up, decay, **levels)


def _samples(name: str, key: str, given: float, samples: int) -> int:
    """A length given as a share of the whole, or in samples."""
    if given < 0:
        raise InputError(f"schedule '{name}': {key} is {given}: it must not be negative")
    return round(given * samples) if given < 1 else round(given)


def _shape(curve: Schedule) -> optax.Schedule:
    rise = optax.linear_schedule(curve.start, 1.0, curve.warm_up) if curve.warm_up else optax.constant_schedule(1.0)
    match curve.name:
        case "warm-up-cosine":
            fall = optax.cosine_decay_schedule(1.0, curve.samples - curve.warm_up, alpha=curve.end)
            return optax.join_schedules([rise, fall], [curve.warm_up])
        case "one-cycle":
            share = curve.warm_up / curve.samples
            factor = curve.start / curve.end
            return optax.cosine_onecycle_schedule(curve.samples, 1.0, share, 1.0 / curve.start, factor)
        case "warm-up-stable-decay":
            stable = curve.samples - curve.decay
            fall = optax.linear_schedule(1.0, curve.end, curve.decay) if curve.decay else optax.constant_schedule(1.0)
            return optax.join_schedules([rise, optax.constant_schedule(1.0), fall], [curve.warm_up, stable])
        case "constant":
            return optax.constant_schedule(1.0)
        case _:
            return rise


class PlateauRule(NamedTuple):
    """When a plateau's rate is cut.

    factor: on the rate at each cut.
    patience: validations without progress before a cut.
    tolerance: share of the best loss that counts as progress.
    cooldown: validations after a cut that are not judged.
    least: scale below which the rate is not cut.
    """

    factor: float = 0.5
    patience: int = 5
    tolerance: float = 1e-3
    cooldown: int = 0
    least: float = 1e-3


class Plateau(NamedTuple):
    """How far a plateau's rate has been cut: plain numbers, a function of the validation losses alone.

    The host holds it, and multiplies the optimiser's scale where `scale` fell. It decides as
    `optax.contrib.reduce_on_plateau` does, but for losses below zero, whose progress is a share of their size.

    scale: of the rate.
    best: least validation loss so far.
    quiet: validations since it fell.
    cooling: validations that are not judged yet.
    """

    scale: float = 1.0
    best: float = float("inf")
    quiet: int = 0
    cooling: int = 0

    def after(self, loss: float, rule: PlateauRule) -> "Plateau":
        """The state after one more validation loss; one that is not finite is no progress.

        >>> state = Plateau()
        >>> for loss in (1.0, 1.0, 1.0):
        ...     state = state.after(loss, PlateauRule(patience=2))
        >>> state.scale
        0.5
        """
        needed = rule.tolerance * abs(self.best) if self.best < float("inf") else 0.0
        better = loss < self.best - needed
        best = loss if better else self.best
        if self.cooling:
            return Plateau(self.scale, best, 0, self.cooling - 1)
        quiet = 0 if better else self.quiet + 1
        if quiet < rule.patience:
            return Plateau(self.scale, best, quiet, 0)
        return Plateau(max(self.scale * rule.factor, rule.least), best, 0, rule.cooldown)
