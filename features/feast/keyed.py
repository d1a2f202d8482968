"""Feast's historical read of keyed views, by our own join: the retrieval job that the offline store returns for them.

Imported by the offline store alone, when Feast is there.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import pandas as pd
import psycopg
import pyarrow as pa
import pyarrow.compute as pc
from feast.feature_view import DUMMY_ENTITY_ID, FeatureView
from feast.infra.offline_stores import offline_utils
from feast.infra.offline_stores.contrib.postgres_offline_store.postgres import PostgreSQLRetrievalJob
from feast.infra.offline_stores.contrib.postgres_offline_store.postgres_source import PostgreSQLSource
from feast.infra.offline_stores.offline_store import RetrievalMetadata
from feast.infra.registry.base_registry import BaseRegistry
from feast.on_demand_feature_view import OnDemandFeatureView
from feast.repo_config import RepoConfig
from psycopg import sql

from features.declare.views import ViewRefused, create_index
from features.team_views.join import SourceJoin, join_all
from features.team_views.rows import ArrowReader
from features.team_views.source import Described, ViewSource

EVENT_TIME = "event_timestamp"
"""The entity column that holds the time to join as of; another is taken where it is the only time there."""

INDEX = "index"
"""Tag of a feature view: the statement that makes the index which its look-ups want."""


@dataclass(frozen=True)
class KeyedView:
    """One keyed view of a request: what to join, by which entity columns, under which names."""

    join: SourceJoin
    names: tuple[str, ...]


def keyed_views(
    feature_refs: list[str],
    views: list[FeatureView],
    registry: BaseRegistry,
    project: str,
    *,
    full_names: bool,
    late: bool,
) -> list[KeyedView]:
    """The views of a request as sources. ``late``: a row is not known before it was created."""
    long_ago = datetime(1970, 1, 1)  # noqa: DTZ001  # Feast writes bounds with it, which are not used here
    contexts = offline_utils.get_feature_view_query_context(
        feature_refs, views, registry, project, (long_ago, long_ago)
    )
    by_name = {name_of(view): view for view in views}
    found = []
    for context in contexts:
        view = by_name[context.name]
        table = view.batch_source
        assert isinstance(table, PostgreSQLSource), f"view {view.name} is not over PostgreSQL"
        selections = [each.split(" AS ") for each in context.entity_selections if DUMMY_ENTITY_ID not in each]
        keys = tuple(column for column, _ in selections)
        relation = context.table_subquery
        named = relation if not relation.startswith("(") else "<the table behind the query>"
        source = ViewSource(
            name=context.name,
            relation=relation,
            keys=keys,
            timestamp=context.timestamp_field,
            created=context.created_timestamp_column or None,
            values=tuple(context.features),
            ttl=view.ttl or None,
            late=late and bool(context.created_timestamp_column),
            index=view.tags.get(INDEX) or create_index(named, keys, context.timestamp_field),
        )
        plain = [context.field_mapping.get(feature, feature) for feature in context.features]
        names = tuple(f"{context.name}__{name}" if full_names else name for name in plain)
        found.append(KeyedView(SourceJoin(source, tuple(joined for _, joined in selections)), names))
    return found


def name_of(view: FeatureView) -> str:
    """The view's name in the request."""
    return str(view.projection.name_to_use())  # type: ignore[no-untyped-call]


class KeyedRetrievalJob(PostgreSQLRetrievalJob):
    """The entities with the views' values beside them, in the entities' order."""

    def __init__(
        self,
        entities: Callable[[ArrowReader], pa.Table],
        keyed: Sequence[KeyedView],
        reader: Callable[[], ArrowReader],
        config: RepoConfig,
        full_feature_names: bool,
        on_demand_feature_views: list[OnDemandFeatureView],
        metadata: RetrievalMetadata | None,
    ):
        super().__init__("", config, full_feature_names, on_demand_feature_views, metadata)
        self._entities = entities
        self._keyed = keyed
        self._reader = reader

    def to_sql(self) -> str:
        """There is no one query: the rows are joined here."""
        raise NotImplementedError("keyed views are joined outside PostgreSQL, by no single query")

    def _to_arrow_internal(self, timeout: int | None = None) -> pa.Table:
        with self._reader() as reader:
            return self._joined(reader)

    def _joined(self, reader: ArrowReader) -> pa.Table:
        frame = self._entities(reader)
        time = time_column(frame.schema)
        for keyed in self._keyed:
            missing = [key for key in keyed.join.keys if key not in frame.column_names]
            if missing:
                raise ViewRefused(
                    f"view {keyed.join.source.name}: the entities lack {', '.join(missing)}; they have"
                    f" {', '.join(frame.column_names)}"
                )
        joined = join_all(reader, [keyed.join for keyed in self._keyed], frame, time=time)
        for keyed, columns in zip(self._keyed, joined, strict=True):
            for name, column in zip(keyed.names, columns, strict=True):
                frame = frame.append_column(name, column)
        return frame


def time_column(schema: pa.Schema) -> str:
    """``event_timestamp``, else the only column of times; ValueError where neither is there."""
    if EVENT_TIME in schema.names:
        return EVENT_TIME
    times: list[str] = [field.name for field in schema if pa.types.is_timestamp(field.type)]
    if len(times) != 1:
        raise ValueError(f"entities have {len(times)} columns of times: name the one to join as of {EVENT_TIME}")
    return times[0]


def entity_table(entities: pd.DataFrame | pa.Table | str, reader: ArrowReader) -> pa.Table:
    """Entities of any form as Arrow; SQL is run by ``reader``, once. A time without a zone is UTC, and gets it."""
    if isinstance(entities, pa.Table):
        table = entities
    elif isinstance(entities, pd.DataFrame):
        table = _from_pandas(entities)
    else:
        table = reader.read(_plainly(reader.planner, entities))
    place = table.column_names.index(time_column(table.schema))
    column = table.column(place)
    if pa.types.is_timestamp(column.type) and column.type.tz is None:
        column = pc.assume_timezone(column, "UTC")
    return table.set_column(place, table.column_names[place], column)


def _from_pandas(entities: pd.DataFrame) -> pa.Table:
    """Texts of times become times, as Feast has it."""
    if EVENT_TIME in entities and pd.api.types.is_string_dtype(entities[EVENT_TIME]):
        entities = entities.assign(**{EVENT_TIME: pd.to_datetime(entities[EVENT_TIME], utc=True)})
    return pa.Table.from_pandas(entities, preserve_index=False)


def _plainly(connection: psycopg.Connection, query: str) -> sql.Composable:
    """The query with its columns cast to what Arrow knows."""
    inner: Any = sql.SQL(query)
    cursor = connection.execute(sql.SQL("SELECT * FROM ({}) AS s LIMIT 0").format(inner))
    types = {column.name: column.type_code for column in cursor.description or ()}
    described = Described(ViewSource("entities", "", (), EVENT_TIME, None, (), None, False, ""), (), types)
    columns = [sql.SQL("{} AS {}").format(described.plain(name), sql.Identifier(name)) for name in types]
    return sql.SQL("SELECT {} FROM ({}) AS s").format(sql.SQL(", ").join(columns), inner)


def metadata_of(feature_refs: list[str], keyed: Sequence[KeyedView]) -> RetrievalMetadata:
    """What Feast stores with a saved dataset."""
    return RetrievalMetadata(features=feature_refs, keys=sorted({key for each in keyed for key in each.join.keys}))
