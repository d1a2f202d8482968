"""A database in which challengers wait, and the desk over it.

Figures are measured by the real functions on a small seeded window; decisions are written by the real records. What an
approval measures again needs a whole loop, and is tested with one in ``tests/flows``.
"""

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from html import unescape
from typing import Any

import pytest
from argon2 import PasswordHasher
from fastapi.testclient import TestClient

from infra.errors import MillraceError
from infra.postgres.connections import connect
from monitoring.checks.limits import Limits
from monitoring.desk import accounts
from monitoring.desk.app import create_app
from monitoring.desk.pages import Links
from monitoring.desk.site import Declared, Desk
from monitoring.evaluation.evidence import Evidence
from monitoring.evaluation.history import Remembered
from monitoring.gate.decide import Verdict
from monitoring.gate.findings import Finding
from monitoring.gate.memory import past_window
from monitoring.gate.policy import Policy
from monitoring.records import history_store
from monitoring.records.decisions import write_decision
from monitoring.records.evidence_store import Measured, read_evidence, write_evidence
from monitoring.records.review import Decided, Refused
from monitoring.records.wording_counts import WordedItems
from tests.worlds.windows import evidence

NOW = datetime(2026, 3, 1, 12, 30, tzinfo=UTC)
PASSWORD = "correct horse battery"
DESK = "http://desk.test"

COMPARED = {
    "compared": "On 480 requests it is 0.8 % lower.",
    "margin": "1 %",
    "process": "Over 9 updates it is as good",
}
"""Facts of a finding on a routine update."""


def loses(name: str = "region = west") -> Finding:
    """The finding that holds a challenger, about a slice of that name."""
    return Finding("slices", "hold", {"slices": f"{name} (log loss 29 % higher on 600 impressions)", "allowed": "5 %"})


def cheap_hashes(monkeypatch: pytest.MonkeyPatch) -> None:
    """Passwords that cost a millisecond: the tests try dozens."""
    hasher = PasswordHasher(time_cost=1, memory_cost=64, parallelism=1)
    monkeypatch.setattr(accounts, "hasher", lambda: hasher)
    accounts.decoy.cache_clear()


@dataclass
class DeskWorld:
    """The desk over one database, at a time that a test moves."""

    url: str
    now: datetime = NOW
    surfaces: Mapping[str, int] = field(default_factory=lambda: {"feed": 1, "search": 2})
    desk: str = DESK
    worded: Mapping[str, WordedItems] = field(default_factory=dict)
    """Of the surfaces whose items are variants of things."""

    def run(self, statement: str, *parameters: object) -> list[tuple[Any, ...]]:
        with connect(self.url, autocommit=True) as connection:
            cursor = connection.execute(statement, parameters)
            return cursor.fetchall() if cursor.description else []

    def user(self, name: str, role: accounts.Role = "analyst", surface: str = "feed") -> None:
        with connect(self.url, autocommit=True) as connection:
            accounts.add_user(connection, name, PASSWORD, role=role, surface=surface)

    def promoted(
        self,
        surface: str,
        version: str,
        *,
        previous: str | None,
        hours: float,
        needs: Mapping[str, float] | None = None,
    ) -> int:
        """An update that the gate promoted so many hours ago."""
        verdict, at = (
            Verdict("promote", (Finding("not_worse", "promote", COMPARED),)),
            self.now - timedelta(hours=hours),
        )
        return self._update(surface, "promoted", version, previous, at, verdict, needs=needs)

    def held(
        self,
        surface: str = "feed",
        version: str = "5",
        champion: str = "4",
        *,
        finding: Finding | None = None,
        hours: float = 0.4,
        measured: Evidence | None = None,
    ) -> int:
        """A challenger that waits for a person."""
        verdict = Verdict("hold", (finding or loses(), Finding("not_worse", "promote", COMPARED)))
        at = self.now - timedelta(hours=hours)
        return self._update(surface, "held", version, champion, at, verdict, measured)

    def _update(
        self,
        surface: str,
        state: str,
        version: str,
        champion: str | None,
        at: datetime,
        verdict: Verdict,
        measured: Evidence | None = None,
        needs: Mapping[str, float] | None = None,
    ) -> int:
        start, end, by = at - timedelta(hours=1), at, at + timedelta(hours=24) if state == "held" else None
        measured = measured or evidence()
        with connect(self.url) as connection:
            row = connection.execute(
                "INSERT INTO updates (surface, as_of, parent_version, window_start, split_at, window_end, state,"
                " challenger_version, seconds, claimed_at, finished_at, decide_by)"
                " VALUES (%s, %s, %s, %s, %s, %s, %s, %s, '{\"train\": 4.2}', %s, %s, %s) RETURNING update_id",
                [surface, at, champion, start, end, end, state, version, at, at, by],
            ).fetchone()
            assert row is not None
            record = write_evidence(connection, Measured(surface, row[0], "update", champion, verdict, measured))
            window = replace(past_window(measured), start=start, end=end)
            remembered = Remembered(row[0], champion, window, failed=(), needs=needs or {})
            history_store.write(connection, surface, remembered)
            made = write_decision(
                connection, record, action=verdict.verdict, decided_by="gate", reason=verdict.reasons[0]
            )
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
                record = read_evidence(connection, update_id)
                assert record is not None
                if record.checksum != checksum:
                    raise Refused("the evidence has changed since you looked at it: look again")
                write_decision(connection, record, action=action, decided_by=person, reason=reason, through="desk")
                connection.execute("UPDATE updates SET state = %s WHERE update_id = %s", [state, update_id])
            return Decided(state, f"Update {update_id} of {surface} is {state}.", None)

        return done

    def declared(self, surface: str) -> Declared:
        """Limits as they come, and its wordings."""
        return Declared(Policy(), Limits(), self.worded.get(surface))

    def choose_limit(
        self, surface: str, code: str, *, at_most: float | None, person: str, reason: str, seen: int
    ) -> Decided:
        """As the desk's process has it, but for who may."""
        from flows.review.limits import choose_limit
        from flows.surfaces.feed import SURFACE

        with connect(self.url) as connection:
            return choose_limit(
                connection,
                replace(SURFACE, name=surface, policy=Policy(), limits=Limits()),
                code,
                at_most=at_most,
                person=person,
                reason=reason,
                through="desk",
                seen=seen,
            )

    def operate(self, surface: str, *, person: str, reason: str, to: str | None = None) -> Decided:
        """What an operator wants done, given back as done."""
        return Decided("rolled back", f"{person} moved {surface} to {to}: {reason}", to)

    def app(self, report: bytes | MillraceError | None = b"<p>the report</p>") -> Any:
        def read(surface: str, update_id: int) -> bytes | None:
            if isinstance(report, MillraceError):
                raise report
            return report

        return create_app(
            Desk(
                database_url=self.url,
                surfaces=self.surfaces,
                approve=self.decide("approve", "held"),
                reject=self.decide("reject", "rejected"),
                rollback=self.operate,
                release=self.operate,
                choose_limit=self.choose_limit,
                declared=self.declared,
                report=read,
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
    """A client that does what a browser does: keeps cookies, and names the origin of its forms."""

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
