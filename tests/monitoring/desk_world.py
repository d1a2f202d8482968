"""A database in which challengers wait, and the desk over it.

Figures are measured by the real functions on a small seeded window; decisions are written by the real records. What an
approval measures again needs a whole loop, and is tested with one in ``tests/flows``.
"""

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from functools import cache
from html import unescape
from typing import Any

import numpy as np
import pytest
from argon2 import PasswordHasher
from fastapi.testclient import TestClient

from infra.errors import MillraceError
from infra.postgres.connections import connect
from monitoring.desk import accounts
from monitoring.desk.app import Desk, create_app
from monitoring.desk.pages import Links
from monitoring.evaluation import compare
from monitoring.records import evidence_store as records
from monitoring.records.review import Decided, Refused
from tests.monitoring.worlds import NAMES, window

NOW = datetime(2026, 3, 1, 12, 30, tzinfo=UTC)
PASSWORD = "correct horse battery"
DESK = "http://desk.test"


def cheap_hashes(monkeypatch: pytest.MonkeyPatch) -> None:
    """Passwords that cost a millisecond: the tests try dozens."""
    hasher = PasswordHasher(time_cost=1, memory_cost=64, parallelism=1)
    monkeypatch.setattr(accounts, "hasher", lambda: hasher)
    accounts.decoy.cache_clear()


@cache
def figures() -> dict[str, Any]:
    """Of a challenger that is better overall and worse for the readers of one region."""
    from monitoring.checks.window import Expected, as_figures, check_window
    from monitoring.evaluation import drift

    part, before = window(seed=2, shift=1.0), window(seed=1)
    start, end = NOW - timedelta(hours=1, minutes=30), NOW - timedelta(minutes=30)
    region = np.array(["north", "south", "west", "east"])[part.request % 4]
    lost = np.where(region == "west", part.blurred(1.6, 3), part.truth)
    champion = part.blurred(0.5, 1)
    samples = [
        drift.sample(before.dense, NAMES, {"label": before.label, "region": ["north", "west"] * 1200}, seed=1),
        drift.sample(part.dense, NAMES, {"label": part.label, "region": region}, seed=2),
    ]
    psi = {column: stability(drift.histogram(samples[0][column], samples[1][column])) for column in samples[0].columns}
    measured = drift.Drift(*samples, dict(sorted(psi.items(), key=lambda pair: -pair[1])), drift.THRESHOLD, None)
    older = compare.paired(before.label, before.request, before.blurred(0.4, 5), before.blurred(0.6, 6))
    found = {
        "checks": as_figures(check_window(part.frame, part.dense, NAMES, Expected("v1", start, end))),
        "quality": compare.compare(
            part.label,
            part.request,
            challenger=lost,
            champion=champion,
            slices={"region": region, "reader": np.where(part.request % 3 == 0, "new", "known")},
            kinds={"region": "context", "reader": "user"},
            attributes={"region": region},
        ),
        "drift": measured.figures,
        "judging": "progressive",
        "impressions": 2400,
        "label_rate": float(part.label.mean()),
        "freshness_s": 312.0,
        "anchors": [
            {
                "name": "a day ago",
                "version": "3",
                **compare.paired(part.label, part.request, part.blurred(0.7, 4), lost),
            },
            {
                "name": "the standard",
                "version": "2",
                **compare.paired(part.label, part.request, part.blurred(0.6, 4), lost),
            },
        ],
        "forgetting": {"from": NOW - timedelta(days=1), "to": NOW - timedelta(hours=23), **older},
        "cost": {"fine_tune_s": 4.2, "examples_per_s": 24100.0, "bytes": 3_400_000, "score_p99_ms": 1.8},
        "counterfactual": {"refused": "Propensities are not logged on this surface, so nothing can be said."},
    }
    plain: dict[str, Any] = records.plain(found)
    return plain


def stability(drawn: Mapping[str, Any]) -> float:
    """PSI of two histograms; Evidently's own takes many seconds to import."""
    before, now = (np.maximum(np.array(drawn[side]) / 100, 1e-4) for side in ("reference", "current"))
    return float(((now - before) * np.log(now / before)).sum())


