"""Designs of tests, by the fields that a test is about, whether of the shape or of the learning."""

from dataclasses import replace
from typing import Any

from models.learning.design import Design
from models.networks.shape import Shape


def but(design: Design, **fields: Any) -> Design:
    """The design with some fields changed."""
    shape = {name: value for name, value in fields.items() if name in Shape.__dataclass_fields__}
    learning = {name: value for name, value in fields.items() if name not in shape}
    return Design(replace(design.shape, **shape), replace(design.learning, **learning))


def design_of(**fields: Any) -> Design:
    """The default design with some fields changed."""
    return but(Design(), **fields)
