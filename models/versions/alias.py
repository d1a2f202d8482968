"""MLflow's alias ``champion``, brought in line with the promotion records, which lead."""

import logging
import threading
from typing import TYPE_CHECKING

import psycopg

from models.versions import promotions

if TYPE_CHECKING:
    from models.versions.registry import Registry

LOG = logging.getLogger(__name__)

PATIENCE_S = 15.0
"""How long MLflow may take to move its alias. By itself it tries again for minutes."""

BEHIND = " MLflow's alias is behind; the next update brings it in line, if MLflow still has that version."


def follow(
    connection: psycopg.Connection, registry: "Registry", surface: str, *, unexpected: int = logging.INFO
) -> bool:
    """Bring MLflow's alias in line with the record. False when MLflow does not let it, or does not answer: the decision
    stands all the same, serving has followed the record, and the next update brings the alias in line.

    ``unexpected``: the log's level for an alias found elsewhere, which after a change of champion it is.
    """
    champion = promotions.current(connection, surface)
    assert champion is not None, "somebody has just been promoted"
    version, uri, done = champion.version, champion.artifact_uri, threading.Event()

    def move() -> None:
        try:
            other = registry.difference(surface, version, uri)
            if other is not None:
                registry.set_champion(surface, version, uri)
                LOG.log(unexpected, "%s; it is put right", other)
        except Exception as error:  # whatever MLflow has against it: an emergency does not wait for that
            LOG.warning("MLflow does not show version %s of %s as champion: %s", version, surface, error)
        else:
            done.set()

    moving = threading.Thread(target=move, name="alias", daemon=True)
    moving.start()
    moving.join(PATIENCE_S)
    if moving.is_alive():
        LOG.warning("MLflow has not answered for %.0f s; its alias of %s stays as it is", PATIENCE_S, surface)
    return done.is_set()
