"""Whether a version can serve: all its files are there, are those that were written, and load.

    why = cannot_serve(registry, promotion)     # None: it can

A version may be a delta on others, down to a snapshot: all of them are fetched from where the promotions say they are.
"""

import logging
import tempfile
import threading
from collections.abc import Sequence
from itertools import count
from pathlib import Path
from typing import TYPE_CHECKING

from models.versions.promotions import Promotion

if TYPE_CHECKING:
    from models.versions.registry import Registry

LOG = logging.getLogger(__name__)

STORE_PATIENCE_S = 20.0
"""How long a place that keeps files may take. By themselves its clients try again for minutes."""

MOST_OFFERED = 3


class Unproven(RuntimeError):
    """Where the files are kept does not answer, or not in time: the version may be sound, and may not."""


def cannot_serve(registry: "Registry", promotion: Promotion) -> str | None:
    """Why a promoted version cannot be taken into service, in one line; None where it can. Raises Unproven."""
    outcome: list[str | Exception | None] = []

    def load() -> None:
        try:
            outcome.append(_why_not(registry, promotion.artifact_uri))
        except Exception as error:  # whatever the clients of stores raise
            outcome.append(error)

    loading = threading.Thread(target=load, name="proof", daemon=True)
    loading.start()
    loading.join(STORE_PATIENCE_S)
    if not outcome:
        raise Unproven(f"its files were not there after {STORE_PATIENCE_S:g} s")
    found = outcome[0]
    if isinstance(found, Exception):
        raise Unproven(" ".join(str(found).split())) from found
    return found


def that_can_serve(registry: "Registry", promotions: Sequence[Promotion]) -> list[str]:
    """The first few versions among these that can be taken into service, each once."""
    found: list[str] = []
    for version, promotion in {promotion.version: promotion for promotion in reversed(promotions)}.items():
        try:
            if cannot_serve(registry, promotion) is None:
                found.append(version)
        except Unproven as error:
            LOG.warning("version %s is not offered: %s", version, error)
    return found[::-1][:MOST_OFFERED]


def _why_not(registry: "Registry", artifact_uri: str) -> str | None:
    from models.retrieval.artifact import load_version_towers
    from models.versions.folder import DamagedModel
    from models.versions.lineage import load_version

    with tempfile.TemporaryDirectory(prefix="millrace-proof-") as folder:
        places = (Path(folder) / str(depth) for depth in count())
        fetched: dict[Path, str] = {}

        def fetch(uri: str) -> Path:
            place = registry.download(uri, next(places))
            fetched[place] = uri
            return place

        try:
            version = fetch(artifact_uri)
            load_version(version, lambda parent: fetch(parent.found))
            load_version_towers(version)
        except (FileNotFoundError, DamagedModel, ValueError) as error:
            why = " ".join(str(error).split())
            for place, uri in fetched.items():  # a person has the registry's files, not these copies
                why = why.replace(str(place), uri)
            return why
    return None
