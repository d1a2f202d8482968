"""The consumer: what a topic of a Kafka-compatible broker brings goes into the log of a surface, within a second.

    millrace consume --surface feed --brokers broker:9092 --topic events

Of several such processes for one surface and topic one writes, the others wait to take its place.
"""

import logging
import signal
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from functools import partial

from features.declare.features import Features
from features.ingest.stream import OffsetsLost, Stream, Taken
from features.ingest.stream_offsets import OffsetsMoved
from features.ingest.topic import BrokerConfig, TopicReader, TopicUnreadable
from features.log.append_result import AppendResult
from features.log.tally import Tally
from infra.follower import follow, log_failure
from infra.postgres.connections import connect
from infra.settings import Settings
from infra.stack.pulse import Pulse

log = logging.getLogger("millrace.stream")

TAKE_EVERY_S = 2.0
"""How often one that waits tries to take the place of the one that writes."""

LOG_EVERY_S = 60.0
"""How often what was read is logged."""


class Progress:
    """What was taken since it was last logged."""

    def __init__(self, surface: str, topic: str, features: Features) -> None:
        self._surface, self._topic, self._features = surface, topic, features
        self._logged_at = time.monotonic()
        self._messages = 0
        self._behind = 0
        self._total = AppendResult()

    def add(self, taken: Taken) -> None:
        self._messages += taken.messages
        self._total += taken.result
        self._behind = taken.behind
        if time.monotonic() - self._logged_at >= LOG_EVERY_S:
            self.log()

    def log(self) -> None:
        """Say it now, where there is anything to say."""
        if self._messages or self._behind:
            log.info(
                "%s: %d messages, %d events taken, %d were there already, %d dead letters; %d messages behind",
                *(f"{self._topic} into {self._surface}", self._messages, self._total.imported),
                *(self._total.already_there, self._total.dead_letters, self._behind),
            )
            self._log_account(self._total.tally)
            self._logged_at, self._messages, self._total = time.monotonic(), 0, AppendResult()

    def _log_account(self, tally: Tally) -> None:
        """The feedback by its kind, and what of it and of the contexts nobody declared."""
        if tally.feedback:
            log.info("%s: %s", self._topic, tally.summary(self._features.kinds))
        columns = {column.column for column in self._features.columns}
        for sentence in tally.sentences(self._surface, self._features.kinds, columns):
            log.warning("%s: %s", self._topic, sentence)


def consume_topic(
    url: str,
    surface: str,
    features: Features,
    topic: str,
    config: BrokerConfig,
    stopping: threading.Event,
    now: Callable[[], datetime],
    beat: Callable[[], None],
) -> None:
    """Bring a topic into a surface's log until ``stopping`` is set, whatever becomes of brokers and database meanwhile;
    ``beat`` at each step."""
    progress = Progress(surface, topic, features)

    def step(stream: Stream) -> None:
        if stream.take():
            progress.add(stream.step(now))
        else:
            stopping.wait(TAKE_EVERY_S)
        beat()

    @contextmanager
    def opening() -> Iterator[Stream]:
        with (
            connect(url, autocommit=True) as connection,
            Stream(connection, surface, topic, partial(TopicReader, config, topic)) as stream,
        ):
            yield stream

    # No pause between two steps: each waits for messages.
    follow(step, opening=opening, every_s=0.0, stopping=stopping, failed=partial(_failed, topic))
    progress.log()


def _failed(topic: str, error: Exception, wait_s: float) -> None:
    if isinstance(error, TopicUnreadable | OffsetsLost | OffsetsMoved):
        log.warning("reading %s failed, next attempt in %.1f s: %s", topic, wait_s, error)
    else:
        log_failure(log, f"reading {topic}", error, wait_s)


def consume(settings: Settings, surface: str, features: Features, topic: str, config: BrokerConfig) -> None:
    """The process: until SIGTERM or Ctrl-C. Raises ValueError for properties that librdkafka does not know."""
    TopicReader(config, topic).close()
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(name)s %(message)s")
    stopping = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: stopping.set())
    part = f"consume-{surface}-{topic}"
    pulse = Pulse(settings.home.resolve(), part)
    pulse.parts([part])
    beat = partial(pulse.beat, part)
    consume_topic(settings.database, surface, features, topic, config, stopping, lambda: datetime.now(UTC), beat)
