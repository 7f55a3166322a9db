"""Laws of the report: whole, self-contained, safe, bounded, and a function of its arguments."""

import dataclasses
import json
import re
from html.parser import HTMLParser

import numpy as np
import pytest
from plotly.offline import get_plotlyjs

from tests.report.fitted_chains import as_fitted, fitted, part, refused, truth
from volgrad.report import write_report
from volgrad.report.chosen import MOST_SHOWN, choose
from volgrad.report.page import report_html
from volgrad.report.shown import chain_name


def own_part(page: str) -> str:
    """The page without the library that is embedded in it."""
    assert page.count(get_plotlyjs()) == 1
    return page.replace(get_plotlyjs(), "")


class Reader(HTMLParser):
    """Elements, attributes and figures of a page; an element that is not closed is an error."""

    VOID = ("meta", "link", "input", "br", "hr")

    def __init__(self, page: str) -> None:
        super().__init__()
        self.open, self.attributes, self.figures, self.cells = [], [], [], []
        self.feed(page)
        assert self.open == []

    def handle_starttag(self, tag, attrs):
        self.attributes += [(tag, name, value) for name, value in attrs]
        if tag not in self.VOID:
            self.open.append((tag, dict(attrs)))

    def handle_endtag(self, tag):
        assert self.open.pop()[0] == tag

    def handle_data(self, data):
        if self.open and self.open[-1] == ("script", {"type": "application/json"}):
            self.figures.append(json.loads(data))
        elif self.open and self.open[-1][0] == "td":
            self.cells.append(data)


def test_a_report_is_written_whole_and_within_its_bound(tmp_path):
    target = tmp_path / "deep" / "report.html"
    assert write_report(target, fitted(), title="Three chains") == target
    assert target.stat().st_size < 15_000_000
    assert [path.name for path in target.parent.iterdir()] == ["report.html"]


def test_the_page_loads_nothing():
    page = own_part(report_html(fitted(), title="t"))
    assert "http:" not in page
    assert "https:" not in page
    assert "@import" not in page
    for tag, name, value in Reader(page).attributes:
        if name in ("src", "href", "srcset", "action"):
            assert value == "data:," if tag == "link" else value.startswith("#")


def test_links_lead_somewhere():
    attributes = Reader(own_part(report_html(fitted(), title="t", chains=["BTC"]))).attributes
    anchors = [value for _, name, value in attributes if name == "id"]
    links = {value[1:] for tag, name, value in attributes if (tag, name) == ("a", "href")}
    assert len(anchors) == len(set(anchors))
    assert links <= set(anchors)


def test_the_same_arguments_give_the_same_page():
    first, second = (report_html(fitted(), title="t", summary={"notes": ["a"]}) for _ in range(2))
    assert first == second


def test_no_text_of_the_input_becomes_markup():
    evil = "</script><script>alert(1)</script>&<b>'\""
    chain = dataclasses.replace(fitted()[0].chain, ccy="<i>", split=evil, left_out={evil: 3})
    bad = refused(dataclasses.replace(fitted()[0], chain=chain), why=evil)
    fine = dataclasses.replace(fitted()[1], why=evil, chain=dataclasses.replace(fitted()[1].chain, split=evil))
    summary = {"notes": [evil], "command": [evil], "version": evil, "generated": evil, "rejections": {evil: 4}}
    summary["chains"] = [{"ts": "2026", "ccy": evil, "status": "refused", "why": evil}]
    page = own_part(report_html([bad, fine], title=evil, summary=summary, chains=[evil, "<i>"]))
    Reader(page)  # well-formed all the same
    assert "<script>alert" not in page
    assert "<b>'" not in page
    assert "<i>" not in page


def test_every_chain_is_in_the_index():
    entry = {"ts": "2026-01-04T10:00:00.000000Z", "ccy": "ETH", "split": None, "status": "refused", "why": "empty"}
    cells = Reader(own_part(report_html(fitted(), title="t", summary={"chains": [entry]}))).cells
    for one in fitted():
        assert chain_name(one).split(" ", 1)[1] in cells
    assert "2026-01-04 10:00" in cells


