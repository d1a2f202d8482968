"""Database addresses: read by libpq itself, and written so that every library takes the same from them.

psycopg and ADBC are given libpq's own form (:func:`conninfo`), SQLAlchemy a URL (:func:`sqlalchemy_url`). Both carry
:data:`SESSION`, so that what a role, a database or an address sets changes no row.
"""

import re
from collections.abc import Mapping
from pathlib import Path
from urllib.parse import quote, urlencode, urlsplit, urlunsplit

import psycopg
from psycopg.conninfo import conninfo_to_dict, make_conninfo

SESSION: Mapping[str, str] = {
    "timezone": "UTC",
    "datestyle": "ISO,MDY",
    "intervalstyle": "postgres",
    "search_path": "public",
    "extra_float_digits": "1",
    "bytea_output": "hex",
    "standard_conforming_strings": "on",
    "transform_null_equals": "off",
    "row_security": "on",
    "default_transaction_isolation": "read committed",
    "default_transaction_read_only": "off",
    "default_transaction_deferrable": "off",
    "statement_timeout": "0",
    "lock_timeout": "0",
    "idle_in_transaction_session_timeout": "0",
    "idle_session_timeout": "0",
}
"""What a session of ours runs under: PostgreSQL's own defaults, in UTC. What is about speed alone is left to the
server."""

SECRET = {"password", "sslpassword", "oauth_client_secret"}
"""Keys of libpq whose values are shown to nobody."""

PLAIN_HOST = re.compile(r"[A-Za-z0-9._-]+")


class BadAddress(ValueError):
    """Not the address of a database. The message holds nothing of a password."""


def parameters(address: str) -> dict[str, str]:
    """What an address says, by libpq's keys; a URL, SQLAlchemy's included, or ``key=value`` pairs."""
    try:
        found = conninfo_to_dict(re.sub(r"^(postgres(?:ql)?)\+\w+://", r"\1://", address))
    except psycopg.Error as error:  # libpq quotes what it cannot read, and that may be part of a password
        unknown = re.search(r'query parameter: "(\w+)"', str(error))
        if unknown is not None and f"{unknown[1]}=" in address.rpartition("@")[2]:
            raise BadAddress(f"libpq knows no parameter {unknown[1]!r}; take it out") from None
        raise BadAddress(
            "it cannot be read as postgresql://user:password@host:port/name; percent-encode what is neither letter"
            " nor digit in user, password and name"
        ) from None
    return {key: str(value) for key, value in found.items() if value is not None}


def check_address(address: str) -> str:
    """The address, as a URL. Raises BadAddress where it cannot be used, naming the key."""
    found = parameters(address)
    if not found.get("dbname"):
        raise BadAddress("it names no database; write postgresql://user@host:port/name")
    if any(not port.isdigit() for port in found.get("port", "").split(",") if port):
        raise BadAddress("its port is no number; percent-encode what is neither letter nor digit in user and password")
    if "replication" in found:
        raise BadAddress("a session with 'replication' answers no queries; take it out")
    return address if "://" in address else compose(found)


def conninfo(address: str, **session: str) -> str:
    """libpq's form of an address, with :data:`SESSION`; ``session`` names further settings, or other values.

    ``options`` of the address are kept, and give way where they say otherwise.
    """
    return make_conninfo("", **_with_session(parameters(address), session))


def sqlalchemy_url(address: str, **session: str) -> str:
    """The same as a URL for SQLAlchemy 2, which takes a bare ``postgresql://`` for psycopg2."""
    found = _with_session(parameters(address), session)
    hosts = found.get("host", "").count(",") + 1
    if "port" in found and "," not in found["port"]:  # which libpq takes for every host, and SQLAlchemy does not
        found["port"] = ",".join([found["port"]] * hosts)
    return compose(found, "postgresql+psycopg")


def with_database(address: str, name: str) -> str:
    """The same server, another database."""
    return compose(parameters(address) | {"dbname": name})


def database_name(address: str) -> str:
    return parameters(address)["dbname"]


def hide_password(address: str) -> str:
    """The address as it may be shown: ``postgresql://user:***@host/name``. Any URL may be given."""
    if not re.match(r"postgres(ql)?(\+\w+)?://", address):
        parts = urlsplit(address)
        if parts.scheme and "@" in parts.netloc:
            user, _, secret = parts.netloc.rpartition("@")[0].partition(":")
            shown = f"{user}:***" if secret else user
            return urlunsplit(parts._replace(netloc=f"{shown}@{parts.netloc.rpartition('@')[2]}"))
        if parts.scheme or "password" not in address:
            return address
    try:
        found = parameters(address)
    except BadAddress:
        return "***"
    scheme = address.partition("://")[0] if "://" in address else "postgresql"
    hidden = {key: "***" if key in SECRET else value for key, value in found.items()}
    return compose(hidden, scheme).replace("%2A%2A%2A", "***")


def without_login(url: str) -> str:
    """A web address as a link for people: who follows it signs in as himself."""
    parts = urlsplit(url)
    return urlunsplit(parts._replace(netloc=parts.netloc.rpartition("@")[2]))


def embedded(home: Path, host: str, port: int, role: str, name: str) -> str:
    """The address of a database of the embedded server; the password is in a file of the home.

    A program that took the server's port is asked to prove that it knows the password, and is not told it.
    """
    return compose(
        {
            "user": role,
            "host": host,
            "port": str(port),
            "dbname": name,
            "passfile": str(passfile(home / "postgres")),
            "require_auth": "scram-sha-256",
        }
    )


def passfile(data: Path) -> Path:
    """libpq's password file of the embedded server with this data folder."""
    return data.with_name(f"{data.name}.pgpass")


def compose(found: Mapping[str, str], scheme: str = "postgresql") -> str:
    """The URL that says this. What a part of a URL cannot hold in every library's eyes goes into its query."""
    rest = {key: value for key, value in found.items() if value != ""}
    netloc = ""
    if "user" in rest:
        netloc = quote(rest.pop("user"), safe="")
        if "password" in rest:
            netloc += f":{quote(rest.pop('password'), safe='')}"
        netloc += "@"
    host = rest.get("host", "")
    if "," not in rest.get("port", ""):
        if PLAIN_HOST.fullmatch(host):
            netloc += rest.pop("host")
        elif re.fullmatch(r"[0-9a-fA-F:.]+", host):
            netloc += f"[{rest.pop('host')}]"
        if "host" not in rest and "port" in rest and host:
            netloc += f":{rest.pop('port')}"
    name = rest.get("dbname", "")
    path = ""
    if re.fullmatch(r"[A-Za-z0-9._~-]+", name):  # SQLAlchemy does not decode this part, libpq does
        path = f"/{rest.pop('dbname')}"
    query = urlencode(rest, quote_via=quote, safe="/")
    return f"{scheme}://{netloc}{path}{'?' if query else ''}{query}"


def _with_session(found: dict[str, str], session: Mapping[str, str]) -> dict[str, str]:
    pinned = {**SESSION, **session}
    ours = " ".join(f"-c {name}={_escaped(value)}" for name, value in pinned.items())
    # client_encoding is a key of its own, and as such would win over an option.
    return found | {"options": f"{found.get('options', '')} {ours}".strip(), "client_encoding": "utf8"}


def _escaped(value: str) -> str:
    """A value within libpq's ``options``, where a space ends it."""
    return value.replace("\\", "\\\\").replace(" ", "\\ ")
