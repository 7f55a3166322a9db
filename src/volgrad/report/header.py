"""The head of the page (what was fitted, and how well) and its end (what was left out, and what was assumed)."""

import math
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from html import escape
from typing import Any

import numpy as np

from volgrad.data.reasons import advice
from volgrad.report.shown import chain_name, stamp_text
from volgrad.tasks.fitted import FittedChain

__all__ = ["footing", "heading", "run_line", "tile"]

_NAMED = 6  # chains that a tile names before it says "and so on"

_KINDS = {
    "local-vol": "local-volatility surfaces",
    "essvi": "eSSVI surfaces",
    "ssvi": "SSVI surfaces",
    "svi": "raw SVI slices, which may have arbitrage",
}


def tile(name: str, value: str, more: str = "", tone: str = "") -> str:
    """A figure that is read at a glance; `value` and `more` are HTML."""
    return f'<div class="tile {tone}"><dt>{name}</dt><dd>{value}</dd><p>{more}</p></div>'


def heading(title: str, fitted: Sequence[FittedChain], version: str, refused: int) -> str:
    """Title, a sentence on what was fitted, and the tiles; `refused` chains never came to a fit."""
    quotes = sum(one.chain.n_rows for one in fitted)
    ccys = " and ".join(sorted({one.chain.ccy for one in fitted}))
    stamps = [one.chain.ts_us for one in fitted]
    when = ""
    if stamps:
        first, last = (stamp_text(stamp).replace("T", " ") for stamp in (min(stamps), max(stamps)))
        when = f", {first} UTC" if first == last else f", {first} to {last} UTC"
    count = f"{len(fitted):,} chain{'' if len(fitted) == 1 else 's'}"
    kinds = " and ".join(sorted({_KINDS.get(one.model, one.model) for one in fitted}))
    lead = f"{count} of {escape(ccys)} options{when}: {escape(kinds)}, fitted to {quotes:,} quotes."
    lead = lead if fitted else "No chain was fitted."
    return f"""<p class="kicker">volgrad {escape(version)} · fit report</p>
<h1>{escape(title)}</h1><p class="lead">{lead}</p>
<dl class="tiles">{_tiles(fitted, refused)}</dl>"""


def _tiles(fitted: Sequence[FittedChain], refused: int) -> str:
    answered = [one for one in fitted if one.surface is not None]
    weight = np.array([one.chain.n_rows for one in answered], np.float64)
    inside = _mean(np.array([one.inside for one in answered]), weight)
    rmse = math.sqrt(_mean(np.array([one.rmse_vol_points for one in answered]) ** 2, weight))
    total = np.array([one.fit_ms + one.certificate_ms for one in answered])
    statuses = Counter(one.status for one in fitted) + Counter({"refused": refused})
    told = ", ".join(f"{count:,} {escape(status)}" for status, count in statuses.most_common())
    speed = f"{np.median(total):.1f} ms" if total.size else "–"
    tail = f"median; 95 % within {np.quantile(total, 0.95):.1f} ms, certificate included" if total.size else ""
    return "".join([
        tile("inside bid and ask", f"{100 * inside:.2f} %" if answered else "–", "of the quotes that were used"),
        tile("RMSE", f"{rmse:.2f}" if answered else "–", "vol points from the middle of the quotes"),
        _arbitrage(answered),
        tile("time a chain", speed, tail),
        tile("chains", f"{len(fitted) + refused:,}", told, "" if set(statuses) <= {"converged"} else "warn"),
    ])  # fmt: skip


def _mean(values: np.ndarray, weight: np.ndarray) -> float:
    known = np.isfinite(values)
    return float(np.average(values[known], weights=weight[known])) if known.any() else math.nan


