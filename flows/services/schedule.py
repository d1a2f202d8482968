"""The process that runs the scheduled flows.

    python -m flows.services.schedule

Late runs are merged into one: of several due runs of a surface one claims what is mature, the others find nothing.
A review has no schedule: an update that holds starts it.
"""

import asyncio
from contextlib import suppress
from datetime import timedelta
from typing import Any

from infra.settings import Settings
from infra.stack import environment
from infra.stack.pulse import Pulse

WATCH_EVERY = timedelta(hours=1)


def main() -> None:
    settings = Settings()
    environment.apply(settings)  # before Prefect is imported, which reads its settings then
    from prefect.client.schemas.objects import ConcurrencyLimitConfig, ConcurrencyLimitStrategy
    from prefect.exceptions import TerminationSignal
    from prefect.runner import Runner

    from flows.review.prefect_form import review_candidate
    from flows.services.live_watch import watch
    from flows.surface import Surface
    from flows.surfaces import SURFACES
    from flows.update import update

    one_at_a_time = ConcurrencyLimitConfig(limit=1, collision_strategy=ConcurrencyLimitStrategy.CANCEL_NEW)

    def deployments(surface: Surface) -> tuple[Any, ...]:
        parameters = {"surface": surface.name}
        about: dict[str, Any] = {"name": surface.name, "parameters": parameters, "tags": ["millrace", surface.name]}
        return (
            update.to_deployment(
                **about,
                interval=surface.every,
                description=f"Keeps the ranker of {surface.name} fresh.",
                concurrency_limit=one_at_a_time,
            ),
            watch.to_deployment(
                **about,
                interval=WATCH_EVERY,
                description=f"Looks at what the champion of {surface.name} has served, and goes back where it must.",
                concurrency_limit=one_at_a_time,
            ),
            review_candidate.to_deployment(
                **about, description=f"Asks a person about a challenger of {surface.name} that is held."
            ),
        )

    runner = Runner(pause_on_shutdown=False)
    for surface in SURFACES.values():
        for deployment in deployments(surface):
            runner.add_deployment(deployment)
    pulse = Pulse(settings.home.resolve(), "flows", ["polls"])

    async def work() -> None:
        beating = asyncio.create_task(_beat(runner, pulse))
        try:
            await runner.start()
        finally:
            beating.cancel()

    with suppress(KeyboardInterrupt, TerminationSignal):
        asyncio.run(work())


async def _beat(runner: Any, pulse: Pulse) -> None:
    """As long as the runner hears from Prefect's server what is due."""
    seen = None
    while True:
        if runner.last_polled not in (None, seen):
            seen = runner.last_polled
            pulse.beat("polls")
        await asyncio.sleep(1)


if __name__ == "__main__":
    main()
