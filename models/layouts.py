"""The layout of a surface's examples, made of what it declares: which columns a ranker reads, in their order."""

from collections.abc import Sequence
from hashlib import sha256

from features.declare.labels import Label
from features.declare.schema import RowSchema
from features.declare.views import TeamView, view_columns
from models.examples import Layout


def layout_of(schema: RowSchema, views: Sequence[TeamView], labels: Sequence[Label]) -> Layout:
    """The layout of served rows: their dense values, what is made of their numbers, the values of a team's views."""
    version, dense_values = schema.version, len(schema.dense)
    if views:
        version += "+" + sha256(repr(tuple(views)).encode()).hexdigest()[:8]
    own = [sha256(repr((view, value)).encode()).hexdigest()[:12] for view in views for value in view.values]
    of_numbers = schema.meanings[dense_values : dense_values + len(schema.numbers)]
    return Layout(
        schema_version=version,
        dense=(*schema.dense, *(name + form for name in schema.numbers for form in FORMS), *view_columns(views)),
        ids=schema.ids,
        history=schema.history,
        history_of="item",
        kinds=tuple(label.kind for label in labels),
        weights=tuple(label.weight for label in labels),
        meanings=(
            *schema.meanings[:dense_values],
            *(meaning + form for meaning in of_numbers for form in FORMS),
            *own,
            *schema.meanings[dense_values + len(schema.numbers) :],
        ),
    )


FORMS = ("", "_log", "_known")
"""What a model reads of a number: itself, its size (the inverse hyperbolic sine, a logarithm that knows 0 and below),
and whether it is there at all."""
