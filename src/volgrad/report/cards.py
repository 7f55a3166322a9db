"""A figure's place in the page: its card, with its data beside it, to be drawn when the reader comes near."""

import json
from html import escape

from volgrad.report.figure import Figure

__all__ = ["card", "embedded"]


def card(figure: Figure) -> str:
    """HTML of one figure; `page.js` draws it from the JSON inside."""
    says = f"<p>{escape(figure.says)}</p>" if figure.says else ""
    key = f'<span class="key">{escape(figure.key)}</span>' if figure.key else ""
    data = {"data": figure.data, "layout": figure.layout, "bar": figure.bar}
    return (
        f'<figure class="card"><figcaption><h4>{escape(figure.title)}{key}</h4>{says}</figcaption>'
        f'<div class="plot" style="height:{figure.height}px" role="img" aria-label="{escape(figure.title)}">'
        f'<script type="application/json">{embedded(data)}</script></div></figure>'
    )


def embedded(data: object) -> str:
    """JSON that may stand in a script element: no text in it can end the element.

    >>> embedded({"text": "</script>"})
    '{"text":"\\\\u003c/script>"}'
    """
    text = json.dumps(data, separators=(",", ":"), ensure_ascii=False, allow_nan=False)
    return text.replace("<", "\\u003c")
