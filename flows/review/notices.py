"""Notices: a challenger is held or rejected, a champion rolled back, stale or lost, a surface held.

    notify(settings, "held", "feed", "The challenger's predictions have shifted: …", page_of(settings, "feed", 12))

Each is an event of Prefect's, ``millrace.<kind>`` of the resource ``millrace.surface.<name>``, for automations to start
from; and where ``MILLRACE_NOTICE_BLOCK`` names a notification block (``slack-webhook/team``), a message through it.
Nobody waits long for a notice and none fails an update: what cannot be sent is a warning in the log.
"""

import logging
import threading
from collections.abc import Callable
from contextvars import copy_context
from typing import Literal

from infra.settings import Settings
from monitoring.sentences import unlinked

logger = logging.getLogger("millrace.notices")

Kind = Literal["held", "rejected", "rolled-back", "surface-held", "stale", "lost"]

SUBJECTS: dict[Kind, str] = {
    "held": "{surface}: a challenger waits for a person",
    "rejected": "{surface}: a challenger was rejected",
    "rolled-back": "{surface}: the champion was rolled back",
    "surface-held": "{surface}: updates are held",
    "stale": "{surface}: the champion is stale",
    "lost": "{surface}: the champion's files are lost",
}

TIMEOUT_S = 15.0
"""How long a notice may take."""


def notify(
    settings: Settings, kind: Kind, surface: str, sentence: str, link: str, *, timeout_s: float = TIMEOUT_S
) -> bool:
    """Tell of it, through Prefect's events and the block that ``settings`` name. False, with a warning, when it fails.

    The process has pointed Prefect to its server before (``infra.stack.environment.apply``). An event goes out behind
    the caller's back; where the server is away it is lost, and Prefect's own log says so.
    """
    return all(
        [
            _within(timeout_s, lambda: _emit(kind, surface, sentence, link), f"the event millrace.{kind} of {surface}"),
            settings.notice_block is None
            or _within(
                timeout_s,
                lambda: _send(str(settings.notice_block), SUBJECTS[kind].format(surface=surface), sentence, link),
                f"the notice '{kind}' of {surface} through {settings.notice_block}",
            ),
        ]
    )


def page_of(settings: Settings, surface: str, update_id: int | None = None) -> str:
    """Address of the review desk's page for an update; for a surface as a whole the list."""
    return f"{settings.desk}/" if update_id is None else f"{settings.desk}/{surface}/updates/{update_id}"


def _emit(kind: Kind, surface: str, sentence: str, link: str) -> None:
    from prefect.events import emit_event
    from prefect.settings import PREFECT_API_URL

    if PREFECT_API_URL.value() is None:  # Prefect would start a server for it
        raise RuntimeError("this process was not told where Prefect's server is; set MILLRACE_PREFECT_API_URL")
    emit_event(
        event=f"millrace.{kind}",
        resource={
            "prefect.resource.id": f"millrace.surface.{surface}",
            "prefect.resource.name": surface,
            "millrace.surface": surface,
            "millrace.link": link,
        },
        payload={"surface": surface, "sentence": sentence, "link": link},
    )


def _send(block: str, subject: str, sentence: str, link: str) -> None:
    import prefect.blocks.notifications  # noqa: F401  a block is loaded by the class of its type, which this defines
    from prefect.blocks.abstract import NotificationBlock
    from prefect.blocks.core import Block

    loaded = Block.load(block)
    if not isinstance(loaded, NotificationBlock):
        raise TypeError(f"MILLRACE_NOTICE_BLOCK={block}: is a {type(loaded).__name__}; name a notification block")
    loaded.notify(f"{unlinked(sentence)}\n{link}", subject=subject)  # type: ignore[unused-coroutine]  # none where no loop runs


def _within(timeout_s: float, call: Callable[[], None], what: str) -> bool:
    """Whether ``call`` was done in time. Some blocks have no time-out of their own, so a thread waits for them."""
    errors: list[Exception] = []
    done = threading.Event()

    def attempt() -> None:
        try:
            call()
        except Exception as error:  # whatever the other side does, the update goes on
            errors.append(error)
        done.set()

    # Prefect finds its settings, and the run that speaks, in the context.
    threading.Thread(target=copy_context().run, args=(attempt,), name="millrace-notice", daemon=True).start()
    in_time = done.wait(timeout_s)
    if errors or not in_time:
        logger.warning("%s was not sent: %s", what, errors[0] if errors else f"no answer in {timeout_s:g} s")
    return in_time and not errors
