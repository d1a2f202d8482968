"""The HTTP routes of serving: where a request comes in. ``bodies`` checks it, ``service`` does it.

    POST /v1/{surface}/rank    candidates in, ranked out, their impressions logged
    POST /v1/{surface}/recommend  the same of candidates that the surface's sources find
    POST /v1/feedback          what users did with impressions, one or a list
    POST /v1/{surface}/events  impressions that others served, and feedback
    PUT  /v1/{surface}/items   items: their columns, when they expire, whether they are withdrawn
    POST /v1/{surface}/variants  wordings of a thing, each an item
    GET  /v1/{surface}/variants  how those of a thing were received
    GET  /healthz              the process answers
    GET  /readyz               models and features are in place; 503 before
    GET  /metrics              for Prometheus

A request that cannot be taken as sent gets 422 and the name of the field; one for a surface that is not served here,
404; one that could not be made durable, 503; one too long, 413; one that does not arrive in time, 408; one without
an API key that opens the route, 401, 403 or 429 (``access``). A 2xx answer to
``rank`` or ``feedback`` says that what it logs is durable: committed, or on this machine's disk.
"""

import json
import logging
from collections.abc import AsyncIterator, Callable, Coroutine
from contextlib import asynccontextmanager
from dataclasses import asdict
from typing import Annotated, Any

import msgspec
from fastapi import FastAPI, Query, Request, Response
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse, PlainTextResponse
from fastapi.routing import APIRoute
from starlette.types import ASGIApp

from features.log.json_values import TextId
from infra.http.limits import BodyLimits, RequestLimits
from models.serving.access.guard import Guard
from models.serving.answers import (
    EventsAnswer,
    FeedbackAnswer,
    Health,
    ItemsAnswer,
    Problems,
    PutVariantsAnswer,
    RankAnswer,
    ShownVariantsAnswer,
)
from models.serving.bodies import LIST, ONE, AnyFeedback, EventsBody, FeedbackList, RankBody
from models.serving.config import ServingConfig
from models.serving.described import DescribedApi
from models.serving.durable.acceptance import NotDurable
from models.serving.feedback import UnfitFeedback
from models.serving.items import ItemsBody, ItemsNotStored
from models.serving.rank.ranking import NoQuery, NoSources
from models.serving.recommend.request import NoVariants, RecommendBody, UnfitFilter
from models.serving.service import NoSurface, NotOfVariants, RankingService, RankResponse
from models.serving.state import ServiceState
from models.serving.telemetry import Measured
from models.serving.traces import Traces
from models.serving.variants.bodies import VariantsBody
from models.serving.variants.proposing import NotProposed
from models.serving.variants.store import ShownVariant, UnfitVariants, VariantsUnread, wilson

LIMITS = RequestLimits(body=4 << 20)
"""A request may hold a thousand items with the longest ids."""


BAD_PROPOSAL = {"model": Problems, "description": "the surface's function failed, or gave what is no wording"}
SLOW_PROPOSAL = {"model": Problems, "description": "the surface's function did not answer in time"}


