"""One file a surface: events, labels, features, model, update, gate and schedule."""

from flows.surface import Surface
from flows.surfaces.feed import FEED

SURFACES = {surface.name: surface for surface in (FEED,)}


def find(name: str) -> Surface:
    """The surface of that name. Raises ValueError for any other."""
    if name not in SURFACES:
        raise ValueError(f"surface {name!r}: there is none; flows/surfaces has {', '.join(SURFACES)}")
    return SURFACES[name]
