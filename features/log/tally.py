"""What became of events by their kind, and which columns they brought that nobody declared: said alike over HTTP, by
``millrace import`` and by ``millrace consume``, and bounded, whatever was sent.

    tally = Tally.of(kinds, outcomes)                   # outcomes as the log gives them
    tally.by_kind(("click",))                           # {"click": {"counted": 2}, "clikc": {"undeclared": 1}}
    tally.sentences("feed", ("click",), ())
"""

from collections import Counter
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field

from features.log.outcomes import ACCEPTED, ALREADY_THERE, REFUSED

MOST_NAMED = 10
"""Kinds, and columns, that an account names; the rest it counts."""

COUNTED, UNDECLARED = "counted", "undeclared"


@dataclass(frozen=True)
class Tally:
    """Counts of feedback by kind and outcome, and the names of contexts."""

    feedback: Mapping[tuple[str, str], int] = field(default_factory=dict)
    """By kind and ``taken``, ``already there`` or ``refused``."""

    columns: frozenset[str] = frozenset()
    """Names that the contexts of impressions had, as far as they were gathered."""

    @staticmethod
    def of(kinds: Sequence[str | None], outcomes: Sequence[str], columns: Iterable[str] = ()) -> "Tally":
        """Of feedback N by N; an outcome that is none of the log's is the reason for which it is refused."""
        counts = Counter(zip(kinds, outcomes, strict=True))
        found = Counter[tuple[str, str]]()
        for (kind, outcome), count in counts.items():
            if kind is not None:
                found[kind, outcome if outcome in (ACCEPTED, ALREADY_THERE) else REFUSED] += count
        return Tally(found, frozenset(columns))

    def __add__(self, other: "Tally") -> "Tally":
        return Tally(Counter(self.feedback) + Counter(other.feedback), self.columns | other.columns)

    def by_kind(self, declared: Collection[str]) -> dict[str, dict[str, int]]:
        """Of each kind how many were ``counted``, or taken though ``undeclared``, ``already there`` or ``refused``.
        ``declared``: the kinds of the surface's labels. Kinds of which most came stand first."""
        of_kind = Counter[str]()
        for (kind, _), count in self.feedback.items():
            of_kind[kind] += count
        found: dict[str, dict[str, int]] = {
            kind: {} for kind in sorted(of_kind, key=lambda kind: (-of_kind[kind], kind))
        }
        for (kind, outcome), count in sorted(self.feedback.items()):
            taken_as = COUNTED if kind in declared else UNDECLARED
            found[kind][taken_as if outcome == ACCEPTED else outcome] = count
        return found

    def summary(self, declared: Collection[str]) -> str:
        """The same as a sentence, the first kinds alone."""
        of_kinds = self.by_kind(declared)
        each = [f"{kind} " + ", ".join(f"{n:,} {what}" for what, n in of.items()) for kind, of in of_kinds.items()]
        return f"feedback: {named(each, separator='; ')}"

    def undeclared_columns(self, declared: Collection[str]) -> list[str]:
        """Names of contexts that are none of the surface's columns."""
        return sorted(self.columns.difference(declared))

    def sentences(self, surface: str, kinds: Sequence[str], columns: Collection[str]) -> Iterator[str]:
        """What a person should know: feedback and columns that nobody declared, a sentence each. ``kinds`` and
        ``columns``: what the surface declares."""
        strange = [f"{kind} ({of[UNDECLARED]:,})" for kind, of in self.by_kind(kinds).items() if of.get(UNDECLARED)]
        if strange:
            yield (
                f"feedback of kinds that no label of {surface} has is kept, and counted nowhere: {named(strange)};"
                f' write Label("{strange[0].partition(" ")[0]}", weight=0) to have one counted, or send'
                f" {' or '.join(kinds)}"
            )
        unused = self.undeclared_columns(columns)
        if unused:
            yield unused_columns(named(unused))


def unused_columns(names: str) -> str:
    """The sentence on columns that come and that the surface does not declare."""
    return f"in the log, unused: {names}"


def named(names: Sequence[str], separator: str = ", ") -> str:
    """The first of these, and how many there are beside them."""
    rest = len(names) - MOST_NAMED
    return separator.join(names[:MOST_NAMED]) + (f" and {rest:,} more" if rest > 0 else "")
