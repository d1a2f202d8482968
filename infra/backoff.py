"""How long to wait before something that failed is tried again: the one policy of :mod:`infra.follower` and of every
loop that tries until it is too late.

pause = Backoff()
while time.monotonic() < deadline and not tried():
    time.sleep(pause.next_s())
"""

from dataclasses import dataclass, field
from random import Random


@dataclass
class Backoff:
    """Waits of one loop: they double from ``first_s`` up to ``most_s``, and begin anew after a success.

    Each is drawn evenly from the upper half of its bound, so that many who lost the same server do not come back at
    once, and none comes back at once either ("equal jitter": M. Brooker, *Exponential Backoff and Jitter*, 2015).
    For one loop, not for several threads.
    """

    first_s: float = 0.5
    """Bound of the first wait, seconds."""

    most_s: float = 30.0
    """Bound of every wait, seconds: how long after its return a server may wait to be noticed."""

    random: Random = field(default_factory=Random, repr=False)

    failures: int = field(default=0, init=False)
    """In a row, since the last success."""

    def __post_init__(self) -> None:
        if not 0 < self.first_s <= self.most_s:
            raise ValueError(f"first_s={self.first_s}, most_s={self.most_s}: want 0 < first_s <= most_s")

    def next_s(self) -> float:
        """Seconds to wait after one more failure."""
        # The exponent is bounded, since a loop may fail for months.
        bound = min(self.most_s, self.first_s * 2.0 ** min(self.failures, 64))
        self.failures += 1
        return bound * self.random.uniform(0.5, 1.0)

    def reset(self) -> None:
        """It went well: the next failure is a first one."""
        self.failures = 0
