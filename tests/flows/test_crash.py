"""An update killed with -9 at each of its steps, and run again: one champion, nothing skipped or trained on twice.

The updates run in processes of their own (``tests/flows/update_driver.py``).
"""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

import pytest

from infra.postgres.connections import connect
from models.versions import promotions
from monitoring.records.evidence_store import read_all_evidence
from tests.flows.update_driver import POINTS, Job
from tests.worlds.loop import Loop, after, copied, expect_consistent

pytestmark = [pytest.mark.chaos, pytest.mark.filterwarnings("ignore::UserWarning:mlflow")]

FIRST, SECOND, THIRD = after(14), after(18), after(22)

ON_THE_WAY = ("after claim", "before set_champion")
"""Where the second update dies, one after another, before it ends."""

EVIDENCE = "SELECT DISTINCT measured - 'cost' FROM evidence WHERE update_id = %s"  # the cost is in seconds
HISTORY = """
SELECT DISTINCT to_jsonb(h) - '{history_id,measured_at,limit_codes,limits_needed}'::text[] || jsonb_build_object(
    'needs',
    (SELECT jsonb_object_agg(code, needed) FROM unnest(limit_codes, limits_needed) AS needs (code, needed)
     WHERE code <> 'scoring_time')
)
FROM update_history h WHERE update_id = %s
"""  # as the evidence's cost, the time to score is of the machine


@dataclass
class Driver:
    """The process that forks updates."""

    process: subprocess.Popen[str]

    def start(self, loop: Loop, as_of: Any, **how: Any) -> int:
        """Start an update; its process id."""
        job = Job(loop.url, loop.tracking, str(loop.artifacts), str(loop.home), as_of.isoformat(), **how)
        return int(self._request(asdict(job))["pid"])

    def wait(self, pid: int) -> tuple[int, str]:
        """How the process ended, and what its update came to."""
        answer = self._request({"wait": pid})
        return answer["status"], answer["outcome"]

    def run(self, loop: Loop, as_of: Any, **how: Any) -> tuple[int, str]:
        ended = self.wait(self.start(loop, as_of, **how))
        released(loop)
        return ended

    def _request(self, request: dict[str, Any]) -> dict[str, Any]:
        stdin, stdout = self.process.stdin, self.process.stdout
        assert stdin is not None
        assert stdout is not None
        stdin.write(json.dumps(request) + "\n")
        stdin.flush()
        answer: dict[str, Any] = json.loads(stdout.readline())
        return answer


@pytest.fixture(scope="module")
def driver(prefect_server: str) -> Iterator[Driver]:
    environment = {**os.environ, "PREFECT_API_URL": prefect_server, "OMP_NUM_THREADS": "1"}
    command = [sys.executable, "-W", "ignore", "-m", "tests.flows.update_driver"]
    with subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=environment
    ) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "ready\n"
        yield Driver(process)
        assert process.stdin is not None
        process.stdin.close()


def released(loop: Loop, within_s: float = 60.0) -> None:
    """Wait until the server has seen that a process is gone, whose locks then are too."""
    deadline = time.monotonic() + within_s
    with connect(loop.url, autocommit=True) as connection:
        while connection.execute(
            "SELECT 1 FROM pg_stat_activity"
            " WHERE datname = current_database() AND pid <> pg_backend_pid() AND backend_type = 'client backend'"
        ).fetchone():
            assert time.monotonic() < deadline, "connections of an ended process are still open"
            time.sleep(0.02)


def champions(loop: Loop) -> list[promotions.Promotion]:
    """The promotions, newest first."""
    with connect(loop.url) as connection:
        return promotions.history(connection, loop.surface.name)


def weights(promotion: promotions.Promotion) -> str:
    """Digest of the promoted version's weights, as its own ``model.json`` says."""
    folder = Path(unquote(urlsplit(promotion.artifact_uri).path))
    digest: str = json.loads((folder / "model.json").read_text())["weights_sha256"]
    return digest


@pytest.fixture(scope="module")
def first_done(site: Loop, driver: Driver) -> Loop:
    """A loop whose first update is done."""
    loop = copied(site)
    status, outcome = driver.run(loop, FIRST)
    assert (status, outcome[:7]) == (0, "promote"), outcome
    return loop


@pytest.fixture(scope="module")
def undisturbed(first_done: Loop, driver: Driver) -> Loop:
    """How the second update ends when nothing kills it."""
    loop = copied(first_done)
    status, outcome = driver.run(loop, SECOND)
    assert (status, outcome[:7]) == (0, "promote"), outcome
    return loop


