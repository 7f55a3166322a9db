"""The report of a fit: one HTML file that needs nothing else, not even a network."""

from collections.abc import Callable, Mapping, Sequence
from html import escape
from importlib import resources
from pathlib import Path
from typing import Any

import volgrad
from volgrad.data.write import replacing
from volgrad.market.chain import Chain
from volgrad.report.cards import card
from volgrad.report.chosen import choose
from volgrad.report.details import chain_section
from volgrad.report.header import footing, heading, run_line
from volgrad.report.index import IndexRow, index_rows, index_table
from volgrad.report.overview import overview_figures
from volgrad.report.shown import Shown, anchor_of, chain_name
from volgrad.simulate.comparison import TotalVariance
from volgrad.tasks.fitted import FittedChain

__all__ = ["document", "report_html", "write_report"]

_MOST_BYTES = 9_000_000  # of chains in full: beside 4.9 MB of plotly.js and the index, below 15 MB

Truth = Callable[[Chain], TotalVariance]


def write_report(
    path: str | Path,
    fitted: Sequence[FittedChain],
    *,
    title: str,
    summary: Mapping[str, Any] | None = None,
    chains: Sequence[str] = (),
    truth: Truth | None = None,
) -> Path:
    """Write the report of a fit as one HTML file, at most 15 MB, that loads nothing from anywhere.

    It holds an index of all chains; the worst, the median and the best by share inside, and those asked for, in full.
    The same arguments give the same bytes: no clock is read.

    Args:
        path: the file; replaced whole or not at all.
        fitted: the chains, those without a surface included.
        title: of the page.
        summary: what `summary.json` holds; used are "version", "generated" (a text: when), "command", "wall_s",
            "compile_s", "threads", "mode", "notes", "rejections" (records of `Rejections.rows`, or reason -> rows) and
            the refused "chains". All may be missing.
        chains: beginnings of the names of chains to show in full, such as "BTC 2026-01-01T09:18"; thirty at most are.
        truth: gives the true surface of a chain, where it is known (a simulated market).

    Returns:
        `path`.

    Raises:
        WorkError: the file cannot be written.
    """
    text = report_html(fitted, title=title, summary=summary, chains=chains, truth=truth)
    with replacing(path) as stream:
        stream.write(text.encode())
    return Path(path)


def report_html(
    fitted: Sequence[FittedChain],
    *,
    title: str,
    summary: Mapping[str, Any] | None = None,
    chains: Sequence[str] = (),
    truth: Truth | None = None,
) -> str:
    """The page that `write_report` writes."""
    summary = summary or {}
    roles, notes = choose(fitted, chains)
    shown = {
        place: Shown(fitted[place], role, anchor_of(place), None if truth is None else truth(fitted[place].chain))
        for place, role in roles.items()
    }
    sections = _sections(shown)
    if len(sections) < len(shown):
        notes.append(f"Of {len(shown)} chains, {len(sections)} are shown in full: the page would be too large.")
    roles = {place: roles[place] for place in sections}
    rows = index_rows(fitted, roles, summary.get("chains") or ())
    version = str(summary.get("version", volgrad.__version__))
    parts = [
        f'<header class="top" id="top">{heading(title, fitted, version, len(rows) - len(fitted))}',
        f"{run_line(summary)}</header>",
        _overview(fitted),
        _index(rows),
        *sections.values(),
        f'<section id="notes">{footing(fitted, summary, notes)}</section>',
    ]
    return document(title, _navigation([shown[place] for place in sections]), "\n".join(parts))


def _sections(shown: Mapping[int, Shown]) -> dict[int, str]:
    """HTML of the chains shown in full, as many as the page has room for."""
    sections: dict[int, str] = {}
    room = _MOST_BYTES
    for place, one in shown.items():
        section = chain_section(one)
        room -= len(section.encode())
        if room < 0:
            break
        sections[place] = section
    return sections


def _overview(fitted: Sequence[FittedChain]) -> str:
    cards = "".join(card(figure) for figure in overview_figures(fitted))
    return f'<section id="overview"><h2>All chains</h2><div class="pair">{cards}</div></section>' if cards else ""


def _index(rows: Sequence[IndexRow]) -> str:
    return (
        '<section id="chains"><h2>Index</h2><p>One row a chain. Click a heading to sort; '
        "the last column leads to the chains that are shown in full below.</p>"
        f"{index_table(rows)}</section>"
    )


def _navigation(shown: Sequence[Shown]) -> str:
    links = [("top", "Summary"), ("chains", "Index")]
    for one in shown:
        name = chain_name(one.fitted)
        links.append((one.anchor, name if one.role == "asked for" else f"{one.role.capitalize()}: {name}"))
    links.append(("notes", "Left out"))
    return "".join(f'<a href="#{anchor}">{escape(name)}</a>' for anchor, name in links)


def document(title: str, navigation: str, body: str) -> str:
    """A whole page of the house: its style, its script and plotly.js around `body` (HTML, as is `navigation`)."""
    from plotly.offline import get_plotlyjs

    here = resources.files("volgrad.report")
    style, script = ((here / name).read_text("utf-8") for name in ("page.css", "page.js"))
    return f"""<!DOCTYPE html>
<html lang="en"><head><meta charset="utf-8"><meta name="viewport" content="width=device-width, initial-scale=1">
<meta name="color-scheme" content="light dark"><link rel="icon" href="data:,">
<title>{escape(title)}</title>
<style>{style}</style></head>
<body><nav>{navigation}</nav>
<main>{body}</main>
<script>{get_plotlyjs()}</script>
<script>{script}</script>
</body></html>
"""
