"""The review desk's pages and who may do what on them, against a real database."""

import math
import re
from collections.abc import Iterator
from dataclasses import replace
from datetime import timedelta
from html import unescape
from typing import Any

import psycopg
import pytest
from fastapi.testclient import TestClient

from infra.addresses import with_database
from infra.errors import MillraceError
from infra.postgres.connections import connect
from models.versions import promotions
from monitoring.checks.limits import Check
from monitoring.desk import guard, sessions, words
from monitoring.desk.accounts import disable, set_password
from monitoring.desk.app import LIMITS
from monitoring.desk.shown import shown
from monitoring.evaluation import retrieval
from monitoring.evaluation.comparison import Comparison, Gain, Measures
from monitoring.evaluation.drift import ColumnDrift, Drift, Histogram
from monitoring.evaluation.evidence import AtWork, Evidence, ReferenceGain, StandIn
from monitoring.evaluation.process_record import ProcessRecord
from monitoring.evaluation.reranking import RankingValue
from monitoring.evaluation.skew import Skew
from monitoring.evaluation.text_evidence import TextEvidence
from monitoring.gate.adjustable import ADJUSTABLE, Adjustable
from monitoring.gate.decide import Verdict
from monitoring.gate.findings import Finding
from monitoring.gate.sensitivity import PastNeeds, PlantedFault, Strength, Trial
from monitoring.measures import BY_KEY
from monitoring.records import holds, sensitivity
from monitoring.records.decisions import write_decision
from monitoring.records.evidence_store import Measured, evidence_of, write_evidence
from tests.worlds.desk import DESK, NOW, PASSWORD, Browser, DeskWorld, cheap_hashes, loses
from tests.worlds.windows import evidence


@pytest.fixture
def world(database: str, monkeypatch: pytest.MonkeyPatch) -> DeskWorld:
    """A feed with a champion and an older one, and its analyst Ada."""
    cheap_hashes(monkeypatch)
    made = DeskWorld(database)
    made.user("ada")
    made.promoted("feed", "3", previous=None, hours=30)
    made.promoted("feed", "4", previous="3", hours=3)
    return made


@pytest.fixture
def ada(world: DeskWorld) -> Iterator[Browser]:
    """Her browser, signed in."""
    with world.browser() as browser:
        assert browser.sign_in("ada").status_code == 303
        yield browser


def read(html: str) -> str:
    """What a person reads of a page."""
    return re.sub(r"\s+", " ", unescape(re.sub(r"<[^>]+>", " ", html)))


def decisions(world: DeskWorld) -> list[tuple[str, str, str]]:
    """What people decided: action, who, why."""
    return world.run("SELECT action, decided_by, reason FROM decisions WHERE decided_by <> 'gate' ORDER BY decision_id")


def expect_undecided(world: DeskWorld) -> None:
    assert decisions(world) == []
    assert world.run("SELECT count(*) FROM updates WHERE state = 'held'") == [(1,)]


# --- signing in -------------------------------------------------------------------------------------------------------


def test_without_a_session_a_page_leads_to_the_door_and_back(world: DeskWorld) -> None:
    update = world.held()
    page = f"/feed/updates/{update}"
    with world.browser() as browser:
        for path in (page, f"{page}/report", "/", "/feed", "/nowhere"):
            answer = browser.get(path)
            assert answer.status_code == 303, path
            assert answer.headers["location"].startswith("/sign-in")
        door = browser.get(browser.get(page).headers["location"])
        assert f'name="next" value="{page}"' in door.text
        assert browser.sign_in("ada", next=page).headers["location"] == page
        assert browser.get(page).status_code == 200


def test_a_wrong_password_is_refused_and_says_no_more_than_a_stranger_may_know(world: DeskWorld) -> None:
    with world.browser() as browser:
        wrong = [browser.sign_in(name, "not the password") for name in ("ada", "nobody")]
        assert [answer.status_code for answer in wrong] == [401, 401]
        assert wrong[0].text == wrong[1].text.replace('value="nobody"', 'value="ada"')
        assert "The name or the password is wrong." in read(wrong[0].text)
        assert "set-cookie" not in wrong[0].headers
        assert browser.get("/").status_code == 303
        for _ in range(sessions.BY_NAME_AND_ADDRESS):
            last = browser.sign_in("ada", "not the password")
        assert last.status_code == 429
        assert browser.sign_in("ada").status_code == 429


def test_the_cookie_cannot_be_read_by_scripts_nor_sent_by_other_sites(world: DeskWorld) -> None:
    with world.browser() as browser:
        cookie = browser.sign_in("ada").headers["set-cookie"]
    assert "HttpOnly" in cookie
    assert "SameSite=lax" in cookie
    secure = DeskWorld(world.url, desk="https://desk.test")
    with secure.browser() as browser:
        cookie = browser.sign_in("ada").headers["set-cookie"]
        assert cookie.startswith("__Host-")
        assert "Secure" in cookie
        assert "max-age" in browser.get("/").headers["strict-transport-security"]


