"""The process that runs the scheduled flows.

    python -m flows.scheduled

Late runs are merged into one: of several due runs of a surface one claims what is mature, the others find nothing.
"""

from infra import environment
from infra.settings import Settings


def main() -> None:
    environment.apply(Settings())  # before Prefect is imported, which reads its settings then
    from prefect import serve
    from prefect.client.schemas.objects import ConcurrencyLimitConfig, ConcurrencyLimitStrategy
    from prefect.deployments.runner import RunnerDeployment

    from flows.surface import Surface
    from flows.surfaces import SURFACES
    from flows.update import update

    def deployment(surface: Surface) -> RunnerDeployment:
        made = update.to_deployment(
            name=surface.name,
            parameters={"surface": surface.name},
            interval=surface.every,
            description=f"Keeps the ranker of {surface.name} fresh.",
            tags=["millrace", surface.name],
            concurrency_limit=one_at_a_time,
        )
        assert isinstance(made, RunnerDeployment)  # a coroutine only where an event loop runs
        return made

    one_at_a_time = ConcurrencyLimitConfig(limit=1, collision_strategy=ConcurrencyLimitStrategy.CANCEL_NEW)
    serve(
        *(deployment(surface) for surface in SURFACES.values()),
        pause_on_shutdown=False,
        print_starting_message=False,
    )


if __name__ == "__main__":
    main()
