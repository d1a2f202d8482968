"""Where Feast keeps what: registry, offline store and online store in one database of Millrace."""

from typing import TYPE_CHECKING, Any
from urllib.parse import parse_qsl, urlencode, urlsplit, urlunsplit

from psycopg.conninfo import conninfo_to_dict
from psycopg.pq import Conninfo

from features.feast_quick import load_feast
from infra.database import sqlalchemy_url

if TYPE_CHECKING:
    from feast import RepoConfig

SCHEMA = "feast"
"""Where Feast keeps its registry and its online tables, apart from Millrace's own."""


def repo_config(url: str, project: str, views_url: str | None = None) -> "RepoConfig":
    """Registry, offline store and online store in the database of ``url``; a team's tables in that of ``views_url``."""
    load_feast()
    from feast import RepoConfig

    from features import feast_offline, feast_online

    server = server_fields(url)
    return RepoConfig(
        project=project,
        provider="local",
        registry={
            "registry_type": "sql",
            "path": _registry_url(url),
            # Definitions change with the code only, and a process that misses one opens the registry again.
            "cache_ttl_seconds": 0,
            "sqlalchemy_config_kwargs": {"echo": False, "pool_pre_ping": True, "pool_size": 1},
        },
        offline_store=server | {"type": feast_offline.CLASS_PATH, "views_url": views_url},
        online_store=server | {"type": feast_online.CLASS_PATH, "db_schema": SCHEMA, "max_conn": 10},
        entity_key_serialization_version=3,
    )


def server_fields(url: str) -> dict[str, Any]:
    """The URL taken apart as Feast wants it, with libpq's defaults and ``PG*`` variables for what it leaves out."""
    defaults = {option.keyword.decode(): (option.val or b"").decode() for option in Conninfo.get_defaults()}
    given = {key: str(value) for key, value in conninfo_to_dict(url).items() if value is not None}
    found = {key: value for key, value in (defaults | given).items() if value}
    host = found.get("host", "localhost")
    local = host.startswith("/") or host in ("127.0.0.1", "::1", "localhost")
    asked_mode = given.get("sslmode") or ("disable" if local else found.get("sslmode", "prefer"))
    return {
        "host": host,
        "port": int(found.get("port", "5432")),
        "database": found.get("dbname") or found["user"],
        "user": found["user"],
        "password": found.get("password", ""),
        "sslmode": asked_mode,
        "sslkey_path": given.get("sslkey"),
        "sslcert_path": given.get("sslcert"),
        "sslrootcert_path": given.get("sslrootcert"),
    }


def _registry_url(url: str) -> str:
    """The URL for SQLAlchemy, with Feast's schema first on the search path."""
    parts = urlsplit(sqlalchemy_url(url))
    query = dict(parse_qsl(parts.query))
    query["options"] = f"{query.get('options', '')} -c search_path={SCHEMA},public -c timezone=UTC".strip()
    return urlunsplit(parts._replace(query=urlencode(query)))
