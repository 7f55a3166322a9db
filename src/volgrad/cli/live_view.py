"""The picture of `volgrad demo` while it runs: a smile, the term structure, the errors, the progress."""

from datetime import UTC, datetime
from math import log

import numpy as np
from rich.console import Console, ConsoleOptions, Group, RenderResult
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from volgrad.cli.braille import Bars, Canvas, Curve, Range, bottom, framed, sparkline
from volgrad.cli.demo_run import Look

__all__ = ["SMALLEST", "STAGE_NAMES", "LiveView", "told"]

STAGE_NAMES = {"before": "before the shock", "at": "at the shock", "after": "after the shock"}

#: Columns and rows of the smallest terminal that the picture fits.
SMALLEST = (78, 22)
_WIDEST, _MARGIN = 132, 6  # characters; the second of an axis with its labels
_TALLEST, _OTHER_LINES = 19, 12
_STRIP, _CLOSE = 5, Range(-2.0, 2.0)  # characters; vol points
_SMILE_DAYS = 30.0  # the expiry nearest to this is shown
_SMILE_REACH = (-3.0, 2.2)  # standard deviations at the first chain: room on the left for a fall
_VOL_STEP = 10.0  # vol points to which axes are rounded
_QUOTES, _FIT, _TRUTH, _ATM, _RAW = "blue", "bold green", "yellow", "bold green", "magenta"
_TENORS = ((1, "1d"), (7, "1w"), (30, "1m"), (91, "3m"), (365, "1y"))


