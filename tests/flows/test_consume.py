"""``millrace consume`` as a process: killed, cut off and stopped, it brings each event into the log once."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from infra.postgres.connections import connect
from tests.commands import millrace
from tests.worlds.broker import PARTITIONS, Broker, shown
from tests.worlds.waiting import eventually

TOPIC = "events"
EACH = 100
"""Messages a round and partition."""


@pytest.fixture
def broker() -> Iterator[Broker]:
    one = Broker()
    yield one
    one.stop()


@pytest.fixture
def environment(database: str, tmp_path: Path) -> dict[str, str]:
    own = {"MILLRACE_DATABASE_URL": database, "MILLRACE_HOME": str(tmp_path / "home"), "OMP_NUM_THREADS": "1"}
    return {**os.environ, **own}


def consumer(broker: Broker, environment: dict[str, str], log: Path) -> "subprocess.Popen[bytes]":
    command = [sys.executable, "-m", "flows.cli.main", "consume", "--surface", "feed", "--topic", TOPIC]
    with log.open("ab") as output:
        return subprocess.Popen([*command, "--brokers", broker.address], env=environment, stdout=output, stderr=output)


def test_killed_cut_off_and_stopped_each_event_is_in_the_log_once(
    database: str, broker: Broker, environment: dict[str, str], tmp_path: Path
) -> None:
    written = 0

    def write() -> None:
        nonlocal written
        for partition in range(PARTITIONS):
            names = [f"{partition}-{written + n}" for n in range(EACH)]
            broker.write(TOPIC, [shown(name) for name in names], partition=partition)
        written += EACH

    def logged() -> int:
        with connect(database) as connection:
            (count,) = connection.execute("SELECT count(*) FROM impressions").fetchone() or (0,)
        return int(count)

    logs = [tmp_path / "first.log", tmp_path / "second.log"]
    first = consumer(broker, environment, logs[0])
    second = None
    try:
        write()
        eventually(lambda: logged() == PARTITIONS * written, "the first consumer reads", within_s=60)
        second = consumer(broker, environment, logs[1])
        write()
        first.kill()
        first.wait()
        write()
        eventually(lambda: logged() == PARTITIONS * written, "the second takes its place", within_s=60)
        write()
        with connect(database, autocommit=True) as admin:
            admin.execute(
                "SELECT pg_terminate_backend(pid) FROM pg_stat_activity"
                " WHERE datname = current_database() AND pid <> pg_backend_pid()"
            )
        write()
        eventually(lambda: logged() == PARTITIONS * written, "it comes back from a lost session", within_s=60)
        assert list((tmp_path / "home").rglob(f"consume-feed-{TOPIC}.pulse")), "it has a pulse"
        began = time.monotonic()
        second.send_signal(signal.SIGTERM)
        assert second.wait(30) == 0, logs[1].read_text()
        assert time.monotonic() - began < 10
    finally:
        for process in (first, second):
            if process is not None and process.poll() is None:
                process.kill()
                process.wait()
    with connect(database) as connection:
        offsets = connection.execute("SELECT partition, next_offset FROM stream_offsets ORDER BY 1").fetchall()
        assert connection.execute("SELECT count(*) FROM dead_letters").fetchone() == (0,)
    assert offsets == [(partition, written) for partition in range(PARTITIONS)]


def test_what_nobody_declares_is_kept_and_said(
    database: str, broker: Broker, environment: dict[str, str], tmp_path: Path
) -> None:
    clicks = [{"type": "feedback", "impression_id": "one", "kind": kind} for kind in ("click", "clikc")]
    broker.write(TOPIC, [shown("one", context={"device": 1, "colour": "red"}), *clicks])
    process = consumer(broker, environment, tmp_path / "log")
    try:
        with connect(database, autocommit=True) as connection:
            kept = "SELECT count(*) FROM feedback WHERE kind = 'clikc'"
            eventually(lambda: connection.execute(kept).fetchone() == (1,), "it is read", within_s=60)
        process.send_signal(signal.SIGTERM)
        assert process.wait(30) == 0
    finally:
        if process.poll() is None:
            process.kill()
            process.wait()
    said = (tmp_path / "log").read_text()
    assert "feedback: click 1 counted; clikc 1 undeclared" in said
    assert "no label of feed has is kept, and counted nowhere: clikc (1)" in said
    assert "in the log, unused: colour" in said


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"--surface": "nowhere"}, "nowhere"),
        ({"--topic": "a topic"}, "--topic 'a topic' is no name of a topic"),
        ({"--properties": "absent.properties"}, "absent.properties cannot be read"),
        ({"--properties": "wrong.properties"}, "line 2 is no name=value"),
        ({"--properties": "ours.properties"}, "group.id=x cannot be set: give it as --group"),
        ({"--properties": "unknown.properties"}, "no.such.property"),
    ],
)
def test_what_cannot_be_read_is_refused_in_one_line(
    environment: dict[str, str], tmp_path: Path, changes: dict[str, str], message: str
) -> None:
    for name, text in (("wrong", "# ours\nsecret"), ("ours", "group.id=x"), ("unknown", "no.such.property = 1")):
        (tmp_path / f"{name}.properties").write_text(text)
    if "--properties" in changes:
        changes = {"--properties": str(tmp_path / changes["--properties"])}
    options = {"--surface": "feed", "--brokers": "127.0.0.1:1", "--topic": TOPIC} | changes
    done = millrace("consume", *(part for option in options.items() for part in option), environment=environment)
    assert done.returncode == 2
    assert message in done.stderr
    assert done.stderr.count("\n") == 1
    assert "secret" not in done.stderr
