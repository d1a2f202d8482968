"""Feast's offline store on PostgreSQL, reading only the days of the request.

Feast bounds a view's scan from above, and from below by the view's TTL, with bounds that the planner cannot see: of a
log of months, a frame of one hour reads everything. Here a view tagged with :data:`LOOK_BACK` is scanned between
(first entity time - look-back) and the last one, written as literals, so that PostgreSQL reads those partitions and
block ranges only. The point-in-time join itself is Feast's own.

Also unlike the parent's: entities given as SQL live in a temporary table of the connection that reads (a killed client
leaves none behind), are run once instead of three times and analysed before the join; sessions run in UTC.

A view without that tag is keyed: a team's table of values by key and time. Feast's own join of such views is wrong on
composite keys and takes minutes; they are joined by :mod:`features.team_views.join`, after the tagged ones. Entities
may come as SQL, as a DataFrame and, for keyed views alone, as an Arrow table, whose order stays.

Feast finds the store by its class path (:data:`CLASS_PATH`); nothing here is imported before Feast is.
"""

import copy
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict
from datetime import UTC, datetime, timedelta
from typing import Any, Literal

import pandas as pd
import psycopg
import pyarrow as pa
from feast.feature_view import FeatureView
from feast.infra.offline_stores import offline_utils
from feast.infra.offline_stores.contrib.postgres_offline_store.postgres import (
    MULTIPLE_FEATURE_VIEW_POINT_IN_TIME_JOIN,
    PostgreSQLOfflineStore,
    PostgreSQLOfflineStoreConfig,
    PostgreSQLRetrievalJob,
    _get_entity_df_event_timestamp_range,
    build_point_in_time_query,
)
from feast.infra.offline_stores.contrib.postgres_offline_store.postgres_source import PostgreSQLSource
from feast.infra.offline_stores.offline_store import RetrievalJob
from feast.infra.registry.base_registry import BaseRegistry
from feast.on_demand_feature_view import OnDemandFeatureView
from feast.repo_config import RepoConfig
from feast.type_map import pg_type_code_to_arrow
from psycopg import sql

from features.feast.keyed import EVENT_TIME, KeyedRetrievalJob, entity_table, keyed_views, metadata_of, name_of
from features.team_views.rows import ArrowReader

PATIENT: Mapping[str, str] = {"work_mem": "64MB", "statement_timeout": "600s", "cursor_tuple_fraction": "1"}
"""Of a session that reads frames. One that nobody waits for any more ends by itself; its sorts of served rows want more
memory than the default; all of the cursor's rows will be fetched."""

CLASS_PATH = "features.feast.offline.WindowOfflineStore"

LOOK_BACK = "look_back_s"
"""Tag of a feature view: how many seconds before the first entity its rows still matter. ``"0"``: its rows carry the
very timestamps of the entities, as an impression's served row does. A view without the tag is keyed."""

ROWS_FETCHED = 20_000
"""Rows fetched at a time: what a frame needs beside its own size."""


class WindowOfflineStoreConfig(PostgreSQLOfflineStoreConfig):
    type: Literal["features.feast.offline.WindowOfflineStore"] = "features.feast.offline.WindowOfflineStore"  # type: ignore[assignment]

    url: str
    """The address of the database."""

    views_url: str | None = None
    """Where the tables of keyed views are; None: in this database."""


