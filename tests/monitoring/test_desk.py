"""The review desk's pages and who may do what on them, against a real database."""

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
from monitoring.desk import guard, sessions, words
from monitoring.desk.accounts import disable, set_password
from monitoring.desk.app import LIMITS
from monitoring.desk.shown import shown
from monitoring.records import evidence_store as records
from monitoring.records import holds
from tests.monitoring.desk_world import DESK, NOW, PASSWORD, Browser, DeskWorld, cheap_hashes, figures


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
        assert "Region west loses." in read(page.text)
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
        told = {name.encode(): value.encode("latin-1") for name, value in length.items()}
        refused = ada.client.post("/sign-in", content=b"name=" + b"x" * LIMITS.body, headers=told)
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


def test_the_first_page_tells_what_waits_and_what_was_decided(world: DeskWorld, ada: Browser) -> None:
    world.held(reason="Region west loses 29 %.")
    told = read(ada.get("/").text)
    assert "1 challenger waits for you." in told
    assert "Region west loses 29 %." in told
    assert "decide within 23 h 36 min" in told
    assert "Version 4 serves" in told
    assert "promoted version 4, feed, update 2 , by the gate" in told
    assert "No person has decided yet." in read(ada.get("/?by=people").text)


def test_a_candidates_page_tells_the_verdict_the_figures_and_the_plots(world: DeskWorld, ada: Browser) -> None:
    html = ada.get(f"/feed/updates/{world.held()}").text
    told = read(html)
    assert "The gate holds this challenger: a person must look." in told
    assert "Region west loses." in told
    quality = figures()["quality"]
    for who in ("champion", "challenger"):
        for measure in ("log_loss", "auc", "ndcg", "calibration_error"):
            assert words.number(quality[who][measure]) in told
    bounds = quality["intervals"]["log_loss"]
    assert f"{words.signed(bounds['lower'])} to {words.signed(bounds['upper'])}" in told
    losing = html.split('id="slices"')[1].split("<details>")[0]
    assert "region = west" in losing
    assert "region = east" not in losing
    drift = html.split('id="drift"')[1].split("</section>")[0]
    assert drift.count("<svg") == len(figures()["drift"]["histograms"]) == 12
    assert drift.index("region") < drift.index("feature_0") < drift.index("feature_3")  # the most drifted first
    for part in (
        "The champion of a day ago",
        "version 3",
        "The standard",
        "on an older window",
        "3.4 MB",
        "Propensities",
    ):
        assert part in told
    assert f'src="/feed/updates/{world.run("SELECT max(update_id) FROM updates")[0][0]}/report"' in html
    assert 'sandbox="allow-scripts"' in html


def test_an_update_of_older_code_or_one_that_stopped_early_has_its_page(world: DeskWorld, ada: Browser) -> None:
    bare = world.held(told={})
    stopped = world.held(
        told={
            "checks": [
                {"name": "nulls", "value": 3, "limit": 0, "passed": False, "detail": "3 labels.", "rows": ["i7"]}
            ]
        }
    )
    assert ada.get(f"/feed/updates/{bare}").status_code == 200
    told = read(ada.get(f"/feed/updates/{stopped}").text)
    assert "1 data check failed" in told
    assert "3 labels. Allowed: 0." in told
    assert "i7" in told


@pytest.mark.parametrize(
    ("champion", "told"), [({"recall_10": 0.5, "recall_50": 0.8}, "50 %, 60 %, 40 %"), (None, "60 %, 40 %")]
)
def test_what_towers_find_stands_side_by_side(champion: dict[str, float] | None, told: str) -> None:
    its, popular = {"recall_10": 0.6}, {"recall_10": 0.4}
    found = {"clicks": 200, "champion": champion, "challenger": its, "popularity": popular, "difference": {}}
    (facts,) = (facts for facts in shown({"retrieval": found}).facts if facts.title.startswith("Next clicks"))
    rows = {name: text.replace("\N{NO-BREAK SPACE}", " ") for name, text in facts.rows}
    assert rows["found among 10 items"] == told
    assert "found among 100 items" not in rows


def test_figures_that_could_not_be_had_are_left_out() -> None:
    nothing = {"quality": {"impressions": 0, "requests": 0, "champion": {"auc": None}, "challenger": {"auc": None}}}
    assert shown(nothing).measures == ()
    empty = {"edges": [], "reference": [], "current": []}
    for hostile in (
        {"quality": None},
        {"drift": {"psi": {}, "histograms": {"x": empty}}},
        {"anchors": [{}]},
        {"process": {"moments": {"n": "many"}}},
        {"skew": {"worst": None}},
    ):
        shown(hostile)


