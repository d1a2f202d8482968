"""A design with some fields changed, of its shape or of its learning, as a bench declares its arms."""

from dataclasses import replace
from typing import Any

from models.learning.design import Design
from models.networks.shape import Shape


def with_fields(design: Design, **fields: Any) -> Design:
    """The design with these fields of ``Shape`` and ``Learning``."""
    shape = {name: value for name, value in fields.items() if name in Shape.__dataclass_fields__}
    learning = {name: value for name, value in fields.items() if name not in shape}
    return Design(replace(design.shape, **shape), replace(design.learning, **learning))
