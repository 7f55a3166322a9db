"""What `market.json` says of a simulated market: settings, laws, and what happened in it."""

from collections.abc import Mapping
from dataclasses import asdict
from datetime import UTC, datetime, timedelta
from typing import Any

from volgrad.market.duration import format_duration
from volgrad.simulate import happenings, path, quoting, refresh, shared
from volgrad.simulate.exchange import Exchange
from volgrad.simulate.happenings import Mood
from volgrad.simulate.market import MarketSettings
from volgrad.simulate.plan import MAKER, TRUTH_EVERY_US, Plan, Written
from volgrad.simulate.table import TRUTH_REACH

__all__ = ["account"]


def account(plan: Plan, written: Written | None, exchanges: Mapping[str, Exchange]) -> dict[str, Any]:
    """What `market.json` tells; `written` is None before the work is done."""
    one = plan.markets[0]
    return {
        "made_by": MAKER,
        "version": plan.version,
        "complete": written is not None,
        "seed": plan.seed,
        "start": one.start.astimezone(UTC).isoformat(),
        "every": format_duration(plan.every_us),
        "every_us": plan.every_us,
        "moments": plan.ticks,
        "rows": "changes" if plan.changes_only else "chains",
        "files": plan.files(),
        "quotes": None if written is None else sum(written.rows.values()),
        "rows_by_file": None if written is None else written.rows,
        "truth": {
            "rows": None if written is None else written.truth_rows,
            "at_most_every": format_duration(TRUTH_EVERY_US),
            "k_in_atm_deviations": TRUTH_REACH.tolist(),
        },
        "columns": _COLUMNS,
        "markets": [_market(settings, exchanges[settings.ccy]) for settings in plan.markets],
        "laws": _laws(),
    }


def _laws() -> dict[str, Any]:
    return {
        "regimes": {mood.name.lower(): asdict(law) for mood, law in zip(Mood, happenings.LAWS, strict=True)},
        "jumps": {
            "spot_log_mean": happenings.JUMP_SPOT,
            "stress_mean": happenings.JUMP_STRESS,
            "fast_mean": happenings.JUMP_FAST,
            "down": happenings.JUMP_DOWN,
        },
        "factors": {name: factor._asdict() for name, factor in path.FACTORS.items()},
        "stress_half_life_days": path.STRESS_HALF_LIFE_DAYS,
        "mark_half_life_days": path.MARK_HALF_LIFE_DAYS,
        "quote_half_lives_minutes": {**shared.HALF_LIVES_MINUTES, **refresh.HALF_LIVES_MINUTES},
        "quote_errors_in_half_spreads": {
            "chain": shared.CHAIN_ERROR,
            "expiry": shared.EXPIRY_ERROR,
            "row": quoting.ROW_ERROR,
            "row_lasting": quoting.LASTING_ERROR,
            "refresh": quoting.FRESH_ERROR,
        },
    }


def _market(settings: MarketSettings, exchange: Exchange) -> dict[str, Any]:
    told = {name: value for name, value in asdict(settings).items() if name not in ("start", "every", "shock")}
    walk = exchange.walk
    return {
        **told,
        "regimes": [{"ts": _stamp(one.ts_us), "regime": one.mood.name.lower()} for one in walk.switches],
        "jumps": [{**one._asdict(), "ts": _stamp(one.ts_us)} for one in walk.jumps],
    }


def _stamp(ts_us: int) -> str:
    return (datetime(1970, 1, 1, tzinfo=UTC) + timedelta(microseconds=ts_us)).isoformat()


_COLUMNS = {
    "ts": "chains: when bid, ask and their sizes were made (a quote that was not refreshed keeps its own time); "
    "changes: when the quote changed",
    "cycle": "chains only: the chain's stamp, to which all other columns belong",
    "sequence": "changes only: number of the row in its file; a quote stands until its option's next row",
    "bid, ask": "coin; null = missing",
    "bid_iv": "fraction; 0 = no bid, or one below intrinsic value",
    "ask_iv": "fraction; 0 = no ask, 9.99 = the exchange's cap",
    "mark, mark_iv": "coin, fraction: the truth as it was some minutes ago, by design",
    "underlying": "forward that the row shows, USD; some rows are apart by some bp; the true one is in truth.parquet",
    "bid_size, ask_size, oi": "coin; 0 = no quote",
}