def _arbitrage(answered: Sequence[FittedChain]) -> str:
    unclean = [chain_name(one) for one in answered if one.certificate is None or not one.certificate.clean]
    if unclean:
        more = ", ".join(map(escape, unclean[:_NAMED])) + (" …" if len(unclean) > _NAMED else "")
        return tile("arbitrage", f"{len(unclean):,} of {len(answered):,}", f"not certified: {more}", "bad")
    if not answered:
        return tile("arbitrage", "–", "no surface to certify")
    return tile("arbitrage", "none", f"all {len(answered):,} certificates are clean", "good")


def run_line(summary: Mapping[str, Any]) -> str:
    """How it was run, from whichever of these the summary holds."""
    parts = []
    if summary.get("generated"):
        parts.append(f"Written {escape(str(summary['generated']))}.")
    command = summary.get("command")
    if command:
        text = command if isinstance(command, str) else " ".join(map(str, command))
        parts.append(f"Command: <code>{escape(text)}</code>.")
    if isinstance(summary.get("wall_s"), int | float):
        parts.append(f"Took {summary['wall_s']:.1f} s")
        if isinstance(summary.get("compile_s"), int | float):
            parts[-1] += f", of which {summary['compile_s']:.1f} s compiling"
        if summary.get("threads"):
            parts[-1] += f", on {escape(str(summary['threads']))} thread{'' if summary['threads'] == 1 else 's'}"
        parts[-1] += "."
    return f'<p class="run">{" ".join(parts)}</p>' if parts else ""


def footing(fitted: Sequence[FittedChain], summary: Mapping[str, Any], notes: Iterable[str]) -> str:
    """Rows left out by reason, chains without a surface, and notes."""
    blocks = [_rejections(_counts(fitted, summary)), _refusals(fitted, summary.get("chains") or ())]
    told = [*notes, *map(str, summary.get("notes") or ())]
    if told:
        blocks.append("<h3>Notes</h3><ul>" + "".join(f"<li>{escape(note)}</li>" for note in told) + "</ul>")
    return '<div class="foot">' + "".join(f"<div>{block}</div>" for block in blocks if block) + "</div>"


def _counts(fitted: Sequence[FittedChain], summary: Mapping[str, Any]) -> Counter[str]:
    """Rows by reason: the summary's (all sources), else what the chains themselves left out."""
    counts: Counter[str] = Counter()
    given = summary.get("rejections")
    if isinstance(given, Mapping):
        counts.update({str(reason): int(count) for reason, count in given.items()})
    elif given:
        for record in given:
            counts[str(record["reason"])] += int(record["count"])
    else:
        for one in fitted:
            counts.update(one.chain.left_out)
    return counts


def _rejections(counts: Counter[str]) -> str:
    if not counts:
        return ""
    total = sum(counts.values())
    rows = "".join(
        f'<tr><td>{escape(reason.replace("_", " "))}</td><td class="n">{count:,}</td>'
        f'<td class="n">{100 * count / total:.1f} %</td><td>{escape(_meaning(reason))}</td></tr>'
        for reason, count in counts.most_common()
    )
    return (
        f"<h3>Rows left out</h3><p>{total:,} rows of the input are in no chain, each for one reason.</p>"
        f"<table><thead><tr><th>reason</th><th>rows</th><th>share</th><th>meaning</th></tr></thead><tbody>{rows}"
        "</tbody></table>"
    )


def _meaning(reason: str) -> str:
    try:
        return advice(reason)
    except KeyError:  # a reason of another reader
        return ""


def _refusals(fitted: Sequence[FittedChain], entries: Sequence[Mapping[str, Any]]) -> str:
    told = {chain_name(one): one.why for one in fitted if one.surface is None}
    for entry in entries:
        if entry.get("status") == "refused":
            when = str(entry.get("ts", ""))[:16].replace("T", " ")
            name = f"{entry.get('ccy', '')} {when} {entry.get('split') or ''}"
            told.setdefault(name.strip(), str(entry.get("why", "")))
    if not told:
        return ""
    items = "".join(f"<li><b>{escape(name)}</b>: {escape(why)}</li>" for name, why in told.items())
    return f"<h3>Chains without a surface</h3><ul>{items}</ul>"
