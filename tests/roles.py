"""The roles of the server that the tests run on."""

from infra.addresses import compose, parameters

ODD = "ä b'\"%@:/?#&=+\\$%"
"""Name of a role, and of its database, of characters that somewhere mean something."""

ODD_PASSWORD = "p%40 \\'\"@:/?#[]!$&()*+,;=ß€{}|^`%%(x)s%"


def with_user(url: str, role: str) -> str:
    """The same database, as another role of the embedded server; its passwords are in one file."""
    return compose(parameters(url) | {"user": role})
