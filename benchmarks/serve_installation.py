"""The installation that the bench of serving measures: its own home, the services as the stack starts them, a champion.

    with installation(Seeded(), None, progress) as it:
        it.settings.serving                     # answers, with live features and a promoted model

PostgreSQL, serving and the fold run, and nothing else unless it is named. The log is imported and folded and one update
is run by a process of its own, so that what this takes of memory and threads is gone when it is measured.
"""

import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from datetime import UTC, datetime, timedelta
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import httpx

from benchmarks.bench import Progress
from benchmarks.serve_client import Server
from benchmarks.serve_peers import free_ports
from flows.surface_files import add
from flows.taken_up import take_up
from infra.errors import MillraceError
from infra.postgres.connections import connect
from infra.settings import PROJECT, Settings
from infra.stack.environment import library_environment, settings_environment
from infra.stack.lifecycle import start_stack, stop_stack
from infra.stack.services import every_service
from infra.stack.supervision import Supervisor

if TYPE_CHECKING:
    import polars as pl

    from benchmarks.text_installation import SeededSearch
    from flows.update import Outcome

SURFACE = "feed"

SERVICES = ("postgres", "serving", "fold")

EVERYTHING = (*SERVICES, "prefect", "mlflow", "evidently", "desk", "flows")

READY_S = 300.0
"""Seconds that serving and the fold may take to read a large log."""

SHOWN = 5
"""Impressions of a request of the seeded log."""

FIRST = 0.5
"""Share of the days that the first champion is trained on; the second has all of them."""

VISIT = timedelta(minutes=30)
"""A user who does nothing for so long has gone."""

ENDED = timedelta(minutes=10)
"""Before now, when the seeded log ends: the last clicks come after that."""


class NotMeasurable(MillraceError):
    """The installation did not come to what is to be measured."""


@dataclass(frozen=True)
class Seeded:
    """The log that is there before anything is measured."""

    days: float = 1.2
    """What the champion is trained on."""

    requests_per_day: int = 14_000

    items_per_day: int = 1_200
    """A request may have a thousand candidates."""

    more: int = 0
    """Impressions that follow: the log's length, which serving must not feel."""

    users: int | None = None
    """How many there are; half as many as requests a day, where it is left out."""

    once: bool = False
    """Each comes for one visit: there are as many users as visits."""

    seed: int = 0

    @property
    def whole_days(self) -> float:
        return self.days + self.more / (SHOWN * self.requests_per_day)


@dataclass(frozen=True)
class Stored:
    """Counts of rows, by the request or by the impression and the kind."""

    impressions: Mapping[str, tuple[int, int]]
    """By request: rows, and different impressions."""

    feedback: Mapping[tuple[str, str], int]


@dataclass(frozen=True)
class Installation:
    """One that runs."""

    settings: Settings

    surface: str = SURFACE

    @property
    def server(self) -> Server:
        return Server(self.settings.host, self.settings.serving_port)

    @property
    def pid(self) -> int:
        """Of the serving process."""
        return Supervisor(self.settings.home.resolve()).states()["serving"].pid

    def rows(self, statement: str, *parameters: object) -> list[tuple[Any, ...]]:
        with connect(self.settings.database) as connection:
            return connection.execute(statement, parameters).fetchall()

    def impressions(self) -> int:
        """Rows of the log."""
        return int(self.rows("SELECT count(*) FROM impressions WHERE surface = %s", self.surface)[0][0])

    def readers(self) -> list[tuple[str, dict[str, str]]]:
        """Users of the log's last requests, each with the context of one."""
        found = self.rows(
            "SELECT user_id, context FROM impressions WHERE surface = %s ORDER BY shown_at DESC LIMIT 20000",
            self.surface,
        )
        return list(dict(found).items())

    def newest_items(self) -> list[str]:
        found = self.rows(
            "SELECT item_id FROM items WHERE surface = %s ORDER BY attributes ->> 'born_at' DESC LIMIT 1200",
            self.surface,
        )
        return [item for (item,) in found]

    def stored(self, prefix: str) -> Stored:
        """What the log has of requests whose ids begin so, and of feedback about what serving ranked."""
        impressions = self.rows(
            "SELECT request_id, count(*), count(DISTINCT impression_id) FROM impressions"
            " WHERE surface = %s AND starts_with(request_id, %s) GROUP BY request_id",
            *(self.surface, prefix),
        )
        feedback = self.rows(
            "SELECT impression_id, kind, count(*) FROM feedback"
            " WHERE surface = %s AND starts_with(impression_id, %s) GROUP BY impression_id, kind",
            *(self.surface, f"{self.surface}:"),  # imported impressions have the log's own names
        )
        return Stored(
            {request: (rows, different) for request, rows, different in impressions},
            {(impression, kind): rows for impression, kind, rows in feedback},
        )

    def place(self) -> int:
        """Of the log's last event; each that is stored has the next, or a later one."""
        return int(self.rows("SELECT max(last_seq) FROM event_days WHERE surface = %s", self.surface)[0][0])

    def settle(self, place: int, within_s: float = 30.0) -> float:
        """Wait until the log has come to that place, grows no more and is folded, or the time is up; the seconds until
        it was."""
        began, before = time.monotonic(), None
        while time.monotonic() < began + within_s:
            logged = self.place()
            folded = self.rows("SELECT seq FROM fold_positions WHERE surface = %s", self.surface)
            if place <= logged and before == logged and folded and folded[0][0] >= logged:
                break
            before = logged
            time.sleep(0.5)
        return time.monotonic() - began


