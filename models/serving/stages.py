"""How long one request took, stage by stage: for the metrics, and for a trace where they are configured.

    stages = RequestStages()        # as the request arrives
    stages.end("parse")             # and so on, as each ends; the next begins there
    stages.spans()                  # (stage, began, ended), in order

``telemetry.Measured`` makes one for each request, the service and the ranker end the stages, one after the other.
"""

import time
from collections.abc import Iterator
from typing import Literal

Stage = Literal["parse", "wait", "encode", "retrieve", "read", "check", "score", "arrange", "journal", "answer"]
"""``parse``: from the first byte to a checked body. ``wait``: for a thread. ``encode``: a query's vector, which
finds candidates. ``retrieve``: candidates that the request does not name. ``read``: features and views. ``check``:
feedback and events looked up. ``score``: the model.
``arrange``: what is shown, in which order, its names and its entry. ``journal``: until that is durable. ``answer``:
until the last byte is handed to the connection."""


class RequestStages:
    """Of one request, and what it came to. One thread at a time ends stages."""

    __slots__ = ("_ended", "began", "candidates", "degraded", "model_version", "surface")

    def __init__(self) -> None:
        self.began = time.perf_counter()
        self._ended: list[tuple[Stage, float]] = []
        self.surface = ""
        """One that is served here; empty where the request names none."""
        self.model_version = ""
        self.candidates = 0
        self.degraded: tuple[str, ...] = ()

    def end(self, stage: Stage) -> None:
        """It ended now."""
        self._ended.append((stage, time.perf_counter()))

    def spans(self) -> Iterator[tuple[Stage, float, float]]:
        """Each stage with its begin and end, seconds by ``time.perf_counter``."""
        began = self.began
        for stage, ended in self._ended:
            yield stage, began, ended
            began = ended
