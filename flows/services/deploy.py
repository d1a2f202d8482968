"""Deploy the flows of one surface as it was last taken up, and print their ids.

    python -m flows.services.deploy SURFACE

A process of its own, that ends: what the flows import, torch among it, is no part of the process that waits for them
(``flows.services.schedule``). Each run has a process of its own too.
"""

import asyncio
import json
import sys
from datetime import timedelta
from typing import Any

from flows.surface_files import SurfaceFile
from flows.taken_up import Running
from infra.settings import Settings
from infra.stack import environment

WATCH_EVERY = timedelta(hours=1)

CANARY_EVERY = timedelta(minutes=1)
"""Of a surface that declares no canary, whose look is paused."""

TAG = "millrace"
"""Of every deployment of ours."""


def main(name: str) -> None:
    settings = Settings()
    environment.apply(settings)  # before Prefect is imported, which reads its settings then
    print(json.dumps(asyncio.run(_apply(Running(settings).file(name)))))  # noqa: T201


async def _apply(file: SurfaceFile) -> list[str]:
    return [str(await deployment.aapply()) for deployment in await deployments(file)]


async def deployments(file: SurfaceFile) -> tuple[Any, ...]:
    """What runs for a surface."""
    from prefect.client.schemas.objects import ConcurrencyLimitConfig, ConcurrencyLimitStrategy

    from flows.review.prefect_form import review_candidate
    from flows.services.canary import canary
    from flows.services.live_watch import watch
    from flows.update import update

    surface = file.surface
    one_at_a_time = ConcurrencyLimitConfig(limit=1, collision_strategy=ConcurrencyLimitStrategy.CANCEL_NEW)
    about: dict[str, Any] = {
        "name": surface.name,
        "parameters": {"surface": surface.name},
        "tags": [TAG, surface.name],
        "version": file.version,
    }
    return (
        await update.ato_deployment(
            **about,
            interval=surface.every,
            description=f"Keeps the ranker of {surface.name} fresh.",
            concurrency_limit=one_at_a_time,
        ),
        await watch.ato_deployment(
            **about,
            interval=WATCH_EVERY,
            description=f"Looks at what the champion of {surface.name} has served, and goes back where it must.",
            concurrency_limit=one_at_a_time,
        ),
        await canary.ato_deployment(
            **about,
            interval=CANARY_EVERY if surface.canary is None else surface.canary.every,
            paused=surface.canary is None,
            description=f"Looks at the canary of {surface.name}, and promotes it or rolls it back.",
            concurrency_limit=one_at_a_time,
        ),
        await review_candidate.ato_deployment(
            **about, description=f"Asks a person about a challenger of {surface.name} that is held."
        ),
    )


if __name__ == "__main__":
    main(sys.argv[1])
