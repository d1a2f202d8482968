"""Updates in processes of their own, that can be killed at any point of their way.

    python -m tests.flows.update_driver

Imports once what an update needs, then forks a process for each line of JSON it is given: an update of the loop in the
line, killed with SIGKILL (or stopped with SIGSTOP) where ``at`` says. Answers with a line when that process has ended.
The points are put around the named functions here; the code under test knows nothing of them.
"""

import functools
import importlib
import json
import os
import signal
import sys
import traceback
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

STEPS = ("claim", "join", "recall", "check", "train", "evaluate", "decide", "record", "publish")
REGISTRY = ("start_run", "register", "log_metrics", "set_champion", "finish_run")
INSIDE = (
    *("checkpoint", "write_evidence", "write_history", "write_decision"),
    *("write_report", "promotion", "finish", "create_version"),
)
POINTS = tuple(f"{when} {what}" for what in (*STEPS, *REGISTRY, *INSIDE) for when in ("before", "after"))
"""Every point at which an update can be made to die, by what it is before or after."""


@dataclass(frozen=True)
class Job:
    """One update to run."""

    url: str
    tracking: str
    artifacts: str
    home: str
    as_of: str
    at: str | None = None
    """One of ``POINTS``; None: to the end."""
    signal: int = signal.SIGKILL


IMPORTED = (
    "features.feast.config",
    "features.feast.offline",
    "features.feast.online",
    "flows.update",
    "mlflow.pyfunc",
    "mlflow.store.model_registry.sqlalchemy_store",
    "mlflow.store.tracking.sqlalchemy_store",
    "monitoring.evaluation.evidently_metrics",
    "prefect.flow_engine",
    "prefect.task_engine",
    "tests.worlds.loop",
    "torch._dynamo",
)
"""What an update imports on its way, imported once for all; Feast's own need ``features.feast.config`` first."""


def main() -> None:
    for module in IMPORTED:
        importlib.import_module(module)
    _answer("ready")
    running: dict[int, Path] = {}
    for line in sys.stdin:
        request = json.loads(line)
        if "wait" in request:
            _, status = os.waitpid(request["wait"], 0)
            outcome = running.pop(request["wait"])
            _answer(json.dumps({"status": os.waitstatus_to_exitcode(status), "outcome": outcome.read_text()}))
            continue
        job = Job(**request)
        Path(job.home).mkdir(parents=True, exist_ok=True)
        outcome = Path(job.home) / f"outcome-{os.urandom(4).hex()}"
        outcome.touch()
        child = os.fork()
        if not child:
            _update(job, outcome)
        running[child] = outcome
        _answer(json.dumps({"pid": child}))
    os._exit(0)  # nothing was opened here, and the libraries' leave-taking takes long


def _answer(line: str) -> None:
    sys.stdout.write(line + "\n")
    sys.stdout.flush()


def _update(job: Job, outcome: Path) -> None:
    """Run the job and end this process; ``outcome`` gets what the update came to."""
    try:
        _put_points(job)
        outcome.write_text(_outcome(job))
        os._exit(0)
    except BaseException:
        traceback.print_exc()
        os._exit(1)


def _outcome(job: Job) -> str:
    from flows.ledger import NothingToLearn
    from tests.worlds.loop import Loop, run_update, small_feed

    loop = Loop(job.url, job.tracking, Path(job.artifacts), Path(job.home), small_feed())
    with loop.world() as world:
        try:
            outcome = run_update(world, datetime.fromisoformat(job.as_of))
        except NothingToLearn as reason:
            return f"nothing to train on: {reason}"
        return f"{outcome.verdict.verdict}: {outcome.verdict.reasons[0]}"


def _put_points(job: Job) -> None:
    from features.counters import checkpoint
    from flows import ledger, update
    from flows.steps import prepare, publish
    from models.versions import promotions
    from models.versions.registry import Registry
    from models.versions.update_runs import UpdateRuns
    from monitoring.records import history_store

    places: dict[str, tuple[Any, str]] = {
        "claim": (prepare, "claim"),
        "join": (prepare, "join"),
        "recall": (update, "read_history"),
        "check": (update, "check"),
        "train": (update, "train"),
        "evaluate": (update, "evaluate"),
        "decide": (update, "decide"),
        "record": (publish, "record"),
        "publish": (publish, "publish"),
        "start_run": (UpdateRuns, "start"),
        "register": (Registry, "register"),
        "log_metrics": (UpdateRuns, "log_metrics"),
        "set_champion": (Registry, "set_champion"),
        "finish_run": (UpdateRuns, "finish"),
        "checkpoint": (checkpoint, "save"),
        "write_evidence": (publish, "write_evidence"),
        "write_history": (history_store, "write"),
        "write_decision": (publish, "write_decision"),
        "write_report": (publish, "write_report"),
        "promotion": (promotions, "record"),
        "finish": (ledger, "finish"),
    }
    if job.at is None:
        return
    when, what = job.at.split()
    if what == "create_version":
        from mlflow.tracking import MlflowClient

        places["create_version"] = (MlflowClient, "create_model_version")
    owner, name = places[what]
    setattr(owner, name, _deadly(getattr(owner, name), when, job.signal))


def _deadly(function: Callable[..., Any], when: str, number: int) -> Callable[..., Any]:
    @functools.wraps(function)
    def dying(*arguments: Any, **named: Any) -> Any:
        if when == "before":
            os.kill(os.getpid(), number)
        result = function(*arguments, **named)
        if when == "after":
            os.kill(os.getpid(), number)
        return result

    return dying


if __name__ == "__main__":
    main()
