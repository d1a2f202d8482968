"""Serve the surfaces of this installation.

    python -m models.serving [--surfaces MODULE:NAME] [--workers N]

``MODULE:NAME`` is a function that gives, of the settings, a function that gives the surfaces as they are declared now.
Surfaces are declared above this folder, so they are named and not imported. With several workers this process starts
them and looks after them (``workers``).
"""

import argparse
import gc
import importlib
import os
import sys
from collections.abc import Callable, Mapping

import psycopg
import torch

from infra.errors import MillraceError, SettingsError
from infra.http.listening import listen
from infra.postgres.connections import connect
from infra.settings import Settings
from infra.stack import environment
from infra.stack.pulse import Pulse
from models.serving.access import keys
from models.serving.app import LIMITS, create_app
from models.serving.config import Place, ServedSurface, ServingConfig
from models.serving.telemetry import LOG, log_to_stdout
from models.serving.workers import Workers, end_with_parent

SWITCH_S = 1e-4
"""How long a thread that follows or drains the log may keep the interpreter from a request, seconds: with Python's 5 ms
the 99th percentile of a request is three times as long while much is logged."""

COLLECT_AFTER = (20_000, 5, 1_000)
"""New objects, and collections of the younger, after which each generation is searched for cycles. A search of all that
is held of the log takes a quarter of a second, and what requests and models leave behind needs none."""

Declared = Callable[[], Mapping[str, ServedSurface]]


def declared(name: str, settings: Settings) -> Declared:
    """What ``MODULE:NAME`` declares."""
    module, _, attribute = name.partition(":")
    of_settings: Callable[[Settings], Declared] = getattr(importlib.import_module(module), attribute)
    return of_settings(settings)


def check_access(settings: Settings) -> None:
    """Raises SettingsError where strangers would reach a server that asks nobody for a key."""
    if settings.on_loopback:
        return
    at = f"MILLRACE_HOST={settings.host} is not loopback"
    if settings.open_serving:
        LOG.warning("%s and MILLRACE_OPEN_SERVING is set: while no API key exists, everybody is answered", at)
        return
    try:
        with connect(settings.database, timeout_s=2.0) as connection:
            found = keys.every(connection)
    except (psycopg.OperationalError, psycopg.errors.UndefinedTable):
        return  # until it is known whether there are keys, nobody is answered
    if not found:
        raise SettingsError(
            f"{at}, and there is no API key: whoever reaches it could rank and log. Make one with"
            " millrace key add NAME --scope rank --scope feedback, or set MILLRACE_OPEN_SERVING=true where a gateway"
            " lets no stranger through"
        )


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m models.serving", description="Serve ranked items over HTTP.")
    parser.add_argument("--surfaces", default="flows.taken_up:served", metavar="MODULE:NAME")
    parser.add_argument("--workers", type=int, metavar="N", help="processes behind the port (MILLRACE_SERVING_WORKERS)")
    for name in ("--worker", "--lifeline"):
        parser.add_argument(name, type=int, help=argparse.SUPPRESS)
    parser.add_argument("--replaces", action="store_true", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    settings = Settings()
    os.umask(0o077)  # what is journaled is nobody else's to read
    environment.apply(settings)
    log_to_stdout()
    count = arguments.workers or settings.serving_workers
    try:
        if count > 1 and arguments.worker is None:
            check_access(settings)
            command = [
                sys.executable,
                "-m",
                "models.serving",
                "--surfaces",
                arguments.surfaces,
                "--workers",
                str(count),
            ]
            sys.exit(Workers(settings, count, command).run())
        place = Place(arguments.worker or 0, count, arguments.replaces)
        serve(settings, arguments.surfaces, place, arguments.lifeline)
    except MillraceError as error:
        parser.exit(error.exit_code, f"millrace: {error}\n")


def serve(settings: Settings, surfaces: str, place: Place, lifeline: int | None) -> None:
    """Serve as one process, until SIGTERM or SIGINT. ``lifeline``: of a worker, what ends with its parent. Raises
    SettingsError; PortTaken."""
    if lifeline is None:
        check_access(settings)
    else:
        end_with_parent(lifeline)
    torch.set_num_threads(1)
    sys.setswitchinterval(SWITCH_S)
    gc.freeze()
    gc.set_threshold(*COLLECT_AFTER)
    pulse = Pulse(settings.home.resolve(), place.name)

    def report(versions: Mapping[str, str]) -> None:
        pulse.parts(versions)
        for surface in versions:
            pulse.beat(surface)

    config = ServingConfig(
        database_url=settings.database,
        surfaces=declared(surfaces, settings),
        cache=settings.home.resolve() / "serving",
        tracking_uri=settings.mlflow_tracking,
        artifact_root=settings.mlflow_artifact_root,
        durable=settings.durable,
        open_without_keys=settings.on_loopback or settings.open_serving,
        place=place,
        traces_to=settings.otel_endpoint,
        report=report,
    )
    shared = lifeline is not None
    listen(
        create_app(config),
        settings,
        settings.serving_port,
        settings.serving,
        limits=LIMITS,
        shared=shared,
        log_config=None,
    )


if __name__ == "__main__":
    main()
