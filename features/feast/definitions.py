"""A surface in Feast's terms: its entities, the served view, the online view of users, the training service."""

from collections.abc import Sequence
from datetime import timedelta
from typing import Any

import polars as pl
from psycopg import sql

from features.declare.views import TeamView
from features.team_views.source import NUMBER_TYPES, Described

AS_OF = "as_of"
"""Column of rows written online: the event time up to which the row counts."""

USER: dict[str, pl.DataType] = {
    "last_items": pl.List(pl.Int64()),  # keys of the items clicked, newest first, 0 = none
    "remembered": pl.List(pl.Int64()),  # and of the columns remembered with them, one after the other
    "session_start": pl.Float64(),  # epoch seconds; NaN: never
    "last_seen": pl.Float64(),
    "last_click": pl.Float64(),
    "session_clicks": pl.Int64(),
    "clicks": pl.Int64(),
    "impressions": pl.Int64(),
    "position": pl.Int64(),  # seq of the last event of the log in this row
}
"""Features of the online view of users."""

USER_ROW = pl.Schema({"user_id": pl.String(), AS_OF: pl.Datetime("us", "UTC")} | USER)
"""Columns that are written of a user."""


def view_definitions(surface: str, described: Sequence[tuple[TeamView, Described]]) -> list[Any]:
    """Objects for ``FeatureStore.apply`` of a team's views: of each a keyed feature view ``<surface>_<name>``.

    Its keys are called ``<name>__<column>``, so that columns of one name in two views may mean different things.
    """
    from feast import Entity, FeatureView, Field, ValueType
    from feast.infra.offline_stores.contrib.postgres_offline_store.postgres_source import PostgreSQLSource
    from feast.types import Bool, Float32, Float64, Int32, Int64, String

    from features.feast.keyed import INDEX

    values = {"boolean": Bool, "smallint": Int32, "integer": Int32, "bigint": Int64}
    values |= {"real": Float32, "double precision": Float64}
    objects: list[Any] = []
    for view, table in described:
        keys = dict(zip(join_keys(view), table.key_kinds, strict=True))
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
        others = [sql.Identifier(name) for name in (*view.values, view.timestamp, *filter(None, (view.created,)))]
        query = sql.SQL("SELECT {} FROM {} AS s").format(
            sql.SQL(", ").join([*renamed, *others]),
            sql.SQL(table.source.relation),
        )
        objects += [
            *entities,
            FeatureView(
                name=f"{surface}_{view.name}",
                entities=entities,
                schema=[Field(name=key, dtype=Int64 if kind == "integer" else String) for key, kind in keys.items()]
                + [Field(name=value, dtype=values[NUMBER_TYPES[table.types[value]]]) for value in view.values],
                source=PostgreSQLSource(
                    name=f"{surface}_{view.name}",
                    query=query.as_string(),
                    timestamp_field=view.timestamp,
                    created_timestamp_column=view.created or "",
                ),
                ttl=view.ttl or timedelta(0),
                tags={INDEX: table.source.index},
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
    user = Entity(name="user", join_keys=["user_id"], value_type=ValueType.STRING)
    nothing = ", ".join(f"NULL::{columns[dtype]} AS {name}" for name, dtype in USER.items())
    online = FeatureView(
        name=f"{surface}_user",
        entities=[user],
        schema=[Field(name="user_id", dtype=String)]
        + [Field(name=name, dtype=types[dtype]) for name, dtype in USER.items()],
        # Feast wants a source; the history of this view is the served rows.
        source=PostgreSQLSource(
            name=f"{surface}_user",
            query=f"SELECT NULL::text AS user_id, {nothing}, NULL::timestamptz AS event_timestamp WHERE false",
            timestamp_field="event_timestamp",
        ),
        ttl=timedelta(0),
        description="The user as of the last event folded; online only.",
    )
    return [impression, served, user, online, FeatureService(name=f"{surface}_training", features=[served])]
