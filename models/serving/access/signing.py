"""Impression ids that nobody can make without the installation's secret, and that say their surface.

    signer = Signer()
    signer.use(secrets, now)          # follow.AccessFollower does, again and again
    signer.impression_ids("feed", "u17", "r1", ["a", "b"])
    signer.surface_of("feed:...")     # "feed"; None for an id that was not made so

An id is ``surface:`` and, in URL-safe base64 (RFC 4648) without padding, 12 bytes that name the impression, BLAKE2b
(RFC 7693) of the user, the request and the item, each after its length so that no two meet, and 8 bytes that sign
these: BLAKE2b keyed with the secret, of the surface after its length and the 12. So a request that its user sends twice
has the same ids, and of a user they say nothing.
"""

import re
from binascii import Error, a2b_base64, b2a_base64
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from hashlib import blake2b
from hmac import compare_digest

NAMED, SIGNED = 12, 8
"""Bytes of an id."""

TEXT = 27
"""Characters of these."""

SECRET_BYTES = 32

SETTLES_S = 30.0
"""How old a secret is before it signs: every process knows it by then."""

TO_URL_SAFE, FROM_URL_SAFE = bytes.maketrans(b"+/", b"-_"), bytes.maketrans(b"-_", b"+/")

SIGNED_FORM = re.compile(rf"([^:]+):[A-Za-z0-9_-]{{{TEXT}}}")


@dataclass(frozen=True)
class SigningSecret:
    """One of the installation's."""

    secret: bytes
    """``SECRET_BYTES``, of which nothing is known outside."""
    made_at: float
    """Seconds since 1970."""


class Signer:
    """The secrets of one process. ``use`` may be called while other threads sign and verify."""

    def __init__(self) -> None:
        self._signs: bytes | None = None
        self._verify: tuple[bytes, ...] = ()

    def use(self, secrets: Sequence[SigningSecret], now: float) -> None:
        """These are all there are, the oldest first: the newest that has settled signs, all verify."""
        settled = [one.secret for one in secrets if one.made_at <= now - SETTLES_S]
        self._verify = tuple(one.secret for one in reversed(secrets))
        self._signs = settled[-1] if settled else secrets[0].secret

    def impression_ids(self, surface: str, user: str, request_id: str, items: Sequence[str]) -> list[str]:
        """The id of each item's impression; the same for the same four texts."""
        assert self._signs is not None, "there is no secret yet"
        name = blake2b(_after_length(user) + _after_length(request_id), digest_size=NAMED).copy
        sign = blake2b(_after_length(surface), digest_size=SIGNED, key=self._signs).copy
        parts = []
        for item in items:
            encoded, naming = item.encode(), name()
            naming.update(len(encoded).to_bytes(4, "big") + encoded)  # _after_length, whose call would be felt here
            named = naming.digest()
            signing = sign()
            signing.update(named)
            parts.append(named + signing.digest() + b"\0")  # to a multiple of three bytes: no id shares a character
        texts = b2a_base64(b"".join(parts), newline=False).translate(TO_URL_SAFE).decode()
        prefix = f"{surface}:"
        return [prefix + texts[start : start + TEXT] for start in range(0, len(texts), TEXT + 1)]

    def surface_of(self, impression_id: str) -> str | None:
        """The surface of an impression whose id one of the secrets has signed; None for any other text."""
        surface, _, text = impression_id.partition(":")
        if len(text) != TEXT or not impression_id.isascii() or text[-1] not in "AEIMQUYcgkosw048":
            return None  # of what the last letter could be, these alone are ever written
        try:
            both = a2b_base64(text.encode().translate(FROM_URL_SAFE) + b"=", strict_mode=True)
        except Error:
            return None
        named, signed = both[:NAMED], both[NAMED:]
        content = _after_length(surface) + named
        for secret in self._verify:
            if compare_digest(blake2b(content, digest_size=SIGNED, key=secret).digest(), signed):
                return surface
        return None


def has_signed_form(impression_id: str, surfaces: Collection[str]) -> bool:
    """Whether an id claims to be of an impression that was served here on one of these surfaces."""
    found = SIGNED_FORM.fullmatch(impression_id)
    return found is not None and found[1] in surfaces


def _after_length(text: str) -> bytes:
    encoded = text.encode()
    return len(encoded).to_bytes(4, "big") + encoded
