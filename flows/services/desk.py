"""The review desk of this installation.

python -m flows.services.desk
"""

import logging
from collections.abc import Iterator, Mapping

from fastapi import FastAPI

from flows.review.decisions import Decisions
from flows.surface import Surface
from flows.taken_up import Running
from infra.addresses import without_login
from infra.http.listening import listen
from infra.settings import Settings
from infra.stack import environment
from models.versions.registry import Registry
from monitoring.desk.app import LIMITS, create_app
from monitoring.desk.pages import Links
from monitoring.desk.site import Declared, Desk
from monitoring.records.wording_counts import WordedItems


class Approvals(Mapping[str, int]):
    """How many approvals a challenger of each surface needs, as the surfaces are declared now."""

    def __init__(self, surfaces: Mapping[str, Surface]) -> None:
        self._surfaces = surfaces

    def __getitem__(self, name: str) -> int:
        return self._surfaces[name].policy.approvals

    def __iter__(self) -> Iterator[str]:
        return iter(self._surfaces)

    def __len__(self) -> int:
        return len(self._surfaces)


def declared(surface: Surface) -> Declared:
    """What the desk shows of a surface's file."""
    variants = surface.variants
    worded = None if variants is None else WordedItems.declared(variants, surface.features)
    return Declared(surface.policy, surface.limits, worded)


def desk(settings: Settings, surfaces: Mapping[str, Surface] | None = None) -> FastAPI:
    """The app over this installation's database and registry; of the surfaces taken up, where none are given."""
    surfaces = Running(settings) if surfaces is None else surfaces
    decisions = Decisions(settings, surfaces.__getitem__)
    registry = Registry(settings.mlflow_tracking, settings.mlflow_artifact_root)
    return create_app(
        Desk(
            database_url=settings.database,
            surfaces=Approvals(surfaces),
            approve=decisions.approve,
            reject=decisions.reject,
            rollback=decisions.rollback,
            release=decisions.release,
            choose_limit=decisions.choose_limit,
            declared=lambda name: declared(surfaces[name]),
            report=registry.update_runs.report,
            links=Links(
                desk=settings.desk,
                prefect=settings.prefect_pages,
                mlflow=settings.mlflow_pages,
                evidently=without_login(settings.evidently),
            ),
        )
    )


def main() -> None:
    settings = Settings()
    environment.apply(settings)
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(name)s %(message)s")
    listen(desk(settings), settings, settings.desk_port, settings.desk, limits=LIMITS, log_config=None)


if __name__ == "__main__":
    main()
