"""How MLflow differs from the record, for ``millrace status``: the record leads, and updates mend what they can."""

import threading
from dataclasses import replace

from infra.errors import MillraceError
from infra.postgres.connections import connect
from infra.settings import Settings
from infra.stack.status import Status
from models.versions import promotions
from models.versions.files import missing
from models.versions.promotions import Promotion
from models.versions.registry import Registry

REGISTRY_PATIENCE_S = 15.0
"""How long MLflow may take to be loaded and to answer for all surfaces."""


def with_warnings(settings: Settings, found: Status) -> Status:
    """The status, with a warning at each surface whose champion MLflow does not have as the record has it."""
    mlflow = settings.mlflow_tracking
    if mlflow.startswith("http") and any(s.name == "mlflow" and not s.healthy for s in found.services):
        return found
    champions = []
    if any(surface.champion for surface in found.surfaces):
        with connect(settings.database) as connection:
            champions = [promotions.current(connection, surface.surface) for surface in found.surfaces]
    registry, warnings = Registry(mlflow, settings.mlflow_artifact_root), dict[str, tuple[str, ...]]()

    def look() -> None:
        for champion in filter(None, champions):
            warnings[champion.surface] = of_champion(registry, champion)

    looking = threading.Thread(target=look, name="registry", daemon=True)
    looking.start()
    looking.join(REGISTRY_PATIENCE_S)
    surfaces = tuple(replace(one, warnings=warnings.get(one.surface, ())) for one in found.surfaces)
    return replace(found, surfaces=surfaces)


def of_champion(registry: Registry, champion: Promotion) -> tuple[str, ...]:
    """What a person should know of a champion's place in MLflow, a sentence each."""
    sentences = []
    try:
        with registry.answering():
            difference = registry.difference(champion.surface, champion.version, champion.artifact_uri)
            if difference is not None:
                sentences.append(f"{difference}; the record leads")
            lacks = missing(champion.artifact_uri, registry.tracking_uri)
            if lacks is not None:
                sentences.append(f"the files of version {champion.version} are lost: {lacks} is not there; restore it")
    except MillraceError as error:
        sentences.append(str(error))
    return tuple(sentences)
