"""What is measured of a challenger that reads texts, beside what is of every challenger."""

from dataclasses import dataclass

from monitoring.evaluation.lost_queries import LostQuery
from monitoring.evaluation.rated import RatedComparison


@dataclass(frozen=True)
class TextEvidence:
    """Of a challenger's encoder."""

    rated: RatedComparison | None = None
    """None: the surface names no rated pairs."""

    not_finite: int = 0
    """Texts of what judges of which no numbers are made: the ranker takes such a text for one that is not known."""

    lost: tuple[LostQuery, ...] = ()
    """The worst first."""
