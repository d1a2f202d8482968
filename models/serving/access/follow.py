"""The thread that follows API keys and signing secrets: a key that is made or revoked counts within seconds.

follower = AccessFollower(access, signer, folder, database, clock, poll_s=2.0)
follower.start()
follower.follow(stopping)    # in a thread
"""

import threading
from collections.abc import Callable, Sequence
from pathlib import Path

import psycopg

from infra.follower import follow
from models.serving.access import keys, secrets
from models.serving.access.callers import Access
from models.serving.access.copies import Copies, KnownSecrets
from models.serving.access.keys import ApiKey
from models.serving.access.signing import Signer
from models.serving.durable.database import Database, backoff
from models.serving.telemetry import LOG

BEHIND_S = 5.0
"""How much longer than three looks the last may be ago."""


class AccessFollower:
    """Gives ``access`` and ``signer`` what the tables have; one thread follows, any may ask :meth:`behind`."""

    def __init__(
        self,
        access: Access,
        signer: Signer,
        folder: Path,
        database: Database,
        clock: Callable[[], float],
        poll_s: float,
    ) -> None:
        self._access = access
        self._signer = signer
        self._copies = Copies(folder)
        self._database = database
        self._clock = clock
        self._poll_s = poll_s
        self._looked_at: float | None = None
        self._keys: Sequence[ApiKey] | None = None
        self._secrets = KnownSecrets()
        self._unwritten = False

    def start(self) -> None:
        """Know what the database says, or else what was last known here. Returns within seconds, with a secret to sign
        with: where there never was one, one is made, and the database gets it when it answers."""
        self._keys = self._copies.keys()
        if self._keys is not None:
            self._access.use(self._keys)
        self._take_secrets(self._copies.secrets())
        try:
            with self._database.connection() as connection:
                self._look(connection)
        except psycopg.Error as error:
            self._failed(error, 0.0)
        if not self._secrets.all:
            self._take_secrets(KnownSecrets(own=[secrets.new(self._clock())]))
            self._unwritten = True
            self._write()

    def follow(self, stopping: threading.Event) -> None:
        """Follow the tables until ``stopping`` is set."""
        follow(
            self._look,
            opening=self._database.connection,
            every_s=self._poll_s,
            stopping=stopping,
            failed=self._failed,
            backoff=backoff(),
        )

    def behind(self) -> bool:
        """Whether there may be keys and secrets that this process does not know."""
        return self.lacks() is not None

    def lacks(self) -> str | None:
        """What of keys and secrets this process may not know; None where it knows them all."""
        if self._looked_at is None:
            return "the API keys are those that this process's folder had: made or revoked since, they are not known"
        since = self._clock() - self._looked_at
        if since > 3 * self._poll_s + BEHIND_S:
            return f"the API keys were last looked for {since:.0f} s ago: one made or revoked since is not known"
        return None

    def _look(self, connection: psycopg.Connection) -> None:
        now = self._clock()
        found = keys.every(connection)
        stored = KnownSecrets(stored=secrets.ensure(connection, self._secrets.own, now))
        if found != self._keys:
            self._access.use(found)
            LOG.info("the API keys are known", extra={"facts": {"keys": len(found)}})
            self._unwritten = True
        if stored != self._secrets:
            self._unwritten = True
        self._keys = found
        self._take_secrets(stored)
        self._looked_at = now
        self._write()

    def _take_secrets(self, known: KnownSecrets) -> None:
        self._secrets = known
        if known.all:
            self._signer.use(known.all, self._clock())  # again though none is new: one may have settled

    def _write(self) -> None:
        """For a restart with the database away; where the disk does not take it, again with the next look."""
        if not self._unwritten:
            return
        try:
            if self._keys is not None:
                self._copies.write_keys(self._keys)
            self._copies.write_secrets(self._secrets)
        except OSError as error:
            LOG.warning("a restart without the database would not know the API keys: %s", error)
        else:
            self._unwritten = False

    def _failed(self, error: Exception, wait_s: float) -> None:
        if isinstance(error, psycopg.errors.UndefinedTable):  # for all else the database does
            LOG.warning("the database has no table of API keys yet (%s): millrace up, or an import, migrates it", error)
        else:
            self._database.report("following the API keys", error, wait_s)
