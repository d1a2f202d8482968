"""A process that reads a topic into the log until nothing is left, or until it is killed where its arguments say.

    python -m tests.features.stream_driver URL BROKERS TOPIC WHERE NTH

``WHERE``: ``append`` kills it with SIGKILL once events are appended and not committed, ``commit`` once they are
committed, each the NTH time; ``end``: never. The points are put around the functions here; the code under test knows
nothing of them.
"""

import os
import signal
import sys
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any

from features.ingest import stream, topic
from features.ingest.stream import Stream
from features.ingest.topic import BrokerConfig, TopicReader
from infra.postgres.connections import connect
from tests.worlds.broker import read_to_end


def dying_after(call: Callable[..., Any], nth: int) -> Callable[..., Any]:
    done = 0

    def wrapped(*arguments: Any, **named: Any) -> Any:
        nonlocal done
        result = call(*arguments, **named)
        done += 1
        if done == nth:
            os.kill(os.getpid(), signal.SIGKILL)
        return result

    return wrapped


def main(url: str, brokers: str, name: str, where: str, nth: str) -> None:
    topic.MOST_MESSAGES, topic.CHUNK = 40, 20  # so that there are many batches
    if where == "append":
        stream.append = dying_after(stream.append, int(nth))  # type: ignore[attr-defined]
    if where == "commit":
        Stream._commit = dying_after(Stream._commit, int(nth))  # type: ignore[method-assign]
    with (
        connect(url, autocommit=True) as connection,
        Stream(connection, "feed", name, lambda: TopicReader(BrokerConfig(brokers, "tests"), name)) as one,
    ):
        assert one.take(), "the one before was killed, and its session with it"
        read_to_end(one, lambda: datetime.now(UTC))


if __name__ == "__main__":
    main(*sys.argv[1:])
