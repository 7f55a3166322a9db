"""The page of a batch-size choice: one self-contained HTML file, from what `batch-size.json` holds."""

from collections.abc import Iterable, Mapping, Sequence
from html import escape
from pathlib import Path
from typing import Any

import volgrad
from volgrad.data.write import replacing
from volgrad.report.batch_size_figures import branch_figures, noise_figure, predicted_figure, sharpness_figure
from volgrad.report.batch_size_hardware import memory_figure, pace_figure, step_figure
from volgrad.report.batch_size_words import (
    HEADINGS,
    chosen_rung,
    clusters_text,
    count_text,
    ladder_rows,
    likeness_words,
    noise_words,
    rows_words,
    seconds_text,
    times_text,
)
from volgrad.report.cards import card
from volgrad.report.figure import Figure
from volgrad.report.header import run_line, tile
from volgrad.report.page import document

__all__ = ["batch_size_html", "write_batch_size"]

_STRONG = ' style="font-weight:650"'
_THREE = "grid-template-columns:repeat(auto-fit,minmax(min(380px,100%),1fr))"
_ABOUT_BRANCHES = (
    "The sizes that could be best, run from one state with the same data for the same seconds. The predicted size "
    "stands unless another gets clearly further in every replicate."
)
_OBJECTIVES = {
    "time": "the least time to the target",
    "samples": "few samples: at most a tenth more than the smallest size needs",
    "memory": "little memory: at most a quarter longer than the fastest size",
}


def write_batch_size(path: str | Path, told: Mapping[str, Any], *, title: str) -> Path:
    """Write the page of a choice, that loads nothing from anywhere. The same arguments give the same page.

    Args:
        path: the file; replaced whole or not at all.
        told: what `batch-size.json` holds; "version", "command", "wall_s" and "settings" may be missing.
        title: of the page.

    Raises:
        WorkError: the file cannot be written.
    """
    text = batch_size_html(told, title=title)
    with replacing(path) as stream:
        stream.write(text.encode(errors="replace"))
    return Path(path)


def batch_size_html(told: Mapping[str, Any], *, title: str) -> str:
    """The page that `write_batch_size` writes."""
    version = escape(str(told.get("version", volgrad.__version__)))
    head = f"""<header class="top" id="top"><p class="kicker">volgrad {version} · batch size</p>
<h1>{escape(title)}</h1><p class="lead">{escape(told["reason"])}</p><dl class="tiles">{_tiles(told)}</dl>
{run_line(told)}</header>"""
    sections = [
        ("time", "Time to the target", _whole(predicted_figure(told)) + _ladder(told)),
        ("hardware", "What a step costs", _grid(step_figure(told), pace_figure(told), memory_figure(told))),
        ("noise", "What the data ask for", _noise(told)),
    ]
    if told["branches"]:
        sections.append(("branches", "Branches", _branches(told)))
    if told["sharpness"]:
        sections.append(("sharpness", "Minima", _sharpness(told)))
    if told["rows_choice"]:
        sections.append(("rows", "Rows of each cluster", _rows_choice(told)))
    sections.append(("use", "How to use it", _use(told)))
    body = "".join(f'<section id="{anchor}"><h2>{name}</h2>{text}</section>' for anchor, name, text in sections)
    links = [("top", "Summary"), *((anchor, name) for anchor, name, _ in sections)]
    return document(title, "".join(f'<a href="#{anchor}">{name}</a>' for anchor, name in links), head + body)


def _tiles(told: Mapping[str, Any]) -> str:
    chosen, noise, rung = told["chosen"], told["noise"], chosen_rung(told)
    timed = [one for one in told["ladder"] if one["measured"]]
    last = max(timed, key=lambda one: one["clusters"])
    ratio = last["predicted_s"] / rung["predicted_s"]
    each = count_text(chosen["rows_per_cluster"])
    drawn = f"{chosen['rows']:,} rows, {each} of each; for {_OBJECTIVES[told['objective']]}"
    sure = noise["significant"]
    interval = (
        f"95 %: {count_text(noise['lo'])} to {count_text(noise['hi'])} rows"
        if sure
        else "rows; no upper end can be told"
    )
    return "".join([
        tile("chosen", clusters_text(chosen["clusters"]), drawn, "good"),
        tile("noise scale", f"{count_text(noise['rows'])} rows" if sure else f"≥ {count_text(noise['lo'])}", interval,
             "" if sure else "warn"),
        tile("a step", seconds_text(rung["step_s_median"]), f"{rung['rows'] / rung['step_s_median']:,.0f} rows/s"),
        tile("predicted time", seconds_text(rung["predicted_s"]), "to get as far as the run at the recipe's size"),
        tile("largest timed", f"{times_text(ratio)} ×", f"as long, with {clusters_text(last['clusters'])} a batch"),
        tile("probing", seconds_text(told["probe_s"]), f"and {seconds_text(told['compile_s'])} of compiling"),
    ])  # fmt: skip


def _ladder(told: Mapping[str, Any]) -> str:
    rows = [
        (rung.cells, _STRONG if rung.chosen else "" if rung.measured else ' style="opacity:.6"')
        for rung in ladder_rows(told)
    ]
    says = (
        "A step: median over rounds and half the interquartile range. To target: as far as the whole run gets at the "
        "recipe's size. Times: of the chosen size's."
    )
    return _table("Every size", says, HEADINGS, rows, wide={len(HEADINGS) - 1})


