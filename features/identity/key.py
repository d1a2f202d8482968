"""The 64-bit key of one id. Needs the standard library alone: it travels with every registered version."""

from hashlib import blake2b


def key_of(field: str, value: str) -> int:
    """The key of one id: 8 bytes of BLAKE2b over field and canonical text; never 0."""
    digest = blake2b(f"{field}\x1f{value}".encode(), digest_size=8).digest()
    return int.from_bytes(digest, "little", signed=True) or 1
