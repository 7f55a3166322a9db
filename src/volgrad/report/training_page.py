"""The page of a training run: one self-contained HTML file, also of a run that is still going on."""

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from html import escape
from pathlib import Path
from typing import Any

import numpy as np

import volgrad
from volgrad.data.write import replacing
from volgrad.report.cards import card
from volgrad.report.header import run_line, tile
from volgrad.report.page import document
from volgrad.report.run_record import RunRecord, as_number, read_run
from volgrad.report.training_figures import gradient_figure, loss_figure, metric_figures, pace_figure, rate_figure
from volgrad.tasks.description.words import duration

__all__ = ["training_html", "write_training"]

_SIX = "grid-template-columns:repeat(auto-fit,minmax(170px,1fr))"
_THREE = "grid-template-columns:repeat(auto-fit,minmax(min(380px,100%),1fr))"
_MOST_EVENTS = 200  # rows of the table
_MOST_NOTES = 100
_MILLIONS = 1e7  # from which on tiles tell them as such
_MOST_TEXT = 600  # characters of a text that another program wrote
_STATUS = {
    "done": ("done", "to the end of its budget", "good"),
    "stalled": ("stalled", "no progress after all remedies", "warn"),
    "no better": ("ended early", "no better validation loss (evaluate.patience)", "warn"),
    "gave up": ("gave up", "the last sound state is in checkpoints/", "bad"),
    "not finished": ("not finished", "going on, or stopped: --resume goes on with it", "warn"),
}


def write_training(
    path: str | Path, run: str | Path | RunRecord, *, title: str, summary: Mapping[str, Any] | None = None
) -> Path:
    """Write the page of a training run, at most 15 MB, that loads nothing from anywhere. The same files give the same
    page.

    Args:
        path: the file; replaced whole or not at all.
        run: the folder, or what `read_run` read there; files and columns may be missing.
        title: of the page.
        summary: used are "version", "generated", "command", "wall_s"; all may be missing.

    Raises:
        InputError: no run is in the folder.
        WorkError: the file cannot be written.
    """
    text = training_html(run, title=title, summary=summary)
    with replacing(path) as stream:
        stream.write(text.encode(errors="replace"))
    return Path(path)


def training_html(run: str | Path | RunRecord, *, title: str, summary: Mapping[str, Any] | None = None) -> str:
    """The page that `write_training` writes."""
    found = run if isinstance(run, RunRecord) else read_run(run)
    summary = summary or {}
    loss = card(loss_figure(found)).replace('class="card', 'class="card whole', 1)
    course = "".join(card(figure) for figure in (rate_figure(found), gradient_figure(found), pace_figure(found)))
    metrics = "".join(card(figure) for figure in metric_figures(found))
    others = f'<h3>Other validation metrics</h3><div class="smiles">{metrics}</div>' if metrics else ""
    told = _recipe(found) + _versions(found)
    parts = [
        f'<header class="top" id="top">{_heading(found, title, summary)}{run_line(summary)}</header>',
        f'<section id="loss"><h2>Loss</h2><div class="pair">{loss}</div>{others}</section>',
        f'<section id="course"><h2>Steps</h2><div class="smiles" style="{_THREE}">{course}</div></section>',
        f'<section id="events"><h2>Events</h2>{_events(found)}{_notes(found)}</section>',
        f'<section id="recipe"><h2>Recipe and versions</h2><div class="pair">{told}</div></section>',
    ]
    links = ("top", "Summary"), ("loss", "Loss"), ("course", "Steps"), ("events", "Events"), ("recipe", "Recipe")
    navigation = "".join(f'<a href="#{anchor}">{name}</a>' for anchor, name in links)
    return document(title, navigation, "\n".join(parts))


def _heading(run: RunRecord, title: str, summary: Mapping[str, Any]) -> str:
    version = escape(str(summary.get("version", volgrad.__version__)))
    return f"""<p class="kicker">volgrad {version} · training run</p>
<h1>{escape(title)}</h1><p class="lead">{_lead(run)}</p>
<dl class="tiles" style="{_SIX}">{_tiles(run)}</dl>"""


def _lead(run: RunRecord) -> str:
    """What was trained, and how, in a sentence."""
    use, optimizer, rate = (
        run.setting(*key) for key in (("task", "use"), ("optimizer", "name"), ("optimizer", "learning_rate"))
    )
    parts = [f"{use}" if use else "", f"{optimizer} at a learning rate of {rate}" if optimizer and rate else ""]
    shape = run.setting("schedule", "name")
    parts.append(f"schedule {shape}" if shape else "")
    budget = run.tables.get("budget")
    if isinstance(budget, Mapping):
        parts += [f"{_number(as_number(value))} {unit}" for unit, value in budget.items()]
    seed = run.tables.get("seed")
    parts.append(f"seed {seed}" if seed is not None else "")
    told = ", ".join(part for part in parts if part)
    return f"{escape(_short(told))}." if told else "Its recipe is missing or cannot be read."


