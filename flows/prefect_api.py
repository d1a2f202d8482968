"""The Prefect server for flows that a command runs itself: the one of the stack, or a temporary one."""

import logging
import os
from collections.abc import Iterator
from contextlib import contextmanager

import httpx

from infra.settings import Settings

START_S = 240
"""Seconds a temporary server may take to start; most of it is importing, on a busy machine."""


@contextmanager
def prefect_api(settings: Settings) -> Iterator[None]:
    """Point Prefect to the server of ``settings`` where it answers; else to one that lives as long as this block.

    Enter it before Prefect runs a flow in this process.
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

    os.environ.pop("PREFECT_API_URL", None)
    changed = {PREFECT_SERVER_ALLOW_EPHEMERAL_MODE: True, PREFECT_SERVER_EPHEMERAL_STARTUP_TIMEOUT_SECONDS: START_S}
    with temporary_settings(changed, restore_defaults={PREFECT_API_URL}):
        yield


def _answers(api: str) -> bool:
    try:
        return httpx.get(f"{api}/health", timeout=3, trust_env=False).status_code == 200
    except httpx.HTTPError:
        return False
