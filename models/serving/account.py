"""What an answer says of feedback by its kind, and of what nobody declared: bounded, whatever was sent."""

from collections.abc import Mapping
from dataclasses import dataclass, field

from features.declare.features import Features
from features.log.tally import MOST_NAMED, Tally


@dataclass(frozen=True)
class Account:
    """Of one request; the fields are those of the answer."""

    kinds: Mapping[str, Mapping[str, int]] = field(default_factory=dict)
    """Of the kinds of which most came: how many were ``counted``, or taken though ``undeclared``, ``already there`` or
    ``refused``."""

    undeclared: tuple[str, ...] = ()
    """The first columns of contexts that the surface does not declare."""

    notes: tuple[str, ...] = ()
    """What of it a person should know, a sentence each."""

    @staticmethod
    def of(tally: Tally, surface: str, declared: Features) -> "Account":
        """The account of one surface's events."""
        columns = {column.column for column in declared.columns}
        return Account(
            dict(list(tally.by_kind(declared.kinds).items())[:MOST_NAMED]),
            tuple(tally.undeclared_columns(columns)[:MOST_NAMED]),
            tuple(tally.sentences(surface, declared.kinds, columns)),
        )

    def __add__(self, other: "Account") -> "Account":
        kinds = {kind: dict(counts) for kind, counts in self.kinds.items()}
        for kind, counts in other.kinds.items():
            own = kinds.setdefault(kind, {})
            for what, count in counts.items():
                own[what] = own.get(what, 0) + count
        return Account(
            dict(list(kinds.items())[:MOST_NAMED]),
            (*self.undeclared, *other.undeclared)[:MOST_NAMED],
            (*self.notes, *other.notes),
        )
