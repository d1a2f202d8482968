"""Serve the surfaces of this installation.

    python -m models.serving [--surfaces MODULE:NAME]

``MODULE:NAME`` is a mapping of a surface's name to its declaration. Surfaces are declared above this folder, so they
are named and not imported.
"""

import argparse
import importlib
import os
from collections.abc import Mapping, Sequence
from typing import Protocol

import torch

from features.declare.families import Features
from features.declare.views import TeamView
from infra.http.listening import listen
from infra.settings import Settings
from infra.stack import environment
from models.serving.app import LIMITS, create_app
from models.serving.config import ServingConfig
from models.serving.telemetry import log_to_stdout


class DeclaredSurface(Protocol):
    """As much of a surface's declaration as serving needs."""

    @property
    def features(self) -> Features: ...

    @property
    def views(self) -> Sequence[TeamView]: ...


def declared(name: str) -> Mapping[str, DeclaredSurface]:
    """The surfaces that ``MODULE:NAME`` declares."""
    module, _, attribute = name.partition(":")
    surfaces: Mapping[str, DeclaredSurface] = getattr(importlib.import_module(module), attribute)
    return surfaces


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m models.serving", description="Serve ranked items over HTTP.")
    parser.add_argument("--surfaces", default="flows.surfaces:SURFACES", metavar="MODULE:NAME")
    arguments = parser.parse_args()
    settings = Settings()
    os.umask(0o077)  # what is spooled is nobody else's to read
    environment.apply(settings)
    log_to_stdout()
    torch.set_num_threads(1)
    surfaces = declared(arguments.surfaces)
    config = ServingConfig(
        database_url=settings.database,
        surfaces={surface: declaration.features for surface, declaration in surfaces.items()},
        views={surface: declaration.views for surface, declaration in surfaces.items()},
        cache=settings.home.resolve() / "serving",
        tracking_uri=settings.mlflow_tracking,
        artifact_root=settings.mlflow_artifact_root,
    )
    listen(create_app(config), settings, settings.serving_port, settings.serving, limits=LIMITS, log_config=None)


if __name__ == "__main__":
    main()
