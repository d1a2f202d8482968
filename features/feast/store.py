"""Feast over PostgreSQL: the definitions of a surface's features, its training frames, its online rows.

``<surface>_served`` holds what every impression was ranked with and is read offline, by the feature service
``<surface>_training``. ``<surface>_user`` is written online for the users whose events were just folded, and read by
serving while it starts. Feast's own tables live in the schema ``feast`` of the database.

    store = open_store(url, "feed")
    store.apply()
    frame = store.training_frame(start, end, (Label("click"),), known_by)
"""

from collections.abc import Sequence
from contextlib import closing
from datetime import datetime
from math import nan
from typing import TYPE_CHECKING, Any, Self

import polars as pl
import pyarrow as pa

from features.declare.labels import Label
from features.declare.views import IMPRESSION_KEYS, TeamView, expect_apart
from features.feast.client import FeastClient, one_at_a_time
from features.feast.definitions import AS_OF, USER, USER_ROW, definitions, join_keys, view_definitions
from features.feast.training_frame import (
    IMPRESSION_KEY,
    frame_schema,
    labelled_impressions,
    labelled_impressions_of,
    of_version,
    with_label,
)
from features.identity.names import surface_name_fault
from features.log.json_texts import value_of
from features.team_views.reading import Inspected, inspect
from infra.postgres.connections import connect

if TYPE_CHECKING:
    from feast import FeatureStore


def open_store(url: str, surface: str, *, project: str = "millrace", views_url: str | None = None) -> "Store":
    """The store of a surface in the database of ``url`` (libpq's form). Connects when first used.

    ``views_url``: the database of the team's own views where that is another; only temporary tables are made there.

    Raises ValueError when the surface's name cannot be part of a table's name.
    """
    fault = surface_name_fault(surface)
    if fault is not None:
        raise ValueError(f"surface {surface!r}: {fault}")
    return Store(url, surface, project, views_url)


