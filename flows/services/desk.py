"""The review desk of this installation.

python -m flows.services.desk
"""

import logging
from collections.abc import Mapping

from fastapi import FastAPI

from flows.review.decisions import Decisions
from flows.surface import Surface
from flows.surfaces import SURFACES
from infra.addresses import without_login
from infra.http.listening import listen
from infra.settings import Settings
from infra.stack import environment
from models.versions.registry import Registry
from monitoring.desk.app import LIMITS, create_app
from monitoring.desk.pages import Links
from monitoring.desk.site import Desk


def desk(settings: Settings, surfaces: Mapping[str, Surface] = SURFACES) -> FastAPI:
    """The app over this installation's database and registry."""
    decisions = Decisions(settings, surfaces.__getitem__)
    registry = Registry(settings.mlflow_tracking, settings.mlflow_artifact_root)
    return create_app(
        Desk(
            database_url=settings.database,
            surfaces={name: surface.policy.approvals for name, surface in surfaces.items()},
            approve=decisions.approve,
            reject=decisions.reject,
            rollback=decisions.rollback,
            release=decisions.release,
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