class LiveView:
    """Shows the last chain that it was given; axes only ever widen, so that the market is seen to move.

    Args:
        planned: how many chains there will be.
        first: the first chain; it decides which expiry is shown.
    """

    def __init__(self, planned: int, first: Look) -> None:
        chain, truth = first.fitted.chain, first.simulated.truth
        nearest = int(np.argmin(np.abs(chain.expiry_years * 365.0 - _SMILE_DAYS)))
        years, forward = float(chain.expiry_years[nearest]), float(chain.forward_usd[nearest])
        deviation = float(np.sqrt(truth.total_variance(0.0, years)))
        self._planned = planned
        self._expiry_us = int(chain.expiry_us[nearest])
        self._log_strike = Range(*(log(forward) + deviation * reach for reach in _SMILE_REACH))
        self._log_days = Range(log(0.75), log(1.1 * 365.0 * float(chain.expiry_years[-1])))
        self._smile_vol = self._atm_vol = Range(np.inf, -np.inf)
        self._errors: list[float] = []
        self._raw: list[float] = []
        self._seconds_left = 0.0
        self._look = first

    def add(self, look: Look, seconds_left: float) -> None:
        """Show this chain from now on."""
        self._look, self._seconds_left = look, seconds_left
        self._errors.append(float("nan") if look.error is None else look.error.rmse)
        self._raw.append(look.middle.rmse)

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        """Lay it out for the console's size."""
        width = min(options.max_width, _WIDEST)
        height = max(min(console.height - _OTHER_LINES, _TALLEST), 7)
        right = int(0.3 * width)
        plots = Table.grid(padding=(0, 2, 0, 0))
        left_lines = self._smile(width - right - 2 * _MARGIN - 3, height - 1)
        plots.add_row(Text("\n").join(left_lines), Text("\n").join(self._term_structure(right, height)))
        yield Group(self._headline(), Text(), plots, Text(), *self._tracks(width), *self._standing(width))

    def _headline(self) -> Text:
        look = self._look
        moment = datetime.fromtimestamp(look.simulated.ts_us / 1e6, UTC)
        style = "bold red" if look.stage == "at" else "bold"
        return Text.assemble(
            ("volgrad demo", "bold"),
            f"   simulated {look.simulated.ccy}   {moment:%a %d %b %Y %H:%M} UTC   ",
            (STAGE_NAMES[look.stage], style),
        )

    def _smile(self, width: int, height: int) -> list[Text]:
        """One expiry twice: volatilities, and below the same less the truth, where spreads can be seen."""
        chain, surface, truth = self._look.fitted.chain, self._look.fitted.surface, self._look.simulated.truth
        listed = np.flatnonzero(chain.expiry_us == self._expiry_us)
        index = int(listed[0]) if listed.size else 0
        rows, years, forward = chain.rows(index), chain.expiry_years[index], chain.forward_usd[index]
        x, strike = self._log_strike, np.log(chain.strike_usd[rows])
        shown = (strike >= x.low) & (strike <= x.high)
        strike, low, high = strike[shown], 100.0 * chain.bid_iv[rows][shown], 100.0 * chain.ask_iv[rows][shown]
        at = np.linspace(x.low, x.high, 2 * width)
        at = at[(at >= strike.min(initial=x.high)) & (at <= strike.max(initial=x.low))]
        true = 100.0 * truth.implied_vol(at - log(forward), years)
        fit = true + np.nan if surface is None else 100.0 * surface.implied_vol(at - log(forward), years)
        at_quotes = 100.0 * truth.implied_vol(strike - log(forward), years)
        self._smile_vol = self._smile_vol.covering(np.concatenate([low, high, true]), _VOL_STEP)
        tall = height - _STRIP
        canvas, strip = Canvas(width, tall, x, self._smile_vol), Canvas(width, _STRIP, x, _CLOSE)
        canvas.draw(Bars(strike, low, high, _QUOTES))
        below, above = (np.clip(side - at_quotes, *_CLOSE) for side in (low, high))
        strip.draw(Bars(strike, below, above, _QUOTES))
        for curve in (Curve(at, true, _TRUTH), Curve(at, fit, _FIT)):
            canvas.draw(curve)
        strip.draw(Curve(at, fit - true, _FIT))
        expiry = datetime.fromtimestamp(self._expiry_us / 1e6, UTC)
        legend = Text.assemble(("bid-ask", _QUOTES), " ", ("fit", _FIT), " ", ("truth", _TRUTH))
        title = Text(f"Smile of {expiry:%d %b}, % vol: ", "bold").append_text(legend)
        labels = [(float(value), f"{np.exp(value):,.0f}") for value in np.log(_round_numbers(x))]
        return [
            title,
            *framed(canvas, self._smile_vol),
            Text("Less the truth, vol points", "bold"),
            *framed(strip, _CLOSE),
            *bottom(x, labels, width),
        ]

    def _term_structure(self, width: int, height: int) -> list[Text]:
        surface, truth = self._look.fitted.surface, self._look.simulated.truth
        x = self._log_days
        at = np.linspace(x.low, x.high, 2 * width)
        years = np.exp(at) / 365.0
        curves = [Curve(at, 100.0 * truth.implied_vol(0.0, years), _TRUTH)]
        if surface is not None:
            curves.append(Curve(at, 100.0 * surface.implied_vol(0.0, years), _ATM))
        self._atm_vol = self._atm_vol.covering(np.concatenate([curve.y for curve in curves]), _VOL_STEP)
        canvas = Canvas(width, height, x, self._atm_vol)
        for curve in curves:
            canvas.draw(curve)
        labels = [(log(days), label) for days, label in _TENORS if x.low <= log(days) <= x.high]
        title = Text("At the money, by expiry", "bold")
        return [title, *framed(canvas, self._atm_vol), *bottom(x, labels, width)]

    def _tracks(self, width: int) -> list[Text]:
        """Error of the fit and of the raw middles over the run, on one scale."""
        top = float(np.nanmax([*self._errors, *self._raw, 1e-6]))
        room = width - 48
        lines = []
        for name, values, style in (("fit", self._errors, _FIT), ("raw mids", self._raw, _RAW)):
            now = Text.assemble(f"Error against truth, {name:8} ", (f"{values[-1]:5.2f}", "bold"), " vol points  ")
            lines.append(now.append(sparkline(values, room, top), style))
        return lines

    def _standing(self, width: int) -> list[Text | Table]:
        look = self._look
        fitted = look.fitted
        numbers = Text.assemble(
            f"Inside bid-ask {fitted.inside:4.0%} of {fitted.chain.n_rows} quotes   ",
            _arbitrage(look),
            f"   {look.fit_ms:.0f} ms, {fitted.status}",
        )
        line = Table.grid(padding=(0, 2, 0, 0))
        bar = ProgressBar(total=self._planned, completed=look.number + 1, width=max(width - 40, 10))
        line.add_row(bar, f"chain {look.number + 1} of {self._planned}", f"{self._seconds_left:.0f} s left")
        return [numbers, line]


def told(look: Look, planned: int) -> str:
    """The chain in one line, for output that is no terminal."""
    moment = datetime.fromtimestamp(look.simulated.ts_us / 1e6, UTC)
    error = float("nan") if look.error is None else look.error.rmse
    return (
        f"chain {look.number + 1:3d} of {planned}  {moment:%Y-%m-%d %H:%M}  {STAGE_NAMES[look.stage]:16}  "
        f"error {error:.2f} vol points (raw mids {look.middle.rmse:.2f})  inside {look.fitted.inside:.0%}  "
        f"{_arbitrage(look).plain}  {look.fit_ms:.0f} ms"
    )


def _arbitrage(look: Look) -> Text:
    if look.fitted.surface is None:
        return Text("refused", "bold red")
    return Text.assemble("arbitrage: ", ("none", "green"))


def _round_numbers(log_strike: Range) -> np.ndarray:
    """Four or five round strikes within the range."""
    low, high = np.exp(log_strike)
    decade = 10.0 ** np.floor(np.log10((high - low) / 3.0))
    step = next(decade * size for size in (1.0, 2.0, 5.0, 10.0) if (high - low) / (decade * size) <= 5.0)
    return step * np.arange(np.ceil(low / step), np.floor(high / step) + 1.0)
