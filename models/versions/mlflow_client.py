"""MLflow's client: one of our own address, quiet, with errors in one line.

Imported late, since MLflow is large; nothing here touches its process-wide state.
"""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from infra.addresses import hide_password
from infra.errors import MillraceError
from infra.postgres.connections import connect, create_database

if TYPE_CHECKING:
    from mlflow.exceptions import MlflowException
    from mlflow.tracking import MlflowClient


class RegistryFailed(MillraceError):
    """MLflow refuses or does not answer."""


def prepare(tracking_uri: str, database_url: str) -> None:
    """Make MLflow's database and its tables where there are none; nothing for a server, which does it itself.

    Takes about 3 s the first time. Guarded by an advisory lock in Millrace's own database, ``database_url``, since
    MLflow's first start is not safe to race.
    """
    if tracking_uri.startswith("http"):
        return
    with connect(database_url, autocommit=True) as guard:
        guard.execute("SELECT pg_advisory_lock(hashtext('millrace.mlflow'))")
        if tracking_uri.startswith("postgresql+psycopg://"):
            create_database(tracking_uri)
        client(tracking_uri).search_experiments(max_results=1)


def client(tracking_uri: str) -> "MlflowClient":
    quieten()
    from mlflow.tracking import MlflowClient

    return MlflowClient(tracking_uri=tracking_uri, registry_uri=tracking_uri)


@contextmanager
def answering(tracking_uri: str) -> Iterator[None]:
    """Raises RegistryFailed, in one line, for what MLflow refuses or does not answer meanwhile."""
    try:
        yield
    except Exception as error:
        if not type(error).__module__.startswith("mlflow"):  # not imported for it, since it is large
            raise
        why = " ".join(str(error).split())
        raise RegistryFailed(
            f"MLflow at {hide_password(tracking_uri)} refused or did not answer: {why[:300]}"
        ) from error


def is_absent(error: "MlflowException") -> bool:
    """Whether MLflow has no such thing; the error is the same for a deleted version."""
    from mlflow.protos.databricks_pb2 import RESOURCE_DOES_NOT_EXIST, ErrorCode

    return bool(error.error_code == ErrorCode.Name(RESOURCE_DOES_NOT_EXIST))


def quieten() -> None:
    """No telemetry, no progress bars, warnings only; MLflow reads these when it is imported."""
    os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")
    os.environ.setdefault("MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR", "false")
    os.environ.setdefault("MLFLOW_LOGGING_LEVEL", "WARNING")
    os.environ.setdefault("MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT", "true")