def test_an_expired_session_is_no_session(world: DeskWorld, ada: Browser) -> None:
    update = world.held()
    form = ada.form(f"/feed/updates/{update}")
    world.now += sessions.IDLE + timedelta(minutes=1)
    answer = ada.post(f"/feed/updates/{update}", **form, action="reject", reason="too late")
    assert answer.status_code == 401
    assert "nothing was done" in read(answer.text)
    assert f'value="/feed/updates/{update}"' in answer.text  # where to go on
    assert ada.get("/").status_code == 303
    expect_undecided(world)


def test_who_signs_out_is_out_and_the_old_cookie_with_them(world: DeskWorld, ada: Browser) -> None:
    cookie = dict(ada.client.cookies)
    assert ada.post("/sign-out", csrf=ada.form("/")["csrf"]).headers["location"] == "/sign-in"
    ada.client.cookies.update(cookie)
    assert ada.get("/").status_code == 303


@pytest.mark.parametrize("change", [lambda c: disable(c, "ada", now=NOW), lambda c: set_password(c, "ada", "x" * 20)])
def test_a_disabled_user_or_one_with_another_password_is_out_at_once(world: DeskWorld, ada: Browser, change) -> None:  # type: ignore[no-untyped-def]
    with connect(world.url, autocommit=True) as connection:
        change(connection)
    assert ada.get("/").status_code == 303


@pytest.mark.parametrize(
    "elsewhere",
    ["https://evil.test/", "//evil.test", "/\\evil.test", "\\\\evil.test", "javascript:alert(1)", "/\t/evil.test",
     "/\n/evil.test", "evil.test", "", "///evil.test"],
)  # fmt: skip
def test_a_link_to_the_door_leads_nowhere_else(world: DeskWorld, elsewhere: str) -> None:
    assert guard.local(elsewhere) == "/"
    with world.browser() as browser:
        assert browser.sign_in("ada", next=elsewhere).headers["location"] == "/"


# --- forged and forbidden ---------------------------------------------------------------------------------------------


def test_a_forged_form_does_nothing(world: DeskWorld, ada: Browser) -> None:
    update = world.held()
    page = f"/feed/updates/{update}"
    form = ada.form(page) | {"action": "reject", "reason": "forged"}
    forged = [
        ada.post(page, **(form | {"csrf": "guessed"})),
        ada.post(page, **{name: value for name, value in form.items() if name != "csrf"}),
        *(
            ada.client.post(page, data=form, headers=headers)
            for headers in ({"Origin": "https://evil.test"}, {"Origin": "null"}, {}, {"Origin": "desk.test"})
        ),
        ada.client.post("/sign-out", data=form, headers={"Origin": "https://evil.test"}),
        ada.client.post(
            "/sign-in", data={"name": "ada", "password": PASSWORD}, headers={"Origin": "https://evil.test"}
        ),
    ]
    assert [answer.status_code for answer in forged] == [403] * len(forged)
    expect_undecided(world)
    assert ada.get("/").status_code == 200


def test_the_token_of_another_session_does_not_do(world: DeskWorld, ada: Browser) -> None:
    update = world.held()
    world.user("ben")
    with world.browser() as browser:
        browser.sign_in("ben")
        theirs = browser.form(f"/feed/updates/{update}")
    answer = ada.post(f"/feed/updates/{update}", **theirs, action="reject", reason="with a borrowed token")
    assert answer.status_code == 403
    expect_undecided(world)


def test_another_surfaces_reviewer_is_refused_and_learns_nothing(world: DeskWorld) -> None:
    update = world.held()
    world.user("sue", "operator", "search")
    with world.browser() as browser:
        browser.sign_in("sue")
        csrf = browser.form("/")["csrf"]
        refused = [
            browser.get("/feed"),
            browser.get(f"/feed/updates/{update}"),
            browser.get(f"/feed/updates/{update}/report"),
            browser.post(f"/feed/updates/{update}", csrf=csrf, action="approve", reason="x", checksum="y"),
            browser.post("/feed/rollback", csrf=csrf, reason="x"),
            browser.post("/feed/release", csrf=csrf, reason="x"),
            browser.get("/there-is-none"),  # the same as where there is one
            browser.get(f"/there-is-none/updates/{update}"),
        ]
        assert [answer.status_code for answer in refused] == [403] * len(refused)
        assert len({answer.text for answer in refused}) == 1
        smuggled = browser.get(f"/search/updates/{update}"), browser.get(f"/search/updates/{update}/report")
        posted = browser.post(f"/search/updates/{update}", csrf=csrf, action="approve", reason="x", checksum="y")
        assert [answer.status_code for answer in (*smuggled, posted)] == [404] * 3
        first = read(browser.get("/").text)
        assert "Nothing waits" in first
        assert "feed" not in first
    expect_undecided(world)


def test_a_viewer_reads_and_may_not_decide(world: DeskWorld) -> None:
    update = world.held()
    world.user("vera", "viewer")
    with world.browser() as browser:
        browser.sign_in("vera")
        page = browser.get(f"/feed/updates/{update}")
        assert loses().sentence in read(page.text)
        assert "<textarea" not in page.text
        csrf = browser.form("/")["csrf"]
        (checksum,) = world.run("SELECT checksum FROM evidence WHERE update_id = %s", update)[0]
        answer = browser.post(f"/feed/updates/{update}", csrf=csrf, action="reject", reason="x", checksum=checksum)
        assert answer.status_code == 403
        assert "Your role on feed is viewer; to decide on candidates takes an analyst." in read(answer.text)
    expect_undecided(world)


