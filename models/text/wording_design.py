"""What a surface declares of its wordings: of the texts that one thing was shown under, which are clicked more.

WordingDesign(item="headline", of="article")
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from models.networks.bounds import above_zero, at_least
from models.text.text_design import TextDesign


@dataclass(frozen=True)
class WordingDesign:
    """A text encoder and a direction on its vectors. The defaults are what did best in the first half of two years of
    tested headlines."""

    item: str
    """Id column of the layout whose keys identify the text."""

    of: str
    """Id column of the layout that is the same for all wordings of a thing."""

    encoder: str = TextDesign.encoder
    """A Hugging Face model that is on this machine, or a folder with one. The default comes as a Python package."""

    layers: int | None = 4
    """Of the encoder that are read, from its beginning; None: all. How a thing is said is plainer in the middle than at
    the end, where encoders are trained to tell what it is about (Jawahar et al. 2019)."""

    prior: float = 30.0
    """How sure it is at first that a text's vector says nothing: the precision of each component of the direction."""

    unexplained: float = 0.05
    """Variance of the logarithms of a thing's click rates that their texts do not explain. A variant's clicks are worth
    1 / ``unexplained`` of them at most, however many there are."""

    half_life_days: float = 365.0
    """After which what was learned counts half, so that wordings may wear out."""

    query: ClassVar[None] = None
    """Nothing is asked for."""

    rated: ClassVar[None] = None
    """Nobody rates wordings but who clicks."""

    columns: ClassVar[tuple[str, ...]] = ("text_appeal",)
    """Of the numbers that a ranker gets: the logarithm of how many times as often a text is clicked as another of the
    same thing, up to what both have in common."""

    def __post_init__(self) -> None:
        for name in ("item", "of", "encoder"):
            if not getattr(self, name):
                meant = "a model or a folder" if name == "encoder" else "an id column of the layout"
                raise ValueError(f"text.{name} is {getattr(self, name)!r}: name {meant}")
        if self.item == self.of:
            raise ValueError(
                f"text.of is {self.of!r}, the same as text.item: name the id column that a thing's wordings share"
            )
        if self.layers is not None:
            at_least(1, "text", self, "layers")
        at_least(0, "text", self, "unexplained")
        above_zero("text", self, "prior", "half_life_days")