def expect_as_undisturbed(loop: Loop, undisturbed: Loop) -> None:
    """The second update ended as if it had never been killed: the same window, evidence, history and weights."""
    expect_consistent(loop)
    one, other = champions(loop)[0], champions(undisturbed)[0]
    assert weights(one) == weights(other)
    windows = [
        [(u["window_start"], u["split_at"], u["window_end"], u["state"]) for u in x.updates()]
        for x in (loop, undisturbed)
    ]
    assert windows[0] == windows[1]
    for left_behind in (EVIDENCE, HISTORY):
        [(ours,)], [(theirs,)] = loop.query(left_behind, one.update_id), undisturbed.query(left_behind, other.update_id)
        assert ours == theirs


def test_a_crash_at_any_point_leaves_the_old_champion_or_the_new_one_and_the_next_run_finishes(
    first_done: Loop, undisturbed: Loop, driver: Driver
) -> None:
    """One update dies at one point after another, each time taken over by the next."""
    loop = copied(first_done)
    old = champions(loop)[0].version
    for attempt, point in enumerate(ON_THE_WAY):
        status, outcome = driver.run(loop, THIRD if attempt else SECOND, at=point)  # who takes over goes by the claim
        assert status == -signal.SIGKILL, f"{point}: {outcome}"
        promoted = len(champions(loop)) == 2
        assert promoted == (point == "before set_champion"), point
        assert loop.alias() == old, "the alias follows the record, and never goes ahead of it"
        assert [u["state"] for u in loop.updates()] == ["promoted", "promoted" if promoted else "claimed"]
    status, outcome = driver.run(loop, SECOND)
    assert (status, outcome[:19]) == (0, "nothing to train on"), outcome
    assert loop.updates()[1]["attempts"] == len(ON_THE_WAY)
    expect_as_undisturbed(loop, undisturbed)


def test_weights_that_nobody_judged_are_never_promoted(first_done: Loop, driver: Driver) -> None:
    """What dies after registering and trains other weights when it is repeated promotes those: they were judged."""
    loop = copied(first_done)
    assert driver.run(loop, SECOND, at="after register")[0] == -signal.SIGKILL
    with connect(loop.url) as connection:  # the same window has other labels then, and gives other weights
        connection.execute("DELETE FROM feedback WHERE at > %s AND impression_id LIKE '%%3'", [FIRST])
    status, outcome = driver.run(loop, SECOND)
    assert (status, outcome[:7]) == (0, "promote"), outcome
    expect_consistent(loop)
    assert champions(loop)[0].version == "3", "the second version is the dead run's"
    with connect(loop.url) as connection:
        dead, repeated = (record.evidence for record in read_all_evidence(connection, 2))  # both stay on record
    assert (dead.window.label_rate or 0) > (repeated.window.label_rate or 0)


def test_of_two_processes_at_once_one_claims_and_the_other_is_merged_into_it(first_done: Loop, driver: Driver) -> None:
    loop = copied(first_done)
    stopped = driver.start(loop, SECOND, at="after claim", signal=signal.SIGSTOP)
    deadline = time.monotonic() + 120
    while len(loop.updates()) < 2:
        assert time.monotonic() < deadline, "the first process never claimed"
        time.sleep(0.05)
    status, outcome = driver.wait(driver.start(loop, THIRD))
    assert (status, outcome[:19]) == (0, "nothing to train on"), outcome
    assert "another update of feed is running" in outcome
    assert [u["state"] for u in loop.updates()] == ["promoted", "claimed"]
    os.kill(stopped, signal.SIGCONT)
    status, outcome = driver.wait(stopped)
    assert (status, outcome[:7]) == (0, "promote"), outcome
    expect_consistent(loop)


@pytest.mark.parametrize("point", POINTS)
def test_an_update_killed_at_each_point_and_run_again_ends_as_if_nothing_had_been(
    point: str, first_done: Loop, undisturbed: Loop, driver: Driver
) -> None:
    loop = copied(first_done)
    status, outcome = driver.run(loop, SECOND, at=point)
    assert status == -signal.SIGKILL, outcome
    status, outcome = driver.run(loop, SECOND)
    assert status == 0, outcome
    expect_as_undisturbed(loop, undisturbed)
    status, outcome = driver.run(loop, THIRD)
    assert status == 0, outcome
    expect_consistent(loop)
    assert len(champions(loop)) == 3 or "promote" not in outcome


@pytest.mark.parametrize("point", ["after claim", "after register", "before set_champion"])
def test_a_first_update_killed_on_its_way_ends_the_same(
    point: str, site: Loop, first_done: Loop, driver: Driver
) -> None:
    loop = copied(site)
    assert driver.run(loop, FIRST, at=point)[0] == -signal.SIGKILL
    status, outcome = driver.run(loop, FIRST)
    assert status == 0, outcome
    expect_as_undisturbed(loop, first_done)
