"""The Prefect server for flows that a command runs itself: the one of the stack, or a temporary one."""

import logging
import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress

import httpx
import psutil

from infra.settings import Settings
from infra.stack.begin import stop_rest

SERVER_START_S = 240
"""Seconds a temporary server may take to start; most of it is importing, on a busy machine."""

COMMAND = "MILLRACE_COMMAND"
"""The variable that names the command of a temporary server: its process, and when that began."""


@contextmanager
def prefect_api(settings: Settings) -> Iterator[None]:
    """Point Prefect to the server of ``settings`` where it answers; else to one that lives as long as this block.

    Enter it before Prefect runs a flow in this process. Temporary servers of commands that were killed are stopped.
    """
    logging.getLogger("httpx").setLevel(logging.WARNING)
    if _answers(settings.prefect_api):
        yield
        return
    from prefect.settings import (
        PREFECT_API_URL,
        PREFECT_SERVER_ALLOW_EPHEMERAL_MODE,
        PREFECT_SERVER_EPHEMERAL_STARTUP_TIMEOUT_SECONDS,
        temporary_settings,
    )

    stop_rest(left_over)
    own = psutil.Process()
    os.environ[COMMAND] = f"{own.pid} {own.create_time()}"
    os.environ.pop("PREFECT_API_URL", None)
    changed = {
        PREFECT_SERVER_ALLOW_EPHEMERAL_MODE: True,
        PREFECT_SERVER_EPHEMERAL_STARTUP_TIMEOUT_SECONDS: SERVER_START_S,
    }
    with temporary_settings(changed, restore_defaults={PREFECT_API_URL}):
        yield


def left_over() -> list[psutil.Process]:
    """Temporary servers whose command is no more: nobody else would end them."""
    found = []
    for process in psutil.process_iter():
        with suppress(psutil.Error, OSError):  # it has just ended, or belongs to somebody else
            command = process.environ().get(COMMAND)
            if command and "prefect.server.api.server:create_app" in process.cmdline() and not _lives(command):
                found.append(process)
    return found


def _lives(command: str) -> bool:
    pid, began = command.split()
    with suppress(psutil.NoSuchProcess):
        return bool(psutil.Process(int(pid)).create_time() == float(began))
    return False


def _answers(api: str) -> bool:
    try:
        return httpx.get(f"{api}/health", timeout=3, trust_env=False).status_code == 200
    except httpx.HTTPError:
        return False