def _noise(told: Mapping[str, Any]) -> str:
    noise = told["noise"]
    words = " ".join((noise_words(noise), likeness_words(noise))).strip()
    return f"<p>{escape(words)}</p>{_whole(noise_figure(told))}"


def _branches(told: Mapping[str, Any]) -> str:
    chosen = told["chosen"]["clusters"]
    left, right = branch_figures(told)
    rows = [
        ((
            f"{one['clusters']:,}", f"{one['rows']:,}", f"{one['rounds']}", f"{one['steps']:,}", f"{one['samples']:,}",
            seconds_text(one["seconds"]), _value(one["loss"]), ", ".join(_value(loss) for loss in one["losses"]),
        ), _STRONG if one["clusters"] == chosen else "")
        for one in told["branches"]
    ]  # fmt: skip
    heads = ("clusters", "rows", "rounds", "steps", "clusters seen", "seconds", "loss", "by replicate")
    says = "All from the pilot's last state; losses on one batch, by the mean of each branch's second half."
    return f'<p>{_ABOUT_BRANCHES}</p><div class="pair">{card(left)}{card(right)}</div>' + _table(
        "Branches", says, heads, rows, wide={len(heads) - 1}
    )


def _sharpness(told: Mapping[str, Any]) -> str:
    heads = ("clusters", "rows", "loss", "leading eigenvalue", "± at most", "mean rise", "worst rise")
    keys = ("loss", "eigenvalue", "residual", "neighbourhood", "worst")
    rows = [
        ((f"{one['clusters']:,}", f"{one['rows']:,}", *(_value(one[key]) for key in keys)), "")
        for one in told["sharpness"]
    ]  # fmt: skip
    says = "On the batch that branches are judged on. The eigenvalue is the largest of the Hessian, by Lanczos' method."
    return _whole(sharpness_figure(told)) + _table("Sharpness", says, heads, rows)


def _rows_choice(told: Mapping[str, Any]) -> str:
    heads = ("rows of each cluster", "times the best", "")
    rows = []
    for one in told["rows_choice"]:
        marks = ["best"] if one["best"] else []
        marks += ["drawn here"] if one["drawn"] else []
        cells = (f"{one['rows_per_cluster']:,}", times_text(one["relative_time"]), ", ".join(marks))
        rows.append((cells, _STRONG if one["best"] else ""))
    says = (
        "Many rows of few clusters are cheap to fetch, few rows of many say more. Seconds to the same progress, where "
        'noise is what limits a step, in units of the best, which batch.rows_per_cluster = "auto" takes.'
    )
    words = f"<p>{escape(rows_words(told))}</p>" if rows_words(told) else ""
    return words + _table("What every number of rows would cost", says, heads, rows, wide={2})


def _use(told: Mapping[str, Any]) -> str:
    blocks = []
    if settings := told.get("settings"):
        text = escape(" ".join(f"--set {setting}" for setting in settings))
        blocks.append(
            '<p>Give this to <code>volgrad train</code>, or put it into the recipe:</p><figure class="card table">'
            f'<pre style="margin:6px 0;white-space:pre-wrap"><code>{text}</code></pre></figure>'
        )
        if any(setting.startswith("optimizer.reference_batch=") for setting in settings):
            blocks.append(
                '<p style="margin-top:10px">The learning rate stays meant for the size that the recipe was written '
                "for, and moves with the size from there, as it did in the branches.</p>"
            )
    blocks.append(
        '<p style="margin-top:10px">The choice holds for this machine, this model and these data; the noise scale '
        "grows as a run goes on.</p>"
    )
    if told["notes"]:
        items = "".join(f"<li>{escape(note)}</li>" for note in told["notes"])
        blocks.append(f'<div class="foot" style="border:0"><div><h3>Notes</h3><ul>{items}</ul></div></div>')
    return "".join(blocks)


def _whole(figure: Figure) -> str:
    wide = card(figure).replace('class="card', 'class="card whole', 1)
    return f'<div class="pair">{wide}</div>'


def _grid(*figures: Figure) -> str:
    return f'<div class="smiles" style="{_THREE}">{"".join(map(card, figures))}</div>'


def _table(
    title: str,
    says: str,
    heads: Sequence[str],
    rows: Iterable[tuple[Sequence[str], str]],
    wide: Iterable[int] = (),
) -> str:
    """A card with a table; columns hold numbers but those in `wide`."""
    wide = set(wide)

    def row(tag: str, cells: Sequence[str]) -> str:
        kinds = ("" if at in wide else ' class="n"' for at in range(len(cells)))
        return "".join(f"<{tag}{kind}>{escape(cell)}</{tag}>" for kind, cell in zip(kinds, cells, strict=True))

    body = "".join(f"<tr{style}>{row('td', cells)}</tr>" for cells, style in rows)
    about = f"<p>{escape(says)}</p>" if says else ""
    return (
        f'<figure class="card table" style="margin-top:12px"><figcaption><h4>{escape(title)}</h4>{about}</figcaption>'
        f"<table><thead><tr>{row('th', heads)}</tr></thead><tbody>{body}</tbody></table></figure>"
    )


def _value(value: float | str | None) -> str:
    if value is None:
        return "–"
    return value if isinstance(value, str) else f"{value:,.5g}"
