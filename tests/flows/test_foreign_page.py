"""A page of another origin, open in Chromium on this machine, at each embedded server: it changes and reads nothing.

The servers run by the commands that the stack runs. ``shop.test`` stands for a site of somebody else's and
``rebound.test`` for such a name that leads to the server itself, as after DNS rebinding. Chromium's own check of pages
that reach for loopback is off: other browsers have none.
"""

import json
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import httpx
import pytest

from infra.postgres.connections import connect
from tests.conftest import free_port
from tests.real_servers import Running, running

if TYPE_CHECKING:
    from playwright.sync_api import Page

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")

pytestmark = pytest.mark.skipif(CHROMIUM is None, reason="needs Chromium: apt-get install chromium")

# What a page can try. Each resolves to what it saw: a status, a text it could read, or the browser's refusal.
ATTACKS = """
async ([base, path, body]) => {
    const url = base + path, seen = {}
    const attempt = async (name, options) => {
        try {
            const answer = await fetch(url, options)
            seen[name] = answer.type === 'opaque' ? 'opaque' : answer.status
        } catch (error) { seen[name] = String(error) }
    }
    const json = {'Content-Type': 'application/json'}
    await attempt('json', {method: 'POST', headers: json, body})
    await attempt('json with credentials', {method: 'POST', headers: json, body, credentials: 'include'})
    await attempt('text', {method: 'POST', mode: 'no-cors', headers: {'Content-Type': 'text/plain'}, body})
    await attempt('no type', {method: 'POST', mode: 'no-cors', body: new Blob([body])})
    await attempt('urlencoded', {method: 'POST', mode: 'no-cors', body: new URLSearchParams(JSON.parse(body))})
    await attempt('read', {method: 'GET'})
    navigator.sendBeacon(url, new Blob([body], {type: 'text/plain'}))
    const frame = document.createElement('iframe')
    frame.name = 'inside'
    document.body.append(frame)
    for (const enctype of ['application/x-www-form-urlencoded', 'text/plain', 'multipart/form-data']) {
        const form = document.createElement('form')
        Object.assign(form, {action: url, method: 'POST', enctype, target: 'inside'})
        for (const [name, value] of Object.entries(JSON.parse(body))) {
            const input = document.createElement('input')
            Object.assign(input, {name, value: String(value)})
            form.append(input)
        }
        document.body.append(form)
        const loaded = new Promise(resolve => frame.addEventListener('load', resolve, {once: true}))
        form.submit()
        await Promise.race([loaded, new Promise(resolve => setTimeout(resolve, 5000))])
    }
    return seen
}
"""

SOCKET = """
url => new Promise(resolve => {
    const socket = new WebSocket(url)
    socket.onopen = () => resolve('open')
    socket.onerror = () => resolve('refused')
})
"""


@contextmanager
def browsing() -> Iterator["Page"]:
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(
            executable_path=CHROMIUM,
            args=[
                *("--no-sandbox", "--disable-gpu", "--host-resolver-rules=MAP *.test 127.0.0.1"),
                "--disable-features=LocalNetworkAccessChecks,BlockInsecurePrivateNetworkRequests",
            ],
        )
        page = browser.new_page()
        page.set_default_timeout(60_000)
        yield page
        browser.close()


@pytest.fixture
def home() -> Iterator[Path]:
    folder = Path(tempfile.mkdtemp(prefix="millrace-foreign-"))
    yield folder / "home"
    shutil.rmtree(folder)


def attack(page: "Page", server: Running, path: str, body: dict[str, Any]) -> dict[str, dict[str, Any]]:
    """What a foreign page saw, and what one saw under a name that leads to the server."""
    seen = {}
    for site, target in (
        (f"http://shop.test:{free_port()}/", server.address),
        (f"http://localhost:{free_port()}/", server.address),  # another program's page on this machine
        (f"http://rebound.test:{server.port}/", f"http://rebound.test:{server.port}"),
    ):
        html = "<!doctype html><title>free coupons</title><body>"
        page.route(site, lambda route: route.fulfill(content_type="text/html", body=html))  # noqa: B023
        page.goto(site)
        seen[site.split(":")[1].strip("/")] = page.evaluate(ATTACKS, [target, path, json.dumps(body)])
        page.unroute(site)
    return seen


