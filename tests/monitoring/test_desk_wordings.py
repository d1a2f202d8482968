"""The desk's page on wordings, against a real database."""

import re
from collections.abc import Iterator
from datetime import timedelta

import pytest

from infra.postgres.connections import connect
from monitoring.live.losers import Loser
from monitoring.records import stopped_variants
from tests.monitoring.test_desk import read
from tests.worlds import wording_log
from tests.worlds.desk import Browser, DeskWorld, cheap_hashes


@pytest.fixture
def world(database: str, monkeypatch: pytest.MonkeyPatch) -> DeskWorld:
    """A feed whose items are variants, its analyst Ada, and a search whose items are none."""
    cheap_hashes(monkeypatch)
    made = DeskWorld(database, worded={"feed": wording_log.ITEMS})
    made.user("ada")
    made.user("ben", surface="search")
    return made


@pytest.fixture
def ada(world: DeskWorld) -> Iterator[Browser]:
    with world.browser() as browser:
        assert browser.sign_in("ada").status_code == 303
        yield browser


def page(browser: Browser, span: str = "week") -> str:
    answer = browser.get(f"/feed/wordings?span={span}")
    assert answer.status_code == 200
    return str(answer.text)


def test_what_gains_is_shown_with_bounds_and_bars(world: DeskWorld, ada: Browser) -> None:
    with connect(world.url, autocommit=True) as connection:
        wording_log.seeded(connection, "feed", shown=200)
    html = page(ada)
    text = read(html)
    assert "1 trait of wordings gains, 1 loses." in text
    assert re.search(r"“why” 40 things \+\d+.%", text)
    assert re.search(r"“how” 40 things −\d+.%", text)
    assert html.count('class="bar better"') >= 1
    assert html.count('class="bar worse"') >= 1
    assert "120 wordings of" in text
    assert "24,000 impressions" in text
    assert text.count("stopped") == 8  # two each of four things
    assert '<a href="/feed/wordings?span=week" aria-current="true">a week</a>' in html
    assert 'href="/feed/wordings"' in ada.get("/feed").text


def test_the_best_of_a_thing_is_marked_and_others_are_behind(world: DeskWorld, ada: Browser) -> None:
    with connect(world.url, autocommit=True) as connection:
        wording_log.worded_items(
            connection, "feed", {"a": ("t", "the good"), "b": ("t", "the bad"), "c": ("t", "the new")}
        )
        counts = [("a", 3000, 300), ("b", 3000, 100), ("c", 10, 1)]
        wording_log.showings(connection, "feed", *counts, at=world.now - timedelta(hours=2))
        wording_log.withdrawn(connection, "feed", "b")
    rows = re.findall(r"<tr>.*?</tr>", page(ada), re.DOTALL)
    good, bad, new = (next(read(row) for row in rows if name in row) for name in ("the good", "the bad", "the new"))
    assert "behind stopped" in bad
    assert "3,000" in good
    assert "10 %" in good.replace("\N{NO-BREAK SPACE}", " ")
    assert not {"best", "behind", "stopped"} & set(new.split())
    html = page(ada)
    assert "A trait is spoken of once the wordings of 30 things or more differ in it, and none does yet." in read(html)


def test_a_wording_with_markup_is_text(world: DeskWorld, ada: Browser) -> None:
    evil = '<script>alert("x")</script>'
    with connect(world.url, autocommit=True) as connection:
        items = {f"{thing}-{way}": (f"{thing} {evil}", f"{way} {evil}") for thing in range(35) for way in "ab"}
        wording_log.worded_items(connection, "feed", items)
        counts = [(item, 20, 4 if item.endswith("a") else 1) for item in items]
        wording_log.showings(connection, "feed", *counts, at=world.now - timedelta(hours=1))
    html = page(ada)
    assert "<script" not in html
    assert "&lt;script&gt;alert(&#34;x&#34;)&lt;/script&gt;" in html


def test_spans_are_a_day_a_week_and_all_of_the_log(world: DeskWorld, ada: Browser) -> None:
    with connect(world.url, autocommit=True) as connection:
        wording_log.worded_items(connection, "feed", {"a": ("t", "one"), "b": ("t", "two")})
        for days, shown in ((0.5, 10), (3, 20), (30, 40)):
            counts = [(item, shown, 2) for item in "ab"]
            wording_log.showings(connection, "feed", *counts, at=world.now - timedelta(days=days))
    for span, impressions in (("day", 20), ("week", 60), ("all", 140)):
        assert f"{impressions} impressions, of which" in read(page(ada, span))


def test_where_there_is_nothing_it_says_so(world: DeskWorld, ada: Browser) -> None:
    text = read(page(ada))
    assert "Nothing was shown in this time." in text
    assert "Things and their wordings" not in text
    with connect(world.url, autocommit=True) as connection:
        wording_log.worded_items(connection, "feed", {"a": ("t", "one")})
        wording_log.showings(connection, "feed", ("a", 10, 0), at=world.now - timedelta(hours=1))
    text = read(page(ada))
    assert "1 wording of 1 thing, 10 impressions" in text
    assert "No thing was shown in several wordings, so there is nothing to compare." in text


def test_a_surface_without_variants_has_no_such_page_and_no_link(world: DeskWorld) -> None:
    with world.browser() as browser:
        browser.sign_in("ben")
        assert browser.get("/search/wordings").status_code == 404
        assert "wordings" not in browser.get("/search").text
        assert browser.get("/feed/wordings").status_code in (403, 404)


def test_a_span_that_there_is_not_is_not_found_and_a_stranger_is_sent_to_the_door(
    world: DeskWorld, ada: Browser
) -> None:
    assert ada.get("/feed/wordings?span=century").status_code == 404
    with world.browser() as stranger:
        assert stranger.get("/feed/wordings").status_code == 303


def test_what_was_stopped_is_listed_with_its_reason(world: DeskWorld, ada: Browser) -> None:
    assert "Stopped" not in read(page(ada))
    loser = Loser("h<1>", "h2", 900, 20, 2_000, 200, evidence=700.0, chance=0.05 / 3)
    with connect(world.url, autocommit=True) as connection:
        stopped_variants.write(connection, "feed", "a1", loser, now=world.now)
    html = page(ada)
    assert "a1: h<1>" in read(html)
    assert loser.reason in read(html)
    assert "h<1>" not in html
