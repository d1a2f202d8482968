"""Checks of a configuration's numbers when it is built; each message names field, value and remedy."""


def at_least(lowest: float, owner: str, configuration: object, *fields: str) -> None:
    """Refuse a field below ``lowest``, or one that is not a number. ``owner``: what the configuration is called."""
    for field in fields:
        if not getattr(configuration, field) >= lowest:
            raise ValueError(f"{owner}.{field} is {getattr(configuration, field)}: give at least {lowest}")


def above_zero(owner: str, configuration: object, *fields: str) -> None:
    """Refuse a field that is not above 0; None, where a field may be that, means no limit."""
    for field in fields:
        value = getattr(configuration, field)
        if value is not None and not value > 0:
            raise ValueError(f"{owner}.{field} is {value}: give more than 0")
