"""What feedback counts, as what: the one rule for labels, counters, a user's history and what was clicked lately.

- **The first of a kind** for an impression is kept; what comes after is ``already there``.
- **It counts where its label says so** (:class:`features.declare.labels.Label`): by its value, and where it happened
  within so long of the showing. A value of 0 or below says that it did not happen: label 0, and no click in the
  features. What is of no label's kind is kept, and counts for nothing.
- **It cannot precede its impression.** Stamped before it by no more than :data:`CLOCK_SKEW` it is taken as happening at
  the showing, and so written down; stamped earlier it is refused (:func:`features.log.writing.append`).
"""

from datetime import datetime, timedelta

CLOCK_SKEW = timedelta(minutes=5)
"""By how much the clock that stamps feedback may be behind the one that stamps impressions."""

HORIZON = timedelta(days=30)
"""How long after its impression feedback may come, and how far apart two events with one id are taken for the same."""


def is_too_early(at: float, shown_at: float) -> bool:
    """Whether feedback is refused for its time; in seconds, to the microsecond that the log holds."""
    return round(at * 1e6) < round(shown_at * 1e6) - CLOCK_SKEW // timedelta(microseconds=1)


def why_too_early(at: datetime, shown_at: datetime) -> str:
    """Why feedback stamped ``at`` is refused."""
    minutes = CLOCK_SKEW // timedelta(minutes=1)
    return f"at {at.isoformat()} is more than {minutes} minutes before its impression was shown, {shown_at.isoformat()}"
