"""The whole loop from nothing, on one machine: ``make demo``.

Starts the stack, replays a log hour by hour through the real tables, features, updates and gate, promotes what the
evidence backs, then ranks for a reader over HTTP, clicks, and ranks once more. The log's times are shifted so that it
ends now; the stack is left running on it, with the schedule on.
"""

import shutil
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta

import httpx

from features.ingest.checking import FileTimes
from features.ingest.log_files import Files, staged_log
from features.log.items import ItemLife, lives, lives_with
from flows.backtest.report import Report
from flows.backtest.run import BacktestConfig, Stage, replay_log
from flows.cli.demo_pages import Account, Page, make_guest, pages
from flows.cli.demo_worlds import world_of
from flows.surface import Surface
from flows.surface_files import add, find
from flows.taken_up import take_up
from infra.backoff import Backoff
from infra.errors import MillraceError
from infra.settings import Settings
from infra.stack.home import LOCK_FILE
from infra.stack.lifecycle import start_stack, stop_stack
from infra.stack.services import every_service

MARK = "demo"
"""File that marks a home as the demo's, so that the next demo may begin from nothing."""

LATER = ("serving", "desk", "fold", "flows")
"""Services that work on the log: they start once it has been replayed."""


class NotOurs(MillraceError):
    """The home holds an installation that the demo did not make."""


class NotReady(MillraceError):
    """Serving is up and has not caught up with the log."""


@dataclass(frozen=True)
class AnswerItem:
    """One item of serving's answer."""

    impression_id: str
    item_id: str
    score: float


@dataclass(frozen=True)
class RankedTwice:
    """What serving ranked before and after a click."""

    version: str
    user: str
    query: str | None
    """Of a surface that is asked for something."""

    clicked: str
    before: list[AnswerItem]
    after: list[AnswerItem]
    texts: Mapping[str, str | None]
    """Of the items, on a surface that reads them."""


@dataclass(frozen=True, eq=False)
class Demonstrated:
    """What a demo came to, and where to look at it."""

    report: Report
    ranked: RankedTwice
    pages: list[Page]
    guest: Account


def clear_home(settings: Settings) -> None:
    """Begin from nothing. Raises NotOurs when that would throw away what a demo did not make."""
    home = settings.home.resolve()
    # Folders alone are nobody's installation: to point Prefect to its home makes one.
    if any(path.is_file() and path.name != LOCK_FILE for path in home.rglob("*")):
        if not (home / MARK).exists():
            raise NotOurs(
                f"{home} holds an installation of yours, and the demo begins from nothing;"
                " give it a home of its own: MILLRACE_HOME=/tmp/millrace-demo make demo"
            )
        stop_stack(settings)
        shutil.rmtree(home)
    home.mkdir(mode=0o700, parents=True, exist_ok=True)
    (home / MARK).touch()


def span(surface: Surface, config: BacktestConfig) -> tuple[datetime, datetime]:
    """When the log's first and last impression were shown. Raises ImportRefused where the file is no log, ValueError
    where nothing was shown at a time that is known."""
    times = FileTimes(now=datetime.now(UTC), until=config.until)
    with staged_log(Files(config.files.log), surface.log, label=surface.features.label.kind, times=times) as staged:
        found = staged.extent()
    if found is None:
        before = "" if config.until is None else f" before --until {config.until}"
        raise ValueError(f"--log {config.files.name}: no impression has a shown_at that is a time with a zone{before}")
    return found


def fitted(surface: Surface, config: BacktestConfig) -> BacktestConfig:
    """The same with a warm-up that leaves half of a short log to be scored."""
    first, last = span(surface, config)
    return replace(config, warmup=min(config.warmup, (last - first) / 2))


def run(
    settings: Settings,
    surface: str,
    config: BacktestConfig | None,
    *,
    now: datetime,
    report: Callable[[str], None],
    progress: Callable[[Stage], None],
) -> Demonstrated:
    """Run the demo of a surface; the stack is up when it returns, and when it fails. ``report`` gets what is done, a
    line each."""
    declared = find(settings.surfaces, surface).surface
    # Before anything is cleared or started: the log may be none, or the surface may have none.
    world = world_of(surface) if config is None else None
    config = None if config is None else fitted(declared, config)
    clear_home(settings)
    file, added = add(settings.surfaces, surface)
    if added:
        report(f"Wrote {file.path}: the declaration of {surface}, yours to change")
    take_up(settings)
    services = every_service(settings)
    report("Starting the stack ...")
    start_stack(settings, services, report=report, later=LATER)
    if config is None:
        assert world is not None
        folder = settings.home.resolve() / "log"
        folder.mkdir(parents=True, exist_ok=True)
        config = world(folder, now)
    report("Replaying the log: fold features, fine-tune, gate, register, and score every impression first ...")
    found = replay_log(
        settings,
        file.surface,
        config,
        url=settings.database,
        registry=None,
        now=now,
        progress=progress,
        reports=True,
        shift=now - span(file.surface, config)[1] - timedelta(seconds=1),
    )
    report("Starting serving, the fold and the schedule ...")
    start_stack(settings, services, report=report)
    ranked = rank_click_rank(settings, file.surface)
    versions = [update.published.version for update in found.updates if update.published.version is not None]
    newest = versions[-1] if versions else ranked.version
    return Demonstrated(found, ranked, pages(settings, surface, newest, now), make_guest(settings, surface))


