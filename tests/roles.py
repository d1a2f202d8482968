"""The roles of the server that the tests run on."""

from infra.addresses import compose, parameters


def with_user(url: str, role: str) -> str:
    """The same database, as another role of the embedded server; its passwords are in one file."""
    return compose(parameters(url) | {"user": role})
