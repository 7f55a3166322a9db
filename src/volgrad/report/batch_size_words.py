"""What was found of batch sizes, in words and cells: the same on the terminal and on the page."""

from collections.abc import Mapping
from typing import Any, NamedTuple

__all__ = [
    "HEADINGS", "Cells", "bytes_text", "chosen_rung", "clusters_text", "count_text", "favourite_rung", "ladder_rows",
    "likeness_words", "noise_words", "rows_words", "seconds_text", "times_text",
]  # fmt: skip

#: Of `ladder_rows`; the last is in words.
HEADINGS = ("clusters", "rows", "a step", "± IQR/2", "rows/s", "memory", "to target", "times", "")

_CLEAR = 1.05  # ratio from which on two estimates are told apart in words
_WORTH = 1.25  # times as long from which on another number of rows is spoken of


class Cells(NamedTuple):
    """A rung as a row of a table.

    cells: as `HEADINGS`.
    chosen, measured: what it is.
    """

    cells: tuple[str, ...]
    chosen: bool
    measured: bool


def seconds_text(seconds: float | None) -> str:
    """A duration in the unit that suits.

    >>> seconds_text(2.5e-4), seconds_text(0.01234), seconds_text(3.0), seconds_text(1e4), seconds_text(None)
    ('250 us', '12.3 ms', '3 s', '2.78 h', '–')
    >>> seconds_text(5.07e-6), seconds_text(2e-9), seconds_text(0.0)
    ('5.07 us', '2 ns', '0 s')
    """
    if seconds is None:
        return "–"
    if seconds == 0.0:
        return "0 s"
    for unit, name in ((86_400.0, "d"), (3600.0, "h"), (120.0, "min"), (1.0, "s"), (1e-3, "ms"), (1e-6, "us")):
        if seconds >= unit:
            return f"{seconds / (60.0 if name == 'min' else unit):.3g} {name}"
    return f"{seconds / 1e-9:.3g} ns"


def bytes_text(count: float) -> str:
    """Memory.

    >>> bytes_text(0), bytes_text(697_116), bytes_text(1.5e9)
    ('–', '697 kB', '1.5 GB')
    """
    for unit, name in ((1e12, "TB"), (1e9, "GB"), (1e6, "MB"), (1e3, "kB")):
        if count >= unit:
            return f"{count / unit:.3g} {name}"
    return f"{count:.0f} B" if count else "–"


def count_text(value: float | None) -> str:
    """A count with three significant digits at least.

    >>> count_text(8.712), count_text(557.4), count_text(43_008.0), count_text(None)
    ('8.7', '557', '43,008', 'infinitely many')
    """
    if value is None:
        return "infinitely many"
    return f"{value:,.2g}" if abs(value) < 10.0 else f"{value:,.0f}"


def times_text(ratio: float | None) -> str:
    """How many times as long.

    >>> times_text(1.0), times_text(1.234), times_text(81.2), times_text(None)
    ('1', '1.23', '81', '–')
    """
    if ratio is None:
        return "–"
    return f"{ratio:.3g}" if ratio < 10.0 else f"{ratio:,.0f}"


def clusters_text(clusters: float) -> str:
    """Clusters, counted.

    >>> clusters_text(1), clusters_text(1024)
    ('1 cluster', '1,024 clusters')
    """
    return f"{clusters:,} cluster{'' if clusters == 1 else 's'}"


def chosen_rung(told: Mapping[str, Any]) -> Mapping[str, Any]:
    """The rung of the ladder that was chosen."""
    return next(rung for rung in told["ladder"] if rung["clusters"] == told["chosen"]["clusters"])


def favourite_rung(told: Mapping[str, Any]) -> Mapping[str, Any]:
    """The rung of the least predicted time."""
    return min(
        (rung for rung in told["ladder"] if rung["predicted_s"] is not None), key=lambda rung: rung["predicted_s"]
    )


