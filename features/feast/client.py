"""Feast's own store object, opened when first used and replaced when its connections are lost."""

import threading
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from typing import TYPE_CHECKING, TypeVar

import psycopg
from psycopg import sql

from features.feast.config import SCHEMA, repo_config
from infra.postgres.connections import connect

if TYPE_CHECKING:
    from feast import FeatureStore

T = TypeVar("T")


class FeastClient:
    """Calls on one ``FeatureStore``. May be shared by threads; a lost connection is made good at the next call."""

    def __init__(self, url: str, project: str, views_url: str | None) -> None:
        self._url = url
        self._project = project
        self._views_url = views_url
        self._opening = threading.Lock()
        self._feast: FeatureStore | None = None

    def call(self, act: Callable[["FeatureStore"], T]) -> T:
        """Call Feast; on any error drop its store, since it may hold a dead connection, and where that can be the cause
        call another once. Every call may be made twice."""
        for last in (False, True):
            feast = self._open()
            try:
                return act(feast)
            except Exception as error:
                self._drop(feast)
                if last or not _may_pass(error):
                    raise
        raise AssertionError("unreachable")

    def close(self) -> None:
        """Close the connections; a later call opens others."""
        with self._opening:
            feast, self._feast = self._feast, None
        if feast is not None:
            _close(feast)

    def _open(self) -> "FeatureStore":
        with self._opening:
            if self._feast is None:
                config = repo_config(self._url, self._project, self._views_url)
                from feast import FeatureStore

                # The registry makes its tables when it is first opened, and two processes doing so collide.
                with one_at_a_time(self._url):
                    feast = FeatureStore(config=config)
                    _ = feast.registry
                _ = feast.provider.online_store  # made here, under the lock: Feast would make one for each thread
                self._feast = feast
            return self._feast

    def _drop(self, feast: "FeatureStore") -> None:
        with self._opening:
            if self._feast is feast:
                self._feast = None
        _close(feast)


@contextmanager
def one_at_a_time(url: str) -> Iterator[None]:
    """One process at a time in this block, on this database; Feast's schema is there inside it."""
    with closing(connect(url, autocommit=True)) as connection:
        connection.execute("SELECT pg_advisory_lock(hashtext('millrace.feast'))")
        # Looked for first: IF NOT EXISTS wants the right to create even where there is nothing to do.
        if connection.execute("SELECT to_regnamespace(%s) IS NULL", [SCHEMA]).fetchone() == (True,):
            connection.execute(sql.SQL("CREATE SCHEMA {}").format(sql.Identifier(SCHEMA)))
        yield


def _close(feast: "FeatureStore") -> None:
    feast.provider.online_store.close_pool()  # type: ignore[attr-defined]
    feast.registry.write_engine.dispose()  # type: ignore[attr-defined]


def _may_pass(error: Exception) -> bool:
    """Could the same call succeed with a new FeatureStore: after a lost connection, or where the definitions were
    applied after this one had read the registry?"""
    from feast.errors import FeastObjectNotFoundException
    from psycopg_pool import PoolTimeout
    from sqlalchemy.exc import InterfaceError, OperationalError

    lost = (psycopg.OperationalError, psycopg.InterfaceError, OperationalError, InterfaceError)
    unknown = (FeastObjectNotFoundException, KeyError)  # KeyError: a view unknown to write_to_online_store
    waited = (psycopg.errors.QueryCanceled, PoolTimeout)  # long enough already
    return isinstance(error, lost + unknown) and not isinstance(error, waited)
