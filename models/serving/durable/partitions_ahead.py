"""Makes the log's partitions ahead, so that no request ever meets a day without one."""

import threading
from collections.abc import Callable
from datetime import UTC, datetime
from functools import partial

from features.log.partitions import make_ahead
from infra.follower import follow, log_failure
from models.serving.durable.database import Database, backoff
from models.serving.telemetry import LOG

EVERY_S = 3600.0


def follow_calendar(database: Database, clock: Callable[[], float], stopping: threading.Event) -> None:
    """Make them every hour until ``stopping`` is set. Where that fails, the first commit of a day makes what it
    lacks."""
    follow(
        lambda connection: make_ahead(connection, datetime.fromtimestamp(clock(), UTC)),
        opening=partial(database.connection, patient=True),
        every_s=EVERY_S,
        stopping=stopping,
        failed=partial(log_failure, LOG, "making the partitions of the next days"),
        backoff=backoff(),
    )