def test_an_analyst_may_not_roll_back(world: DeskWorld, ada: Browser) -> None:
    assert "Roll feed back" not in ada.get("/feed").text
    csrf = ada.form("/")["csrf"]
    for path in ("/feed/rollback", "/feed/release"):
        answer = ada.post(path, csrf=csrf, reason="because")
        assert answer.status_code == 403
        assert "takes an operator" in read(answer.text)


def test_what_is_not_there_is_not_found(ada: Browser, world: DeskWorld) -> None:
    for path in (
        "/feed/updates/999",
        "/feed/updates/x",
        "/feed/updates/-1",
        f"/feed/updates/{1 << 70}",
        "/feed/nothing/at/all",
    ):
        assert ada.get(path).status_code == 404, path
    world.user("root", "viewer", "*")
    with world.browser() as browser:
        browser.sign_in("root")
        assert browser.get("/there-is-none").status_code == 404


def test_a_form_larger_than_any_of_ours_is_not_read(ada: Browser) -> None:
    assert ada.post("/sign-in", name="ada", password="x" * LIMITS.body).status_code == 413
    # A length that is not the body's, and none: what counts are the bytes that come.
    for length in ({"Content-Length": "8"}, {"Transfer-Encoding": "chunked"}, {"Content-Length": "\u00b2"}):
        headers = {name.encode(): value.encode("latin-1") for name, value in length.items()}
        refused = ada.client.post("/sign-in", content=b"name=" + b"x" * LIMITS.body, headers=headers)
        assert refused.status_code == 413
        assert "default-src 'none'" in refused.headers["content-security-policy"]


# --- pages ------------------------------------------------------------------------------------------------------------


def test_every_answer_forbids_scripts_frames_and_guessing(world: DeskWorld, ada: Browser) -> None:
    update = world.held()
    for path in ("/", "/feed", f"/feed/updates/{update}", "/sign-in", "/nowhere/x/y", "/desk.css", "/healthz"):
        headers = ada.get(path).headers
        assert "default-src 'none'" in headers["content-security-policy"], path
        assert "script-src" not in headers["content-security-policy"]
        assert "frame-ancestors 'none'" in headers["content-security-policy"]
        assert headers["x-content-type-options"] == "nosniff"
        assert headers["referrer-policy"] == "same-origin"
    assert ada.get("/").headers["cache-control"] == "no-store"
    report = ada.get(f"/feed/updates/{update}/report")
    assert report.text == "<p>the report</p>"
    policy = report.headers["content-security-policy"]
    assert policy.startswith("sandbox allow-scripts; default-src 'none'")
    assert "allow-same-origin" not in policy
    with world.browser(report=None) as browser:
        browser.sign_in("ada")
        assert browser.get(f"/feed/updates/{update}/report").status_code == 404
    with world.browser(report=MillraceError("MLflow at http://mlflow does not answer: <html>")) as browser:
        browser.sign_in("ada")
        away = browser.get(f"/feed/updates/{update}/report")
        assert (away.status_code, away.text) == (503, "<p>MLflow at http://mlflow does not answer: &lt;html&gt;</p>")


def test_the_first_page_shows_what_waits_and_what_was_decided(world: DeskWorld, ada: Browser) -> None:
    world.held()
    first = read(ada.get("/").text)
    assert "1 challenger waits for you." in first
    assert loses().sentence in first
    assert "2,400 impressions" in first
    assert "decide within 23 h 36 min" in first
    assert "Version 4 serves" in first
    assert "promoted version 4, feed, update 2 , by the gate" in first
    assert "No person has decided yet." in read(ada.get("/?by=people").text)


def test_deadlines_stops_and_keys_are_marked_as_attributes(world: DeskWorld) -> None:
    world.user("olga", "operator")
    world.held(hours=23)
    with world.browser() as browser:
        browser.sign_in("olga")
        assert re.search(r'<textarea id="why-back"[^>]* accesskey="b">', browser.get("/feed").text)
        with connect(world.url) as connection:
            holds.hold(connection, "feed", decided_by="watch", reason="Version 4 was shown worse.")
        pages = [browser.get(path).text for path in ("/", "/?by=people", "/feed", "/feed/updates/3")]
    assert '<span class="soon">decide within 1 h</span>' in pages[0]
    assert '<li class="stopped">' in pages[0]
    assert [page.count('aria-current="true"') for page in pages] == [1, 1, 0, 0]
    assert re.search(r'<textarea id="why-release"[^>]* accesskey="b">', pages[2])
    assert not any("=&#" in page for page in pages), "an attribute with escaped quotes is another one"


