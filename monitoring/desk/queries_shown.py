"""The queries that a challenger lost most on, as its page shows them: the results of both, side by side."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from monitoring.desk import words
from monitoring.evaluation.evidence import Evidence
from monitoring.evaluation.lost_queries import LostQuery, Result
from monitoring.sentences import counted


@dataclass(frozen=True)
class ResultRow:
    """One place of both answers: title and score."""

    place: int
    champion: tuple[str, str] | None
    challenger: tuple[str, str] | None
    was: str
    """What came of the champion's, where anything did; the next, of the challenger's."""

    now: str


@dataclass(frozen=True)
class QueryRow:
    """A query with its rows of results."""

    query: str
    note: str
    lost: str
    results: tuple[ResultRow, ...]


def lost_queries(evidence: Evidence) -> tuple[QueryRow, ...]:
    """The worst first; none where no texts are read."""
    lost = () if evidence.text is None else evidence.text.lost
    return tuple(_row(query) for query in lost)


def _row(query: LostQuery) -> QueryRow:
    return QueryRow(
        query.query,
        counted(query.impressions, "impression"),
        words.signed(query.lost, 3),
        tuple(_results(query.champion, query.challenger)),
    )


def _results(champion: Sequence[Result], challenger: Sequence[Result]) -> Iterator[ResultRow]:
    for place in range(max(len(champion), len(challenger))):
        before, now = (each[place] if place < len(each) else None for each in (champion, challenger))
        yield ResultRow(place + 1, _both(before), _both(now), _label(before), _label(now))


def _both(result: Result | None) -> tuple[str, str] | None:
    return None if result is None else (result.title, words.number(result.score, 3))


def _label(result: Result | None) -> str:
    """``label 1``, where it has one above 0."""
    return f"label {result.label:g}" if result is not None and result.label else ""