@dataclass
class DeskWorld:
    """The desk over one database, at a time that a test moves."""

    url: str
    now: datetime = NOW
    surfaces: Mapping[str, int] = field(default_factory=lambda: {"feed": 1, "search": 2})
    desk: str = DESK

    def run(self, statement: str, *parameters: object) -> list[tuple[Any, ...]]:
        with connect(self.url, autocommit=True) as connection:
            cursor = connection.execute(statement, parameters)
            return cursor.fetchall() if cursor.description else []

    def user(self, name: str, role: accounts.Role = "analyst", surface: str = "feed") -> None:
        with connect(self.url, autocommit=True) as connection:
            accounts.add_user(connection, name, PASSWORD, role=role, surface=surface)

    def promoted(self, surface: str, version: str, *, previous: str | None, hours: float) -> int:
        """An update that the gate promoted so many hours ago."""
        at = self.now - timedelta(hours=hours)
        return self._update(surface, "promote", "promoted", version, previous, at, ["The challenger is better."])

    def held(
        self,
        surface: str = "feed",
        version: str = "5",
        champion: str = "4",
        *,
        reason: str = "Region west loses.",
        hours: float = 0.4,
        told: Mapping[str, Any] | None = None,
    ) -> int:
        """A challenger that waits for a person."""
        at = self.now - timedelta(hours=hours)
        return self._update(surface, "hold", "held", version, champion, at, [reason, "Nothing else is wrong."], told)

    def _update(
        self,
        surface: str,
        verdict: str,
        state: str,
        version: str,
        champion: str | None,
        at: datetime,
        reasons: list[str],
        told: Mapping[str, Any] | None = None,
    ) -> int:
        start, end, by = at - timedelta(hours=1), at, at + timedelta(hours=24) if state == "held" else None
        with connect(self.url) as connection:
            row = connection.execute(
                "INSERT INTO updates (surface, as_of, parent_version, window_start, split_at, window_end, state,"
                " challenger_version, seconds, claimed_at, finished_at, decide_by)"
                " VALUES (%s, %s, %s, %s, %s, %s, %s, %s, '{\"fine-tune\": 4.2}', %s, %s, %s) RETURNING update_id",
                [surface, at, champion, start, end, end, state, version, at, at, by],
            ).fetchone()
            assert row is not None
            evidence = records.write_evidence(
                connection,
                surface,
                row[0],
                champion_version=champion,
                verdict=verdict,
                reasons=reasons,
                figures=figures() if told is None else told,
            )
            made = records.write_decision(connection, evidence, action=verdict, decided_by="gate", reason=reasons[0])
            if state == "promoted":
                connection.execute(
                    "INSERT INTO promotions (surface, version, artifact_uri, previous_version, update_id, decision_id,"
                    " learned_to, promoted_at) VALUES (%s, %s, 'file:///nowhere', %s, %s, %s, %s, %s)",
                    [surface, version, champion, row[0], made.decision_id, end, at],
                )
        return int(row[0])

    def decide(self, action: str, state: str) -> Callable[..., Decided]:
        """A decision that goes into the records and no further."""

        def done(surface: str, update_id: int, *, person: str, reason: str, checksum: str) -> Decided:
            with connect(self.url) as connection:
                evidence = records.read_evidence(connection, update_id)
                assert evidence is not None
                if evidence.checksum != checksum:
                    raise Refused("the evidence has changed since you looked at it: look again")
                records.write_decision(
                    connection, evidence, action=action, decided_by=person, reason=reason, through="desk"
                )
                connection.execute("UPDATE updates SET state = %s WHERE update_id = %s", [state, update_id])
            return Decided(state, f"Update {update_id} of {surface} is {state}.", None)

        return done

    def told(self, surface: str, *, person: str, reason: str, to: str | None = None) -> Decided:
        """What an operator asked for, told back."""
        return Decided("rolled back", f"{person} moved {surface} to {to}: {reason}", to)

    def app(self, report: bytes | MillraceError | None = b"<p>the report</p>") -> Any:
        def kept(surface: str, update_id: int) -> bytes | None:
            if isinstance(report, MillraceError):
                raise report
            return report

        return create_app(
            Desk(
                database_url=self.url,
                surfaces=self.surfaces,
                approve=self.decide("approve", "held"),
                reject=self.decide("reject", "rejected"),
                rollback=self.told,
                release=self.told,
                report=kept,
                links=Links(desk=self.desk),
                clock=lambda: self.now,
            )
        )

    @contextmanager
    def browser(self, **options: Any) -> "Iterator[Browser]":
        with TestClient(self.app(**options), base_url=self.desk, follow_redirects=False) as client:
            yield Browser(client)


@dataclass
class Browser:
    """A client that does what a browser does: keeps cookies, and tells the origin of its forms."""

    client: TestClient

    def get(self, path: str) -> Any:
        return self.client.get(path)

    def post(self, path: str, **fields: str) -> Any:
        return self.client.post(path, data=fields, headers={"Origin": str(self.client.base_url).rstrip("/")})

    def sign_in(self, name: str, password: str = PASSWORD, **fields: str) -> Any:
        return self.post("/sign-in", name=name, password=password, **fields)

    def form(self, path: str) -> dict[str, str]:
        """The hidden fields of the forms on a page."""
        import re

        html = self.get(path).text
        return {
            name: unescape(value) for name, value in re.findall(r'type="hidden" name="(\w+)" value="([^"]*)"', html)
        }