def test_a_candidates_page_shows_the_verdict_the_figures_and_the_plots(world: DeskWorld, ada: Browser) -> None:
    html = ada.get(f"/feed/updates/{world.held()}").text
    page, measured = read(html), evidence()
    assert "The gate holds this challenger: a person must look." in page
    assert loses().sentence in page
    compared = measured.comparison
    assert compared is not None
    for measures in (compared.champion, compared.challenger):
        for key in ("log_loss", "auc", "ndcg", "calibration_error"):
            assert words.number(measures.of(BY_KEY[key])) in page
    bounds = compared.changes["log_loss"].interval
    assert f"{words.signed(bounds.lower)} to {words.signed(bounds.upper)}" in page
    losing = html.split('id="slices"')[1].split("<details>")[0]
    assert "region = west" in losing
    assert "region = east" not in losing
    drift = html.split('id="drift"')[1].split("</section>")[0]
    assert drift.count('<svg class="drawing') == 2 * 12 + 2, "of both references, and the past of what drifted"
    assert drift.index("region") < drift.index("feature_0") < drift.index("feature_3")  # the most drifted first
    assert "Against what the champion was trained on" in drift
    season = drift.split("Against the same hours of earlier days")[1]
    beside = season.index("<details>")
    assert season.index("region") < season.index("feature_0") < beside < season.index("feature_3"), "these are open"
    assert season[:beside].count("its 3 windows before") == 2
    for part in (
        "The champion of a day ago",
        "version 3",
        "The proven baseline",
        "on an older window",
        "3.4 MB",
        "No request of the log has all its propensities.",
        "updates on record",
        "2,400 of 2,400 impressions",
        "differs on 5 %",
        "among 50 items",
        "without a served row",
    ):
        assert part in page, part
    assert f'src="/feed/updates/{world.run("SELECT max(update_id) FROM updates")[0][0]}/report"' in html
    assert 'sandbox="allow-scripts"' in html


def test_without_earlier_days_there_is_one_drift() -> None:
    first, later = (shown(replace(evidence(), season_drift=drift)) for drift in (None, Drift(9, 9, 0.2, ())))
    assert [section.key for section in first.drift] == ["drift"]
    assert [section.key for section in later.drift] == ["drift", "season_drift"]


def test_where_nothing_drifted_the_columns_that_differ_most_are_open(world: DeskWorld, ada: Browser) -> None:
    drift = evidence().drift
    assert drift is not None
    calm = replace(drift, columns=tuple(replace(column, drifted=False) for column in drift.columns))
    html = ada.get(f"/feed/updates/{world.held(measured=replace(evidence(), drift=calm, season_drift=None))}").text
    section = html.split('id="drift"')[1].split("</section>")[0]
    assert "<details open>" in section
    assert "0 of 14 columns hold the challenger" in section


def test_a_figure_that_only_informs_is_beside_those_that_hold() -> None:
    drift = evidence().drift
    assert drift is not None
    first, *others = drift.columns
    (section, _) = shown(
        replace(evidence(), drift=replace(drift, columns=(first, replace(others[0], decides=False))))
    ).drift
    assert [column.name for column in section.holding] == [first.column]
    assert [(column.name, column.moved) for column in section.others] == [(others[0].column, True)]
    assert "1 figure counted from the log moved too" in section.sentence
    assert "prediction" not in section.sentence
    young = replace(others[0], column="prediction", decides=False)
    (section, _) = shown(replace(evidence(), drift=replace(drift, columns=(first, young)))).drift
    assert "counted from the log" not in section.sentence
    assert "The prediction moved, which informs while few of its windows are known." in section.sentence


def test_a_lost_version_and_a_training_that_stopped_are_shown(world: DeskWorld, ada: Browser) -> None:
    training = evidence().training
    assert training is not None
    measured = replace(
        evidence(),
        stand_in=StandIn("4", "3"),
        training=replace(training, stopped="early", ids_admitted={"user": 3, "os": 0}),
    )
    page = read(ada.get(f"/feed/updates/{world.held(measured=measured)}").text)
    assert "The files of version 4 are lost: version 3 stands in, and is trained on from." in page
    assert "stopped early: predictions became worse" in page
    assert "new ids user 3 " in page


def test_an_update_that_stopped_at_its_checks_has_its_page(world: DeskWorld, ada: Browser) -> None:
    bare = world.held(measured=replace(BARE, judged="tail"))
    failed = Check("nulls", 3, "none", False, "3 labels.", ("i7",), "reject")
    stopped = world.held(measured=replace(BARE, checks=(failed,)))
    assert ada.get(f"/feed/updates/{bare}").status_code == 200
    page = read(ada.get(f"/feed/updates/{stopped}").text)
    assert "1 data check failed" in page
    assert "3 labels. Allowed: none." in page
    assert "i7" in page


def test_evidence_of_another_version_of_the_program_is_shown_by_its_reasons(world: DeskWorld, ada: Browser) -> None:
    update = world.held()
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr("monitoring.evaluation.evidence.VERSION", 99)
        answer = ada.get(f"/feed/updates/{update}")
    assert answer.status_code == 200
    page = read(answer.text)
    assert loses().sentence in page
    assert "Its figures were written by another version of this program" in page
    assert "Reject" in page


