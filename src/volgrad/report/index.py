"""The index of all chains: one row each, to be sorted and filtered in the page."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from html import escape
from typing import Any

from volgrad.report.shown import anchor_of, stamp_text
from volgrad.tasks.fitted import FittedChain

__all__ = ["IndexRow", "index_rows", "index_table"]

_HEADS = (
    "time, UTC",
    "underlying",
    "quotes",
    "left out",
    "inside",
    "RMSE, points",
    "ms",
    "status",
    "arbitrage",
    "in full",
)
_NUMBERS = _HEADS[2:7]
_STATUSES = ("converged", "stalled", "diverged", "refused")


@dataclass(frozen=True)
class IndexRow:
    """What the index says of one chain; `anchor` and `role`: where it is shown in full, and why, if it is."""

    ts: str
    ccy: str
    split: str | None
    quotes: int
    left_out: Mapping[str, int]
    inside: float
    rmse_vol_points: float
    status: str
    why: str
    clean: bool | None
    ms: float
    anchor: str = ""
    role: str = ""


def index_rows(
    fitted: Sequence[FittedChain], roles: Mapping[int, str], entries: Sequence[Mapping[str, Any]]
) -> list[IndexRow]:
    """Rows of all fitted chains, and of those that `entries` (the summary's) say were refused before a fit.

    `roles` maps places in `fitted` to the reason why they are shown in full.
    """
    rows = [_fitted_row(one, place, roles.get(place, "")) for place, one in enumerate(fitted)]
    known = {(row.ts, row.ccy, row.split) for row in rows}
    return rows + [row for row in map(_entry_row, entries) if (row.ts, row.ccy, row.split) not in known]


def _fitted_row(one: FittedChain, place: int, role: str) -> IndexRow:
    chain = one.chain
    clean = None if one.certificate is None else one.certificate.clean
    return IndexRow(
        stamp_text(chain.ts_us, "s"), chain.ccy, chain.split, chain.n_rows, chain.left_out, one.inside,
        one.rmse_vol_points, one.status, one.why, clean, one.fit_ms + one.certificate_ms,
        anchor_of(place) if role else "", role,
    )  # fmt: skip


def _entry_row(entry: Mapping[str, Any]) -> IndexRow:
    nothing = math.nan
    return IndexRow(
        str(entry.get("ts", ""))[:19], str(entry.get("ccy", "")), entry.get("split"),
        int(entry.get("quotes_used") or 0), entry.get("left_out") or {}, nothing, nothing,
        str(entry.get("status", "refused")), str(entry.get("why", "")), None, nothing,
    )  # fmt: skip


def index_table(rows: Sequence[IndexRow]) -> str:
    """The table, with a box to filter it."""
    splits = any(row.split is not None for row in rows)
    heads = [*_HEADS[:2], *(["split"] if splits else []), *_HEADS[2:]]
    buttons = "".join(
        f'<th scope="col"{" class=n" if head in _NUMBERS else ""}><button type="button">{head}</button></th>'
        for head in heads
    )
    body = "\n".join(_row(row, splits) for row in rows)
    return f"""<div class="tools"><input id="filter" type="search" autocomplete="off"
placeholder="Filter: BTC, 2026-03-14, stalled …" aria-label="Filter chains"><span id="count" aria-live="polite">
{len(rows):,} chains</span></div>
<div class="scroll"><table id="index"><thead><tr>{buttons}</tr></thead><tbody>
{body}
</tbody></table></div>"""


def _row(row: IndexRow, splits: bool) -> str:
    left = sum(row.left_out.values())
    reasons = escape(", ".join(f"{count:,} {reason.replace('_', ' ')}" for reason, count in row.left_out.items()))
    status = row.status if row.status in _STATUSES else "other"
    cells = [
        f"<td>{escape(row.ts.replace('T', ' ')[:16])}</td><td>{escape(row.ccy)}</td>",
        f"<td>{escape(row.split or '')}</td>" if splits else "",
        _number(row.quotes, f"{row.quotes:,}"),
        _number(left, f"{left:,}", f' title="{reasons}"' if reasons else ""),
        _share(row.inside),
        _number(row.rmse_vol_points, f"{row.rmse_vol_points:.2f}"),
        _number(row.ms, f"{row.ms:.1f}"),
        f'<td><span class="pill {status}" title="{escape(row.why)}">{escape(row.status)}</span></td>',
        f"<td>{ {True: 'none', False: '<b class=bad>found</b>', None: '–'}[row.clean] }</td>",
        f'<td><a href="#{row.anchor}">{escape(row.role)}</a></td>' if row.anchor else "<td></td>",
    ]
    return f"<tr>{''.join(cells)}</tr>"


def _number(value: float, text: str, more: str = "") -> str:
    if not math.isfinite(value):
        return '<td class="n" data-v="-1">–</td>'
    return f'<td class="n" data-v="{value:.6g}"{more}>{text}</td>'


def _share(inside: float) -> str:
    if not math.isfinite(inside):
        return _number(inside, "")
    return f'<td class="n" data-v="{inside:.6g}">{100 * inside:.1f} %</td>'