def expect_refused(seen: dict[str, dict[str, Any]]) -> None:
    for site in ("shop.test", "localhost"):
        assert set(seen[site].values()) <= {"opaque", "TypeError: Failed to fetch"}, seen  # nothing that can be read
    assert set(seen["rebound.test"].values()) <= {403, "opaque"}, seen


def own_page(page: "Page", server: Running, path: str, body: dict[str, Any]) -> int:
    """The status that the server's own page gets for the same: what the attacks tried does work."""
    page.goto(f"{server.address}/")
    status: int = page.evaluate(
        "([url, body]) => fetch(url, {method: 'POST', headers: {'Content-Type': 'application/json'}, body})"
        ".then(answer => answer.status)",
        [path, json.dumps(body)],
    )
    return status


def test_a_foreign_page_sends_no_feedback_to_serving(database: str, home: Path) -> None:
    body = {"impression_id": "7", "kind": "click"}
    with running(home, database, "serving") as server, browsing() as page:
        expect_refused(attack(page, server, "/v1/feedback", body))
        assert feedback(server) == 0
        assert server.asked("POST", "/v1/feedback", json=body)["accepted"] == 1  # a program's is taken as before
        assert own_page(page, server, "/v1/feedback", body) == 200
        assert feedback(server) == 2


def feedback(server: Running) -> int:
    """How many requests for feedback have reached the application, by its own metrics."""
    with httpx.Client(base_url=server.address, trust_env=False) as client:
        lines = client.get("/metrics").text.splitlines()
    return sum(int(float(line.split()[-1])) for line in lines if "requests_total" in line and "/v1/feedback" in line)


def test_a_foreign_page_signs_nobody_in_at_the_desk(database: str, home: Path) -> None:
    body = {"name": "ana", "password": "a guess of somebody's"}
    with running(home, database, "desk") as server, browsing() as page, connect(database, autocommit=True) as look:
        expect_refused(attack(page, server, "/sign-in", body))
        assert look.execute("SELECT count(*) FROM sign_ins").fetchone() == (0,)
        page.goto(server.address)
        page.locator("#name").fill("ana")
        page.locator("#password").fill("a guess of somebody's")
        page.keyboard.press("Enter")
        page.wait_for_selector("[role=alert]")
        assert look.execute("SELECT count(*) FROM sign_ins").fetchone() == (1,)


@pytest.mark.slow
def test_a_foreign_page_pulls_no_lever_of_prefect(database: str, home: Path) -> None:
    body = {"name": "owned", "value": "by a page"}
    with running(home, database, "prefect") as server, browsing() as page:
        expect_refused(attack(page, server, "/api/variables/", body))
        for site, at in ((f"http://shop.test:{free_port()}/", "127.0.0.1"), (None, "rebound.test")):
            if site:
                page.route(site, lambda route: route.fulfill(content_type="text/html", body="<body>"))
                page.goto(site)
            assert page.evaluate(SOCKET, f"ws://{at}:{server.port}/api/events/in") == "refused"
        assert server.asked("POST", "/api/variables/filter", json={}) == []
        assert own_page(page, server, "/api/variables/", body) == 201
        assert page.evaluate(SOCKET, f"ws://127.0.0.1:{server.port}/api/events/in") == "open"
        assert [found["name"] for found in server.asked("POST", "/api/variables/filter", json={})] == ["owned"]


@pytest.mark.slow
def test_a_foreign_page_makes_no_experiment_in_mlflow(database: str, home: Path) -> None:
    path, body = "/ajax-api/2.0/mlflow/experiments/create", {"name": "owned"}
    with running(home, database, "mlflow") as server, browsing() as page:
        expect_refused(attack(page, server, path, body))
        assert experiments(server) == {"Default"}
        assert own_page(page, server, path, body) == 200
        assert experiments(server) == {"Default", "owned"}


def experiments(server: Running) -> set[str]:
    found = server.asked("POST", "/api/2.0/mlflow/experiments/search", json={"max_results": 10})
    return {experiment["name"] for experiment in found["experiments"]}


@pytest.mark.slow
def test_a_foreign_page_makes_no_project_in_evidently(database: str, home: Path) -> None:
    body = {"name": "owned", "version": "2"}
    with running(home, database, "evidently") as server, browsing() as page:
        expect_refused(attack(page, server, "/api/projects", body))
        assert server.asked("GET", "/api/projects") == []
        assert own_page(page, server, "/api/projects", body) == 201
        assert [project["name"] for project in server.asked("GET", "/api/projects")] == ["owned"]
