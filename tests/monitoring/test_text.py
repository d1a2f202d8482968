"""What the log calls an item, a region or a request is text wherever people read it: no page of ours fetches it."""

import json
import shutil
import threading
from collections.abc import Iterator
from datetime import timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import numpy as np
import polars as pl
import pytest

from monitoring.checks.limits import Check
from monitoring.evaluation import drift
from monitoring.evaluation.compare import compare
from monitoring.evaluation.evidence import Evidence, WindowFacts
from monitoring.gate.decide import Verdict
from monitoring.gate.findings import Finding
from monitoring.reports import report
from monitoring.sentences import as_text, unlinked
from tests.worlds.windows import END, START, window

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")


@pytest.fixture
def beacon() -> Iterator[tuple[str, list[str]]]:
    """An address on this machine, and the paths that were fetched from it."""
    fetched: list[str] = []

    class Beacon(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            fetched.append(self.path)
            self.send_response(204)
            self.end_headers()

        def log_message(self, *_: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Beacon)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    yield f"http://127.0.0.1:{server.server_port}", fetched
    server.shutdown()
    thread.join(10)
    server.server_close()


@pytest.mark.skipif(CHROMIUM is None, reason="needs Chromium: apt-get install chromium")
def test_a_report_fetches_nothing_that_an_id_names(tmp_path: Path, beacon: tuple[str, list[str]]) -> None:
    from playwright.sync_api import sync_playwright

    address, fetched = beacon
    wild = [f"![x]({address}/picture)", f'<img src="{address}/tag">', f"[![y]({address}/link)]({address}/to)"]
    part = window(requests=60)
    region = np.array(wild)[part.request % 3]
    compared = compare(
        part.label, part.request, challenger=part.truth, champion=part.blurred(0.5, 1), slices={wild[0]: region}
    )
    check = Check(wild[1], 0.1, wild[0], False, f"Item {wild[0]} and {wild[1]}.", (wild[0], wild[2]), "hold")
    measured = Evidence(WindowFacts(START, END, 300, None, 0), "progressive", checks=(check,), comparison=compared)
    findings = (
        Finding("slices", "hold", {"slices": f"region = {wild[0]}", "allowed": wild[2]}),
        Finding(
            f"check/{check.name}",
            "hold",
            {"name": check.name, "detail": check.detail, "limit": check.limit, "rows": f" Impressions: {wild[0]}."},
        ),
    )
    samples = [pl.DataFrame({"region": list(region), "f": np.arange(300.0) * k}) for k in (1, 2)]
    about = report.About("feed", 1, START, END, champion="3", challenger="4")
    page = report.build(about, Verdict("hold", findings), measured, (drift.measure(*samples),)).write_html(
        tmp_path / "report.html"
    )
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox", "--disable-gpu"])
        shown = browser.new_page()
        shown.set_default_timeout(120_000)
        shown.goto(page.as_uri())
        shown.get_by_text("Data checks").first.wait_for()
        text = shown.inner_text("body")
        pictures = shown.locator(f'img[src*="{address}"]').count()
        links = shown.locator(f'a[href*="{address}"]').count()
        browser.close()
    assert fetched == []
    assert (pictures, links) == (0, 0)
    assert f"![x]({address}/picture)" in text, "it is there to be read"


def test_markdown_of_a_sentence_is_the_sentence() -> None:
    text = as_text("![x](http://a/b) <b> [c](d) `e` *f* www.g.h\n# i@j | k_l")
    assert text == r"\!\[x\](http\://a/b) \<b\> \[c\](d) \`e\` \*f\* www\.g.h \# i\@j \| k\_l"
    assert "](" not in unlinked("![x](http://a/b)")
    assert "://" not in unlinked("<http://a/b|c>\nnext")
    assert "\n" not in unlinked("a\nb")


def test_the_report_of_a_window_of_seconds_gives_its_seconds() -> None:
    end = START + timedelta(seconds=30)
    page = report.build(
        report.About("feed", 1, START, end, None, None),
        Verdict("hold", (Finding("nothing_to_compare", "hold"),)),
        Evidence(WindowFacts(START, end, 0, None, 0), "tail"),
    )
    assert f"{START:%F %H:%M:%S} UTC" in json.dumps(page.snapshot.to_snapshot_model().metadata)
