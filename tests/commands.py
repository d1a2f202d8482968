"""The command line as a program: each command is a process of its own, forked from one that has imported it all.

To start Python anew for each would cost seconds; that this too works, ``tests/flows/test_cli.py`` shows.
"""

import multiprocessing
import os
import subprocess
import sys
import tempfile
from collections.abc import Mapping
from pathlib import Path

IMPORTED = (
    *(
        "flows.cli.main",
        "flows.review.decisions",
        "flows.cli.demo",
        "flows.cli.embedded",
        "flows.review.rollback",
        "flows.surfaces",
    ),
    *(
        "features.ingest.importing",
        "infra.stack.lifecycle",
        "infra.stack.status",
        "monitoring.desk.accounts",
        "supervisor.xmlrpc",
        "numba",
    ),
)
"""What commands import, besides libraries that read the environment as they are imported."""

TIMEOUT_S = 120

FORKS = multiprocessing.get_context("forkserver")


def millrace(
    *arguments: str, environment: Mapping[str, str], user: int | None = None
) -> "subprocess.CompletedProcess[str]":
    """Run the command under these variables alone; ``user``: as that user, who need not be able to read our files."""
    FORKS.set_forkserver_preload([*IMPORTED, __name__])
    with tempfile.TemporaryDirectory() as folder:
        out, err = Path(folder) / "out", Path(folder) / "err"
        process = FORKS.Process(target=_run, args=(arguments, dict(environment), user, out, err))
        process.start()
        process.join(TIMEOUT_S)
        if process.exitcode is None:
            process.kill()
            process.join()
            raise subprocess.TimeoutExpired(["millrace", *arguments], TIMEOUT_S, out.read_bytes(), err.read_bytes())
        code = process.exitcode
        return subprocess.CompletedProcess(["millrace", *arguments], code, out.read_text(), err.read_text())


def _run(arguments: tuple[str, ...], environment: dict[str, str], user: int | None, out: Path, err: Path) -> None:
    os.environ.clear()
    os.environ.update(environment)
    for number, file in ((1, out), (2, err)):
        os.dup2(os.open(file, os.O_WRONLY | os.O_CREAT, 0o600), number)
    if user is not None:
        os.setgroups([])
        os.setgid(user)
        os.setuid(user)
    sys.argv = ["millrace", *arguments]
    from flows.cli.main import main

    main()
