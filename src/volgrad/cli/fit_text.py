"""What `volgrad fit` prints."""

from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from typing import TYPE_CHECKING, Any

from volgrad.cli.common import results_console
from volgrad.cli.fit_files import FitFiles

if TYPE_CHECKING:
    from volgrad.tasks.fitted import FittedChain

__all__ = ["show"]

_TOLD = 5  # lines of one kind on the terminal; summary.json holds all


def show(summary: dict[str, Any], fitted: "Sequence[FittedChain]", files: FitFiles) -> None:
    """Print what a run did: a few lines, each of which names the file that holds the rest."""
    console = results_console()

    def say(line: str) -> None:
        # paths may hold what looks like markup, and must come out in one piece
        console.print(line, markup=False, emoji=False, soft_wrap=not console.is_terminal)

    chains = summary["chains"]
    statuses = Counter(chain["status"] for chain in chains)
    say(f"{_count(len(chains), 'chain')}: {', '.join(f'{n} {status}' for status, n in statuses.items())}")
    used = sum(chain["quotes_used"] for chain in chains)
    reasons: Counter[str] = Counter()
    for one in summary["rejections"]:
        reasons[one["reason"]] += one["count"]
    left = ", ".join(f"{count:,} {reason}" for reason, count in reasons.most_common(3))
    left = f": {left}{', ...' if len(reasons) > 3 else ''}" if left else ""
    say(f"quotes: {used:,} used, {reasons.total():,} left out{left}")
    _show_quality(summary, fitted, say)
    for name in ("predictions", "grid"):
        if name in summary:
            _show_answers(name, summary[name], say)
    _show_some((_about(chain) for chain in chains if chain["status"] != "converged"), say)
    _show_some((_expiry(one) for one in summary["left_out_expiries"]), say)
    _show_quarantined(summary["quarantined"], say)
    _show_some((f"note: {note}" for note in summary["notes"]), say)
    say(f"written to {files.out}: " + ", ".join(path.name for path in files.results() if path.parent == files.out))
    if files.steps_csv is not None and files.steps_csv.parent != files.out:
        say(f"written: {files.steps_csv}")
    if stale := files.stale():
        say(f"left there by an earlier run, not of this one: {', '.join(stale)}")
    if files.report:
        say(f"look at {files.out / 'report.html'}")


def _show_quality(summary: dict[str, Any], fitted: "Sequence[FittedChain]", say: Callable[[str], None]) -> None:
    import numpy as np

    published = [one for one in fitted if one.surface is not None]
    if not published:
        return
    weight = np.array([one.chain.n_rows for one in published], float)
    inside = np.average([one.inside for one in published], weights=weight)
    miss = np.sqrt(np.average([one.rmse_vol_points**2 for one in published], weights=weight))
    clean = sum(one.certificate is not None and one.certificate.clean for one in published)
    say(f"inside bid and ask: {100 * inside:.2f} % of quotes; RMSE {miss:.3f} vol points from the middle")
    say(f"free of arbitrage: {clean} of {_count(len(published), 'published surface')}, certified on a dense grid")
    say(
        f"a chain: {np.median([one.fit_ms for one in published]):.1f} ms to fit, "
        f"{np.median([one.certificate_ms for one in published]):.1f} ms to join and certify (medians); "
        f"all: {summary['wall_s']:.1f} s, of which compiling {summary['compile_s']:.1f} s"
    )


def _show_answers(name: str, told: dict[str, Any], say: Callable[[str], None]) -> None:
    from volgrad.tasks.answers import WHY_UNANSWERED

    say(f"{name}: {told['answered']:,} of {told['rows']:,} rows answered")
    for reason, count in told["unanswered"].items():
        say(f"{name}: {count:,} not answered, {reason}: {WHY_UNANSWERED[reason]}")


def _show_some(lines: Iterable[str], say: Callable[[str], None]) -> None:
    """The first few of lines of one kind."""
    listed = list(lines)
    for line in listed[:_TOLD]:
        say(line)
    if len(listed) > _TOLD:
        say(f"  ... and {len(listed) - _TOLD} more like this: summary.json holds all")


def _show_quarantined(quarantined: list[dict[str, str]], say: Callable[[str], None]) -> None:
    """Every file that was set aside by name, the first few with the reason."""
    for one in quarantined[:_TOLD]:
        say(f"file set aside: {one['source']}: {one['why']}")
    if names := ", ".join(one["source"] for one in quarantined[_TOLD:]):
        say(f"files set aside, too: {names}")


def _about(chain: dict[str, Any]) -> str:
    return f"{chain['status']}: {_called(chain)}: {chain['why']}"


def _expiry(one: dict[str, Any]) -> str:
    counts = ", ".join(f"{count} {reason}" for reason, count in one["left_out"].items())
    return f"expiry left out: {_called(one)}: {one['expiry'][:16]}: {counts}"


def _called(one: dict[str, Any]) -> str:
    return " ".join(part for part in (one["ccy"], one["ts"][:19], one["split"]) if part)


def _count(number: int, what: str) -> str:
    return f"{number:,} {what}{'' if number == 1 else 's'}"
