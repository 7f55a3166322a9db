"""What `volgrad describe` prints."""

import math
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from volgrad.cli.common import results_console

if TYPE_CHECKING:
    from volgrad.tasks.description import Description

__all__ = ["show"]

_TOLD = 5  # lines of one kind on the terminal; describe.json holds all


def show(found: "Description", files: Sequence[Path]) -> None:
    """Print a description: what there is, one table, and what it means for batches."""
    from volgrad.tasks.description.words import count, share

    console = results_console()

    def say(line: str) -> None:
        # paths may hold what looks like markup, and must come out in one piece
        console.print(line, markup=False, emoji=False, soft_wrap=not console.is_terminal)

    _show_inventory(found, say)
    console.print(_table(found))
    say("rho: correlation of quotes within a snapshot, 95 % interval; design effect: rows worth one, memory apart;")
    say(
        "memory: autocorrelation time of snapshot means, in chains; worth: independent ones in all that. >= and <=: the"
    )
    say("series is under 20 times as long as its memory: bounds, and intervals are too short.")
    unknown = {one.quantity: one.why for one in found.likeness if one.why and not math.isfinite(one.correlation)}
    for quantity, why in unknown.items():
        say(f"note: {quantity}: {why}")
    batching, near, stale = found.batching, found.neighbours, found.staleness
    if math.isfinite(batching.design_effect):
        rows = ", ".join(f"{count(rows)} at {cost}" for cost, rows in batching.rows_per_snapshot.items())
        say(
            f"for batches: {count(batching.design_effect)} rows of whole snapshots are worth one (gradient of a coarse "
            f"surface); rows to take of each, by the cost of a snapshot in rows: {rows}"
        )
    if near.expiries:
        say(
            f"smile residuals of neighbouring strikes: correlation {near.correlation:.2f}, "
            f"by chance {near.by_chance:.2f} ({near.expiries:,} smiles)"
        )
    if stale.pairs:
        say(
            f"stale: {share(stale.unchanged)} of quotes unchanged since the chain before, {share(stale.stale)} "
            f"overtaken by their forward ({stale.pairs:,} quotes)"
        )
    if stale.why:
        say(f"note: {stale.why}")
    ages = found.ages
    if ages.rows:
        low, middle, high = (count(value) for value in ages.seconds)
        say(f"age of rows against their chain's stamp: {middle} s in the median, {low} to {high} s (5 % to 95 %)")
    for note in found.notes[:_TOLD]:
        say(f"note: {note}")
    say("written: " + ", ".join(str(file) for file in files))


def _show_inventory(found: "Description", say: Callable[[str], None]) -> None:
    from volgrad.tasks.description.words import duration

    inventory = found.inventory
    reasons = ", ".join(f"{rows:,} {reason}" for reason, rows in list(inventory.left_out.items())[:3])
    more = ", ..." if len(inventory.left_out) > 3 else ""
    left = sum(inventory.left_out.values())
    say(f"quotes: {inventory.used:,} used, {left:,} left out{': ' if reasons else ''}{reasons}{more}")
    for one in inventory.underlyings:
        gaps = f"{one.gaps} gap{'' if one.gaps == 1 else 's'}"
        when = f"one chain, {one.first[:16]}"
        if one.chains > 1:
            when = f"{one.chains:,} chains, {one.first[:16]} to {one.last[:16]}, every {duration(one.cadence_hours)}"
            when += f", {gaps}"
        say(
            f"{one.underlying}: {when}; {one.expiries[1]:.0f} expiries and {one.quotes_per_chain[1]:.0f} quotes a chain"
        )
    for gap in inventory.gaps[:_TOLD]:
        say(f"gap: {gap.underlying}: {gap.begins[:16]} to {gap.ends[:16]}, {duration(gap.hours)}")
    for one in inventory.set_aside[:_TOLD]:
        say(f"file set aside: {one['source']}: {one['why']}")


def _table(found: "Description") -> Any:
    from rich.box import SIMPLE_HEAD
    from rich.table import Table

    from volgrad.tasks.description.words import count, interval

    table = Table(box=SIMPLE_HEAD, padding=(0, 1), pad_edge=False)
    table.add_column("quantity")
    table.add_column("of")
    heads = ("rows", "snap-\nshots", "rho", "design\neffect", "memory,\nchains", "snapshots'\nworth", "rows'\nworth")
    for head in heads:
        table.add_column(head, justify="right")
    for one in found.shown():
        least, most = ("", "") if one.resolved or not math.isfinite(one.clusters_effective) else (">= ", "<= ")
        table.add_row(
            one.quantity,
            one.underlying or "all",
            f"{one.rows:,}",
            f"{one.clusters:,}",
            interval(one.correlation, one.correlation_low, one.correlation_high),
            count(one.design_effect),
            f"{least}{count(one.autocorrelation_time)}",
            f"{most}{count(one.clusters_effective)}",
            f"{most}{count(one.rows_effective)}",
        )
    return table
