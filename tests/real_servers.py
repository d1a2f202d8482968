"""One embedded server at a time, by the very command that the stack runs, over a test's own database."""

import os
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx

from infra.settings import Settings
from infra.stack.environment import library_environment, settings_environment
from infra.stack.home import prepare_home
from infra.stack.lifecycle import ensure_database
from infra.stack.services import Service, databases, every_service, is_well, write_evidently_configuration
from tests.conftest import free_port
from tests.worlds.loop import SURFACES

START_S = 240


@dataclass
class Running:
    """One embedded server, as the stack runs it."""

    settings: Settings
    address: str

    @property
    def port(self) -> int:
        return int(self.address.rsplit(":", 1)[1])

    def asked(self, method: str, path: str, **options: Any) -> Any:
        """The answer that a program gets: it sends no Origin."""
        with httpx.Client(base_url=self.address, trust_env=False, timeout=30) as client:
            answer = client.request(method, path, **options)
            assert answer.status_code == 200, answer.text
            return answer.json()


@contextmanager
def running(home: Path, database: str, name: str, **settings_of: Any) -> Iterator[Running]:
    ports = settings_of | {f"{name}_port": free_port()}
    settings = Settings(home=home, surfaces=SURFACES, database_url=database, **ports)
    services = tuple(service for service in every_service(settings) if service.name == name)
    prepare_home(settings)
    for url in databases(settings, services):
        ensure_database(url)
    write_evidently_configuration(settings)
    (service,) = services
    log = home / "logs" / f"{name}.log"
    with (
        log.open("w") as output,
        subprocess.Popen(
            service.command,
            cwd=home / "work",
            env={
                **os.environ,
                **library_environment(settings),
                **settings_environment(settings),
                **service.environment,
            },
            stdout=output,
            stderr=output,
        ) as process,
    ):
        try:
            _wait(service, process, log)
            assert service.address is not None
            yield Running(settings, service.address)
        finally:
            process.terminate()


def _wait(service: Service, process: "subprocess.Popen[bytes]", log: Path) -> None:
    deadline = time.monotonic() + START_S
    while not is_well(service):
        assert process.poll() is None, log.read_text()
        assert time.monotonic() < deadline, log.read_text()
        time.sleep(0.1)
