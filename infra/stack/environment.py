"""What the libraries read from the environment: no telemetry, and the addresses of this installation.

Prefect, MLflow and Evidently read their settings when they are imported, so a process applies this at its edge, before
anything heavy is imported.
"""

import os
from collections.abc import MutableMapping
from contextlib import suppress
from pathlib import Path

from infra.host_names import HostNames
from infra.settings import Settings

TELEMETRY_OFF = {
    "DO_NOT_TRACK": "true",  # Evidently (any value), MLflow and Prefect's client ("true")
    "ITERATIVE_DO_NOT_TRACK": "true",
    "EVIDENTLY_DISABLE_TELEMETRY": "1",
    "MLFLOW_DISABLE_TELEMETRY": "true",
    "PREFECT_SERVER_ANALYTICS_ENABLED": "false",
    "PREFECT_SERVER_UI_V2_ENABLED": "false",  # asks a host for analytics whatever the settings; V1 does not
}


def library_environment(settings: Settings) -> dict[str, str]:
    """Variables that point Prefect and MLflow to this installation and keep every library's telemetry off."""
    return TELEMETRY_OFF | {
        "PREFECT_HOME": str(settings.home.resolve() / "prefect"),
        "PREFECT_API_URL": settings.prefect_api,
        "PREFECT_SERVER_UI_API_URL": settings.prefect_api,  # else the page asks port 4200
        # Else every origin's, of the temporary servers too. Its page at localhost asks the API at 127.0.0.1.
        "PREFECT_SERVER_CORS_ALLOWED_ORIGINS": ",".join(
            HostNames.of(settings.host, settings.prefect_port, settings.other_hosts).origins()
        ),
        "MLFLOW_TRACKING_URI": settings.mlflow_tracking,
        "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false",  # 2 processes and 360 MB in place of 10 and 806
        "MALLOC_ARENA_MAX": "2",  # else each thread has a heap of its own, and keeps what it freed there
        "GIT_PYTHON_REFRESH": "quiet",  # MLflow looks for a git that need not be there
    }


OURS_TO_SET = ("PGOPTIONS", "PGDATESTYLE", "PGTZ", "PGGEQO", "PGCLIENTENCODING")
"""What libpq takes from the environment into a session, over the address."""

OWNERS_ALONE = "MILLRACE_DATABASE_OWNER_URL"
"""Who migrates needs it; no long-lived process does, and none is given it."""


def settings_environment(settings: Settings) -> dict[str, str]:
    """The ``MILLRACE_*`` variables from which a long-lived process reads the same settings, without the owner's."""
    folders = {"home": settings.home.resolve(), "surfaces": settings.surfaces.resolve()}
    values = settings.model_dump(exclude_none=True, exclude={"database_owner_url"}) | folders
    return {f"MILLRACE_{name.upper()}": str(value) for name, value in values.items()}


def clear_session(settings: Settings, environment: MutableMapping[str, str] = os.environ) -> None:
    """Take out what libpq would read into our sessions; and where PostgreSQL is embedded, what it would read at all:
    addresses and passwords of other servers, which the shell of a developer often has."""
    names = set(OURS_TO_SET)
    if not settings.database_url:
        from psycopg.pq import Conninfo

        names |= {option.envvar.decode() for option in Conninfo.get_defaults() if option.envvar}
        names |= {"PGSERVICEFILE", "PGSYSCONFDIR"}
    for name in names & set(environment):
        del environment[name]


def apply(settings: Settings) -> None:
    """Set ``library_environment`` for this process; the settings win over earlier values of a variable."""
    clear_session(settings)
    os.environ.update(library_environment(settings))
    with suppress(OSError):  # who needs a home that cannot be made, reports it
        settings.home.resolve().mkdir(mode=0o700, parents=True, exist_ok=True)
        Path(os.environ["PREFECT_HOME"]).mkdir(exist_ok=True)  # else Prefect warns as it is imported
