"""Which users get a canary: by a hash of theirs, so that each stays where they are for as long as it runs.

    arm_of(canary.salt, "u17", 0.05)        # "canary", "control" or None

The analysis asks the same of the log, so that nothing is stored of it.
"""

from hashlib import blake2b

from models.versions.canaries import Arm


def arm_of(salt: str, user_id: str, share: float) -> Arm | None:
    """The arm of a user: a share of all gets the canary, as many are a fresh control, and None are the others.

    ``share`` is above 0, and 0.5 at most. Another salt shares the users out anew.
    """
    at = place_of(salt, user_id)
    return "canary" if at < share else "control" if at < 2 * share else None


def place_of(salt: str, text: str) -> float:
    """A number in [0, 1) that looks drawn at random, and is the same for the same texts: 53 bits of BLAKE2b keyed by
    the salt."""
    key = blake2b(salt.encode(), digest_size=32).digest()  # a salt may be longer than a key can be
    digest = blake2b(text.encode(errors="surrogatepass"), key=key, digest_size=8).digest()
    return (int.from_bytes(digest, "big") >> 11) * 2.0**-53
