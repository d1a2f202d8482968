"""The rated pairs of a surface that reads texts, and how an update's encoder orders them."""

from pathlib import Path

from flows.surface import Surface
from models.learning.model import Model
from models.text.part import TextPart
from monitoring.evaluation.rated import RatedComparison, compare_rated
from monitoring.evaluation.rated_pairs import RatedPairs, read_rated


def pairs_of(surface: Surface, folder: Path) -> RatedPairs | None:
    """Those that the surface names, a file beside its own in ``folder``; None where it names none. Raises
    BadRatedPairs."""
    text = surface.design.text
    return None if text is None or text.rated is None else read_rated(folder, text.rated)


def compare(pairs: RatedPairs | None, champion: Model | None, challenger: Model) -> RatedComparison | None:
    """Both encoders on them; None where there are none, or the challenger reads no queries."""
    if pairs is None or not isinstance(challenger.text, TextPart):
        return None
    served = None if champion is None or not isinstance(champion.text, TextPart) else champion.text
    return compare_rated(pairs, champion=served, challenger=challenger.text)
