"""The services of an installation: what is started, where it answers, how it is known to be well.

A service whose address is set (``MILLRACE_PREFECT_API_URL`` and so on) exists elsewhere: it is watched, never started.
"""

import json
import sys
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

import httpx
import psycopg

from infra.addresses import sqlalchemy_url, with_database, without_login
from infra.postgres.connections import connect
from infra.settings import Settings

PROBE_S = 3.0
"""Seconds a service has to answer a health check."""


@dataclass(frozen=True)
class Service:
    """One service of the installation."""

    name: str

    address: str | None = None
    """Where people and programs find it; None for a process that listens nowhere."""

    health: str | None = None
    """URL that answers when the service is well: any status below 400, or for PostgreSQL a query's row.

    None: a process that listens nowhere, and is well while its pulse beats (``infra.stack.pulse``)."""

    command: tuple[str, ...] = ()
    """What to run; empty for a service that exists elsewhere."""

    port: int | None = None
    """The port it listens on, on ``Settings.host``."""

    port_setting: str | None = None
    """The variable that moves it to another port."""

    environment: Mapping[str, str] = field(default_factory=dict)
    """Variables for this service alone; what is secret goes here, since a command line can be read by all."""

    first: bool = False
    """Started before those that can wait for it: what it does is wanted at once."""

    after: tuple[str, ...] = ()
    """Services that must be well before this one is started."""

    stop_signal: str = "TERM"

    whole_group: bool = True
    """Signals go to the process and all it has started; PostgreSQL sees to its own."""

    @property
    def embedded(self) -> bool:
        return bool(self.command)


def every_service(settings: Settings) -> tuple[Service, ...]:
    """All services of the installation, in the order in which they are started."""
    python = sys.executable
    home = settings.home.resolve()
    listed = [
        Service(
            name="postgres",
            address=settings.database_shown,
            health=settings.database_url or with_database(settings.database, "postgres"),  # ours is made once it is up
            command=() if settings.database_url else (python, "-m", "infra.postgres.server"),
            port=settings.postgres_port,
            port_setting="MILLRACE_POSTGRES_PORT",
            stop_signal="INT",  # PostgreSQL's fast shutdown
            whole_group=False,
        ),
        Service(
            name="prefect",
            address=settings.prefect_pages,
            health=f"{settings.prefect_api}/health",
            command=() if settings.prefect_api_url else (python, "-m", "flows.services.prefect_server"),
            port=settings.prefect_port,
            port_setting="MILLRACE_PREFECT_PORT",
        ),
        Service(
            name="mlflow",
            address=settings.mlflow_pages,
            health=f"{settings.mlflow_pages}/health",
            command=()
            if settings.mlflow_url or settings.mlflow_tracking.startswith("http")
            else (python, "-m", "models.versions.mlflow_pages"),
            port=settings.mlflow_port,
            port_setting="MILLRACE_MLFLOW_PORT",
        ),
        Service(
            name="evidently",
            address=without_login(settings.evidently),
            health=f"{settings.evidently}/api/projects",  # its first answer makes the tables
            command=()
            if settings.evidently_url
            else (python, "-m", "monitoring.reports.evidently_pages", str(evidently_configuration(home))),
            port=settings.evidently_port,
            port_setting="MILLRACE_EVIDENTLY_PORT",
        ),
        Service(
            name="serving",
            address=without_login(settings.serving),
            health=f"{settings.serving}/healthz",
            command=() if settings.serving_url else (python, "-m", "models.serving"),
            port=settings.serving_port,
            port_setting="MILLRACE_SERVING_PORT",
            first=True,
        ),
        Service(
            name="desk",
            address=without_login(settings.desk),
            health=f"{settings.desk}/healthz",
            command=() if settings.desk_url else (python, "-m", "flows.services.desk"),
            port=settings.desk_port,
            port_setting="MILLRACE_DESK_PORT",
        ),
        Service(name="fold", command=(python, "-m", "flows.services.fold")),
        Service(name="flows", command=(python, "-m", "flows.services.schedule"), after=("prefect", "mlflow")),
    ]
    return tuple(listed)


def databases(settings: Settings, services: tuple[Service, ...]) -> list[str]:
    """psycopg URLs of the databases that the embedded ones among these services need."""
    urls = [settings.database]
    embedded = {service.name for service in services if service.embedded}
    if "mlflow" in embedded and not settings.mlflow_tracking_uri:
        urls.append(with_database(settings.database, "mlflow"))
    if "evidently" in embedded:
        urls.append(with_database(settings.database, "evidently"))
    return urls


def evidently_configuration(home: Path) -> Path:
    return home / "evidently.json"


def write_evidently_configuration(settings: Settings) -> None:
    """Write the file from which the Evidently UI takes its storage; readable by its owner only."""
    file = evidently_configuration(settings.home.resolve())
    file.touch(mode=0o600)
    file.chmod(0o600)
    database = {"url": sqlalchemy_url(with_database(settings.database, "evidently"))}
    file.write_text(json.dumps({"storage": {"type": "sql"}, "database": database}, indent=1))


def is_well(service: Service) -> bool:
    """Probe the service's health address; False when it has none or does not answer within ``PROBE_S`` seconds."""
    if service.health is None:
        return False
    if service.health.startswith("postgres"):
        try:
            with connect(service.health, timeout_s=PROBE_S) as connection:
                return connection.execute("SELECT 1").fetchone() == (1,)
        except psycopg.OperationalError:
            return False
    try:
        # A proxy named in the environment has no business between us and a server of our own.
        with httpx.Client(trust_env=not service.embedded, timeout=PROBE_S, follow_redirects=True) as client:
            return client.get(service.health).status_code < 400
    except httpx.HTTPError:
        return False
