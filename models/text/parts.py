"""Which part of a model reads texts, by what a surface declares of them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from numpy.typing import NDArray

from models.text.part import TextPart
from models.text.text_design import TextDesign
from models.text.wording_design import WordingDesign
from models.text.wording_part import WordingPart

TextReader = TextPart | WordingPart
"""Both add the columns of their design to examples, learn from them, and are arrays in a version."""


def part_of(design: TextDesign | WordingDesign, arrays: Mapping[str, NDArray[Any]]) -> TextReader:
    """The part of this design whose arrays these are; of no arrays one that nothing has moved yet."""
    return TextPart.of(design, arrays) if isinstance(design, TextDesign) else WordingPart.of(design, arrays)
