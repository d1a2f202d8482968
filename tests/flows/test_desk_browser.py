"""The review desk as a person uses it: in Chromium, over the real loop, its decisions, registry and serving."""

import shutil
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import pytest

from infra.postgres.connections import connect
from monitoring.desk import accounts
from tests.conftest import free_port
from tests.worlds import serving as serving_world
from tests.worlds.loop import Loop, after, run_update

if TYPE_CHECKING:
    from playwright.sync_api import Page

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
PASSWORD = "correct horse battery"

pytestmark = pytest.mark.skipif(CHROMIUM is None, reason="needs Chromium: apt-get install chromium")


@contextmanager
def running(loop: Loop) -> Iterator[str]:
    """The desk's address, over the loop's database and registry."""
    import uvicorn

    from flows.services.desk import desk

    port = free_port()
    settings = loop.settings.model_copy(update={"desk_port": port})
    app = desk(settings, {loop.surface.name: loop.surface})
    server = uvicorn.Server(uvicorn.Config(app, host="127.0.0.1", port=port, log_level="warning"))
    thread = threading.Thread(target=server.run, daemon=True)
    thread.start()
    deadline = time.monotonic() + 30
    while not server.started:
        assert time.monotonic() < deadline, "the desk did not start"
        time.sleep(0.02)
    try:
        yield settings.desk
    finally:
        server.should_exit = True
        thread.join(15)


@contextmanager
def browsing(troubles: list[str]) -> Iterator["Page"]:
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox", "--disable-gpu"])
        page = browser.new_page(viewport={"width": 360, "height": 800})
        page.set_default_timeout(120_000)  # an approval measures again
        page.on("pageerror", lambda error: troubles.append(str(error)))
        page.on("console", lambda message: troubles.append(message.text) if message.type == "error" else None)
        yield page
        browser.close()


def held(loop: Loop, hours: float) -> int:
    """An update whose challenger the gate holds."""
    with loop.world(policy=replace(loop.surface.policy, requests=1_000_000)) as world:
        made = run_update(world, after(hours))
        assert made.published.state == "held", made.verdict.reasons
    return int(loop.query("SELECT max(update_id) FROM updates")[0][0])


def decide(page: "Page", reason: str, button: str) -> str:
    """Write the reason and press the button, by keyboard alone; the sentence the desk answers with."""
    page.locator("#reason").focus()
    page.keyboard.type(reason)
    page.get_by_role("button", name=button).focus()
    page.keyboard.press("Enter")
    page.wait_for_selector("[role=status], [role=alert]")
    return page.locator("[role=status], [role=alert]").inner_text()


def recorded(loop: Loop, update_id: int) -> list[tuple[Any, ...]]:
    return loop.query(
        "SELECT d.action, d.decided_by, d.reason, d.through, d.evidence_checksum = e.checksum FROM decisions d"
        " JOIN evidence e USING (evidence_id) WHERE d.update_id = %s AND d.decided_by <> 'gate' ORDER BY decision_id",
        update_id,
    )


def test_a_held_challenger_is_rejected_and_another_approved_and_serving_answers_with_it(served_loop: Loop) -> None:
    loop = served_loop
    ((champion,),) = loop.query("SELECT version FROM promotions")
    with connect(loop.url, autocommit=True) as connection:
        accounts.add_user(connection, "ada", PASSWORD, role="analyst", surface="feed")
    first = held(loop, 17)
    troubles: list[str] = []
    config = serving_world.serving_config(
        loop.url,
        loop.home / "serving",
        features=loop.surface.features,
        tracking_uri=loop.tracking,
        artifact_root=loop.artifacts.as_uri(),
    )
    with running(loop) as desk, browsing(troubles) as page, serving_world.serve(config) as serving:
        page.goto(f"{desk}/feed/updates/{first}")
        page.locator("#name").fill("ada")
        page.locator("#password").fill(PASSWORD)
        page.keyboard.press("Enter")
        page.wait_for_selector("#quality")
        assert page.url.endswith(f"/feed/updates/{first}")
        assert page.evaluate("document.documentElement.scrollWidth") <= 360
        assert page.locator("#quality svg.drawing").count() == 2
        drawn = page.locator("#drift svg.drawing")
        assert drawn.count() >= 6
        assert all(drawn.nth(place).bounding_box()["height"] > 40 for place in range(drawn.count()))  # type: ignore[index]
        page.locator("#report summary").click()
        report = page.frame_locator("iframe[title^=Evidently]")
        report.get_by_text("Why hold").wait_for()

        assert "Rejected" in decide(page, "Too little is known of the night's readers.", "Reject")
        assert recorded(loop, first) == [("reject", "ada", "Too little is known of the night's readers.", "desk", True)]
        assert "ada rejected this challenger." in page.locator("h1").inner_text()
        assert serving_world.rank(serving)["model_version"] == champion

        second = held(loop, 20)
        page.goto(desk)
        page.get_by_role("link", name=f"feed, update {second}").first.click()
        decide(page, "The drift is the weekend's.", "Approve")
        assert recorded(loop, second) == [("promote", "ada", "The drift is the weekend's.", "desk", True)]
        ((version, backed),) = loop.query(
            "SELECT version, update_id FROM promotions ORDER BY promotion_id DESC LIMIT 1"
        )
        assert backed == second
        assert version != champion
        assert loop.alias() == version
        serving_world.eventually(lambda: serving_world.rank(serving)["model_version"] == version, "the new version")
    assert troubles == []


def test_a_limit_is_chosen_on_its_plot_and_the_next_update_goes_by_it(served_loop: Loop) -> None:
    loop = served_loop
    with connect(loop.url, autocommit=True) as connection:
        accounts.add_user(connection, "ada", PASSWORD, role="analyst", surface="feed")
    with loop.world() as world:
        run_update(world, after(16))
    troubles: list[str] = []
    with running(loop) as desk, browsing(troubles) as page:
        page.goto(f"{desk}/feed")
        page.locator("#name").fill("ada")
        page.locator("#password").fill(PASSWORD)
        page.keyboard.press("Enter")
        page.get_by_role("link", name="The limits of its checks and guardrails").click()
        assert page.evaluate("document.documentElement.scrollWidth") <= 360
        page.get_by_role("link", name="size", exact=True).click()
        assert page.locator("svg.limit .in-force").count() == 1
        assert page.evaluate("document.documentElement.scrollWidth") <= 360
        lowest = page.locator(".candidates input").first
        limit = float(lowest.get_attribute("value") or "")
        lowest.check()
        assert "Set this limit" in page.locator("button.main").inner_text()
        assert "from the next update on" in decide(page, "Serving has little memory.", "Set this limit")
        assert "Serving has little memory." in page.locator("#history").inner_text()
        assert page.locator(".candidates input:checked + .number").inner_text() == "1"
    assert loop.query("SELECT code, at_most, chosen_by, reason, through FROM limit_choices") == [
        ("size", limit, "ada", "Serving has little memory.", "desk")
    ]
    with loop.world() as world:
        assert world.surface.policy.megabytes.at_most == limit
        assert world.surface.policy.megabytes.chosen.startswith("chosen by ada on ")
    assert troubles == []
