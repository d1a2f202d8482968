"""The loop of whatever follows the database: work at a pace, wait longer after each failure, until it is to stop.

    follow(
        look,  # takes the connection
        opening=partial(connect, url, autocommit=True),
        every_s=2.0,
        stopping=stopping,
        failed=partial(log_failure, log, "following the promotions"),
    )

Every long-lived thread that reads or writes PostgreSQL beside its requests runs by it: the fold and the upkeep of the
partitions (``flows.services``), and what serving follows and writes late (``models.serving``).
"""

import logging
import threading
import time
from collections.abc import Callable
from contextlib import AbstractContextManager
from typing import TypeVar

import psycopg

from infra.backoff import Backoff
from infra.postgres.connections import explain

Resource = TypeVar("Resource")

IDLE_S = 60.0
"""Longer than this nothing is held open between two passes: firewalls and poolers drop connections that say nothing."""


def follow(
    work: Callable[[Resource], object],
    *,
    opening: Callable[[], AbstractContextManager[Resource]],
    every_s: float,
    stopping: threading.Event,
    failed: Callable[[Exception, float], None],
    backoff: Backoff | None = None,
    wait: Callable[[Resource, float], object] | None = None,
) -> None:
    """Call ``work`` with what ``opening`` opens, until ``stopping`` is set; ``every_s`` from one call's begin to the
    next's.

    What was opened is used again by the next call, and closed after an error, at the end, or where the next is more
    than ``IDLE_S`` away. Whatever ``opening`` or ``work`` raises, ``failed`` is given, with the seconds until the next
    attempt; those grow by ``backoff`` until a call goes well. ``wait`` takes the place of waiting for ``stopping`` at
    most so many seconds, for work that may be due earlier; it must return soon once ``stopping`` is set.
    """
    backoff = backoff or Backoff()
    while not stopping.is_set():
        wait_s = 0.0
        try:
            with opening() as resource:
                while not stopping.is_set():
                    began = time.monotonic()
                    work(resource)
                    backoff.reset()
                    wait_s = max(0.0, every_s - (time.monotonic() - began))
                    if wait is not None:
                        wait(resource, wait_s)
                    elif wait_s > IDLE_S:
                        break
                    else:
                        stopping.wait(wait_s)
        except Exception as error:
            wait_s = backoff.next_s()
            failed(error, wait_s)
        stopping.wait(wait_s)


def log_failure(log: logging.Logger, doing: str, error: Exception, wait_s: float) -> None:
    """Log a failure: an error of the database in a line that explains it, any other with its traceback."""
    if isinstance(error, psycopg.Error):
        log.warning("%s failed, next attempt in %.1f s: %s", doing, wait_s, explain(error))
    else:
        log.error("%s failed, next attempt in %.1f s", doing, wait_s, exc_info=error)
