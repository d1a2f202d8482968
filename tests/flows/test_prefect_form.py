"""The same decision from Prefect's own page: the input form of a suspended run, through the API as the page does it."""

from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any, cast
from uuid import UUID

import psycopg
import pytest

from infra.postgres.connections import connect
from infra.settings import Settings
from infra.stack.environment import settings_environment
from monitoring.desk import accounts
from monitoring.evaluation.comparison import Change, Comparison, Gain, Measures
from monitoring.evaluation.evidence import Evidence, WindowFacts
from monitoring.gate.decide import Verdict
from monitoring.gate.findings import Finding
from monitoring.records import review
from monitoring.records.decisions import Decision
from monitoring.records.evidence_store import Measured, Occasion, write_evidence
from monitoring.statistics.bootstrap import Interval
from tests.worlds.loop import Loop, after, expect_consistent, run_update

if TYPE_CHECKING:
    from prefect.client.schemas.objects import State

NOW = datetime.now(UTC)
WHY = "The drop is the holiday's, not the model's."


@dataclass
class Desk:
    """A surface's database, with a reviewer; and the review's deployment on Prefect's server."""

    url: str

    def query(self, statement: str, *parameters: object) -> list[tuple[Any, ...]]:
        with connect(self.url) as connection:
            return connection.execute(statement, parameters).fetchall()

    def code(self, name: str = "ann") -> str:
        with connect(self.url) as connection:
            return accounts.make_code(connection, name, datetime.now(UTC), timedelta(minutes=10))

    def start(self, update_id: int) -> "Run":
        """What an update that holds does; and then what Prefect's runner does."""
        from prefect.client.orchestration import get_client

        from flows.review.prefect_form import start_review

        with connect(self.url, autocommit=True) as connection:
            assert start_review(connection, "feed", update_id, datetime.now(UTC))
        with get_client(sync_client=True) as client:
            runs = [
                run for run in client.read_flow_runs() if run.parameters == {"surface": "feed", "update_id": update_id}
            ]
        return Run(max(runs, key=lambda run: run.created or NOW).id)


@dataclass
class Run:
    """A run of the review flow."""

    id: UUID

    def go(self) -> "State[Any]":
        """Run it until it is suspended or ends, as the runner does when it is due."""
        from prefect.client.orchestration import get_client
        from prefect.exceptions import Pause
        from prefect.flow_engine import run_flow

        from flows.review.prefect_form import review_candidate

        with get_client(sync_client=True) as client:
            run = client.read_flow_run(self.id)
        try:
            ended: Any = run_flow(
                cast("Any", review_candidate), flow_run=run, parameters=run.parameters, return_type="state"
            )
        except Pause:  # the runner's process ends here
            return self.state
        return cast("State[Any]", ended)

    def resume(self, **form: str) -> "State[Any]":
        """Fill in the form, as Prefect's page does, and run on."""
        from prefect.flow_runs import resume_flow_run

        resume_flow_run(self.id, run_input=form)
        return self.go()

    @property
    def state(self) -> "State[Any]":
        from prefect.client.orchestration import get_client

        with get_client(sync_client=True) as client:
            state = client.read_flow_run(self.id).state
        assert state is not None
        return state

    def page(self) -> str:
        """The markdown artifact last made."""
        from prefect.client.orchestration import get_client

        with get_client(sync_client=True) as client:
            query = {"artifacts": {"flow_run_id": {"any_": [str(self.id)]}}, "sort": "CREATED_DESC"}
            found = client._client.post("/artifacts/filter", json=query).raise_for_status().json()
        return str(max(found, key=lambda artifact: artifact["created"])["data"])

    def form(self, turn: int) -> str:
        """What stands above the form."""
        from prefect.input import read_flow_run_input

        return str(read_flow_run_input(f"suspended-turn-{turn}-description", flow_run_id=self.id))


def hold(connection: psycopg.Connection, *, decide_by: datetime | None = None) -> int:
    """A challenger that waits, as an update leaves one behind; the surface has no champion yet."""
    made = connection.execute(
        "INSERT INTO updates (surface, as_of, window_start, split_at, window_end, state, challenger_version, decide_by,"
        " finished_at) VALUES ('feed', %s, %s, %s, %s, 'held', '1', %s, %s) RETURNING update_id",
        [NOW, NOW - timedelta(hours=2), NOW - timedelta(hours=1), NOW, decide_by or NOW + timedelta(days=1), NOW],
    ).fetchone()
    assert made is not None
    update_id: int = made[0]
    measure(connection, update_id, Finding("flat", "hold", {"spread": "8 %"}))
    return update_id


