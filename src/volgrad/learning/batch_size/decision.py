"""What came of choosing a batch size: the size, why, what every other would cost, and how it was proved."""

import math
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from volgrad.learning.batching.noise_scale import NoiseScale
from volgrad.learning.batching.size_choice import Objective, Timed

__all__ = ["Chosen", "Decision", "Moment"]


class Chosen(NamedTuple):
    """A size.

    clusters: a batch.
    rows_per_cluster: drawn of each, on average.
    rows: a batch.
    """

    clusters: int
    rows_per_cluster: float
    rows: int


class Moment(NamedTuple):
    """The noise scale at one point of the pilot.

    samples: clusters seen by then.
    noise: in clusters.
    """

    samples: int
    noise: NoiseScale


@dataclass(frozen=True)
class Decision:
    """A chosen batch size with its reasons; `decision["chosen"]["rows"]` reads as in `batch-size.json`.

    Attributes:
        chosen: the size.
        objective: what it was chosen for.
        ladder: every size with its measured time and memory.
        predicted_s: seconds that each takes to get as far as the whole run at its reference size does; infinite where
            it does not fit.
        samples: clusters that each needs for that.
        noise: gradient noise scale, over the later half of the pilot.
        moments: noise along the pilot.
        branches: what sizes did from one state in the same seconds, where that was tried.
        sharpness: of where branches of a small, the chosen and a large size ended.
        rows_choice: what every number of rows a cluster would cost.
        rows_drawn: of each cluster, where that was chosen; None: as before.
        alike: clusters drawn as chosen that are worth one as they were drawn before: whose gradients are as noisy.
        reference: clusters a batch, drawn as chosen, that the learning rate is meant for.
        noise_s: seconds that measuring the noise once takes; None where it was not timed.
        confirmed: whether branches left the predicted size in its place; None where none were run.
        probe_s: seconds of probing: timing, pilot, noise, branches.
        compile_s: seconds of compiling.
        reason: in words.
        notes: sentences on what was out of the ordinary.
    """

    chosen: Chosen
    objective: Objective
    ladder: tuple[Timed, ...]
    predicted_s: tuple[float, ...]
    samples: tuple[float, ...]
    noise: NoiseScale
    moments: tuple[Moment, ...]
    branches: tuple[dict[str, Any], ...]
    probe_s: float
    compile_s: float
    reason: str
    sharpness: tuple[dict[str, Any], ...] = ()
    rows_choice: tuple[dict[str, Any], ...] = ()
    rows_drawn: int | None = None
    alike: float = 1.0
    reference: int = 1
    noise_s: float | None = None
    confirmed: bool | None = None
    notes: tuple[str, ...] = field(default=())

    @property
    def clusters(self) -> int:
        """Clusters a batch."""
        return self.chosen.clusters

    def __getitem__(self, name: str) -> Any:
        return self.to_dict()[name]

    def to_dict(self) -> dict[str, Any]:
        """What `batch-size.json` holds; a number that is not finite is None."""
        rungs = [
            {**rung._asdict(), "predicted_s": seconds, "predicted_samples": samples}
            for rung, seconds, samples in zip(self.ladder, self.predicted_s, self.samples, strict=True)
        ]
        told = {
            "chosen": self.chosen._asdict(),
            "objective": self.objective,
            "ladder": rungs,
            "noise": noise_dict(self.noise),
            "moments": [{"samples": at, **noise_dict(noise)} for at, noise in self.moments],
            "branches": list(self.branches),
            "sharpness": list(self.sharpness),
            "rows_choice": list(self.rows_choice),
            "rows_drawn": self.rows_drawn,
            "alike": self.alike,
            "reference": self.reference,
            "noise_s": self.noise_s,
            "confirmed": self.confirmed,
            "probe_s": self.probe_s,
            "compile_s": self.compile_s,
            "reason": self.reason,
            "notes": list(self.notes),
        }
        return _finite(told)


def noise_dict(noise: NoiseScale) -> dict[str, Any]:
    """A noise scale in rows, and what it was made of."""
    parts = noise._asdict()
    clusters = {"clusters": noise.clusters, "clusters_lo": noise.lo, "clusters_hi": noise.hi}
    rows = {"rows": noise.rows, "lo": noise.rows_lo, "hi": noise.rows_hi, "significant": bool(noise.significant)}
    kept = (
        "rows_per_cluster",
        "gradient_square",
        "trace",
        "between",
        "within",
        "per_row",
        "micro_batch",
        "time",
        "units",
    )
    return rows | clusters | {name: parts[name] for name in kept} | {"intraclass": noise.intraclass}


def _finite(value: Any) -> Any:
    """The same with None for every number that JSON cannot hold."""
    if isinstance(value, dict):
        return {name: _finite(part) for name, part in value.items()}
    if isinstance(value, list | tuple):
        return [_finite(part) for part in value]
    if hasattr(value, "item"):
        value = value.item()
    return None if isinstance(value, float) and not math.isfinite(value) else value
