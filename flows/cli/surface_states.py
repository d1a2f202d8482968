"""The surfaces as they are declared, for ``millrace status``: which version each process runs by, and what is wrong."""

from collections.abc import Iterator, Mapping
from dataclasses import replace

import psycopg

from features.declare.views import ViewRefused
from features.team_views.reading import inspect
from flows.surface_files import SurfaceFile, SurfaceFiles, read_folder
from flows.taken_up import Running
from infra.postgres.connections import connect
from infra.settings import Settings
from infra.stack import pulse
from infra.stack.pulse import Part
from infra.stack.status import Status, SurfaceStatus

PROCESSES = ("fold", "serving", "flows")
"""Services that run by surfaces and say so."""

Pulses = Mapping[str, Mapping[str, Part]]


def with_declarations(settings: Settings, found: Status) -> Status:
    """The status with every declared surface, and a warning at each that is not well or not as declared."""
    files, running = read_folder(settings.surfaces), Running(settings).files()
    pulses = {name: pulse.read(settings.home.resolve(), name) for name in PROCESSES}
    up = {service.name for service in found.services if service.healthy}
    known = {surface.surface: surface for surface in found.surfaces}
    for name in running.surfaces:
        known.setdefault(name, SurfaceStatus(name, None, None, None))
    surfaces = []
    for name, surface in sorted(known.items()):
        said = {service: pulses[service] for service in PROCESSES if service in up}
        warnings = (*surface.warnings, *_warnings(name, files, running, said))
        if "postgres" in up and name in running.surfaces:
            warnings += tuple(_unreadable(settings, running.surfaces[name]))
        declared = running.surfaces.get(name)
        surfaces.append(replace(surface, version=None if declared is None else declared.version, warnings=warnings))
    broken = tuple(files.broken.values())
    return replace(found, surfaces=tuple(surfaces), warnings=(*found.warnings, *broken))


def _unreadable(settings: Settings, file: SurfaceFile) -> Iterator[str]:
    """Why a view of the surface cannot be read: it is served without, and its updates fail."""
    for view in file.surface.views:
        try:
            with connect(settings.database) as connection:
                inspect(connection, [view])
        except ViewRefused as error:
            yield f"served without its view, and not updated: {' '.join(str(error).split())}"
        except psycopg.OperationalError:
            return  # the database's own line says so


def _warnings(name: str, files: SurfaceFiles, running: SurfaceFiles, said: Pulses) -> Iterator[str]:
    taken, now = running.surfaces.get(name), files.surfaces.get(name)
    if taken is None:
        yield "no file declares it: nothing is learned or served of it"
        return
    if now is not None and now.version != taken.version:
        yield f"{now.path} was edited and is not taken up: millrace reload"
    for service, parts in said.items():
        part = parts.get(name)
        if part is not None and part.failing is not None:
            yield f"{service} fails at it and tries again: {part.failing}"
        elif part is None or part.version != taken.version:
            yield f"{service} does not run by version {taken.version} yet; its log says why"
