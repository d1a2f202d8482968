"""The account that every writer of the event log gives."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Appended:
    """What became of a batch of events."""

    imported: int = 0
    already_there: int = 0
    dead_letters: int = 0

    def __add__(self, other: "Appended") -> "Appended":
        return Appended(
            self.imported + other.imported,
            self.already_there + other.already_there,
            self.dead_letters + other.dead_letters,
        )