def create_app(config: ServingConfig) -> FastAPI:
    """The app; its lifespan starts and stops the service. Raises SettingsError where it cannot send traces."""
    service = RankingService(config)
    traces = Traces(config.traces_to) if config.traces_to is not None else None

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        service.start()
        try:
            yield
        finally:
            service.stop()
            if traces is not None:
                traces.close()

    # The pages under /docs would fetch their scripts from elsewhere; /openapi.json says the same.
    app = DescribedApi(title="Millrace serving", lifespan=lifespan, docs_url=None, redoc_url=None)
    app.state.service = service
    app.router.route_class = QuickJson

    app.add_middleware(BodyLimits, refuse=_refusal, limits=LIMITS)
    app.add_middleware(Guard, access=service.access, clock=config.clock)  # around the limits: strangers fill no memory

    app.add_middleware(Measured, metrics=service.metrics, traces=traces)  # around both: what they refuse is counted too

    @app.post("/v1/{surface}/rank", responses={200: {"model": RankAnswer}})
    async def rank(surface: str, body: RankBody, request: Request) -> Response:
        """Rank candidates for a user. An unknown user or item is ranked like others. ``undeclared`` names values that
        came and are no column of the surface, ``withdrawn`` candidates that may not be shown any more."""
        repeated = body.items.repeated
        if repeated is not None:
            return _problem(422, ["body", "items", repeated], "repeats an earlier item; name each candidate once")
        return answer(await service.rank(surface, body, request.state.stages))

    @app.post("/v1/{surface}/recommend", responses={200: {"model": RankAnswer}})
    async def recommend(surface: str, body: RecommendBody, request: Request) -> Response:
        """Find candidates for a user and rank them. ``sources`` says of each item which sources gave it."""
        return answer(await service.recommend(surface, body, request.state.stages))

    def answer(response: RankResponse) -> Response:
        ranked = response.ranked
        columns = zip(ranked.items, ranked.scores, ranked.impression_ids, ranked.propensities, strict=True)
        items: list[dict[str, object]] = [
            {"item_id": item, "score": score, "position": place, "impression_id": name, "propensity": propensity}
            for place, (item, score, name, propensity) in enumerate(columns)
        ]
        for item, version in zip(items, ranked.versions, strict=False):  # of none, where one version ranked all
            item["model_version"] = version
        content = {
            "request_id": ranked.request_id,
            "model_version": ranked.model_version,
            "degraded": response.degraded,
            "repeated": response.repeated,
            "undeclared": ranked.undeclared,
            "withdrawn": ranked.withdrawn,
            "items": items,
        }
        if ranked.sources:
            for item, sources in zip(items, ranked.sources, strict=True):
                item["sources"] = sources
        return Response(msgspec.json.encode(content), media_type="application/json")

    @app.post("/v1/feedback", responses={200: {"model": FeedbackAnswer}})
    async def feedback(body: AnyFeedback, request: Request) -> JSONResponse:
        """Take feedback. The first of a kind for an impression counts; it may come before its impression. ``accepted``
        counts what is stored, ``repeated`` what of it was in the log already, ``refused`` has what is a dead letter;
        the latter two as far as the log answered at once. ``kinds`` has the same by kind: what a label of the surface
        counts, and what is kept though none does; ``notes`` says so in a sentence."""
        listed = isinstance(body, FeedbackList)

        def place_of(event: int) -> list[str | int]:
            return ["body", "events", event] if listed else ["body"]

        try:
            events = body.events if isinstance(body, FeedbackList) else [body]
            result = await service.feedback(events, request.state.caller, request.state.stages)
        except UnfitFeedback as error:
            return _problem(error.status, [*place_of(error.place), error.field], str(error))
        refused = [{"loc": place_of(event), "msg": reason} for event, reason in result.dead_letters.items()]
        return JSONResponse(
            {
                "accepted": result.accepted,
                "repeated": result.repeated,
                "refused": refused,
                "degraded": result.degraded,
                "kinds": result.account.kinds,
                "notes": result.account.notes,
            }
        )

    @app.post("/v1/{surface}/events", responses={200: {"model": EventsAnswer}})
    async def events(surface: str, body: EventsBody, request: Request) -> JSONResponse:
        """Take impressions that others served, and feedback, in any order. ``events`` has what became of each, in the
        order they came: ``taken``, ``already there``, or ``refused`` with the place and the reason. ``kinds`` and
        ``notes`` are as in the answer to feedback, ``undeclared`` names columns that the surface does not declare."""
        result = await service.events(surface, body.events, request.state.stages)
        became: list[dict[str, object]] = [{"outcome": outcome} for outcome in result.outcomes]
        for place, unfit in result.refused.items():
            became[place] |= {"loc": _encodable(["body", "events", place, *unfit.field]), "msg": unfit.reason}
        return JSONResponse(
            {
                "accepted": result.accepted,
                "repeated": result.repeated,
                "refused": len(result.refused),
                "degraded": result.degraded,
                **asdict(result.account),
                "events": became,
            }
        )

    @app.put("/v1/{surface}/items", responses={200: {"model": ItemsAnswer}})
    async def items(surface: str, body: ItemsBody, request: Request) -> JSONResponse:
        """Add or change items; what is not given stays as it is. ``changed`` counts those that are not as they were,
        ``refused`` names those that cannot be taken, which does not take their neighbours with them."""
        result = await service.items(surface, body.items, request.state.stages)
        refused = [
            {"loc": _encodable(["body", "items", place, *unfit.field]), "msg": unfit.reason}
            for place, unfit in result.refused.items()
        ]
        return JSONResponse(
            {
                "accepted": result.accepted,
                "changed": result.changed,
                "refused": refused,
                "undeclared": result.undeclared,
            }
        )

    @app.post(
        "/v1/{surface}/variants",
        responses={200: {"model": PutVariantsAnswer}, 502: BAD_PROPOSAL, 504: SLOW_PROPOSAL},
    )
    async def put_variants(surface: str, body: VariantsBody, request: Request) -> JSONResponse:
        """Take wordings of a thing, each as an item; the same wording again is the same item. ``propose`` asks the
        surface's own function for so many more, which are taken as if they were sent."""
        put, undeclared = await service.put_variants(surface, body, request.state.stages)
        return JSONResponse({"of": body.of, "variants": [asdict(one) for one in put], "undeclared": undeclared})

    @app.get("/v1/{surface}/variants", responses={200: {"model": ShownVariantsAnswer}})
    async def shown_variants(surface: str, of: Annotated[TextId, Query()], request: Request) -> JSONResponse:
        """How often each wording of a thing was shown and clicked, at what rate, and whether it was stopped."""
        found = await service.shown_variants(surface, of, request.state.stages)
        return JSONResponse({"of": of, "variants": [shown_variant(one) for one in found]})

    @app.get("/healthz", responses={200: {"model": Health}})
    async def healthz() -> JSONResponse:
        return JSONResponse({"status": "ok"})

    @app.get("/readyz", responses={status: {"model": ServiceState} for status in (200, 503)})
    async def readyz() -> JSONResponse:
        state = service.state()
        return JSONResponse(asdict(state), 200 if state.ready else 503)

    @app.get("/metrics", response_class=PlainTextResponse)
    async def metrics() -> Response:
        return Response(service.shared_metrics.page(), media_type="text/plain; version=0.0.4; charset=utf-8")

    @app.exception_handler(RequestValidationError)
    async def malformed(_: Request, error: RequestValidationError) -> JSONResponse:
        # Not what was sent: it may hold what JSON cannot, and is nobody's business in a log.
        return JSONResponse(
            {"detail": [{"loc": _place(found["loc"]), "msg": found["msg"]} for found in error.errors()]}, 422
        )

    @app.exception_handler(NoSurface)
    async def no_surface(_: Request, error: NoSurface) -> JSONResponse:
        return _problem(404, ["path", "surface"], str(error))

    @app.exception_handler(NoSources)
    async def no_sources(_: Request, error: NoSources) -> JSONResponse:
        return _problem(404, ["path"], str(error))

    @app.exception_handler(NoQuery)
    async def no_query(_: Request, error: NoQuery) -> JSONResponse:
        return _problem(422, ["body", "query"], str(error))

    @app.exception_handler(NoVariants)
    async def no_variants(_: Request, error: NoVariants) -> JSONResponse:
        return _problem(422, ["body", "of"], str(error))

    @app.exception_handler(NotOfVariants)
    async def not_of_variants(_: Request, error: NotOfVariants) -> JSONResponse:
        return _problem(404, ["path"], str(error))

    @app.exception_handler(UnfitVariants)
    async def unfit_variants(_: Request, error: UnfitVariants) -> JSONResponse:
        return _problem(422, _encodable(["body", *error.field]), str(error))

    @app.exception_handler(NotProposed)
    async def not_proposed(_: Request, error: NotProposed) -> JSONResponse:
        return _problem(error.status, ["body", "propose"], str(error))

    @app.exception_handler(VariantsUnread)
    async def variants_unread(_: Request, error: VariantsUnread) -> JSONResponse:
        return _problem(503, [], str(error))

    @app.exception_handler(UnfitFilter)
    async def unfit_filter(_: Request, error: UnfitFilter) -> JSONResponse:
        return _problem(422, _encodable(["body", "filters", error.name]), str(error))

    @app.exception_handler(ItemsNotStored)
    async def items_not_stored(_: Request, error: ItemsNotStored) -> JSONResponse:
        return _problem(503, [], str(error))

    @app.exception_handler(NotDurable)
    async def not_durable(_: Request, error: NotDurable) -> JSONResponse:
        logging.getLogger("millrace.serving").error("%s", error)
        return _problem(503, [], str(error))

    return app