def measure(connection: psycopg.Connection, update_id: int, finding: Finding, *, occasion: Occasion = "update") -> None:
    """Evidence that holds the challenger of an update for this."""
    unknown = Interval(None, None)
    comparison = Comparison(
        impressions=1_000,
        requests=200,
        label_rate=0.2,
        rival="champion",
        champion=Measures(auc=0.71, log_loss=0.51),
        challenger=Measures(auc=0.72, log_loss=0.5),
        gain=Gain(200),
        changes={"auc": Change(0.01, Interval(-0.002, 0.021), unknown, unknown)},
    )
    window = WindowFacts(NOW - timedelta(hours=2), NOW, 1_000, 0.2, 0)
    evidence = Evidence(window, judged="progressive", comparison=comparison)
    write_evidence(connection, Measured("feed", update_id, occasion, None, Verdict("hold", (finding,)), evidence))


def test_what_the_log_names_is_text_above_the_form_and_a_later_rollback_did_not_decide(
    connection: psycopg.Connection,
) -> None:
    from flows.review.prefect_form import closed, introduction, markdown

    update_id = hold(connection)
    found = review.candidate(connection, update_id)
    assert found is not None
    latest = found.evidence[0]
    link = "The challenger loses on region = [Approve here](https://evil.example)\n# <b>x</b>."
    hostile = replace(found, evidence=(replace(latest, reasons=(link,)),))
    for shown in (introduction(Settings(), hostile, None), markdown(Settings(), hostile)):
        assert r"\[Approve here\](https\://evil.example) \# \<b\>x" in shown
    by = {"update_id": update_id, "surface": "feed", "evidence_id": latest.evidence_id, "evidence_checksum": ""}
    decided = [
        Decision(decision_id=n, action=action, decided_by=who, reason="So.", decided_at=NOW, through="desk", **by)  # type: ignore[arg-type]
        for n, (action, who) in enumerate((("hold", "gate"), ("promote", "ann"), ("rollback", "bob")))
    ]
    assert "was promoted by ann" in closed(replace(found, state="promoted", decisions=tuple(decided)), NOW)


def deploy() -> None:
    from flows.review.prefect_form import review_candidate

    review_candidate.to_deployment(name="feed").apply()  # type: ignore[union-attr]  # no coroutine without a loop


@pytest.fixture
def desk(database: str, prefect_server: str, monkeypatch: pytest.MonkeyPatch) -> Desk:
    for name, value in settings_environment(Settings(database_url=database, desk_url="https://desk.example")).items():
        monkeypatch.setenv(name, value)
    deploy()
    with connect(database) as connection:
        accounts.add_user(connection, "ann", "correct horse battery", role="analyst", surface="feed")
    return Desk(database)


@pytest.fixture
def waiting(desk: Desk) -> int:
    with connect(desk.url) as connection:
        return hold(connection)


def test_a_challenger_is_rejected_from_prefects_form_and_the_record_names_the_person(desk: Desk, waiting: int) -> None:
    run = desk.start(waiting)
    assert run.go().is_paused()
    for part in (
        f"# feed, update {waiting}: hold",
        "it has gone flat",
        "| AUC | 0.7100 | 0.7200 | −0.0020 to +0.0210 |",
        f"https://desk.example/feed/updates/{waiting}",
        "millrace user code",
    ):
        assert part in run.page()
    assert "it has gone flat" in run.form(0)
    ended = run.resume(decision="reject", reason=WHY, reviewer="ann", code=desk.code())
    assert ended.is_completed(), ended
    assert str(ended.result()).startswith("Rejected.")
    assert desk.query("SELECT state FROM updates") == [("rejected",)]
    assert desk.query("SELECT action, decided_by, reason, through FROM decisions") == [
        ("reject", "ann", WHY, "prefect")
    ]


@pytest.mark.parametrize(
    "wrong", [{"decision": "perhaps"}, {"reason": " "}, {"reviewer": ""}, {"code": None}, {"more": "than there is"}]
)
def test_a_form_that_is_filled_in_wrong_is_refused_and_the_run_waits_on(
    desk: Desk, waiting: int, wrong: dict[str, Any]
) -> None:
    run = desk.start(waiting)
    run.go()
    form = {"decision": "reject", "reason": WHY, "reviewer": "ann", "code": desk.code()} | wrong
    with pytest.raises(RuntimeError, match="Cannot resume this run"):
        run.resume(**{field: value for field, value in form.items() if value is not None})
    assert run.state.is_paused()
    assert desk.query("SELECT state FROM updates") == [("held",)]


def test_whoever_may_not_decide_is_refused_with_the_reason_visible_and_the_run_waits_on(
    desk: Desk, waiting: int
) -> None:
    with connect(desk.url) as connection:
        accounts.add_user(connection, "vic", "correct horse battery", role="viewer", surface="feed")
        accounts.add_user(connection, "sue", "correct horse battery", role="operator", surface="search")
    run = desk.start(waiting)
    run.go()
    spent = desk.code()
    attempts = [
        ("ann", "AAAA-BBBB-CCCC", "the code is not one of ann's"),
        ("vic", spent, "the code is not one of vic's"),  # another's
        ("vic", desk.code("vic"), "wants the role analyst"),
        ("sue", desk.code("sue"), "wants the role analyst"),
    ]
    for turn, (name, code, refusal) in enumerate(attempts, start=1):
        assert run.resume(decision="approve", reason=WHY, reviewer=name, code=code).is_paused()
        assert refusal in run.form(turn)
        assert refusal in run.page()
    assert desk.query("SELECT count(*) FROM decisions") == [(0,)]
    assert run.resume(decision="reject", reason=WHY, reviewer="ann", code=spent).is_paused(), "others have read it"
    assert run.resume(decision="reject", reason=WHY, reviewer=" Ann", code=desk.code()).is_completed()
    assert desk.query("SELECT decided_by FROM decisions") == [("ann",)]