def ladder_rows(told: Mapping[str, Any]) -> list[Cells]:
    """The ladder as a table, smallest first."""
    best = chosen_rung(told)["predicted_s"]
    rows = []
    for rung in told["ladder"]:
        chosen = rung["clusters"] == told["chosen"]["clusters"]
        step, spread, whole = rung["step_s_median"], rung["step_s_iqr"], rung["predicted_s"]
        marks = ["chosen"] if chosen else []
        marks += ["does not fit"] if not rung["fits"] else [] if rung["measured"] else ["not timed"]
        cells = (
            f"{rung['clusters']:,}",
            f"{rung['rows']:,}",
            seconds_text(step),
            seconds_text(None if spread is None else 0.5 * spread) if rung["measured"] else "–",
            f"{rung['rows'] / step:,.0f}" if rung["measured"] and step else "–",
            bytes_text(rung["bytes"]),
            seconds_text(whole),
            times_text(None if whole is None else whole / best),
            ", ".join(marks),
        )
        rows.append(Cells(cells, chosen, rung["measured"]))
    return rows


def noise_words(noise: Mapping[str, Any]) -> str:
    """The noise scale with its interval, in clusters and rows."""
    if noise["clusters"] is None and noise["clusters_lo"] is None:
        return "The noise scale is not known: there is no gradient."
    count = f"{noise['units']:,} gradients"
    if not noise["significant"] and not (noise["clusters_lo"] or 0.0) > 0.0:
        return f"The noise scale is not known: {count} are too few to tell."
    if not noise["significant"]:
        least = f"{count_text(noise['clusters_lo'])} clusters ({count_text(noise['lo'])} rows)"
        return (
            f"Noise scale: at least {least}, 95 % sure from {count}; an upper end cannot be told, as the gradient "
            "itself is not distinct from noise."
        )
    clusters, rows = (
        f"{count_text(noise[middle])} {name} ({count_text(noise[low])} to {count_text(noise[high])})"
        for name, middle, low, high in (
            ("clusters", "clusters", "clusters_lo", "clusters_hi"),
            ("rows", "rows", "lo", "hi"),
        )
    )
    return f"Noise scale: {clusters}, that is {rows}; 95 % intervals, from {count} over the later half of the pilot."


def likeness_words(noise: Mapping[str, Any]) -> str:
    """What an estimate that takes rows for independent would say; nothing where it cannot be told."""
    per_row, rows = noise["per_row"], noise["rows"]
    if (
        not noise["significant"]
        or per_row is None
        or rows is None
        or noise["intraclass"] is None
        or noise["rows_per_cluster"] <= 1.0
    ):
        return ""
    rho = f"intraclass correlation of their gradients {noise['intraclass']:.2g}"
    if rows > _CLEAR * per_row > 0.0:
        return (
            f"Rows of a cluster are alike ({rho}): taken for independent they would give {count_text(per_row)} rows, "
            f"{times_text(rows / per_row)} times too few."
        )
    return (
        f"Rows of a cluster are hardly alike ({rho}): taken for independent they would give {count_text(per_row)} rows."
    )


def rows_words(told: Mapping[str, Any]) -> str:
    """Whether another number of rows of each cluster would be clearly better; nothing where it would not.

    >>> options = [{"rows_per_cluster": 8, "relative_time": 1.0, "best": True, "drawn": False}]
    >>> options.append({"rows_per_cluster": 64, "relative_time": 3.0, "best": False, "drawn": True})
    >>> rows_words({"rows_choice": options})[:61]
    'Where noise is what limits a step, 8 rows of each cluster in '
    """
    best = next((one for one in told["rows_choice"] if one["best"]), None)
    here = next((one for one in told["rows_choice"] if one["drawn"]), None)
    if best is None or here is None or not here["relative_time"] or here["relative_time"] < _WORTH:
        return ""
    rows = best["rows_per_cluster"]
    told_of = f"{rows:,} row{'' if rows == 1 else 's'} of each cluster in place of {here['rows_per_cluster']:,}"
    return (
        f"Where noise is what limits a step, {told_of} would be {times_text(here['relative_time'])} times as fast: try "
        f"--set batch.rows_per_cluster={rows}."
    )
