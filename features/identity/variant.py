"""The identity of a variant: the same wording of the same thing is the same item, whoever sends it and how often."""

from features.identity.canonical import canonical
from features.identity.key import key_of


def variant_id(of: str, wording: str) -> str:
    """The id of the item that is this wording of a thing: 16 hexadecimal digits, the key of both together."""
    both = canonical([of, wording])
    assert both is not None, "a list is something"
    return f"{key_of('variant', both) % 2**64:016x}"
