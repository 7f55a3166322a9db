"""One chain in full: its figures and the HTML around them."""

from html import escape

from volgrad.report.accuracy import learning_figure, residual_figures, truth_figures
from volgrad.report.cards import card
from volgrad.report.figure import Figure
from volgrad.report.header import tile
from volgrad.report.proof import proof_figures
from volgrad.report.shape import density_figure, surface_figure, term_figure
from volgrad.report.shown import Shown, chain_name
from volgrad.report.smiles import smile_figures

__all__ = ["chain_section"]

_SMILES = (
    "Bars run from bid to ask, in implied volatility; the coloured line is the fitted surface. "
    "A bar that the line misses is red."
)


def chain_section(shown: Shown) -> str:
    """The section of one chain."""
    smiles = "".join(card(figure) for figure in smile_figures(shown))
    dotted = " Dotted: the truth." if shown.truth is not None else ""
    return f"""<section class="chain" id="{shown.anchor}">
<header><span class="role">{escape(shown.role)}</span><h2>{escape(chain_name(shown.fitted))}</h2></header>
<dl class="tiles small">{_tiles(shown)}</dl>
{_why(shown)}{_key(shown)}
<h3>Smiles</h3><p>{_SMILES}{dotted}</p>
<div class="smiles">{smiles}</div>
{_surface_part(shown)}{_fit_part(shown)}</section>"""


def _tiles(shown: Shown) -> str:
    fitted, chain = shown.fitted, shown.fitted.chain
    left = sum(chain.left_out.values())
    tiles = [tile("quotes", f"{chain.n_rows:,}", f"{shown.expiries.size} expiries, {left:,} rows left out")]
    if fitted.surface is not None:
        tiles.append(tile("inside bid and ask", f"{100 * fitted.inside:.1f} %"))
        tiles.append(tile("RMSE", f"{fitted.rmse_vol_points:.2f}", "vol points"))
    certificate = fitted.certificate
    if certificate is not None:
        value, tone = ("none", "good") if certificate.clean else ("found", "bad")
        tiles.append(tile("arbitrage", value, f"least g {certificate.min_g:.2g}", tone))
    tiles.append(tile("fit", f"{fitted.fit_ms:.1f} ms", f"and {fitted.certificate_ms:.1f} ms certificate"))
    return "".join(tiles)


def _why(shown: Shown) -> str:
    if shown.fitted.surface is not None:
        return ""
    return f'<p class="refused"><b>{escape(shown.fitted.status)}</b>: {escape(shown.fitted.why)}</p>'


def _key(shown: Shown) -> str:
    """The colour of each expiry, once for all figures of the chain."""
    chips = "".join(
        f'<span><i style="background:{colour}"></i>{escape(label)} <small>{escape(tenor)}</small></span>'
        for colour, label, tenor in zip(shown.colours, shown.labels, shown.tenors, strict=True)
    )
    return f'<div class="chips">{chips}</div>'


def _surface_part(shown: Shown) -> str:
    if shown.fitted.surface is None:
        return ""
    side = card(term_figure(shown)) + card(density_figure(shown))
    return f'<h3>The surface</h3><div class="pair">{card(surface_figure(shown))}<div class="stack">{side}</div></div>'


def _fit_part(shown: Shown) -> str:
    parts = []
    if shown.fitted.surface is not None:
        if shown.truth is not None:
            parts.append(_pair("Against the truth", truth_figures(shown)))
        parts.append(_pair("Residuals", residual_figures(shown)))
    learning = [learning_figure(shown)] if shown.fitted.curve else []
    if shown.fitted.surface is not None and shown.fitted.certificate is not None:
        parts.append(_pair("Certificate and learning", [*proof_figures(shown), *learning]))
    elif learning:
        parts.append(_pair("Learning", learning))
    return "".join(parts)


def _pair(name: str, figures: list[Figure]) -> str:
    return f'<h3>{name}</h3><div class="pair">{"".join(map(card, figures))}</div>'