RANKED = 8
"""Items that are ranked, at most."""

NEWEST = """
SELECT user_id, context, request_id, item_id FROM impressions WHERE surface = %s
ORDER BY shown_at DESC, impression_id LIMIT 1
"""

OF_REQUEST = """
SELECT item_id FROM impressions WHERE surface = %s AND user_id = %s AND request_id = %s
ORDER BY position, item_id LIMIT %s
"""

SHOWN_MOST = """
SELECT item_id FROM impressions WHERE surface = %s
  AND shown_at > (SELECT max(shown_at) FROM impressions WHERE surface = %s) - interval '1 hour'
GROUP BY item_id ORDER BY count(*) DESC, item_id LIMIT %s
"""

READY_S = 60.0
"""How long serving may take to read the features and the champion."""


def _wait_until_ready(client: httpx.Client, surface: str) -> None:
    deadline, pause = time.monotonic() + READY_S, Backoff(first_s=0.1, most_s=2.0)
    while not _is_ready(found := client.get("/readyz").json().get("surfaces", {}).get(surface, {})):
        if time.monotonic() > deadline:
            raise NotReady(
                f"serving at {client.base_url} does not rank {surface} with live features and a champion after"
                f" {READY_S:.0f} s: {found}; see its log"
            )
        time.sleep(pause.next_s())


def _is_ready(state: dict[str, object]) -> bool:
    """Once serving has read the log, and the champion if there is one: else it says why it is behind."""
    return state.get("features") == "live" and (state.get("champion") is not None or state.get("behind") is None)


def rank_click_rank(settings: Settings, surface: Surface) -> RankedTwice:
    """Rank what the log's newest request might have shown, click the last of the list, and rank once more."""
    from infra.postgres.connections import connect

    with connect(settings.database) as connection:
        found = connection.execute(NEWEST, [surface.name]).fetchone()
        assert found is not None
        user, context, request_id, item = found
        items = [one for (one,) in connection.execute(OF_REQUEST, [surface.name, user, request_id, RANKED])]
        if surface.variants is not None:
            of, _ = surface.variants.columns(surface.features)
            things = [life.attributes[of] for life in lives(connection, surface.name, [item]) if of in life.attributes]
            items = [life.item_id for life in lives_with(connection, surface.name, of, things)][:RANKED]
        if len(items) < 2:
            items = [one for (one,) in connection.execute(SHOWN_MOST, [surface.name, surface.name, RANKED])]
        texts = {life.item_id: _text(surface, life) for life in lives(connection, surface.name, items)}
    request = {"user_id": user, "context": context, "items": items}
    with httpx.Client(base_url=settings.serving, timeout=30, trust_env=False) as client:
        _wait_until_ready(client, surface.name)
        _, before = _rank(client, surface, request)
        clicked = before[-1]
        label = surface.features.label
        feedback = {"impression_id": clicked.impression_id, "kind": label.kind, "value": label.at_least or 1.0}
        client.post("/v1/feedback", json=feedback).raise_for_status()
        version, after = _rank(client, surface, request)
    query = None if surface.design.text is None else surface.design.text.query
    asked = next((context.get(one.column) for one in surface.features.columns if one.name == query), None)
    return RankedTwice(version, user, asked, clicked.item_id, before, after, texts)


def _text(surface: Surface, life: ItemLife) -> str | None:
    """The text of an item, on a surface that reads texts."""
    name = None if surface.design.text is None else surface.design.text.item
    return next((life.attributes.get(one.column) for one in surface.features.columns if one.name == name), None)


def _rank(client: httpx.Client, surface: Surface, request: dict[str, object]) -> tuple[str, list[AnswerItem]]:
    """The version that answered, and its items."""
    answer = client.post(f"/v1/{surface.name}/rank", json=request).raise_for_status().json()
    items = [AnswerItem(item["impression_id"], item["item_id"], item["score"]) for item in answer["items"]]
    return answer["model_version"], items