@pytest.mark.parametrize(
    ("champion", "shares"), [(0.5, "60 % (champion 50 %, popularity 40 %)"), (None, "60 % (popularity 40 %)")]
)
def test_what_towers_find_stands_side_by_side(champion: float | None, shares: str) -> None:
    def found(share: float) -> retrieval.Recall:
        return retrieval.Recall({10: share, 50: None, 100: None})

    compared = retrieval.RetrievalComparison(
        clicks=200,
        alive=40,
        among=10,
        against="popularity" if champion is None else "champion",
        champion=None if champion is None else found(champion),
        challenger=found(0.6),
        popularity=found(0.4),
        difference=retrieval.Difference(),
    )
    measured = replace(BARE, towers=retrieval.TowersEvidence(compared, None, 0))
    (facts,) = (facts for facts in shown(measured).facts if facts.title.startswith("Next clicks"))
    rows = {name: text.replace("\N{NO-BREAK SPACE}", " ") for name, text in facts.rows}
    assert rows["among 10 items"] == shares
    assert "among 100 items" not in rows


def test_queries_that_lost_most_stand_with_the_results_of_both(world: DeskWorld, ada: Browser) -> None:
    page = read(ada.get(f"/feed/updates/{world.held()}").text)
    assert "Queries that lost most" in page
    assert "small rain jacket 12 impressions, log loss +0.540" in page
    row = "1 waterproof coat for hiking label 1 0.610 reading light for the desk 0.440"
    assert row in " ".join(page.split())
    bare = read(ada.get(f"/feed/updates/{world.held(measured=replace(evidence(), text=None))}").text)
    assert "Queries that lost most" not in bare


def test_rated_pairs_and_what_is_asked_for_are_beside_other_figures() -> None:
    rows = {facts.title: {name: plain(text) for name, text in facts.rows} for facts in shown(evidence()).facts}
    rated, asked = rows["Rated pairs, by its encoder alone"], rows["What is asked for"]
    assert (rated["queries"], rated["pairs"], rated["checksum of the file"]) == ("120", "960", "5f2b5f2b5f2b")
    assert re.fullmatch(r"[+−]0\.\d{4} \([+−]0\.\d{4} to [+−]0\.\d{4}\)", rated["gain on the champion"])
    assert asked["different queries, before and now"] == "212 and 198"
    assert asked["rain shower head"] == "likest deck over, cosine 0.21"
    assert asked["not asked before"] == "61 %"
    alone = replace(evidence(), text=TextEvidence(), query_drift=None)
    titles = {facts.title for facts in shown(alone).facts}
    assert not titles & {"Rated pairs, by its encoder alone", "What is asked for"}


def plain(text: str) -> str:
    return text.replace("\N{NO-BREAK SPACE}", " ")


BARE = Evidence(evidence().window, "progressive")
"""Of which nothing was measured."""

NO_GAIN = Gain(0)
NOTHING = Comparison(0, 0, None, "champion", Measures(), Measures(), NO_GAIN)


def test_figures_that_could_not_be_had_are_left_out(world: DeskWorld, ada: Browser) -> None:
    assert shown(BARE).measures == shown(replace(BARE, comparison=NOTHING)).measures == ()
    columns = (ColumnDrift("x", 0.1, 0.2, Histogram((), ())), ColumnDrift("y", 0.1, 0.2))
    lacking = replace(
        BARE,
        comparison=NOTHING,
        drift=Drift(0, 0, 0.2, ()),
        season_drift=Drift(9, 9, 0.2, columns),
        references=(ReferenceGain("a day ago", "3", NO_GAIN),),
        process_after=ProcessRecord(),
        ranking_value=RankingValue(3, refused="Nothing is known."),
        skew=Skew(),
        stand_in=StandIn("4", "3", "Its files are lost."),
    )
    assert ada.get(f"/feed/updates/{world.held(measured=lacking)}").status_code == 200
    assert [(section.holding, section.others) for section in shown(lacking).drift] == [((), ()), ((), ())]
    assert "None" not in read(ada.get("/feed/updates/3").text)


def test_words_from_the_log_are_text_and_never_html(world: DeskWorld, ada: Browser) -> None:
    attack = '</svg><script>alert(1)</script><b onclick="x">&amp;\''
    drawn = ColumnDrift(attack, 0.3, 0.2, Histogram((1.0,), (2.0,), categories=(attack,)))
    measured = replace(
        evidence(),
        checks=(Check(attack, 1.0, attack, False, attack, (attack,), "hold"),),
        drift=Drift(9, 9, 0.2, (drawn,)),
        ranking_value=RankingValue(1, refused=attack),
    )
    update = world.held(measured=measured, finding=loses(attack), version=attack)
    for path in ("/", "/feed", f"/feed/updates/{update}"):
        html = ada.get(path).text
        assert "<script" not in html
        assert "<b onclick" not in html
        assert attack in unescape(html)


def test_a_record_that_was_altered_cannot_be_decided_on(world: DeskWorld, ada: Browser) -> None:
    update = world.held()
    world.run("ALTER TABLE evidence DISABLE TRIGGER evidence_append_only")
    world.run("UPDATE evidence SET reasons = '{All is well.}' WHERE update_id = %s", update)
    answer = ada.get(f"/feed/updates/{update}")
    assert answer.status_code == 500
    assert "does not match its checksum" in read(answer.text)


# --- deciding ---------------------------------------------------------------------------------------------------------


