"""The page of a description: one self-contained HTML file."""

import math
from collections.abc import Mapping, Sequence
from html import escape
from pathlib import Path
from typing import Any

import volgrad
from volgrad.data.write import replacing
from volgrad.report.cards import card
from volgrad.report.describe_figures import (
    autocorrelation_figures,
    content_figure,
    likeness_figures,
    standing_figure,
    survival_figure,
    worth_figure,
)
from volgrad.report.header import footing, run_line, tile
from volgrad.report.page import document
from volgrad.tasks.description import Description
from volgrad.tasks.description.words import MEANING, at_least, at_most, count, duration, interval, share

__all__ = ["description_html", "write_description"]


def write_description(
    path: str | Path, found: Description, *, title: str, summary: Mapping[str, Any] | None = None
) -> Path:
    """Write the page of a description, at most 15 MB, that loads nothing from anywhere. The same arguments give the
    same page.

    Args:
        path: the file; replaced whole or not at all.
        found: what was found.
        title: of the page.
        summary: used are "version", "generated", "command", "wall_s"; all may be missing.

    Raises:
        WorkError: the file cannot be written.
    """
    text = description_html(found, title=title, summary=summary)
    with replacing(path) as stream:
        stream.write(text.encode())
    return Path(path)


def description_html(found: Description, *, title: str, summary: Mapping[str, Any] | None = None) -> str:
    """The page that `write_description` writes."""
    summary = summary or {}
    stands = standing_figure(found), survival_figure(found)
    left_out = {"rejections": found.inventory.left_out, "notes": [*_set_aside(found), *found.notes]}
    parts = [
        f'<header class="top" id="top">{_heading(found, title, summary)}{run_line(summary)}</header>',
        _section("contents", "What there is", "", [_whole(card(content_figure(found))), _whole(_contents(found))]),
        _section(
            "likeness", "Alike within a snapshot", _LIKENESS, [*map(card, likeness_figures(found)), _likeness(found)]
        ),
        _section("memory", "Memory, and what it is worth", _MEMORY, [*map(card, autocorrelation_figures(found))]),
        f'<div class="pair">{card(worth_figure(found))}{_batching(found)}</div>',
        _section("staleness", "Staleness", found.ages.why, [*map(card, stands), _overtaken(found), _ages(found)]),
        f'<section id="notes">{footing((), left_out, ())}</section>',
    ]
    links = ("top", "Summary"), ("contents", "What there is"), ("likeness", "Likeness"), ("memory", "Memory and worth")
    navigation = "".join(
        f'<a href="#{anchor}">{name}</a>'
        for anchor, name in (*links, ("staleness", "Staleness"), ("notes", "Left out"))
    )
    return document(title, navigation, "\n".join(parts))


_LIKENESS = (
    "Quotes of one snapshot share its shocks, so that they are worth fewer than they are. A snapshot is one chain, or, "
    "for all underlyings together, all chains of one moment."
)
_MEMORY = (
    "Shuffled training feels likeness within a snapshot only. That snapshots resemble their neighbours counts for what "
    "is learned from a stream, and for how sure a score on this much history can be."
)


def _whole(figure: str) -> str:
    """A card as wide as the page."""
    return figure.replace('class="card', 'class="card whole', 1)


def _section(anchor: str, name: str, says: str, cards: Sequence[str]) -> str:
    told = f"<p>{escape(says)}</p>" if says else ""
    return f'<section id="{anchor}"><h2>{escape(name)}</h2>{told}<div class="pair">{"".join(cards)}</div></section>'


def _heading(found: Description, title: str, summary: Mapping[str, Any]) -> str:
    inventory = found.inventory
    version = escape(str(summary.get("version", volgrad.__version__)))
    names = " and ".join(escape(one.underlying) for one in inventory.underlyings)
    first = min(one.first for one in inventory.underlyings)[:16].replace("T", " ")
    last = max(one.last for one in inventory.underlyings)[:16].replace("T", " ")
    chains = sum(one.chains for one in inventory.underlyings)
    return f"""<p class="kicker">volgrad {version} · description</p>
<h1>{escape(title)}</h1><p class="lead">{chains:,} chain{"" if chains == 1 else "s"} of {names} options, {first} to
{last} UTC.</p><dl class="tiles">{_tiles(found)}</dl>"""


def _tiles(found: Description) -> str:
    inventory, whole, stale = found.inventory, found.of("gradient"), found.staleness
    cadence = [one.cadence_hours for one in inventory.underlyings if math.isfinite(one.cadence_hours)]
    gaps = max(one.gaps for one in inventory.underlyings)
    effect = interval(whole.design_effect, whole.design_effect_low, whole.design_effect_high, 1)
    worth = at_most(count(whole.rows_effective), whole.resolved)
    moments = at_most(count(whole.clusters_effective), whole.resolved)
    return "".join([
        tile("quotes used", f"{inventory.used:,}", f"of {inventory.rows:,} rows"),
        tile("a chain every", duration(min(cadence)) if cadence else "–", f"{gaps} gap{'' if gaps == 1 else 's'}"),
        tile("design effect", count(whole.design_effect), f"{effect.partition(' ')[2]} of a gradient: rows worth one"),
        tile("independent rows", worth, f"in {moments} independent snapshots, of {whole.clusters:,}"),
        tile("unchanged since the last chain", share(stale.unchanged), f"{share(stale.stale)} overtaken"),
    ])  # fmt: skip


