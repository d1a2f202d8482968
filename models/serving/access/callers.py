"""Who a request is from, and what they may do: a dict look-up and one SHA-256.

    access = Access(open_without_keys=False)
    access.use(keys)                                     # follow.AccessFollower does, again and again
    caller = access.caller(b"Bearer mr_3f9c..._V5p...", now)
    caller.may("rank", "feed")

Where no key exists everybody may do everything, if the process listens on loopback or ``MILLRACE_OPEN_SERVING`` says
so; with the first key, nobody may anything without one. The errors::

    AccessRefused
    ├── Unauthorized  401  no key, an unknown, expired or revoked one
    ├── Forbidden     403  the key lacks the scope, or is of another surface
    ├── TooMany       429  the key's rate is exceeded
    └── KeysUnknown   503  it is not known yet which keys there are, or none exists and serving is not open
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from hmac import compare_digest

from models.serving.access.keys import EVERY, PREFIX, SCOPES, ApiKey, Scope, digest

HOW = "send Authorization: Bearer mr_..., a key that millrace key add has made"


class AccessRefused(Exception):
    """A request that is not let in; the message says what to do."""

    status = 401

    @property
    def headers(self) -> Mapping[str, str]:
        return {}


class Unauthorized(AccessRefused):
    """It is not known who sent it."""

    @property
    def headers(self) -> Mapping[str, str]:
        return {"www-authenticate": "Bearer"}


class Forbidden(AccessRefused):
    """Who sent it may not do that."""

    status = 403


class TooMany(AccessRefused):
    """Sent faster than the key may."""

    status = 429

    def __init__(self, message: str, wait_s: float) -> None:
        super().__init__(message)
        self.wait_s = wait_s

    @property
    def headers(self) -> Mapping[str, str]:
        return {"retry-after": str(math.ceil(self.wait_s))}


class KeysUnknown(AccessRefused):
    """Nobody can be let in now."""

    status = 503

    @property
    def headers(self) -> Mapping[str, str]:
        return {"retry-after": "2"}


@dataclass(frozen=True)
class Caller:
    """Who sent a request."""

    name: str
    """Of the key; empty where serving is open."""
    surface: str
    """Of which they may do something; ``EVERY``: of all."""
    scopes: frozenset[Scope]

    def may(self, scope: Scope, surface: str | None = None) -> bool:
        """Whether they may do this on a surface; ``EVERY``: on all of them; None: on any."""
        return self.lacks(scope, surface) is None

    def lacks(self, scope: Scope, surface: str | None = None) -> str | None:
        """Why they may not; None where they may."""
        if scope not in self.scopes and "admin" not in self.scopes:
            has = ", ".join(one for one in SCOPES if one in self.scopes)
            return f"the key {self.name} lacks the scope {scope!r}, it has: {has}; millrace key add makes one with it"
        if surface in (None, self.surface) or self.surface == EVERY:
            return None
        which = "every surface" if surface == EVERY else f"the surface {surface!r}"
        return f"the key {self.name} is of the surface {self.surface!r} alone: this takes one of {which}"

    def require(self, scope: Scope, surface: str | None = None) -> None:
        """Raises Forbidden where they may not."""
        lacks = self.lacks(scope, surface)
        if lacks is not None:
            raise Forbidden(lacks)


ANYBODY = Caller("", EVERY, frozenset(SCOPES))
"""Who sends a request while serving is open."""


@dataclass(frozen=True)
class _Known:
    """A key, with what a request needs of it."""

    key: ApiKey
    caller: Caller
    expires_at: float


@dataclass
class _Bucket:
    """What a key may still send at once: it fills at the key's rate, up to a second's worth (a token bucket)."""

    tokens: float
    at: float

    def wait_s(self, rate: float, now: float) -> float:
        """Take one; 0, or the seconds until there is one. A clock that was set back gives nothing and takes nothing."""
        self.tokens = min(max(1.0, rate), self.tokens + max(0.0, now - self.at) * rate)
        self.at = now
        if self.tokens < 1.0:
            return (1.0 - self.tokens) / rate
        self.tokens -= 1.0
        return 0.0


@dataclass
class Access:
    """The keys of one process. ``caller`` is for one thread, the event loop's; ``use`` may be called by another."""

    open_without_keys: bool
    """Whether everybody is let in while there is no key, or it cannot be known whether there is one."""

    processes: int = 1
    """How many answer at one port: each gives a key its part of the rate."""

    _known: Mapping[str, _Known] | None = field(default=None, init=False, repr=False)
    """By id; None: not known yet."""
    _buckets: dict[str, _Bucket] = field(default_factory=dict, init=False, repr=False)

    def use(self, keys: Sequence[ApiKey]) -> None:
        """These are all the keys there are, in place of those before."""
        self._known = {
            key.key_id: _Known(
                key,
                Caller(key.name, key.surface, frozenset(key.scopes)),
                math.inf if key.expires_at is None else key.expires_at.timestamp(),
            )
            for key in keys
        }

    def caller(self, authorization: bytes | None, now: float) -> Caller:
        """Who sent a request with this header, at ``now``, seconds since 1970. Raises AccessRefused, but Forbidden."""
        known = self._known
        if not known:
            return self._without_keys()
        found = _identify(known, authorization)
        key = found.key
        if key.revoked_at is not None:
            raise Unauthorized(f"the key {key.name} is revoked: {HOW}")
        if found.expires_at <= now:
            raise Unauthorized(f"the key {key.name} expired at {key.expires_at:%Y-%m-%d %H:%M} UTC: {HOW}")
        if key.requests_per_second is not None:
            self._take(key, key.requests_per_second, now)
        return found.caller

    @property
    def nobody(self) -> str | None:
        """Why nobody at all is let in now; None where somebody may be."""
        if self._known or self.open_without_keys:
            return None
        if self._known is None:
            return "the API keys are not known yet, as the database does not answer: try again in a moment"
        return "there is no API key, and without one nobody is let in: millrace key add makes one"

    def _without_keys(self) -> Caller:
        nobody = self.nobody
        if nobody is not None:
            raise KeysUnknown(nobody)
        return ANYBODY

    def _take(self, key: ApiKey, allowed: float, now: float) -> None:
        rate = allowed / self.processes
        bucket = self._buckets.get(key.key_id)
        if bucket is None:
            bucket = self._buckets[key.key_id] = _Bucket(max(1.0, rate), now)
        wait_s = bucket.wait_s(rate, now)
        if wait_s > 0.0:
            raise TooMany(f"the key {key.name} may send {allowed:g} requests a second: send the rest later", wait_s)


def _identify(known: Mapping[str, _Known], authorization: bytes | None) -> _Known:
    if authorization is None:
        raise Unauthorized(f"no API key was sent: {HOW}")
    scheme, _, token = authorization.partition(b" ")
    prefix, key_id, secret = (*token.strip().split(b"_", 2), b"", b"")[:3]
    if scheme.lower() != b"bearer" or prefix != PREFIX.encode() or not secret:
        raise Unauthorized(f"what was sent is no API key: {HOW}")
    found = known.get(key_id.decode("latin-1"))
    if found is None or not compare_digest(digest(secret), found.key.secret_sha256):
        raise Unauthorized(f"the API key that was sent is not known: {HOW}")
    return found