def test_a_rejection_is_recorded_with_the_person_and_the_reason(world: DeskWorld, ada: Browser) -> None:
    update = world.held()
    page = f"/feed/updates/{update}"
    answer = ada.post(page, **ada.form(page), action="reject", reason="  West is a quarter\r\nof our readers.\0 ")
    assert answer.status_code == 303
    assert decisions(world) == [("reject", "ada", "West is a quarter\nof our readers.")]
    decided = read(ada.get(page).text)
    assert f"Update {update} of feed is rejected." in decided
    assert "ada rejected this challenger." in decided
    assert f"Update {update} of feed is rejected." not in read(ada.get(page).text)  # once
    assert "by ada" in read(ada.get("/?by=people").text)


def test_without_a_reason_or_a_choice_nothing_is_decided(world: DeskWorld, ada: Browser) -> None:
    page = f"/feed/updates/{world.held()}"
    form = ada.form(page)
    for wrong, why in (
        ({"action": "reject", "reason": " \n"}, "A decision wants a reason"),
        ({"action": "promote", "reason": "yes"}, "Choose one"),
        ({"action": "reject", "reason": "x" * 4001}, "4,000 at most"),
    ):
        answer = ada.post(page, **form, **wrong)
        assert answer.status_code == 409
        assert why in read(answer.text)
    expect_undecided(world)


def test_a_refusal_is_shown_with_what_was_written(world: DeskWorld, ada: Browser) -> None:
    page = f"/feed/updates/{world.held()}"
    answer = ada.post(
        page, **(ada.form(page) | {"checksum": "of something older"}), action="approve", reason="Holiday."
    )
    assert answer.status_code == 409
    assert "The evidence has changed since you looked at it: look again." in read(answer.text)
    assert ">Holiday.</textarea>" in answer.text
    expect_undecided(world)


def test_the_second_approver_must_be_another(world: DeskWorld) -> None:
    world.promoted("search", "7", previous=None, hours=9)
    update = world.held("search", "8", "7")
    page = f"/search/updates/{update}"
    world.user("sue", "analyst", "search")
    world.user("sam", "analyst", "search")
    with world.browser() as browser:
        browser.sign_in("sue")
        assert "0 of 2 approvals" in read(browser.get(page).text)
        browser.post(page, **browser.form(page), action="approve", reason="Fine.")
        html = browser.get(page).text
        assert "You have approved; another person must too." in read(html)
        assert re.search(r'value="approve"[^>]* disabled', html)
    with world.browser() as browser:
        browser.sign_in("sam")
        html = browser.get(page).text
        assert "1 of 2 approvals: sue." in read(html)
        assert not re.search(r'value="approve"[^>]* disabled', html)


def test_a_superseded_or_late_candidate_cannot_be_decided(world: DeskWorld, ada: Browser) -> None:
    late = world.held(hours=25)
    assert "Past its deadline" in read(ada.get(f"/feed/updates/{late}").text)
    overtaken = world.held(champion="3")
    assert "is not the champion any more" in read(ada.get(f"/feed/updates/{overtaken}").text)
    for update in (late, overtaken):
        assert "<textarea" not in ada.get(f"/feed/updates/{update}").text


def test_an_operator_rolls_back_and_releases_with_a_reason(world: DeskWorld) -> None:
    world.user("olga", "operator")
    with connect(world.url) as connection:
        holds.hold(connection, "feed", decided_by="watch", reason="Version 4 was shown worse.")
    update = world.held()
    with world.browser() as browser:
        browser.sign_in("olga")
        page = browser.get("/feed")
        assert "feed is stopped and waits for an operator." in read(page.text)
        assert "version 3, the one before" in read(page.text)
        csrf = browser.form("/feed")["csrf"]
        assert browser.post("/feed/rollback", csrf=csrf, to="3").status_code == 409
        done = browser.post("/feed/rollback", csrf=csrf, to="3", reason="Clicks fell.")
        assert done.headers["location"] == "/feed"
        assert "Olga moved feed to 3: Clicks fell." in read(browser.get("/feed").text)
        assert browser.post("/feed/release", csrf=csrf, reason="It was the log.").status_code == 303
        assert "feed is stopped : until an operator releases it" in read(browser.get(f"/feed/updates/{update}").text)


def test_after_a_rollback_the_one_before_is_named_as_what_it_goes_back_to(world: DeskWorld) -> None:
    world.user("olga", "operator")
    world.promoted("feed", "5", previous="4", hours=1)
    with connect(world.url) as connection:
        former = promotions.promoted(connection, "feed", "4")
        assert former is not None
        record = evidence_of(connection, former.decision_id)
        back = write_decision(connection, record, action="rollback", decided_by="olga", reason="It is bad.")
        promotions.roll_back(connection, former, previous_version="5", decision_id=back.decision_id)
    with world.browser() as browser:
        browser.sign_in("olga")
        html = browser.get("/feed").text
    offered = dict(re.findall(r'<option value="(\w*)">version (\w+),', html))
    assert offered == {"3": "3", "5": "5"}, "a form sent twice or late goes back to what it says, and no further"
    assert "version 3, the one before" in read(html)


WORSE = Finding(
    "served_worse",
    "reject",
    {
        "seen": "480 requests",
        "version": "4",
        "change": "9 % higher",
        "rival": "version 3",
        "best": "5 %",
        "margin": "1 %",
    },
)


