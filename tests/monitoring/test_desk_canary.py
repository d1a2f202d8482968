"""The desk's pages of a canary: how it stands, how it went, and its path."""

from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path
from re import findall

import pytest

from infra.postgres.connections import connect
from models.versions import canaries
from models.versions.canaries import Look, Opened
from monitoring.desk.canary_shown import shown
from tests.worlds.canaries import QUICK, back_canary, end_canary
from tests.worlds.desk import Browser, DeskWorld, cheap_hashes

FIGURES = {"users": 90, "users_control": 80, "requests": 200, "requests_control": 190, "ranked": 1.0} | dict.fromkeys(
    ("sample_ratio", "errors", "empty", "slow", "clicks", "scores"), 0.0
)


@pytest.fixture
def world(database: str, monkeypatch: pytest.MonkeyPatch) -> DeskWorld:
    """A feed with a champion, and its analyst Ada."""
    cheap_hashes(monkeypatch)
    made = DeskWorld(database)
    made.user("ada")
    made.promoted("feed", "4", previous=None, hours=3)
    return made


@pytest.fixture
def ada(world: DeskWorld) -> Iterator[Browser]:
    with world.browser() as browser:
        assert browser.sign_in("ada").status_code == 303
        yield browser


def tried(world: DeskWorld) -> canaries.CanaryRecord:
    """Version 5, of which nothing is known at the first look, and ever more later."""
    from flows.review.canaries import as_settings

    with connect(world.url) as connection:
        update_id, decision_id = back_canary(connection, "5", "4")
        files = Path("/nowhere").as_uri()
        opened = Opened(
            "feed", update_id, "5", files, "4", "salt", as_settings(QUICK), world.now - timedelta(hours=1), decision_id
        )
        record = canaries.begin(connection, opened)
        for minute in range(10):
            wide = 1 / (1 + minute)
            known = {"success": 1.1, "lower": 1.1 - wide, "upper": 1.1 + wide if minute > 1 else None}
            point = {**FIGURES, "elapsed_s": 60.0 * (minute + 1), **(known if minute else dict.fromkeys(known))}
            canaries.add_look(connection, record, Look(world.now + timedelta(minutes=minute), "wait", point))
    return record


def test_a_surface_without_a_canary_shows_none(ada: Browser) -> None:
    assert "canary" not in ada.get("/feed").text


def test_a_canary_that_runs_is_on_the_page_of_its_surface_and_of_its_update(world: DeskWorld, ada: Browser) -> None:
    record = tried(world)
    for path in ("/feed", f"/feed/updates/{record.update_id}"):
        page = ada.get(path)
        assert page.status_code == 200
        assert "Version 5 is a canary" in page.text
        assert "Updates wait for its end" in page.text
        assert "90, control 80" in page.text
        assert len(findall("<svg", page.text.partition('id="canary"')[2].partition("</section>")[0])) == 7
    assert "it is tried on live traffic" in page.text
    assert "let through as a canary" in ada.get("/").text


def test_a_canary_that_has_ended_says_how_and_why(world: DeskWorld, ada: Browser) -> None:
    record = tried(world)
    end_canary(world.url, record, "promoted")
    assert "Version 5 was a canary, and was promoted" in ada.get("/feed").text
    page = ada.get(f"/feed/updates/{record.update_id}").text
    assert "Its canary promoted this challenger." in page
    assert "success measure is 10\N{NO-BREAK SPACE}% higher" in page
    assert "at the end of its canary" in page


def test_the_confidence_sequence_is_drawn_as_it_narrows(world: DeskWorld) -> None:
    record = tried(world)
    with connect(world.url) as connection:
        drawn = shown(record, canaries.looks(connection, record.canary_id), world.now).success
    assert drawn is not None
    places = [tuple(map(float, place.split())) for place in drawn.band.strip("MZ").split("L")]
    above, below = places[: len(places) // 2], places[len(places) // 2 :][::-1]
    assert [x for x, _ in above] == [x for x, _ in below], "one after the other in time"
    heights = [low - high for (_, high), (_, low) in zip(above, below, strict=True)]
    assert heights == sorted(heights, reverse=True)
    assert heights[-1] < heights[0] / 2
    assert drawn.equal < drawn.allowed, "a loss lies below"
