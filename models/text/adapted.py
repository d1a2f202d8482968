"""What updates have made of an encoder, apart from the base itself: small enough to be judged, shipped and rolled back.

adapted = Adapted.new(TextDesign("query", "item"), base, seed=0)      # changes nothing yet
vectors = adapted.queries(base, ["angle bracket"])                    # float32 [1, width]
adapted = Adapted.of(design, adapted.arrays(), adapted.steps)         # the same, to the bit
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from models.tables.rows import Floats
from models.text.base_encoder import Base
from models.text.compiled import queries_by
from models.text.encoder import Encoder, unmoved
from models.text.inference import for_inference
from models.text.text_design import TextDesign


@dataclass(frozen=True, eq=False)
class Adapted:
    """The moved part of an encoder. Never changed: :func:`models.text.learner.fine_tune` returns another.

    It does not hold the base, whose identity has to be kept beside it by whoever stores it.
    """

    design: TextDesign
    moved: Mapping[str, Floats]
    """By name, as the design has them."""

    steps: int
    """Batches trained on since it was new."""

    _applied: dict[str, Encoder] = field(default_factory=dict, init=False, repr=False)
    """By the base's identity: made once, in milliseconds, and shared by all threads."""

    @staticmethod
    def new(design: TextDesign, base: Base, seed: int) -> Adapted:
        """One that gives the vectors of the base."""
        return Adapted(design, unmoved(design, base, seed), 0)

    @staticmethod
    def of(design: TextDesign, arrays: Mapping[str, Floats], steps: int) -> Adapted:
        """The one that had these :meth:`arrays`."""
        return Adapted(design, dict(arrays), steps)

    def arrays(self) -> dict[str, Floats]:
        """All that an update moves, by names that depend on the design alone."""
        return dict(self.moved)

    @property
    def moves_items(self) -> bool:
        """Whether vectors of items are this value's own; else they are the base's, and stay valid."""
        return self.design.moves_items

    def queries(self, base: Base, texts: Sequence[str]) -> Floats:
        """[N, width]: vectors of length 1. Raises ValueError for a base that this was not made for."""
        return queries_by(base, self.design, self.encoder(base), texts)

    def items(self, base: Base, texts: Sequence[str]) -> Floats:
        """[N, width]: vectors of length 1; the base's own unless ``moves_items``."""
        return self.queries(base, texts) if self.moves_items else base.encode(texts)

    def encoder(self, base: Base) -> Encoder:
        """It on a base, for inference."""
        if base.identity not in self._applied:
            self._applied[base.identity] = for_inference(self.design, base, self.moved)
        return self._applied[base.identity]