def test_evidence_that_changed_since_it_was_shown_is_shown_first(desk: Desk, waiting: int) -> None:
    run = desk.start(waiting)
    run.go()
    with connect(desk.url) as connection:
        measure(connection, waiting, Finding("nothing_to_compare", "hold"), occasion="review")
    assert run.resume(decision="reject", reason=WHY, reviewer="ann", code=desk.code()).is_paused()
    assert "has changed since you looked" in run.form(1)
    assert "There is nothing to compare the challenger on." in run.page()
    assert run.resume(decision="reject", reason=WHY, reviewer="ann", code=desk.code()).is_completed()


def test_a_challenger_that_was_superseded_meanwhile_ends_the_run_saying_so(desk: Desk, waiting: int) -> None:
    run = desk.start(waiting)
    run.go()
    with connect(desk.url) as connection:
        connection.execute("UPDATE updates SET state = 'superseded'")
        newer = hold(connection)
    late = run.resume(decision="approve", reason=WHY, reviewer="ann", code=desk.code())
    assert late.is_completed()
    assert "A newer challenger or a rollback has superseded" in str(late.result())
    assert desk.query("SELECT state FROM updates WHERE update_id = %s", newer) == [("held",)]


def test_the_review_of_a_newer_challenger_ends_the_one_it_supersedes(desk: Desk, waiting: int) -> None:
    old = desk.start(waiting)
    old.go()
    with connect(desk.url) as connection:
        connection.execute("UPDATE updates SET state = 'superseded'")
        newer = hold(connection)
    new = desk.start(newer)
    assert old.state.is_cancelled()
    assert "A newer challenger or a rollback has superseded" in str(old.state.message)
    assert new.go().is_paused()
    assert desk.start(newer).id == new.id  # an update that died after it started the review, and runs again


def test_the_run_waits_until_the_deadline_and_no_longer(desk: Desk) -> None:
    with connect(desk.url) as connection:
        soon = hold(connection, decide_by=datetime.now(UTC) + timedelta(minutes=30))
    run = desk.start(soon)
    waits_until = run.go().state_details.pause_timeout
    assert waits_until is not None
    left = waits_until.timestamp() - datetime.now(UTC).timestamp()
    assert 29 * 60 < left <= 30 * 60
    with connect(desk.url) as connection:
        connection.execute("UPDATE updates SET decide_by = %s", [datetime.now(UTC)])
    late = run.resume(decision="reject", reason=WHY, reviewer="ann", code=desk.code())
    assert "the champion stays" in str(late.result())
    assert desk.query("SELECT count(*) FROM decisions WHERE decided_by = 'ann'") == [(0,)]


def test_an_update_is_not_held_up_where_prefect_has_no_review(
    desk: Desk, waiting: int, caplog: pytest.LogCaptureFixture
) -> None:
    from flows.review.prefect_form import start_review

    with connect(desk.url, autocommit=True) as connection:
        assert not start_review(connection, "search", waiting, NOW)
    assert "no review of update" in caplog.text


@pytest.mark.filterwarnings("ignore::UserWarning:mlflow")
def test_an_approval_from_prefects_form_puts_the_challenger_into_service(
    served_loop: Loop, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The whole: an update holds, a person approves on Prefect's page, the registry and the record follow."""
    loop, champion = served_loop, served_loop.alias()
    deploy()
    for name, value in settings_environment(loop.settings).items():
        monkeypatch.setenv(name, value)
    with loop.world(policy=replace(loop.surface.policy, requests=1_000_000)) as world:
        held = run_update(world, after(18))
        assert held.verdict.verdict == "hold", held.verdict.reasons
    with connect(loop.url) as connection:
        accounts.add_user(connection, "ann", "correct horse battery", role="analyst", surface="*")
    desk = Desk(loop.url)
    run = desk.start(held.claimed.update_id)
    assert run.go().is_paused()
    ended = run.resume(decision="approve", reason=WHY, reviewer="ann", code=desk.code())
    assert ended.is_completed(), (ended, run.form(1))
    assert held.published.version != champion
    assert loop.alias() == held.published.version
    [(version, person, reason, through)] = loop.query(
        "SELECT p.version, d.decided_by, d.reason, d.through FROM promotions p JOIN decisions d USING (decision_id)"
        " ORDER BY promotion_id DESC LIMIT 1"
    )
    assert (version, person, reason, through) == (held.published.version, "ann", WHY, "prefect")
    expect_consistent(loop)