def shown_variant(one: ShownVariant) -> dict[str, object]:
    """A variant as the answer has it."""
    counts, stopped = one.counts, one.stopped
    low, high = wilson(counts.clicks, counts.shown)
    return {
        "item_id": one.life.item_id,
        "wording": one.wording,
        "arrived_at": one.life.arrived_at.isoformat(),
        "shown": counts.shown,
        "clicks": counts.clicks,
        "rate": counts.clicks / counts.shown if counts.shown else None,
        "low": low,
        "high": high,
        "share_lately": one.share_lately,
        "withdrawn": one.life.withdrawn_at is not None,
        "stopped": None
        if stopped is None
        else {"at": stopped.stopped_at.isoformat(), "against": stopped.against, "reason": stopped.reason},
    }


class QuickJson(APIRoute):
    """A route whose body is read by msgspec. What that does not take as JSON, Python's own reads, or refuses: of no
    JSON at all, of bytes that are no text, of nesting or numbers without end, each is 422."""

    def get_route_handler(self) -> Callable[[Request], Coroutine[Any, Any, Response]]:
        handle = super().get_route_handler()

        async def quick(request: Request) -> Response:
            return await handle(_QuickRequest(request.scope, request.receive))

        return quick


class _QuickRequest(Request):
    async def json(self) -> object:
        try:
            return msgspec.json.decode(await self.body())
        except (msgspec.DecodeError, RecursionError):
            try:
                return await super().json()
            except json.JSONDecodeError:
                raise
            except (ValueError, RecursionError) as error:
                raise json.JSONDecodeError(str(error), "", 0) from error


def _problem(status: int, place: list[str | int], message: str) -> JSONResponse:
    return JSONResponse({"detail": [{"loc": place, "msg": message}]}, status)


def _refusal(status: int, why: str) -> ASGIApp:
    response: ASGIApp = _problem(status, ["body"], why)
    return response


def _place(location: tuple[str | int, ...]) -> list[str | int]:
    """Where in the body, without the tags of its forms."""
    return _encodable([part for i, part in enumerate(location) if not (i == 1 and part in (ONE, LIST))])


def _encodable(parts: list[str | int]) -> list[str | int]:
    """A field may be called what no answer can hold."""
    return [part.encode(errors="backslashreplace").decode() if isinstance(part, str) else part for part in parts]
