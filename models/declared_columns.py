"""What a surface declares, as the columns that a registered version takes from whoever calls it."""

import json
import math
from collections.abc import Sequence

import numpy as np

from features.counters.engine import Engine
from features.counters.event_values import Candidates
from features.declare.families import ACTIVITY, PAUSE, STAGE
from features.declare.features import Features
from features.declare.views import TeamView, view_columns
from features.identity.canonical import canonical
from models.examples import Layout
from models.frames import Frame
from models.layouts import FORMS
from models.versions.raw_columns import Form, RawColumns, RawId, RawNumber

OF_A_NEW_USER = {STAGE: "0", ACTIVITY: "0", PAUSE: "never"}
"""Ids made from a user's state, where there is none."""

OF_THE_CLOCK = ("hour_sin", "hour_cos")
"""Number columns that no history makes: without them the hour is not known."""

FORM_NAMES: tuple[Form, ...] = ("number", "size", "known")


def raw_columns(features: Features, views: Sequence[TeamView], layout: Layout) -> RawColumns:
    """The columns of ``layout``, which is that of the surface or one with some of its columns.

    Ids and numbers have their declared names, counters and views those of the layout; a name that another column has
    taken gets an underscore. A counter that is not given is what it is of a user and an item that nobody has seen.
    """
    taken = set[str]()

    def free(name: str) -> str:
        while name in taken:
            name += "_"
        taken.add(name)
        return name

    ids = {of: RawId(free(f"{of}_id"), of, required=True) for of in ("user", "item")}
    for name in features.ids[2:]:
        of_state = features.of_state.get(name)
        keyed_as = name if of_state is None else of_state[0]
        ids[name] = RawId(free(name), keyed_as, OF_A_NEW_USER.get(name))
    history = RawId(free("last_items"), "item")
    numbers = dict[str, RawNumber]()
    for name in features.schema.numbers:
        called = free(name)
        numbers |= {name + end: RawNumber(called, form) for end, form in zip(FORMS, FORM_NAMES, strict=True)}
    numbers |= {name: RawNumber(free(name), "view") for name in view_columns(views)}
    unseen = Engine(features).read(Candidates("", [""]), 0.0).dense[0].astype(np.float64).tolist()
    for name, value in zip(features.schema.dense, unseen, strict=True):
        numbers[name] = RawNumber(free(name), "counter", None if name in OF_THE_CLOCK else value)
    return RawColumns(
        dense=tuple(numbers[name] for name in layout.dense),
        ids=tuple(ids[name] for name in layout.ids),
        history=history,
        last=layout.history,
    )


def example_rows(columns: RawColumns, features: Features, frame: Frame) -> list[dict[str, object]]:
    """The rows of a frame as far as it has them raw: who, what, what the request brought, and the numbers. Its examples
    are of the layout of ``columns``."""
    asked = {column.name: column.column for column in features.contexts}
    shown = {one.name: asked[one.keyed_as] for one in columns.ids if one.keyed_as in asked and one.missing is None}
    rows = list[dict[str, object]]()
    for row, dense in zip(frame.table.iter_rows(named=True), frame.examples.dense.tolist(), strict=True):
        context = json.loads(row["context"] or "{}")
        given = {name: canonical(context.get(column)) for name, column in shown.items()}
        numbers = {
            one.name: value
            for one, value in zip(columns.dense, dense, strict=True)
            if one.form not in ("size", "known") and math.isfinite(value)
        }
        ids = {"user_id": row["user_id"], "item_id": row["item_id"]}
        rows.append({**ids, **{name: text for name, text in given.items() if text is not None}, **numbers})
    return rows
