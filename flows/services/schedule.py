"""The process that runs the scheduled flows, of the surfaces as they were last taken up.

    python -m flows.services.schedule

Late runs are merged into one: of several due runs of a surface one claims what is mature, the others find nothing.
A review has no schedule: an update that holds starts it.
"""

import asyncio
import json
import logging
import sys
from asyncio.subprocess import PIPE
from contextlib import suppress
from dataclasses import dataclass
from typing import Any
from uuid import UUID

from flows.services.deploy import TAG
from flows.surface_files import SurfaceFile
from flows.taken_up import Running
from infra.settings import Settings
from infra.stack import environment
from infra.stack.pulse import Pulse

log = logging.getLogger("millrace.schedule")

DEPLOY_EVERY_S, DEPLOY_AGAIN_S = 1.0, 10.0
"""How often it is looked whether the surfaces were taken up anew, and after a failure how soon."""

POLLS = "polls"
"""The part of the pulse that beats when Prefect's server says what is due."""


def main() -> None:
    settings = Settings()
    environment.apply(settings)  # before Prefect is imported, which reads its settings then
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(name)s %(message)s")
    from prefect.exceptions import TerminationSignal
    from prefect.runner import Runner

    runner = Runner(pause_on_shutdown=False)
    pulse = Pulse(settings.home.resolve(), "flows")
    pulse.parts([POLLS])

    async def work() -> None:
        beside = [
            asyncio.create_task(_deploy(runner, Running(settings), pulse)),
            asyncio.create_task(_beat(runner, pulse)),
        ]
        try:
            await runner.start()
        finally:
            for task in beside:
                task.cancel()

    with suppress(KeyboardInterrupt, TerminationSignal):
        asyncio.run(work())


@dataclass(frozen=True)
class _Applied:
    """A deployment that exists, as far as Prefect's runner wants to know it."""

    id: UUID
    name: str
    storage: None = None
    """The flows are those of the installed program."""

    async def aapply(self) -> UUID:
        return self.id


async def _applied(file: SurfaceFile) -> list[_Applied]:
    """Deploy what runs for a surface, by a process of its own. Raises CannotDeploy."""
    name = file.surface.name
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "flows.services.deploy", name), stdout=PIPE, stderr=PIPE
    )
    printed, complaint = await process.communicate()
    lines = complaint.decode(errors="replace").strip().splitlines()
    if process.returncode != 0:
        raise CannotDeploy(lines[-1] if lines else f"its process ended with {process.returncode}")
    return [_Applied(UUID(found), name) for found in json.loads(printed.splitlines()[-1])]


class CannotDeploy(Exception):
    """A surface's flows have no deployment."""


async def _deploy(runner: Any, surfaces: Running, pulse: Pulse) -> None:
    """Deploy each surface as it is taken up, and pause what is gone; what fails is tried again."""
    done = dict[str, str]()
    paused_all_but: set[str] | None = None
    while True:
        files, failing = surfaces.files().surfaces, dict[str, str]()
        for name, file in files.items():
            if done.get(name) == file.version:
                continue
            try:
                for deployment in await _applied(file):
                    await runner.aadd_deployment(deployment)
                done[name] = file.version
                log.info("surface %s runs by version %s", name, file.version)
            except Exception as error:
                log.exception("surface %s cannot be scheduled", name)
                failing[name] = " ".join(str(error).split())
        done = {name: version for name, version in done.items() if name in files}
        if paused_all_but != set(files):
            try:
                await _pause_others(set(files))
                paused_all_but = set(files)
            except Exception:
                log.exception("the schedules of surfaces that are gone cannot be paused")
        pulse.parts({POLLS: None} | {name: done.get(name) for name in files})
        for name in files:
            pulse.beat(name, failing.get(name))
        await asyncio.sleep(DEPLOY_EVERY_S if not failing else DEPLOY_AGAIN_S)


async def _pause_others(names: set[str]) -> None:
    """Pause deployments of ours of other surfaces than these: nobody would run them."""
    from prefect.client.orchestration import get_client
    from prefect.client.schemas.filters import DeploymentFilter, DeploymentFilterTags

    ours = DeploymentFilter(tags=DeploymentFilterTags(all_=[TAG]))
    async with get_client() as client:
        for deployment in await client.read_deployments(deployment_filter=ours):
            if deployment.name not in names and not deployment.paused:
                await client.pause_deployment(deployment.id)
                log.info("surface %s is gone; its schedule is paused", deployment.name)


async def _beat(runner: Any, pulse: Pulse) -> None:
    """As long as the runner hears from Prefect's server what is due."""
    seen = None
    while True:
        if runner.last_polled not in (None, seen):
            seen = runner.last_polled
            pulse.beat(POLLS)
        await asyncio.sleep(1)


if __name__ == "__main__":
    main()
