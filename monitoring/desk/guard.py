"""Who is asking, and may this request change anything: sessions, forged forms, roles, headers.

A page is open to who is signed in and holds a role on its surface; a form also wants the session's token and the desk's
own address as its origin. A surface that somebody may not see answers 403 whether it is there or not.
"""

import hmac
from collections.abc import Collection
from dataclasses import dataclass
from urllib.parse import quote, unquote, urlsplit

from fastapi import Request, Response

from monitoring.desk.accounts import EVERY, Person, Role
from monitoring.desk.sessions import LONGEST, Session

PAGE_POLICY = (
    "default-src 'none'; style-src 'self'; img-src 'self' data:; frame-src 'self'; form-action 'self';"
    " frame-ancestors 'none'; base-uri 'none'"
)
"""No script runs on a page of ours, whatever finds its way into one."""

REPORT_POLICY = (
    "sandbox allow-scripts; default-src 'none'; script-src 'unsafe-inline' 'unsafe-eval' blob:;"
    " style-src 'unsafe-inline'; img-src data: blob:; font-src data:; worker-src blob:;"
    " frame-ancestors 'self'; form-action 'none'; base-uri 'none'"
)
"""Evidently's page draws itself by script: in an origin of its own, without cookies, network or forms."""

NOTICE_S = 60
"""How long a sentence for the next page waits to be shown."""


class NoSession(Exception):
    """Nobody is signed in, or not any more."""


class Forged(Exception):
    """A form that does not come from a page of this session."""


class NotAllowed(Exception):
    """The person may not; the message is for them."""


class NotFound(Exception):
    """There is no such page for this person."""


@dataclass(frozen=True)
class Cookies:
    """The desk's two cookies: who is signed in, and what the next page says once."""

    secure: bool

    @property
    def session(self) -> str:
        # A browser takes the prefix only from the host itself, over TLS: no other host of the domain can plant one.
        return "__Host-millrace-desk" if self.secure else "millrace-desk"

    def read(self, request: Request) -> str | None:
        return request.cookies.get(self.session)

    def sign_in(self, response: Response, token: str) -> None:
        age = int(LONGEST.total_seconds())
        response.set_cookie(
            self.session, token, max_age=age, path="/", secure=self.secure, httponly=True, samesite="lax"
        )

    def sign_out(self, response: Response) -> None:
        response.delete_cookie(self.session, path="/", secure=self.secure, httponly=True, samesite="lax")

    def leave_notice(self, response: Response, sentence: str) -> None:
        response.set_cookie(
            "millrace-notice",
            quote(sentence[:800]),
            max_age=NOTICE_S,
            path="/",
            secure=self.secure,
            httponly=True,
            samesite="strict",
        )

    def notice(self, request: Request) -> str | None:
        found = request.cookies.get("millrace-notice")
        return unquote(found) if found else None

    def drop_notice(self, response: Response) -> None:
        response.delete_cookie("millrace-notice", path="/", secure=self.secure, httponly=True, samesite="strict")


def check_origin(request: Request, desk: str) -> None:
    """Raises Forged unless the form was sent from a page of this host. Every browser tells the origin of a form."""
    origin = request.headers.get("origin", "")
    ours = {request.headers.get("host", "").lower(), urlsplit(desk).netloc.lower()}
    if urlsplit(origin).scheme not in ("http", "https") or urlsplit(origin).netloc.lower() not in ours - {""}:
        raise Forged


def check_token(session: Session, token: str) -> None:
    """Raises Forged unless the form carries the session's token; compared in constant time."""
    if not hmac.compare_digest(session.csrf.encode(), token.encode()):
        raise Forged


def require(person: Person, role: Role, surface: str, surfaces: Collection[str]) -> None:
    """Raises NotAllowed unless the person holds the role there; NotFound for no surface, to whoever sees all."""
    if surface not in surfaces and EVERY in person.grants:
        raise NotFound
    if surface not in surfaces or not person.may("viewer", surface):
        raise NotAllowed("You hold no role on this surface.")
    if not person.may(role, surface):
        does = "decide on candidates" if role == "analyst" else "roll back and release"
        raise NotAllowed(f"Your role on {surface} is {person.role(surface)}; to {does} takes an {role}.")


def local(path: str) -> str:
    """`path` when it is a place on this desk, else the first page: a link never leads a person elsewhere."""
    plain = all(" " < letter < "\x7f" for letter in path)
    safe = plain and path.startswith("/") and not path.startswith("//") and "\\" not in path
    return path if safe and not urlsplit(path).netloc else "/"


def protect(response: Response, *, secure: bool) -> None:
    """Headers of every answer; a page that has set its own policy keeps it."""
    headers = response.headers
    headers.setdefault("Content-Security-Policy", PAGE_POLICY)
    headers.setdefault("X-Frame-Options", "DENY")
    headers.setdefault("Cache-Control", "no-store")
    headers["X-Content-Type-Options"] = "nosniff"
    headers["Referrer-Policy"] = "same-origin"  # no-referrer would send forms without an origin
    headers["Cross-Origin-Opener-Policy"] = "same-origin"
    headers["Cross-Origin-Resource-Policy"] = "same-origin"
    headers["Permissions-Policy"] = "camera=(), geolocation=(), microphone=()"
    if secure:
        headers["Strict-Transport-Security"] = "max-age=31536000"
