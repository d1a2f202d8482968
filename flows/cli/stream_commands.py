"""The command that stays and reads a topic, ``millrace consume``; registered by ``flows/cli/main.py``."""

from importlib.util import find_spec
from pathlib import Path
from typing import Annotated

import typer

from flows.cli.arguments import BadArgument, SurfaceName, apply_settings, argument_errors, find_surface
from infra.errors import MillraceError

LONGEST_TOPIC = 249


class LacksConfluentKafka(MillraceError):
    """The package that speaks to brokers is not installed."""


def consume(
    surface: SurfaceName,
    brokers: Annotated[str, typer.Option(help="host:port of a broker; several separated by commas.")],
    topic: Annotated[str, typer.Option(help="The topic; its messages are JSON, an event each or a list of them.")],
    group: Annotated[
        str | None, typer.Option(help="The consumer group to commit offsets under; millrace-SURFACE when left out.")
    ] = None,
    properties: Annotated[
        Path | None,
        typer.Option(help="File of librdkafka's properties, name=value a line, as for TLS and passwords."),
    ] = None,
) -> None:
    """Bring a topic of a Kafka-compatible broker into the event log, each event once, until Ctrl-C or SIGTERM."""
    settings = apply_settings()
    declared = find_surface(surface)
    if not topic or len(topic) > LONGEST_TOPIC or not all(c.isascii() and (c.isalnum() or c in "._-") for c in topic):
        raise BadArgument(f"--topic {topic!r} is no name of a topic; write letters, digits, dots, _ and -")
    if find_spec("confluent_kafka") is None:
        raise LacksConfluentKafka("brokers need the package confluent-kafka; install it: pip install 'millrace[kafka]'")

    from features.ingest.topic import BrokerConfig
    from flows.services.consume import consume as consume_until_stopped

    with argument_errors():
        config = BrokerConfig(brokers, group or f"millrace-{surface}", read_properties(properties))
        consume_until_stopped(settings, surface, declared.features, topic, config)


def read_properties(path: Path | None) -> dict[str, str]:
    """The properties of a file: ``name=value`` a line, none of an empty line or one that begins with #. Raises
    ValueError for any other line, without its value."""
    if path is None:
        return {}
    try:
        lines = path.read_text().splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise BadArgument(f"--properties {path} cannot be read: {error}") from error
    found = {}
    for number, line in enumerate(lines, start=1):
        if not line.strip() or line.lstrip().startswith("#"):
            continue
        name, equals, value = line.partition("=")
        if not equals or not name.strip():
            raise ValueError(f"--properties {path}: line {number} is no name=value")
        found[name.strip()] = value.strip()
    return found