class Store:
    """Feast for one surface. May be shared by threads; a lost connection is made good at the next call.

    Every method raises psycopg.OperationalError, sqlalchemy.exc.OperationalError or psycopg_pool.PoolTimeout while the
    database is away. ``with`` closes it.
    """

    def __init__(self, url: str, surface: str, project: str, views_url: str | None = None) -> None:
        self._url = url
        self._views_url = views_url
        self.surface = surface
        self._feast = FeastClient(url, project, views_url)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Close the connections; a later call opens others."""
        self._feast.close()

    def apply(self, views: Sequence[TeamView] = ()) -> None:
        """Register the surface's definitions and make their online tables; nothing changes when they are there.

        Raises ViewRefused where a team's view cannot be joined as it is declared; warns (MissingIndexWarning) where a
        large one lacks the index to look its keys up.
        """
        inspected = [(each.view, each.described) for each in self.inspect(views)] if views else []

        def register(feast: "FeatureStore") -> None:
            with one_at_a_time(self._url):
                feast.apply([*definitions(self.surface), *view_definitions(self.surface, inspected)])

        self._feast.call(register)

    def inspect(self, views: Sequence[TeamView]) -> tuple[Inspected, ...]:
        """Look at the tables of a team's views, as :func:`features.team_views.reading.inspect` does."""
        with closing(connect(self._views_url or self._url, autocommit=True)) as connection:
            return inspect(connection, views)

    def training_frame(
        self,
        start: datetime,
        end: datetime,
        labels: Sequence[Label],
        known_by: datetime,
        *,
        schema_version: str | None = None,
        views: Sequence[TeamView] = (),
    ) -> pa.Table:
        """Impressions shown in ``(start, end]`` with their label and their row as served; columns of
        :func:`frame_schema`.

        Then the columns of ``views`` (``views.view_columns``), in their own types, as known when each was shown; the
        views must have been applied.

        A target is what the feedback of its label's kind counts as (:mod:`features.declare.labels`) where it was known
        by ``known_by``, else 0; ``label`` is their weighted mean. The rows of one request (one ``request_id`` of one
        user) are side by side, whatever lies between them in time: ordered by the first showing of the request, then
        request_id, user_id, position, impression_id. After a back-fill an impression has a row of each schema version:
        name the one that is wanted; ValueError where there are several and none is named.
        """
        entities = labelled_impressions(self.surface, start, end, labels, known_by)
        return self._frame(entities, labels, schema_version, views)

    def training_frame_of(
        self,
        spans: Sequence[tuple[datetime, datetime]],
        labels: Sequence[Label],
        known_by: datetime,
        *,
        schema_version: str | None = None,
        views: Sequence[TeamView] = (),
    ) -> pa.Table:
        """The same of several spans ``(start, end]`` that do not overlap, at least one, in one read."""
        entities = labelled_impressions_of(self.surface, spans, labels, known_by)
        return self._frame(entities, labels, schema_version, views)

    def _frame(
        self, entities: str, labels: Sequence[Label], schema_version: str | None, views: Sequence[TeamView]
    ) -> pa.Table:
        def pull(feast: "FeatureStore") -> pa.Table:
            service = feast.get_feature_service(f"{self.surface}_training", allow_cache=True)
            return feast.get_historical_features(features=service, entity_df=entities).to_arrow()

        pulled = self._feast.call(pull).rename_columns({"event_timestamp": "shown_at"})
        frame = with_label(pl.DataFrame(pulled), labels)
        if schema_version is not None:
            frame = of_version(frame, schema_version)
        began = pl.col("shown_at").min().over("user_id", "request_id")
        frame = frame.sort(began, "request_id", "user_id", "position", "impression_id", nulls_last=True)
        repeated = frame.filter(pl.struct(IMPRESSION_KEY).is_duplicated())
        if len(repeated):
            raise ValueError(
                f"impression {repeated['impression_id'][0]} of {self.surface} has more than one served row, of schema"
                f" versions {', '.join(sorted(set(repeated['schema_version'])))}: name one schema_version, or delete"
                " the repeated rows"
            )
        schema = frame_schema(labels)
        whole = frame.to_arrow().select(schema.names).cast(schema)
        return self._with_views(whole, frame, views) if views else whole

    def _with_views(self, whole: pa.Table, frame: pl.DataFrame, views: Sequence[TeamView]) -> pa.Table:
        """The frame with the columns of a team's views as of ``shown_at``."""
        expect_apart(views)
        keys = {
            key: frame[source] if source in IMPRESSION_KEYS else value_of(frame["context"], source)
            for view in views
            for key, source in zip(join_keys(view), view.keys.values(), strict=True)
        }
        entities = pl.DataFrame(keys | {"event_timestamp": frame["shown_at"]}).to_arrow()
        columns = [(f"{self.surface}_{view.name}", value) for view in views for value in view.values]
        pulled = self.historical(entities, [f"{name}:{value}" for name, value in columns])
        for name, value in columns:
            whole = whole.append_column(f"{name.removeprefix(f'{self.surface}_')}__{value}", pulled[f"{name}__{value}"])
        return whole

    def historical(self, entities: pa.Table | str, features: Sequence[str]) -> pa.Table:
        """Features as known to entities, in their order: what ``FeatureStore.get_historical_features`` gives.

        ``features`` are Feast's references, ``<surface>_<view>:<value>``, and come as ``<surface>_<view>__<value>``;
        ``entities`` have the views' keys (``<view>__<column>``) and ``event_timestamp``, as Arrow or as a SELECT.
        """

        def pull(feast: "FeatureStore") -> pa.Table:
            return feast.get_historical_features(
                entities, list(features), full_feature_names=True, filter_by_created_timestamp=True
            ).to_arrow()

        return self._feast.call(pull)

    def write_users(self, rows: pl.DataFrame) -> None:
        """Write the online rows of users; one that holds a later ``as_of`` already keeps it.

        Columns as :data:`USER_ROW`, without nulls (a time that never was is NaN). ValueError where a column is missing,
        of another type, or has a null. 1,000 rows take 0.1 s, 10,000 about 1 s.
        """
        for name, dtype in USER_ROW.items():
            if rows.schema.get(name) != dtype:
                raise ValueError(f"{self.surface}_user: column {name} is {rows.schema.get(name)}, must be {dtype}")
            if rows[name].has_nulls():
                raise ValueError(f"{self.surface}_user: column {name} has a null; fill it")
        if rows.is_empty():
            return
        frame = rows.select(USER_ROW.names()).rename({AS_OF: "event_timestamp"}).to_pandas()
        self._feast.call(lambda feast: feast.write_to_online_store(f"{self.surface}_user", df=frame))

    def read_user(self, user_id: str) -> dict[str, Any] | None:
        """The user's features, named as in :data:`USER`; None for a user never written. 1 to 2 ms."""
        references = [f"{self.surface}_user:{name}" for name in USER]
        found = self._feast.call(lambda feast: feast.get_online_features(references, {"user_id": [user_id]}).to_dict())
        row = {name: found[name][0] for name in USER}
        if all(value is None for value in row.values()):
            return None
        # Feast stores NaN as no value.
        return {name: nan if value is None and USER[name] == pl.Float64 else value for name, value in row.items()}