def _table(title: str, heads: Sequence[str], rows: Sequence[Sequence[str]], says: str = "") -> str:
    """A card with a table: the first column is text, the others are numbers; cells are plain text."""
    head = "".join(_cell("th", place, name) for place, name in enumerate(heads))
    body = "".join(f"<tr>{''.join(_cell('td', at, cell) for at, cell in enumerate(row))}</tr>" for row in rows)
    told = f"<p>{escape(says)}</p>" if says else ""
    return (
        f'<figure class="card table"><figcaption><h4>{escape(title)}</h4>{told}</figcaption>'
        f"<table><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table></figure>"
    )


def _cell(kind: str, place: int, text: str) -> str:
    number = ' class="n"' if place else ""
    return f"<{kind}{number}>{escape(text)}</{kind}>"


def _contents(found: Description) -> str:
    rows = [
        (
            one.underlying, f"{one.chains:,}", f"{one.quotes:,}", duration(one.cadence_hours), f"{one.gaps:,}",
            _three(one.expiries), _three(one.quotes_per_chain), f"{one.refused:,}",
        )
        for one in found.inventory.underlyings
    ]  # fmt: skip
    heads = ("underlying", "chains", "quotes", "every", "gaps", "expiries", "quotes a chain", "no quote")
    says = "Expiries and quotes a chain: least, median, most. No quote: chains without a usable one."
    return _table("By underlying", heads, rows, says)


def _three(values: tuple[int, float, int]) -> str:
    return f"{values[0]:,} · {values[1]:,.0f} · {values[2]:,}"


def _likeness(found: Description) -> str:
    rows = []
    for one in found.shown():
        rows.append((
            f"{one.quantity}, {one.underlying or 'all'}", f"{one.clusters:,}", count(one.rows_per_cluster),
            interval(one.correlation, one.correlation_low, one.correlation_high),
            interval(one.across_expiries, math.nan, math.nan), interval(one.within_expiry, math.nan, math.nan),
            count(one.design_effect), at_least(count(one.autocorrelation_time), one.resolved),
            at_most(count(one.clusters_effective), one.resolved), at_most(count(one.rows_effective), one.resolved),
        ))  # fmt: skip
    heads = ("quantity", "snapshots", "rows each", "ρ within a snapshot", "across expiries", "within an expiry",
             "design effect", "memory, chains", "snapshots' worth", "rows' worth")  # fmt: skip
    near = found.neighbours
    meaning = "".join(f"<p><b>{name}</b>: {escape(text)}</p>" for name, text in MEANING.items())
    says = (
        f"Residuals of neighbouring strikes: correlation {interval(near.correlation, math.nan, math.nan, 2)}, "
        f"against {interval(near.by_chance, math.nan, math.nan, 2)} if quotes erred independently. "
        "≥ and ≤: the series is less than 20 times as long as its memory."
    )
    return _whole(_table("All figures", heads, rows, says).replace("</h4>", f"</h4>{meaning}", 1))


def _batching(found: Description) -> str:
    batching = found.batching
    rows = [(f"{cost} rows", count(rows)) for cost, rows in batching.rows_per_snapshot.items()]
    says = (
        f"A choice of batch size may start from a design effect of {count(batching.design_effect)} (gradient of a "
        f"coarse surface); a parameter that all quotes push alike feels {count(batching.level_design_effect)}. Where "
        "loading a snapshot costs as much as so many rows, the least noise at a given cost comes with this many of it:"
    )
    return _table("For the choice of a batch size", ("a snapshot costs", "rows to take of each"), rows, says)


def _overtaken(found: Description) -> str:
    stale = found.staleness
    rows = [(name, *map(share, row)) for name, row in zip(stale.tenors, stale.table_stale, strict=True)]
    says = (
        "Share of quotes that stand unchanged although the forward has since moved the option's value by more than the "
        f"spread: {share(stale.stale)} of all. Columns: |delta|."
    )
    return _table("Overtaken by the forward", ("time to expiry", *stale.deltas), rows, says)


def _ages(found: Description) -> str:
    ages = found.ages
    if ages.why:
        return ""
    listed = zip(("all", *ages.deltas), (ages.seconds, *ages.by_delta), strict=True)
    rows = [(name, *(count(value) for value in values)) for name, values in listed]
    says = (
        "The chain's stamp less the row's own time, in seconds; negative: taken after the stamp. A chain spreads over "
        f"{count(ages.spread_seconds)} s in the median (5 % to 95 %)."
    )
    return _table("Age of a row, by |delta|", ("|delta|", "youngest 5 %", "median", "oldest 5 %"), rows, says)


def _set_aside(found: Description) -> list[str]:
    return [f"{one['source']}: set aside: {one['why']}" for one in found.inventory.set_aside]