@contextmanager
def installation(
    seeded: "Seeded | SeededSearch",
    folder: Path | None,
    progress: Progress,
    *,
    workers: int = 1,
    services: Collection[str] = SERVICES,
    surface: str = SURFACE,
    declare: Callable[[Path], object] = partial(add, name=SURFACE),
) -> Iterator[Installation]:
    """Make it, in ``folder`` or else where temporary files are, with so many serving processes, and take it away in the
    end. ``declare`` writes into the folder of the surfaces. Raises NotMeasurable."""
    # not TemporaryDirectory: PostgreSQL's user must pass, as the stack arranges it for a home
    root = Path(tempfile.mkdtemp(prefix="millrace-serve-", dir=folder))
    settings = own_settings(root, workers)
    started = tuple(service for service in every_service(settings) if service.name in services)
    with nobody_elses_environment():
        try:
            declare(settings.surfaces)
            take_up(settings)
            start_stack(settings, started, later=[name for name in services if name != "postgres"])
            began = time.monotonic()
            train_in_a_process(settings, seeded)
            progress(f"a log imported, folded and trained on after {time.monotonic() - began:.0f} s")
            began = time.monotonic()
            start_stack(settings, started)
            made = Installation(settings, surface)
            wait_until_ready(settings, made.surface)
            made.settle(made.place(), READY_S)
            progress(f"serving and the fold are up after {time.monotonic() - began:.0f} s")
            yield made
        finally:
            stop_stack(settings)
            shutil.rmtree(root)


def own_settings(root: Path, workers: int = 1) -> Settings:
    """Every setting as it is by default, whatever the environment says, with a home and ports of its own."""
    defaults = {name: found.get_default() for name, found in Settings.model_fields.items()}
    names = [name for name in defaults if name.endswith("_port")]
    ports = dict(zip(names, free_ports(len(names)), strict=True))
    return Settings(
        **defaults | ports | {"home": root / "home", "surfaces": root / "surfaces", "serving_workers": workers}
    )


@contextmanager
def nobody_elses_environment() -> Iterator[None]:
    """What is started meanwhile does not hear of another installation, and runs the program beside this file."""
    before = dict(os.environ)
    for name in [name for name in os.environ if name.startswith("MILLRACE_")]:
        del os.environ[name]
    paths = [str(PROJECT), *filter(None, [before.get("PYTHONPATH")])]
    os.environ["PYTHONPATH"] = os.pathsep.join(paths)
    try:
        yield
    finally:
        os.environ.clear()
        os.environ.update(before)


def train_in_a_process(settings: Settings, seeded: "Seeded | SeededSearch") -> None:
    """Raises NotMeasurable with the end of its output."""
    done = subprocess.run(
        [sys.executable, "-m", type(seeded).__module__, json.dumps(asdict(seeded))],
        env={**os.environ, **library_environment(settings), **settings_environment(settings)},
        check=False,
        capture_output=True,
        text=True,
    )
    if done.returncode != 0:
        raise NotMeasurable(f"no champion could be trained: {(done.stderr or done.stdout)[-2000:]}")


