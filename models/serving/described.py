"""``/openapi.json``: what FastAPI says of the routes, and what stands before all of them: keys, limits, refusals.

    app = DescribedApi(title="Millrace serving")

A route that is added needs nothing but the model of its answer.
"""

from typing import Any

from fastapi import FastAPI

from models.serving.access.guard import needed
from models.serving.answers import Problems

REFUSALS = {
    408: "the body did not arrive in time",
    413: "the body is too long",
    503: "it could not be made durable, too much is being sent at once, or it is not known yet which keys there are",
}
"""Of every route."""

OF_KEYS = {
    401: "no API key was sent, or one that is not good",
    403: "the key lacks the scope, or is of another surface",
    429: "faster than the key may: Retry-After has the seconds to wait",
}
"""Of every route but those for balancers."""

NO_SURFACE = {404: "the surface is not served here"}
UNFIT = {422: "what was sent cannot be taken as it is"}

KEY = "API key"
REFERENCE = "#/components/schemas/"


class DescribedApi(FastAPI):
    """Describes refusals too."""

    def openapi(self) -> dict[str, Any]:
        """The description, made once."""
        before = self.openapi_schema
        schema = super().openapi()
        if schema is before:
            return schema
        components = schema.setdefault("components", {})
        components["securitySchemes"] = {KEY: {"type": "http", "scheme": "bearer"}}
        schemas: dict[str, Any] = components.setdefault("schemas", {})
        problems = Problems.model_json_schema(ref_template=REFERENCE + "{model}")
        schemas |= problems.pop("$defs") | {Problems.__name__: problems}
        for unused in ("HTTPValidationError", "ValidationError"):  # FastAPI's own: ours says less of what was sent
            schemas.pop(unused, None)
        for path, operations in schema["paths"].items():
            for operation in operations.values():
                _describe(path, operation)
        return schema


def _describe(path: str, operation: dict[str, Any]) -> None:
    sent = "requestBody" in operation or any(one["in"] == "query" for one in operation.get("parameters", ()))
    refusals = REFUSALS | (NO_SURFACE if "{surface}" in path else {}) | (UNFIT if sent else {})
    if needed(path) is not None:
        refusals |= OF_KEYS
        operation["security"] = [{KEY: []}]
    responses = operation["responses"]
    responses.pop("422", None)
    content = {"application/json": {"schema": {"$ref": REFERENCE + Problems.__name__}}}
    for status, why in refusals.items():
        responses.setdefault(str(status), {"description": why, "content": content})
