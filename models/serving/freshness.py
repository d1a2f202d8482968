"""Freshness as served: the first request of each version that is trained on more than those before it."""

from models.serving.follow.champions import Champions
from models.serving.telemetry import LOG, Metrics


class Freshness:
    """Of one process; for the event loop's thread.

    A version that was in service before the process began says nothing of how fast updates are, nor does one that a
    rollback takes back: neither is counted.
    """

    def __init__(self, metrics: Metrics) -> None:
        self._metrics = metrics
        self._served: dict[str, str] = {}
        """The version that served the last request, by surface."""
        self._learned_to: dict[str, float] = {}
        """The newest event that any version was trained on which has served here, by surface; seconds since 1970."""

    def served(self, surface: str, version: str, champions: Champions, now: float) -> None:
        """A request was answered by this version, at ``now``, seconds since 1970."""
        before = self._served.get(surface)
        if before == version:
            return
        self._served[surface] = version
        champion = champions.current(surface)
        if champion is None or champion.version != version:
            return
        learned_to = champion.promoted.learned_to
        if learned_to <= self._learned_to.get(surface, float("-inf")):
            return
        self._learned_to[surface] = learned_to
        if before is None:
            return
        freshness_s = now - learned_to
        self._metrics.freshness.labels(surface).observe(max(0.0, freshness_s))
        LOG.info(
            "version %s of %s served its first request",
            version,
            surface,
            extra={"facts": {"surface": surface, "model_version": version, "freshness_s": round(freshness_s, 3)}},
        )
