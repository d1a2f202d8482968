"""What the log counts of variants: of a span, of what is mature, by the surface's own label and columns."""

from datetime import timedelta

import psycopg
import pytest

from monitoring.evaluation.wordings import Span
from monitoring.records.wording_counts import read_counts, read_wordings
from tests.worlds.wording_log import ITEMS, NOW, seeded, showings, withdrawn, worded_items

HOUR = timedelta(hours=1)


@pytest.fixture
def log(connection: psycopg.Connection) -> psycopg.Connection:
    """Of surface ``titles``: two wordings of one thing shown two hours ago, one of them three days ago as well."""
    worded_items(
        connection, "titles", {"a": ("t", "First, said 'she'"), "b": ("t", 'the "other"\nway'), "c": ("t", "no")}
    )
    showings(connection, "titles", ("a", 50, 5), at=NOW - 2 * HOUR)
    showings(connection, "titles", ("b", 40, 8), at=NOW - 2 * HOUR)
    showings(connection, "titles", ("a", 30, 3), at=NOW - 72 * HOUR)
    withdrawn(connection, "titles", "b")
    return connection


def rows(connection: psycopg.Connection, hours: float = 24, **more: object) -> list[tuple[object, ...]]:
    span = Span(NOW - timedelta(hours=hours), NOW - ITEMS.label.within)
    return read_counts(connection, "titles", ITEMS, span, NOW).rows()


def test_counts_are_by_item_with_what_the_log_calls_it(log: psycopg.Connection) -> None:
    assert rows(log) == [
        ("a", "t", "First, said 'she'", 50, 5, False),
        ("b", "t", 'the "other"\nway', 40, 8, True),
    ]
    assert [row[3:5] for row in rows(log, 100)] == [(80, 8), (40, 8)]


def test_what_is_not_mature_late_of_another_kind_or_taken_back_does_not_count(log: psycopg.Connection) -> None:
    showings(log, "titles", ("c", 20, 20), at=NOW - ITEMS.label.within + timedelta(seconds=1))  # not known yet
    showings(log, "titles", ("b", 10, 10), at=NOW - 5 * HOUR, later=601)  # later than a label may come
    log.execute(
        "UPDATE feedback SET kind = 'dwell' WHERE surface = 'titles' AND impression_id LIKE 'a-%%' AND at < %s",
        [NOW - 48 * HOUR],
    )
    assert [row[3:5] for row in rows(log, 100)] == [(80, 5), (50, 8)]


def test_clicked_twice_is_clicked_once(log: psycopg.Connection) -> None:
    log.execute(
        "INSERT INTO feedback SELECT surface, impression_id, kind, value, at + interval '5 s', known_at, seq"
        " FROM feedback WHERE surface = 'titles'"
    )
    assert [row[3:5] for row in rows(log)] == [(50, 5), (40, 8)]


def test_other_surfaces_and_items_without_a_wording_are_left_out(log: psycopg.Connection) -> None:
    worded_items(log, "other", {"a": ("t", "elsewhere")})
    showings(log, "other", ("a", 9, 9), at=NOW - 3 * HOUR)
    worded_items(log, "titles", {"d": ("", "of nothing")})
    showings(log, "titles", ("d", 9, 9), at=NOW - 3 * HOUR)
    showings(log, "titles", ("unknown", 9, 9), at=NOW - 3 * HOUR)
    assert [row[0] for row in rows(log)] == ["a", "b"]


def test_the_report_is_on_a_span_or_on_all_of_the_log(log: psycopg.Connection) -> None:
    whole = read_wordings(log, "titles", ITEMS, since=None, now=NOW)
    assert (whole.impressions, whole.clicks, whole.variants, whole.of_things) == (120, 16, 2, 1)
    assert [(one.text, one.withdrawn) for one in whole.things[0].variants] == [
        ('the "other"\nway', True),
        ("First, said 'she'", False),
    ]
    assert whole.span.end == NOW - ITEMS.label.within
    day = read_wordings(log, "titles", ITEMS, since=NOW - 24 * HOUR, now=NOW)
    assert (day.impressions, day.clicks) == (90, 13)
    for nothing in (
        read_wordings(log, "nothing", ITEMS, since=None, now=NOW),
        read_wordings(log, "titles", ITEMS, since=NOW + HOUR, now=NOW),
    ):
        assert (nothing.impressions, nothing.things, nothing.traits) == (0, (), ())


def test_a_word_that_gains_in_the_log_is_called(connection: psycopg.Connection) -> None:
    seeded(connection, "titles", shown=120)
    found = read_wordings(connection, "titles", ITEMS, since=None, now=NOW)
    assert {trait.name for trait in found.traits[:2]} == {"“why”", "“how”"}
    assert all(trait.called for trait in found.traits[:2])
    assert found.variants == 120
