"""Any legal address of a database, as every library reads it; and what of it may be shown."""

from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from psycopg.conninfo import conninfo_to_dict
from sqlalchemy import make_url
from sqlalchemy.dialects.postgresql.psycopg import PGDialect_psycopg

from infra.addresses import (
    BadAddress,
    check_address,
    compose,
    conninfo,
    database_name,
    hide_password,
    parameters,
    sqlalchemy_url,
    with_database,
)

TEXT = st.text(
    st.one_of(st.sampled_from("%@/:?#&=+'\" \\äß€[],;~"), st.characters(exclude_characters="\0", codec="utf-8")),
    min_size=1,
    max_size=12,
)
HOSTS = ["db", "127.0.0.1", "::1", "db-1.example.com", "/run/postgresql", "a,b", "/srv/a b%c", "/a,/b"]
SERVERS = st.one_of(
    st.builds(lambda host: {"host": host}, st.sampled_from(HOSTS)),
    st.builds(lambda host: {"host": host, "port": "5433"}, st.sampled_from(HOSTS)),
    st.just({"host": "a,b", "port": "5432,5433"}),
)
PARTS = st.fixed_dictionaries(
    {"user": TEXT, "dbname": TEXT},
    optional={
        "password": TEXT,
        "sslmode": st.sampled_from(["disable", "verify-full"]),
        "sslrootcert": st.sampled_from(["/ca.pem", "/c a/%.pem"]),
        "passfile": st.sampled_from(["/home/a b/pass%file", "/p"]),
        "application_name": TEXT,
        "target_session_attrs": st.just("read-write"),
        "options": st.sampled_from(["-c work_mem=64MB", "-c a.b=x\\ y  -c jit=off"]),
    },
)

ADDRESSES = st.builds(lambda server, parts: server | parts, SERVERS, PARTS)


def by_sqlalchemy(url: str) -> dict[str, Any]:
    """What SQLAlchemy's dialect hands to psycopg."""
    _, given = PGDialect_psycopg().create_connect_args(make_url(url))
    return {key: str(value) for key, value in given.items()}


def without_session(found: dict[str, Any]) -> dict[str, Any]:
    """The address without what every session of ours is given."""
    kept = {key: value for key, value in found.items() if key != "client_encoding"}
    options = kept.pop("options").partition("-c timezone=")[0].strip()
    return kept | ({"options": options} if options else {})


@given(ADDRESSES)
@settings(max_examples=300, deadline=None)
def test_every_library_reads_the_same_from_any_address(address: dict[str, str]) -> None:
    url = compose(address)
    assert parameters(url) == address
    for libpq in (conninfo(url), conninfo(conninfo_form(address))):
        assert without_session(conninfo_to_dict(libpq)) == address
    several = "," in address["host"]  # SQLAlchemy names a port for each: the one there is, or the default
    every_port = (
        {"port": {"5433": "5433,5433"}.get(address.get("port", ""), address.get("port", ","))} if several else {}
    )
    assert without_session(by_sqlalchemy(sqlalchemy_url(url))) == address | every_port
    assert by_sqlalchemy(sqlalchemy_url(url))["options"] == conninfo_to_dict(conninfo(url))["options"]


def conninfo_form(address: dict[str, str]) -> str:
    """The same as ``key=value`` pairs."""
    quoted = {key: value.replace("\\", "\\\\").replace("'", "\\'") for key, value in address.items()}
    return " ".join(f"{key}='{value}'" for key, value in quoted.items())


@given(ADDRESSES, TEXT)
@settings(max_examples=100, deadline=None)
def test_another_database_of_the_same_server(address: dict[str, str], name: str) -> None:
    other = with_database(compose(address), name)
    assert database_name(other) == name
    assert parameters(other) == address | {"dbname": name}
    assert parameters(sqlalchemy_url(other))["dbname"] == name


@given(ADDRESSES, st.text("abcXYZ0189%@/: ?#", min_size=8))
@settings(max_examples=100, deadline=None)
def test_what_is_shown_holds_nothing_of_the_password(address: dict[str, str], password: str) -> None:
    secret = f"<{password}>"  # in no other part
    for form in (compose(address | {"password": secret}), sqlalchemy_url(compose(address | {"password": secret}))):
        shown = hide_password(form)
        assert parameters(shown)["password"] == "***"
        assert parameters(shown)["user"] == address["user"]
        assert secret not in parameters(shown).values()


@pytest.mark.parametrize(
    ("address", "shown"),
    [
        ("postgresql://ann:secret@db:5432/feed?sslmode=require", "postgresql://ann:***@db:5432/feed?sslmode=require"),
        ("postgresql://ann@db/feed", "postgresql://ann@db/feed"),
        ("host=db user=ann password=secret dbname=feed", "postgresql://ann:***@db/feed"),
        ("postgresql://db/feed?user=ann&password=secret", "postgresql://ann:***@db/feed"),
        ("postgresql+psycopg://ann:se%2540ret@db/feed", "postgresql+psycopg://ann:***@db/feed"),
        ("https://ann:secret@mlflow.example/x", "https://ann:***@mlflow.example/x"),
        ("https://mlflow.example/x", "https://mlflow.example/x"),
        ("file:///tmp/artifacts", "file:///tmp/artifacts"),
        ("postgresql://ann:sec%zzret@db/feed", "***"),
    ],
)
def test_an_address_as_it_is_shown(address: str, shown: str) -> None:
    assert hide_password(address) == shown


def test_pairs_of_keys_and_values_become_a_url() -> None:
    assert check_address("host=db port=5 user=ann dbname=feed") == "postgresql://ann@db:5/feed"


@pytest.mark.parametrize(
    ("address", "named"),
    [
        ("postgresql://ann:s3cret@db/feed?sslmod=require", "'sslmod'"),
        ("postgresql://ann:s3cret@db/feed?replication=database", "'replication'"),
        ("postgresql://ann:s3cret@db", "names no database"),
        ("postgresql://ann:s3cret/x@db/feed", "percent-encode"),
        ("postgresql://ann:s3cret%x@db/feed", "percent-encode"),
        ("mysql://ann:s3cret@db/feed", "postgresql://"),
    ],
)
def test_an_address_that_cannot_be_used_is_refused_without_its_password(address: str, named: str) -> None:
    with pytest.raises(BadAddress) as raised:
        check_address(address)
    assert named in str(raised.value)
    assert "s3cret" not in str(raised.value)
    assert raised.value.__cause__ is None
    assert raised.value.__suppress_context__ or raised.value.__context__ is None