def test_a_page_of_what_served_says_what_became_of_it(world: DeskWorld, ada: Browser) -> None:
    update = 2  # version 4, which serves
    assert "In service" in read(ada.get(f"/feed/updates/{update}").text)
    with connect(world.url) as connection:
        served = replace(
            BARE, judged="served", comparison=evidence().comparison, at_work=AtWork("4", "3", evidence().prequential)
        )
        verdict = Verdict("reject", (WORSE,))
        write_evidence(connection, Measured("feed", update, "watch", "3", verdict, served))
    page = read(ada.get(f"/feed/updates/{update}").text)
    assert WORSE.sentence in page
    assert "Measured by the live watch" in page
    assert "for an approval" not in page
    assert "Version 3 and version 4" in page
    assert "what the champion has served and was not trained on" in page
    assert "columns hold the challenger" in page, "the update's own, not measured again"
    world.promoted("feed", "5", previous="4", hours=0.1)
    assert "Was in service; version 5 is now" in read(ada.get(f"/feed/updates/{update}").text)


# --- limits ----------------------------------------------------------------------------------------------------------


VOLUME = "/feed/limits/check-volume"

LOST = PlantedFault(
    "traffic lost",
    tuple(
        Strength(words, {"check/volume": need})
        for words, need in (("20 % of it", 1.25), ("80 % of it", 5.0), ("95 % of it", math.inf))
    ),
)


def trial(world: DeskWorld, *faults: PlantedFault) -> None:
    with connect(world.url, autocommit=True) as connection:
        windows = (PastNeeds(NOW, {"check/volume": 1.1}),)
        sensitivity.write(connection, "feed", Trial("clicks.parquet", windows, {"check/volume": 1.0}, faults))


def with_needs(world: DeskWorld, *needs: float) -> None:
    """Promoted updates whose windows would have needed these limits of the volume."""
    for place, need in enumerate(needs):
        world.promoted(
            "feed", f"{5 + place}", previous=f"{4 + place}", hours=2 - place / 100, needs={"check/volume": need}
        )


def choices(world: DeskWorld) -> list[tuple[Any, ...]]:
    return world.run("SELECT code, at_most, before, chosen_by, reason, through FROM limit_choices ORDER BY choice_id")


def test_the_limits_of_a_surface_are_listed_with_what_they_stop_and_catch(world: DeskWorld, ada: Browser) -> None:
    assert 'href="/feed/limits"' in ada.get("/feed").text
    empty = read(ada.get("/feed/limits").text)
    assert "No window" not in empty
    assert "no window says what a limit would stop" in empty
    assert "not measured yet: millrace surface check feed --logged" in empty
    trial(world, LOST)
    assert "counted are 1 window of the log clicks.parquet, replayed" in read(ada.get("/feed/limits").text)
    with_needs(world, 1.1, 1.2, 1.1, 3.0, 1.3, 1.1, 1.2)
    page = read(ada.get("/feed/limits").text)
    assert re.search(
        r"volume impressions, times over or under those expected [\d.]+ (own windows|declared) \d of 7", page
    )
    assert "traffic lost:" in page
    assert "loss of a slice" in page


@pytest.mark.parametrize("limit", ADJUSTABLE, ids=lambda limit: limit.code)
def test_every_limit_has_a_page_whatever_is_known_of_it(world: DeskWorld, ada: Browser, limit: Adjustable) -> None:
    page = f"/feed/limits/{limit.address}"
    assert ada.get(page).status_code == 200
    for hours, needs in enumerate(({}, dict.fromkeys(limit.codes, 0.0), dict.fromkeys(limit.codes, 5.0)), 1):
        world.promoted("feed", f"{5 + hours}", previous="4", hours=hours / 10, needs=needs)
    steps = tuple(Strength(f"{n} %", dict.fromkeys(limit.codes, need)) for n, need in enumerate((-1.0, 1.5, math.inf)))
    with connect(world.url, autocommit=True) as connection:
        sensitivity.write(connection, "feed", Trial("log", (), {}, (PlantedFault("a fault", steps),)))
    html = ada.get(page).text
    assert "of 2 windows" in read(html)
    assert '<path class="in-force"' in html


def test_a_limit_is_chosen_on_a_plot_and_the_choice_is_a_record(world: DeskWorld, ada: Browser) -> None:
    with_needs(world, 1.1, 1.2, 1.1, 3.0, 1.3, 1.1, 1.2)
    trial(world, LOST)
    html = ada.get(VOLUME).text
    page = read(html)
    assert 'class="now" d="M' in html
    assert "traffic lost" in page
    offered = [float(value) for value in re.findall(r'name="limit" value="([\d.e+-]+)"', html)]
    assert 2 <= len(offered) <= 12
    assert offered == sorted(offered)
    assert re.search(r"stops none of 7 windows; catches “traffic lost” from (80|95) % of it", page)
    chosen = next(value for value in offered if value > 3.0)
    answer = ada.post(VOLUME, **ada.form(VOLUME), limit=repr(chosen), reason="News breaks.")
    assert answer.status_code == 303
    page = read(ada.get(answer.headers["location"]).text)
    assert "from the next update on" in page
    assert "It was chosen by ada on" in page
    assert "News breaks." in page
    assert "back to what the file declares" in page
    [(code, at_most, before, *rest)] = choices(world)
    assert (code, at_most, rest) == ("check/volume", chosen, ["ada", "News breaks.", "desk"])
    assert before != chosen
    ada.post(VOLUME, **ada.form(VOLUME), limit="file", reason="It has calmed down.")
    assert [row[1] for row in choices(world)] == [chosen, None]
    page = read(ada.get(VOLUME).text)
    assert "back to the file's, by ada" in page
    assert "chosen by" not in page


