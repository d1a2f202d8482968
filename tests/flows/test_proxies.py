"""Who signs in from where, at the desk as it runs: only what a trusted proxy says is believed."""

from pathlib import Path

import httpx
from psycopg import Connection

from infra.postgres.connections import connect
from monitoring.desk import accounts, sessions
from tests.real_servers import Running, running

PASSWORD = "correct horse battery"


def sign_in(desk: Running, peer: str, password: str, *forwarded: str) -> int:
    """The status of a sign-in of ana's from this address of the machine's, with these X-Forwarded-For headers."""
    headers = [("Origin", desk.address), *(("X-Forwarded-For", value) for value in forwarded)]
    with httpx.Client(transport=httpx.HTTPTransport(local_address=peer)) as client:
        form = {"name": "ana", "password": password}
        return client.post(f"{desk.address}/sign-in", data=form, headers=headers).status_code


def addresses(connection: Connection) -> set[str]:
    return {found for (found,) in connection.execute("SELECT DISTINCT address FROM sign_ins")}


def test_nobody_locks_another_out_by_a_header(database: str, tmp_path: Path) -> None:
    with running(tmp_path, database, "desk") as desk, connect(database, autocommit=True) as connection:
        accounts.add_user(connection, "ana", PASSWORD, role="analyst", surface="feed")
        for _ in range(sessions.BY_NAME_AND_ADDRESS):
            assert sign_in(desk, "127.0.0.1", "a wrong password", "127.0.0.2") == 401
        assert sign_in(desk, "127.0.0.1", "a wrong password", "127.0.0.3") == 429  # another forged one helps nobody
        assert addresses(connection) == {"127.0.0.1"}
        assert sign_in(desk, "127.0.0.2", PASSWORD) == 303


def test_of_a_trusted_proxy_the_last_address_that_is_no_proxys_counts(database: str, tmp_path: Path) -> None:
    trusted = "127.0.0.2, 10.1.0.0/16"
    with (
        running(tmp_path, database, "desk", trusted_proxies=trusted) as desk,
        connect(database, autocommit=True) as connection,
    ):
        for peer, forwarded in (
            ("127.0.0.2", ["198.51.100.1"]),
            ("127.0.0.2", ["192.0.2.66, 198.51.100.2, 10.1.2.3"]),  # the first was the client's own word
            ("127.0.0.2", ["192.0.2.66", "198.51.100.3"]),
            ("127.0.0.1", ["192.0.2.66"]),  # no proxy of ours
        ):
            assert sign_in(desk, peer, "a wrong password", *forwarded) == 401
        assert addresses(connection) == {"198.51.100.1", "198.51.100.2", "198.51.100.3", "127.0.0.1"}
