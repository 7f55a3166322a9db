"""Which chains are shown in full."""

import re
from collections.abc import Sequence

from volgrad.report.shown import chain_name
from volgrad.tasks.fitted import FittedChain

__all__ = ["MOST_SHOWN", "choose"]

#: Chains shown in full, at most: each costs the page about 250 kB (measured), and the reader's patience.
MOST_SHOWN = 30


def choose(fitted: Sequence[FittedChain], asked: Sequence[str] = ()) -> tuple[dict[int, str], list[str]]:
    """Places in `fitted` to show in full, with the reason, and sentences on what was asked for and is not shown.

    The worst, the median and the best by share inside (then by RMSE), then those whose name begins with a text of
    `asked`, such as "BTC 2026-01-01T09:18"; letter case and a blank for the T do not matter.
    """
    roles: dict[int, str] = {}
    ranked = sorted(
        (place for place, one in enumerate(fitted) if one.surface is not None),
        key=lambda place: (fitted[place].inside, -fitted[place].rmse_vol_points),
    )
    if ranked:
        for role, rank in (("worst", 0), ("best", len(ranked) - 1), ("median", len(ranked) // 2)):
            roles.setdefault(ranked[rank], role)
        if len(ranked) == 1:
            roles[ranked[0]] = "the chain"
        order = ("worst", "median", "best", "the chain")
        roles = dict(sorted(roles.items(), key=lambda item: order.index(item[1])))
    notes = []
    names = [_plain(chain_name(one)) for one in fitted]
    for text in asked:
        found = [place for place, name in enumerate(names) if name.startswith(_plain(text))]
        if not found:
            notes.append(
                f"Asked for in full, but no chain is called so: {text!r} (underlying, then time, as in the index)."
            )
        for place in found:
            roles.setdefault(place, "asked for")
    if len(roles) > MOST_SHOWN:
        notes.append(
            f"Of the {len(roles):,} chains asked for, {MOST_SHOWN} are shown in full: ask for fewer at a time."
        )
        roles = dict(list(roles.items())[:MOST_SHOWN])
    return roles, notes


def _plain(text: str) -> str:
    """A name without what readers write differently."""
    return " ".join(re.sub(r"(?<=\d)t(?=\d)", " ", text.lower()).split())
