"""What Feast is told of a surface: its entities, the served view, the online views, the training service."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import timedelta
from typing import Any, Literal

import polars as pl
from psycopg import sql

from features.declare.views import TeamView
from features.team_views.source import NUMBER_TYPES, Described

View = Literal["user", "item", "section"]

AS_OF = "as_of"
"""Column of rows written online: the event time up to which the row counts."""


@dataclass(frozen=True)
class OnlineView:
    """A view read and written by key: the column of its key, and its features with their types."""

    key: str
    features: dict[str, pl.DataType]

    @property
    def schema(self) -> pl.Schema:
        """Columns that :meth:`Store.write_online` takes."""
        return pl.Schema({self.key: pl.String(), AS_OF: pl.Datetime("us", "UTC")} | self.features)


def _rates(prefix: str = "") -> dict[str, pl.DataType]:
    names = ("clicks_1h", "impressions_1h", "clicks_1d", "impressions_1d", "last_click", "last_shown")
    return {prefix + name: pl.Float64() for name in names}


ONLINE: dict[str, OnlineView] = {
    "user": OnlineView(
        "user_id",
        {
            "last_items": pl.List(pl.Int64()),  # keys of the items clicked, newest first, 0 = none
            "last_sections": pl.List(pl.Int64()),  # and of their sections
            "session_start": pl.Float64(),  # epoch seconds; NaN: never
            "last_seen": pl.Float64(),
            "last_click": pl.Float64(),
            "session_clicks": pl.Int64(),
            "clicks": pl.Int64(),
            "impressions": pl.Int64(),
            "position": pl.Int64(),  # seq of the last event of the log in this row
        },
    ),
    "item": OnlineView("item_id", _rates()),
    "section": OnlineView("section", _rates("section_")),
}
"""The online views."""


def view_definitions(surface: str, described: Sequence[tuple[TeamView, Described]]) -> list[Any]:
    """Objects for ``FeatureStore.apply`` of a team's views: of each a keyed feature view ``<surface>_<name>``.

    Its keys are called ``<name>__<column>``, so that two views may call different things by one name.
    """
    from feast import Entity, FeatureView, Field, ValueType
    from feast.infra.offline_stores.contrib.postgres_offline_store.postgres_source import PostgreSQLSource
    from feast.types import Bool, Float32, Float64, Int32, Int64, String

    from features.feast.keyed import INDEX

    values = {"boolean": Bool, "smallint": Int32, "integer": Int32, "bigint": Int64}
    values |= {"real": Float32, "double precision": Float64}
    objects: list[Any] = []
    for view, seen in described:
        keys = dict(zip(join_keys(view), seen.key_kinds, strict=True))
        entities = [
            Entity(
                name=f"{surface}_{key}",
                join_keys=[key],
                value_type=ValueType.INT64 if kind == "integer" else ValueType.STRING,
            )
            for key, kind in keys.items()
        ]
        renamed = [
            sql.SQL("{} AS {}").format(sql.Identifier(column), sql.Identifier(key))
            for column, key in zip(view.keys, keys, strict=True)
        ]
        unchanged = [sql.Identifier(name) for name in (*view.values, view.timestamp, *filter(None, (view.created,)))]
        query = sql.SQL("SELECT {} FROM {} AS s").format(
            sql.SQL(", ").join([*renamed, *unchanged]),
            sql.SQL(view.relation),
        )
        objects += [
            *entities,
            FeatureView(
                name=f"{surface}_{view.name}",
                entities=entities,
                schema=[Field(name=key, dtype=Int64 if kind == "integer" else String) for key, kind in keys.items()]
                + [Field(name=value, dtype=values[NUMBER_TYPES[seen.types[value]]]) for value in view.values],
                source=PostgreSQLSource(
                    name=f"{surface}_{view.name}",
                    query=query.as_string(),
                    timestamp_field=view.timestamp,
                    created_timestamp_column=view.created or "",
                ),
                ttl=view.ttl or timedelta(0),
                tags={INDEX: view.index},
                online=False,
                description=f"A team's own: {view.table}"[:200],
            ),
        ]
    return objects


def join_keys(view: TeamView) -> tuple[str, ...]:
    """What Feast's entities call the view's keys."""
    return tuple(f"{view.name}__{column}" for column in view.keys)


def definitions(surface: str) -> list[Any]:
    """Objects for ``FeatureStore.apply``."""
    from feast import Entity, FeatureService, FeatureView, Field, ValueType
    from feast.infra.offline_stores.contrib.postgres_offline_store.postgres_source import PostgreSQLSource
    from feast.types import Array, Bytes, Float64, Int64, String

    from features.feast.offline import LOOK_BACK

    types: dict[pl.DataType, Any] = {
        pl.List(pl.Int64()): Array(Int64),
        pl.Float64(): Float64,
        pl.Int64(): Int64,
    }
    columns = {
        pl.List(pl.Int64()): "bigint[]",
        pl.Float64(): "float8",
        pl.Int64(): "bigint",
    }

    impression = Entity(name="impression", join_keys=["impression_id"], value_type=ValueType.STRING)
    served = FeatureView(
        name=f"{surface}_served",
        entities=[impression],
        schema=[
            Field(name="impression_id", dtype=String),
            Field(name="schema_version", dtype=String),
            Field(name="row", dtype=Bytes),
        ],
        source=PostgreSQLSource(
            name=f"{surface}_served",
            query=sql.SQL("SELECT impression_id, shown_at, schema_version, row FROM served WHERE surface = {}")
            .format(sql.Literal(surface))
            .as_string(),
            timestamp_field="shown_at",
        ),
        ttl=timedelta(0),  # none: a TTL turns the join of 200k rows slow. The tag bounds what is read
        tags={LOOK_BACK: "0"},
        online=False,
        description="What each impression was ranked with, packed as its schema version says.",
    )
    objects: list[Any] = [impression, served]
    for view, declared in ONLINE.items():
        entity = Entity(name=view, join_keys=[declared.key], value_type=ValueType.STRING)
        nothing = ", ".join(f"NULL::{columns[dtype]} AS {name}" for name, dtype in declared.features.items())
        objects += [
            entity,
            FeatureView(
                name=f"{surface}_{view}",
                entities=[entity],
                schema=[Field(name=declared.key, dtype=String)]
                + [Field(name=name, dtype=types[dtype]) for name, dtype in declared.features.items()],
                # Feast wants a source; the history of these views is the served rows.
                source=PostgreSQLSource(
                    name=f"{surface}_{view}",
                    query=f"SELECT NULL::text AS {declared.key}, {nothing}, NULL::timestamptz AS event_timestamp"
                    " WHERE false",
                    timestamp_field="event_timestamp",
                ),
                ttl=timedelta(0),
                description=f"The {view} as of the last event folded; online only.",
            ),
        ]
    return [*objects, FeatureService(name=f"{surface}_training", features=[served])]
