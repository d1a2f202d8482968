"""Does a challenger's encoder order rated texts as well as the champion's, and as the encoder as it comes?

    found = compare_rated(pairs, champion=champion.text, challenger=challenger.text)
    found.over_champion.surely_lost

By the cosine of query and text alone, whatever the ranker makes of it: NDCG of the first ten (Järvelin & Kekäläinen
2002), a rating its own gain. Queries are what chance draws, and each is its own rival (paired).
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING, Literal

import numpy as np
from numpy.typing import NDArray

from monitoring.evaluation.rated_pairs import RatedPairs
from monitoring.evaluation.retrieval import Difference
from monitoring.statistics.bootstrap import INTERVAL_COVERAGE
from monitoring.statistics.sequential import FEWEST_FOR_NORMAL, Moments, lower_once, upper_once

if TYPE_CHECKING:  # evidence is read where nothing is encoded, and torch takes seconds to import
    from models.text.base_encoder import Base
    from models.text.part import TextPart
    from models.text.text_design import EncoderPrecision

Rival = Literal["champion", "as_it_comes"]

FIRST = 10
"""Places that count."""

Floats = NDArray[np.float64]


@dataclass(frozen=True)
class RatedComparison:
    """NDCG of the first ten texts of rated queries, the mean over queries, by each encoder."""

    checksum: str
    """Of the file. With another one, figures of before are of something else."""

    queries: int
    pairs: int
    challenger: float
    as_it_comes: float
    champion: float | None
    """None: there is none, or it reads no texts."""

    over_as_it_comes: Difference
    """Challenger minus the encoder as it comes."""

    over_champion: Difference | None

    def over(self, rival: Rival) -> Difference | None:
        return self.over_champion if rival == "champion" else self.over_as_it_comes


def compare_rated(pairs: RatedPairs, *, champion: "TextPart | None", challenger: "TextPart") -> RatedComparison:
    """The encoders that two versions read texts by, on rated pairs. Raises ``LacksTextExtra``, ``NoEncoder``."""
    from models.text.part import TextPart

    now, before = ndcg(pairs, challenger), ndcg(pairs, TextPart(challenger.design))
    served = None if champion is None else ndcg(pairs, champion)
    return RatedComparison(
        checksum=pairs.checksum,
        queries=len(pairs.queries),
        pairs=len(pairs.rating),
        challenger=float(now.mean()),
        as_it_comes=float(before.mean()),
        champion=None if served is None else float(served.mean()),
        over_as_it_comes=by_query(now - before),
        over_champion=None if served is None else by_query(now - served),
    )


def by_query(gained: Floats) -> Difference:
    """The mean of gains [Q], with Student's bounds; without, where queries are too few for the central limit."""
    if len(gained) < FEWEST_FOR_NORMAL:
        return Difference(float(gained.mean()) if len(gained) else None)
    moments, level = Moments.of(gained), (1 - INTERVAL_COVERAGE) / 2
    return Difference(moments.mean, lower_once(moments, level), upper_once(moments, level))


def ndcg(pairs: RatedPairs, part: "TextPart") -> Floats:
    """[Q], by the cosines that a version's encoder gives; a cosine that is no number comes last."""
    from models.text.pretrained import base_of

    base, adapted = base_of(part.design.encoder), part.adapted
    precision = part.design.precision
    as_queries = (
        as_it_comes(base, pairs.queries, precision) if adapted is None else adapted.queries(base, pairs.queries)
    )
    moved = adapted is not None and adapted.moves_items
    as_texts = adapted.items(base, pairs.texts) if adapted is not None and moved else as_it_comes(base, pairs.texts)
    cosine = np.einsum("pw,pw->p", as_queries[pairs.query], as_texts[pairs.text]).astype(np.float64)
    return ndcg_of(np.nan_to_num(cosine, nan=-np.inf), pairs)


def ndcg_of(score: Floats, pairs: RatedPairs) -> Floats:
    """[Q], of texts ordered by a score [P]; of equal ones the order is the alphabet's."""
    return _gained(score, pairs) / _gained(pairs.rating, pairs)


def _gained(score: Floats, pairs: RatedPairs) -> Floats:
    """[Q]: the sum of rating / log2(1 + place) over the first ten, by falling score."""
    order = np.lexsort((-score, pairs.query))
    starts = np.searchsorted(pairs.query, np.arange(len(pairs.queries)))
    place = np.arange(len(order)) - starts[pairs.query] + 1
    discount = np.where(place <= FIRST, 1 / np.log2(place + 1), 0.0)
    return np.bincount(pairs.query, pairs.rating[order] * discount, len(pairs.queries)).astype(np.float64)


@lru_cache(maxsize=4)
def as_it_comes(base: "Base", texts: Sequence[str], precision: "EncoderPrecision" = "float32") -> NDArray[np.float32]:
    """[N, width]; of a tuple of texts. They are frozen, and a process that runs many updates encodes them once."""
    return base.encode(texts, precision)