class WindowOfflineStore(PostgreSQLOfflineStore):
    @staticmethod
    def get_historical_features(
        config: RepoConfig,
        feature_views: list[FeatureView],
        feature_refs: list[str],
        entity_df: pd.DataFrame | str | None,
        registry: BaseRegistry,
        project: str,
        full_feature_names: bool = False,
        filter_by_created_timestamp: bool = False,
        **kwargs: Any,
    ) -> RetrievalJob:
        """Feast's historical read. Entities as SQL must name their time ``event_timestamp``, a timestamptz."""
        keyed = [view for view in feature_views if LOOK_BACK not in view.tags]
        if keyed and entity_df is not None:
            return _with_keyed(
                config,
                keyed,
                [view for view in feature_views if LOOK_BACK in view.tags],
                feature_refs,
                entity_df,
                registry,
                project,
                full_feature_names,
                filter_by_created_timestamp,
            )
        if not isinstance(entity_df, str):
            if entity_df is not None:
                column = offline_utils.infer_event_timestamp_from_entity_df(entity_df.dtypes.to_dict())
                first, last = _get_entity_df_event_timestamp_range(entity_df, column, config)
                feature_views = [_bounded(view, first, last) for view in feature_views]
            return PostgreSQLOfflineStore.get_historical_features(
                config,
                feature_views,
                feature_refs,
                entity_df,
                registry,
                project,
                full_feature_names,
                filter_by_created_timestamp,
                **kwargs,
            )

        @contextmanager
        def joined() -> Iterator[tuple[psycopg.Connection, str]]:
            with _connect(config.offline_store) as connection:
                # Both queries estimate a handful of rows where there are all of a window's: right after a bulk load,
                # and in Feast's join always. Loops over loops would follow.
                connection.execute("SET LOCAL enable_nestloop = off")
                made = sql.SQL("CREATE TEMP TABLE feast_entities ON COMMIT DROP AS ({})")
                connection.execute(made.format(sql.SQL(entity_df)))
                connection.execute("ANALYZE feast_entities")
                columns = _columns(connection)
                offline_utils.assert_expected_columns_in_entity_df(
                    columns, offline_utils.get_expected_join_keys(project, feature_views, registry), EVENT_TIME
                )
                first, last = _extent(connection)
                views = [_bounded(view, first, last) for view in feature_views]
                contexts = offline_utils.get_feature_view_query_context(
                    feature_refs, views, registry, project, (first, last)
                )
                yield (
                    connection,
                    build_point_in_time_query(
                        [asdict(context) | {"entity_selections": _quoted(context)} for context in contexts],
                        left_table_query_string="feast_entities",
                        entity_df_event_timestamp_col=EVENT_TIME,
                        entity_df_columns=columns.keys(),
                        query_template=MULTIPLE_FEATURE_VIEW_POINT_IN_TIME_JOIN,
                        full_feature_names=full_feature_names,
                        filter_by_created_timestamp=filter_by_created_timestamp,
                    ),
                )

        return WindowRetrievalJob(
            joined,
            config,
            full_feature_names,
            OnDemandFeatureView.get_requested_odfvs(feature_refs, project, registry),
        )


def _with_keyed(
    config: RepoConfig,
    keyed: list[FeatureView],
    windowed: list[FeatureView],
    feature_refs: list[str],
    entities: pd.DataFrame | pa.Table | str,
    registry: BaseRegistry,
    project: str,
    full_names: bool,
    late: bool,
) -> RetrievalJob:
    """The windowed views joined by PostgreSQL, if there are any, and to their result the keyed ones."""
    store = config.offline_store
    own, views = store.url, store.views_url or store.url
    names = {name_of(view) for view in keyed}
    mine = [reference for reference in feature_refs if reference.split(":")[0] in names]

    def with_windowed(reader: ArrowReader) -> pa.Table:
        if not windowed and (views == own or not isinstance(entities, str)):
            return entity_table(entities, reader)
        if not windowed:
            with ArrowReader(own, **PATIENT) as beside:
                return entity_table(entities, beside)
        job = WindowOfflineStore.get_historical_features(
            config,
            windowed,
            [reference for reference in feature_refs if reference not in mine],
            entities,
            registry,
            project,
            full_names,
            late,
        )
        return entity_table(job.to_arrow(), reader)

    found = keyed_views(mine, keyed, registry, project, full_names=full_names, late=late)
    return KeyedRetrievalJob(
        with_windowed,
        found,
        lambda: ArrowReader(views, **PATIENT),
        config,
        full_names,
        OnDemandFeatureView.get_requested_odfvs(feature_refs, project, registry),
        metadata_of(feature_refs, found),
    )