def _tiles(run: RunRecord) -> str:
    final = run.final or {}
    name, says, tone = _STATUS.get(run.status, (_short(run.status), "", "warn"))
    samples, steps = (
        as_number(final.get(key, run.lines[-1].get(column) if run.lines else 0))
        for key, column in (("samples", "samples"), ("steps", "step"))
    )
    best = run.best or {}
    at = as_number(best.get("samples"))
    pace = run.column("rows_per_s")
    pace = pace[np.isfinite(pace)]
    back = sum(event.kind == "roll-back" for event in run.events)
    back = as_number(final.get("rollbacks", back))
    refused = float(np.nansum(run.column("refused"))) if run.lines else 0.0
    wall, compiling = (_seconds(as_number(final.get(key))) for key in ("wall_s", "compile_s"))
    return "".join([
        tile("status", escape(name), escape(says), tone),
        tile("samples", _large(samples), f"clusters seen, in {_whole(steps)} steps"),
        tile(
            "best validation loss",
            _number(as_number(best.get("loss"))),
            f"at {_whole(at)} samples" if math.isfinite(at) else "nothing was evaluated",
        ),
        tile("time", wall, f"of them {compiling} compiling" if run.final else "told when it has ended"),
        tile("rows a second", _large(float(np.median(pace))) if pace.size else "–", "median of the segments"),
        tile("roll-backs", _whole(back), f"{_whole(refused)} steps refused", "warn" if back or refused else ""),
    ])  # fmt: skip


def _events(run: RunRecord) -> str:
    events = run.events
    if not events:
        return "<p>None: no roll-back, no remedy, no change of the batch size.</p>"
    rows = "".join(
        f'<tr><td class="n">{_whole(event.samples)}</td><td class="n">{_whole(event.step)}</td>'
        f'<td>{escape(event.kind)}</td><td style="white-space:normal">{escape(_short(event.text))}</td></tr>'
        for event in events[:_MOST_EVENTS]
    )
    more = f"<p>And {len(events) - _MOST_EVENTS:,} more.</p>" if len(events) > _MOST_EVENTS else ""
    return (
        '<figure class="card table"><table><thead><tr><th class="n">samples</th><th class="n">step</th><th>event</th>'
        f'<th style="width:100%">in words</th></tr></thead><tbody>{rows}</tbody></table>{more}</figure>'
    )


def _notes(run: RunRecord) -> str:
    """What the run noted beside its events."""
    notes = (run.final or {}).get("notes")
    told = {event.text for event in run.events}
    listed = Counter(str(note) for note in notes if str(note) not in told) if isinstance(notes, list) else {}
    if not listed:
        return ""
    items = "".join(
        f"<li>{escape(_short(note))}{f' ({times:,} times)' if times > 1 else ''}</li>"
        for note, times in list(listed.items())[:_MOST_NOTES]
    )
    return f'<div class="foot" style="border:0"><div><h3>Notes</h3><ul>{items}</ul></div></div>'


def _recipe(run: RunRecord) -> str:
    text = escape(run.recipe.strip()) or "recipe.toml is missing."
    return (
        '<figure class="card table"><figcaption><h4>recipe.toml</h4><p>Every key with a value.</p></figcaption>'
        f'<pre style="margin:10px 0;columns:2 260px;white-space:pre-wrap"><code>{text}</code></pre></figure>'
    )


def _versions(run: RunRecord) -> str:
    version = [(key, value) for key, value in run.versions.items() if key != "before"]
    rows: Sequence[tuple[str, Any]] = version or [("versions.json", "missing")]
    before = run.versions.get("before")
    if isinstance(before, list) and before:
        rows = [*rows, ("resumed", f"{len(before)} time{'' if len(before) == 1 else 's'} with other versions")]
    if run.final and isinstance(digest := run.final.get("state_sha256"), str):
        rows = [*rows, ("state, SHA-256", digest)]
    body = "".join(
        f'<tr><td>{escape(_short(str(key)))}</td><td style="white-space:normal;overflow-wrap:anywhere">'
        f"{escape(_short('–' if value is None else str(value)))}</td></tr>"
        for key, value in rows
    )
    return (
        '<figure class="card table"><figcaption><h4>Versions</h4></figcaption>'
        f"<table><tbody>{body}</tbody></table></figure>"
    )


def _short(text: str) -> str:
    return text if len(text) <= _MOST_TEXT else text[:_MOST_TEXT] + " …"


def _number(value: float) -> str:
    return f"{value:,.5g}" if math.isfinite(value) else "–"


def _whole(value: float) -> str:
    return f"{value:,.0f}" if math.isfinite(value) else "–"


def _large(value: float) -> str:
    """A count that has to fit into a tile.

    >>> _large(1_400_032.0), _large(123_456_789_012.0)
    ('1,400,032', '123,456.8 M')
    """
    return f"{value / 1e6:,.1f} M" if _MILLIONS <= value < math.inf else _whole(value)


def _seconds(value: float) -> str:
    if not math.isfinite(value):
        return "–"
    return f"{value:.1f} s" if value < 60.0 else duration(value / 3600.0)
