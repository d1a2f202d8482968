"""Waiting for what another thread or process does."""

import time
from collections.abc import Callable


def eventually(what: Callable[[], bool], name: str, within_s: float = 20.0) -> None:
    """Wait until ``what`` holds; fail with ``name`` when it does not in time."""
    deadline = time.monotonic() + within_s
    while not what():
        assert time.monotonic() < deadline, f"not within {within_s} s: {name}"
        time.sleep(0.02)