class WindowRetrievalJob(PostgreSQLRetrievalJob):
    """Runs the join on the connection that holds its entities."""

    def __init__(
        self,
        joined: Any,
        config: RepoConfig,
        full_feature_names: bool,
        on_demand_feature_views: list[OnDemandFeatureView],
    ):
        super().__init__(joined, config, full_feature_names, on_demand_feature_views)
        self._joined = joined

    def to_sql(self) -> str:
        """The join, for reading: its entities' table is gone when this returns."""
        with self._joined() as (_, query):
            return str(query)

    def _to_arrow_internal(self, timeout: int | None = None) -> pa.Table:
        with self._joined() as (connection, query), connection.cursor("feast_rows") as cursor:
            cursor.execute(query, binary=True)
            fields = [pa.field(c.name, pg_type_code_to_arrow(c.type_code)) for c in cursor.description or ()]
            batches = []
            while rows := cursor.fetchmany(ROWS_FETCHED):
                columns = [
                    pa.array(column).cast(field.type)
                    for column, field in zip(zip(*rows, strict=True), fields, strict=True)
                ]
                batches.append(pa.record_batch(columns, schema=pa.schema(fields)))
        return pa.Table.from_batches(batches, schema=pa.schema(fields))


def _connect(config: Any) -> psycopg.Connection:
    return psycopg.connect(config.host, keepalives_idle=config.keepalives_idle)


def _columns(connection: psycopg.Connection) -> dict[str, Any]:
    """The entities' columns, each with a type that Feast takes for checking: only the time's matters."""
    found = connection.execute("SELECT * FROM feast_entities LIMIT 0").description or ()
    return {column.name: "datetime64[ns, UTC]" if column.name == EVENT_TIME else "object" for column in found}


def _extent(connection: psycopg.Connection) -> tuple[datetime, datetime]:
    """First and last time of the entities; of none, an instant before every log."""
    found = connection.execute("SELECT min(event_timestamp), max(event_timestamp) FROM feast_entities").fetchone()
    if found is None or found[0] is None:
        return datetime.fromtimestamp(0, UTC), datetime.fromtimestamp(0, UTC)
    return found


def _bounded(view: FeatureView, first: datetime, last: datetime) -> FeatureView:
    """The view over a source cut to its look-back before ``first`` and to ``last``; itself where it has no tag."""
    if LOOK_BACK not in view.tags:
        return view
    source = view.batch_source
    assert isinstance(source, PostgreSQLSource), f"view {view.name} is tagged {LOOK_BACK} and not over PostgreSQL"
    bounded = copy.copy(view)
    bounded.batch_source = PostgreSQLSource(
        name=source.name,
        query=sql.SQL("SELECT * FROM {} WHERE {} BETWEEN {} AND {}")
        .format(
            sql.SQL(source.get_table_query_string_with_alias("source")),
            sql.Identifier(source.timestamp_field),
            sql.Literal(_aware(first) - timedelta(seconds=float(view.tags[LOOK_BACK]))),
            sql.Literal(_aware(last)),
        )
        .as_string(),
        timestamp_field=source.timestamp_field,
        created_timestamp_column=source.created_timestamp_column,
        field_mapping=source.field_mapping,
    )
    return bounded


def _aware(time: datetime) -> datetime:
    """Feast takes a naive time of a DataFrame for UTC; so must the literal."""
    return time if time.tzinfo else time.replace(tzinfo=UTC)


def _quoted(context: Any) -> list[str]:
    """``key AS key`` with both names quoted, as the parent does, for names with capitals."""
    return ['"' + selection.replace(" AS ", '" AS "') + '"' for selection in context.entity_selections]
