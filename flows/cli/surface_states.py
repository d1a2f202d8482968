"""The surfaces as they are declared, for ``millrace status``: which version each process runs by, and what is wrong."""

from collections.abc import Iterator, Mapping
from dataclasses import replace

from flows.surface_files import SurfaceFiles, read_folder
from flows.taken_up import Running
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
        declared = running.surfaces.get(name)
        surfaces.append(replace(surface, version=None if declared is None else declared.version, warnings=warnings))
    broken = tuple(files.broken.values())
    return replace(found, surfaces=tuple(surfaces), warnings=(*found.warnings, *broken))


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