@pytest.mark.parametrize(
    ("fields", "why"),
    [
        ({"limit": "4", "reason": " "}, "wants a reason"),
        ({"limit": "", "reason": "So."}, "Choose one of the limits"),
        ({"limit": "nan", "reason": "So."}, "Choose one of the limits"),
        ({"limit": "0.5", "reason": "So."}, "above 1"),
        ({"limit": "file", "reason": "So."}, "as the file declares it already"),
    ],
)
def test_a_limit_that_cannot_be_set_is_not(world: DeskWorld, ada: Browser, fields: dict[str, str], why: str) -> None:
    answer = ada.post(VOLUME, **ada.form(VOLUME), **fields)
    assert answer.status_code == 409
    assert why in read(answer.text)
    assert choices(world) == []


def test_a_limit_that_somebody_else_has_set_since_is_not_set_over(world: DeskWorld, ada: Browser) -> None:
    form = ada.form(VOLUME)
    assert ada.post(VOLUME, **form, limit="4.0", reason="So.").status_code == 303
    answer = ada.post(VOLUME, **form, limit="5.0", reason="So.")
    assert answer.status_code == 409
    assert "Ada has set the limit of volume since you looked" in read(answer.text)
    assert len(choices(world)) == 1


def test_who_may_read_looks_at_limits_and_sets_none(world: DeskWorld) -> None:
    world.user("vera", "viewer")
    with world.browser() as browser:
        browser.sign_in("vera")
        page = browser.get(VOLUME).text
        assert 'type="radio"' not in page
        assert "wants the role analyst" in read(page)
        csrf = browser.form("/")["csrf"]
        assert browser.post(VOLUME, csrf=csrf, limit="4.0", reason="So.").status_code == 403
        assert browser.post(VOLUME, csrf="other", limit="4.0", reason="So.").status_code == 403
        assert browser.get("/search/limits").status_code == 403
        assert browser.get("/feed/limits/nothing").status_code == 404
    assert choices(world) == []


def test_a_database_that_goes_while_something_is_done_does_not_claim_to_have_done_nothing(world: DeskWorld) -> None:
    def cut_short(*_: object, **__: object) -> Any:
        raise psycopg.OperationalError("the connection is lost")

    world.operate = cut_short  # type: ignore[method-assign]
    world.user("olga", "operator")
    with world.browser() as browser:
        browser.sign_in("olga")
        answer = browser.post("/feed/rollback", csrf=browser.form("/")["csrf"], to="3", reason="Clicks fell.")
    assert answer.status_code == 503
    assert "Nothing was done" not in answer.text
    assert "Look at the page again" in answer.text


def test_without_a_database_the_desk_says_so(world: DeskWorld) -> None:
    gone = replace(world, url=with_database(world.url, "no_such_database"))
    from monitoring.desk import app

    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(app, "DATABASE_PATIENCE_S", 0.3)
        with gone.browser() as browser:
            browser.client.cookies.set("millrace-desk", "anything")
            answer = browser.get("/")
            assert browser.get("/healthz").status_code == 200
    assert answer.status_code == 503
    assert "The database does not answer" in read(answer.text)


def test_what_breaks_is_shown_without_its_insides(world: DeskWorld) -> None:
    def broken(*_: object, **__: object) -> Any:
        raise RuntimeError("secret detail")

    page = f"/feed/updates/{world.held()}"
    world.operate = broken  # type: ignore[method-assign]
    world.user("olga", "operator")
    app = world.app()
    with TestClient(app, base_url=DESK, follow_redirects=False, raise_server_exceptions=False) as client:
        browser = Browser(client)
        browser.sign_in("olga")
        answer = browser.post("/feed/release", csrf=browser.form(page)["csrf"], reason="why not")
    assert answer.status_code == 500
    assert "Something broke" in read(answer.text)
    assert "secret detail" not in answer.text
    assert "default-src 'none'" in answer.headers["content-security-policy"]


def test_the_desks_address_is_where_forms_come_from(world: DeskWorld) -> None:
    with world.browser() as browser:  # behind a proxy that names itself, forms come from the desk's own address
        answer = browser.client.post(
            "/sign-in", data={"name": "ada", "password": PASSWORD}, headers={"Origin": DESK, "Host": "inside:8361"}
        )
        assert answer.status_code == 303


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(4.23, "4.2 s"), (75, "75 s"), (312, "5 min"), (11_400, "3 h 10 min"), (7200, "2 h"), (200_000, "2 days 8 h")],
)
def test_spans_have_two_units_at_most(seconds: float, text: str) -> None:
    assert words.span(timedelta(seconds=seconds)) == text