def test_words_from_the_log_are_text_and_never_html(world: DeskWorld, ada: Browser) -> None:
    attack = '</svg><script>alert(1)</script><b onclick="x">&amp;\''
    told = figures() | {
        "checks": [{"name": attack, "limit": attack, "passed": False, "detail": attack, "rows": [attack]}]
    }
    told["drift"] = told["drift"] | {"histograms": {attack: {"categories": [attack], "reference": [1], "current": [2]}}}
    told["counterfactual"] = {attack: attack}
    update = world.held(told=told, reason=attack, version=attack)
    for path in ("/", "/feed", f"/feed/updates/{update}"):
        html = ada.get(path).text
        assert "<script" not in html
        assert "<b onclick" not in html
        assert attack in unescape(html)


def test_a_record_that_was_altered_cannot_be_decided_on(world: DeskWorld, ada: Browser) -> None:
    update = world.held()
    world.run("ALTER TABLE evidence DISABLE TRIGGER evidence_append_only")
    world.run("UPDATE evidence SET reasons = '[\"All is well.\"]' WHERE update_id = %s", update)
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
    told = read(ada.get(page).text)
    assert f"Update {update} of feed is rejected." in told
    assert "ada rejected this challenger." in told
    assert f"Update {update} of feed is rejected." not in read(ada.get(page).text)  # said once
    assert "by ada" in read(ada.get("/?by=people").text)


def test_without_a_reason_or_a_choice_nothing_is_decided(world: DeskWorld, ada: Browser) -> None:
    page = f"/feed/updates/{world.held()}"
    form = ada.form(page)
    for wrong, said in (
        ({"action": "reject", "reason": " \n"}, "A decision wants a reason"),
        ({"action": "promote", "reason": "yes"}, "Choose one"),
        ({"action": "reject", "reason": "x" * 4001}, "4,000 at most"),
    ):
        answer = ada.post(page, **form, **wrong)
        assert answer.status_code == 409
        assert said in read(answer.text)
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
        evidence = records.evidence_of(connection, former.decision_id)
        back = records.write_decision(connection, evidence, action="rollback", decided_by="olga", reason="It is bad.")
        promotions.roll_back(connection, former, previous_version="5", decision_id=back.decision_id)
    with world.browser() as browser:
        browser.sign_in("olga")
        html = browser.get("/feed").text
    offered = dict(re.findall(r'<option value="(\w*)">version (\w+),', html))
    assert offered == {"3": "3", "5": "5"}, "a form sent twice or late goes back to what it says, and no further"
    assert "version 3, the one before" in read(html)


def test_a_page_of_what_served_says_what_became_of_it(world: DeskWorld, ada: Browser) -> None:
    update = 2  # version 4, which serves
    assert "In service" in read(ada.get(f"/feed/updates/{update}").text)
    with connect(world.url) as connection:
        records.write_evidence(
            connection,
            "feed",
            update,
            champion_version="3",
            verdict="reject",
            reasons=["It is shown worse than version 3."],
            figures={"quality": figures()["quality"], "judging": "served"},
            occasion="watch",
        )
    told = read(ada.get(f"/feed/updates/{update}").text)
    assert "Measured by the live watch" in told
    assert "when an approval was asked for" not in told
    assert "what the champion has served and not learned from" in told
    assert "columns drifted" in told, "the update's own, not measured again"
    world.promoted("feed", "5", previous="4", hours=0.1)
    assert "Was in service; version 5 is now" in read(ada.get(f"/feed/updates/{update}").text)


def test_a_database_that_goes_while_something_is_done_is_not_said_to_have_done_nothing(world: DeskWorld) -> None:
    def cut_short(*_: object, **__: object) -> Any:
        raise psycopg.OperationalError("the connection is lost")

    world.told = cut_short  # type: ignore[method-assign]
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


def test_what_breaks_is_told_without_its_insides(world: DeskWorld) -> None:
    def broken(*_: object, **__: object) -> Any:
        raise RuntimeError("secret detail")

    page = f"/feed/updates/{world.held()}"
    world.told = broken  # type: ignore[method-assign]
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


def test_the_desks_address_tells_where_forms_come_from(world: DeskWorld) -> None:
    with world.browser() as browser:  # behind a proxy that names itself, forms come from the desk's own address
        answer = browser.client.post(
            "/sign-in", data={"name": "ada", "password": PASSWORD}, headers={"Origin": DESK, "Host": "inside:8361"}
        )
        assert answer.status_code == 303


@pytest.mark.parametrize(
    ("seconds", "told"),
    [(4.23, "4.2 s"), (75, "75 s"), (312, "5 min"), (11_400, "3 h 10 min"), (7200, "2 h"), (200_000, "2 days 8 h")],
)
def test_spans_are_told_in_two_units_at_most(seconds: float, told: str) -> None:
    assert words.span(timedelta(seconds=seconds)) == told
