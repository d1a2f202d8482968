"""Asking a surface's own function for wordings: in a thread of its own, for so long, and what it gives is looked at.

    wordings = proposer.ask("a1", ["Ten ways to peel a pear"], 2)

The function is a team's: it may ask a generator elsewhere, hang, fail, or give what is no wording. None of that is more
than an error of the one request that asked.
"""

import threading
from collections.abc import Sequence
from concurrent.futures import Future
from datetime import timedelta

from features.declare.variants import Propose
from models.serving.telemetry import LOG
from models.serving.variants.bodies import wording_fault

AT_ONCE = 4
"""Calls of a surface's function that run at once, those included that nobody waits for any more."""


class NotProposed(RuntimeError):
    """The surface's function gave no wordings that can be taken; nothing of the request was stored."""

    def __init__(self, status: int, reason: str) -> None:
        super().__init__(f"{reason}; nothing was stored")
        self.status = status


class Proposer:
    """The function of one surface. May be asked by many threads."""

    def __init__(self, propose: Propose, within: timedelta) -> None:
        """``within``: how long an answer is waited for."""
        self._propose = propose
        self._patience_s = within.total_seconds()
        self._running = threading.BoundedSemaphore(AT_ONCE)

    def ask(self, of: str, wordings: Sequence[str], count: int) -> list[str]:
        """At most ``count`` different wordings of a thing that has these. Raises NotProposed."""
        if not self._running.acquire(blocking=False):
            raise NotProposed(503, f"propose is asked {AT_ONCE} times already and has not answered: try again later")
        answer: Future[object] = Future()

        def run() -> None:
            try:
                answer.set_result(self._propose(of, tuple(wordings), count))
            except BaseException as error:  # SystemExit too: somebody waits for an answer
                LOG.warning("propose failed for %r", of, exc_info=True)
                answer.set_exception(error)
            finally:
                self._running.release()

        threading.Thread(target=run, name="propose", daemon=True).start()
        try:
            error = answer.exception(self._patience_s)
        except TimeoutError:
            raise NotProposed(504, f"propose has not answered within {self._patience_s:g} s") from None
        if error is not None:
            raise NotProposed(502, f"propose failed with {type(error).__name__}: {error}"[:300]) from error
        return _checked(answer.result(), count)


def _checked(given: object, count: int) -> list[str]:
    if isinstance(given, str) or not isinstance(given, Sequence):
        raise NotProposed(502, f"propose gave a {type(given).__name__}: it must give a list of wordings")
    if len(given) > count:
        raise NotProposed(502, f"propose gave {len(given)} wordings and was asked for {count}")
    for place, wording in enumerate(given):
        fault = wording_fault(wording)
        if fault is not None:
            raise NotProposed(502, f"propose gave a wording, at place {place}, that {fault}")
    return list(dict.fromkeys(given))