def test_a_refused_chain_is_told_and_can_be_shown():
    mixed = [fitted()[0], refused(fitted()[1])]
    page = own_part(report_html(mixed, title="t", chains=[chain_name(mixed[1])]))
    assert page.count("too few quotes") >= 2
    assert 'id="chain-1"' in page
    Reader(own_part(report_html([refused(fitted()[0])], title="only refused")))
    Reader(own_part(report_html([], title="nothing at all")))


def test_a_chain_of_one_expiry_and_one_quote_is_drawn():
    chain = fitted()[0].chain
    for rows in (chain.rows(3), slice(chain.rows(3).start, chain.rows(3).start + 1)):
        alone = as_fitted(part(chain, 3, rows), truth(chain))
        reader = Reader(own_part(report_html([alone], title="t", truth=truth)))
        assert len(reader.figures) == 12  # 1 smile, 3 of the surface, 2 truth, 2 residuals, 3 certificate, learning


def test_figures_hold_short_numbers_and_no_other():
    def check(value):
        if isinstance(value, dict | list):
            for item in value.values() if isinstance(value, dict) else value:
                check(item)
        elif isinstance(value, float):
            assert len(repr(value).replace("-", "").replace(".", "").split("e")[0].lstrip("0")) <= 6, value

    figures = Reader(own_part(report_html(fitted(), title="t", truth=truth))).figures
    assert len(figures) > 40
    for figure in figures:
        check(figure["data"])


def test_an_unclean_certificate_is_named_in_the_head():
    certificate = fitted()[1].certificate._replace(clean=False, min_g=-0.2)
    mixed = [fitted()[0], dataclasses.replace(fitted()[1], certificate=certificate)]
    head = report_html(mixed, title="t").split("</header>")[0]
    assert "1 of 2" in head
    assert chain_name(mixed[1]) in head
    assert "certificates are clean" in report_html(fitted(), title="t").split("</header>")[0]


def test_rejections_of_all_sources_are_added_up():
    records = [{"source": name, "reason": "itm", "count": 1200} for name in ("a", "b")]
    page = own_part(report_html(fitted(), title="t", summary={"rejections": records}))
    assert "2,400 rows of the input" in page
    assert "in the money: the out-of-the-money side is used" in page


@pytest.mark.parametrize("asked", ["BTC 2026-01-05T09:17", "btc 2026-01-05 09:17", "BTC  2026-01-05"])
def test_chains_are_asked_for_by_the_beginning_of_their_name(asked):
    names = [chain_name(one) for one in fitted()]
    wanted = re.sub("[tT](?=[0-9])", " ", asked).upper()
    roles, notes = choose(fitted(), [asked])
    assert notes == []
    assert {place for place, name in enumerate(names) if name.startswith(" ".join(wanted.split()))} <= set(roles)


def test_what_cannot_be_shown_is_said():
    roles, notes = choose(fitted(), ["DOGE"])
    assert set(roles.values()) == {"worst", "median", "best"}
    assert "DOGE" in notes[0]
    roles, notes = choose(list(fitted()) * 20, ["BTC"])
    assert len(roles) == MOST_SHOWN
    assert len(notes) == 1


def test_worst_and_best_are_by_share_inside():
    shares = [0.97, np.nan, 0.91, 0.99, 0.95]
    many = [dataclasses.replace(fitted()[0], inside=share) for share in shares]
    many[1] = refused(many[1])
    roles, _ = choose(many)
    assert (roles[2], roles[0], roles[3]) == ("worst", "median", "best")
    assert 1 not in roles


def test_a_thousand_chains_stay_within_the_bound():
    day_us = 86_400_000_000
    base = fitted()[0]
    many = [
        dataclasses.replace(base, chain=dataclasses.replace(base.chain, ts_us=base.chain.ts_us + day * day_us))
        for day in range(1000)
    ]
    page = report_html(many, title="t", chains=["BTC"])
    assert len(page.encode()) < 15_000_000
    assert page.count("<tr><td>20") == 1000