def wait_until_ready(settings: Settings, surface: str = SURFACE) -> None:
    """Until the champion serves with live features, and with texts where it reads some. Raises NotMeasurable."""
    deadline = time.monotonic() + READY_S
    with httpx.Client(base_url=settings.serving, timeout=30, trust_env=False) as client:
        while True:
            state = client.get("/readyz").json()["surfaces"].get(surface, {})
            lacking = state.get("degraded", {})
            if state.get("features") == "live" and state.get("champion") is not None and "texts" not in lacking:
                return
            if time.monotonic() > deadline:
                raise NotMeasurable(f"serving is not ready after {READY_S:.0f} s: {state}")
            time.sleep(0.2)


def import_and_train(settings: Settings, seeded: Seeded, now: datetime) -> None:
    """Import the seeded log, fold it, and run two updates, the last as of the end of its first days."""
    from features.ingest.simulate import simulate

    start = now - ENDED - timedelta(days=seeded.whole_days)
    log, items, _ = simulate(
        seed=seeded.seed,
        start=start,
        days=seeded.whole_days,
        users=seeded.users or max(seeded.requests_per_day // 2, 50),
        items_per_day=seeded.items_per_day,
        requests_per_day=seeded.requests_per_day,
    )
    if seeded.once:
        log = a_user_a_visit(log)
    import_made(settings, SURFACE, log, items, now)
    promote(settings, SURFACE, now, [start + timedelta(days=seeded.days) * share for share in (FIRST, 1.0)])


def import_made(settings: Settings, name: str, log: "pl.DataFrame", items: "pl.DataFrame", now: datetime) -> None:
    """Import what was made of a surface."""
    from features.ingest.checking import FileTimes
    from features.ingest.importing import import_log
    from features.ingest.log_files import Files
    from flows.taken_up import running

    surface = running(settings, name)
    with tempfile.TemporaryDirectory(prefix="millrace-serve-log-") as folder:
        files = Files(Path(folder) / "log.parquet", items=Path(folder) / "items.parquet")
        log.write_parquet(Path(folder) / "log.parquet")
        items.write_parquet(Path(folder) / "items.parquet")
        import_log(
            settings.database,
            name,
            files,
            times=FileTimes(now),
            label=surface.features.label.kind,
            mapping=surface.log,
            declared=surface.features.columns,
        )


def promote(settings: Settings, name: str, now: datetime, updates: Sequence[datetime]) -> None:
    """Fold the surface's log, and run an update as of each of these times. Raises NotMeasurable where the gate does not
    promote one."""
    from prefect import flow

    from features.counters.folder import Folder
    from flows.cli.prefect_api import prefect_api
    from flows.taken_up import running
    from flows.update import run
    from flows.world import open_world
    from models.versions.mlflow_client import prepare

    surface, url = running(settings, name), settings.database
    prepare(settings.mlflow_tracking, url)
    with (
        open_world(settings, surface, reports=False) as world,
        connect(url, autocommit=True) as connection,
        Folder(connection, name, surface.features) as folder_of_counters,
    ):
        folder_of_counters.fold(now)

        @flow(name="update", validate_parameters=False, persist_result=False)
        def update(as_of: datetime) -> "Outcome":
            return run(world, as_of)

        with prefect_api(settings):
            for as_of in updates:
                outcome = update(as_of)
                if outcome.published.state != "promoted":
                    raise NotMeasurable(f"the gate did not promote: {' '.join(outcome.verdict.reasons)}")


def a_user_a_visit(log: "pl.DataFrame") -> "pl.DataFrame":
    """The same log, with another user for each visit."""
    import polars as pl

    since = pl.col("shown_at").diff().over("user_id", order_by="shown_at")
    visit = (since > VISIT).fill_null(False).cum_sum().over("user_id", order_by="shown_at")
    return log.with_columns(pl.format("{}v{}", "user_id", visit).alias("user_id"))


def main(arguments: Sequence[str]) -> None:
    from infra.stack import environment

    settings = Settings()
    environment.apply(settings)
    import_and_train(settings, Seeded(**json.loads(arguments[0])), datetime.now(UTC))


if __name__ == "__main__":
    main(sys.argv[1:])
