"""Where Feast keeps what: registry, offline store and online store in one database of Millrace.

Feast's stores put an address together from host, port, user and password, which says less than an address may. Here the
field ``host`` holds all of it, in libpq's form and with its session (:func:`connect_by_host`).
"""

from typing import TYPE_CHECKING

from features.feast.quick_import import load_feast
from infra.addresses import conninfo, sqlalchemy_url

if TYPE_CHECKING:
    from feast import RepoConfig

SCHEMA = "feast"
"""Where Feast keeps its registry and its online tables, apart from Millrace's own."""

PATH = f"{SCHEMA},public"


def repo_config(url: str, project: str, views_url: str | None = None) -> "RepoConfig":
    """Registry, offline store and online store in the database of ``url``; a team's tables in that of ``views_url``."""
    load_feast()
    from feast import RepoConfig

    from features.feast import offline as feast_offline
    from features.feast import online as feast_online

    connect_by_host()
    return RepoConfig(
        project=project,
        provider="local",
        registry={
            "registry_type": "sql",
            "path": sqlalchemy_url(url, search_path=PATH),
            # Definitions change with the code only, and a process that misses one opens the registry again.
            "cache_ttl_seconds": 0,
            "sqlalchemy_config_kwargs": {"echo": False, "pool_pre_ping": True, "pool_size": 1},
        },
        offline_store=_server(conninfo(url, **feast_offline.PATIENT))
        | {"type": feast_offline.CLASS_PATH, "url": url, "views_url": views_url},
        online_store=_server(conninfo(url, search_path=PATH))
        | {"type": feast_online.CLASS_PATH, "db_schema": SCHEMA, "max_conn": 10},
        entity_key_serialization_version=3,
    )


def _server(address: str) -> dict[str, str]:
    return {"host": address, "database": "", "user": "", "password": ""}


def connect_by_host() -> None:
    """Let Feast open its connections from the field ``host`` alone; safe to call again."""
    from feast.infra.utils.postgres import connection_utils

    connection_utils._get_conninfo = lambda config: config.host
    connection_utils._get_conn_kwargs = lambda config: {}
