"""The routes: what each address answers, and how /openapi.json describes it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any
from urllib.parse import parse_qsl

from fastapi import FastAPI, Request, Response
from pydantic import BaseModel, Field
from starlette.exceptions import HTTPException

from vitlab import __version__
from vitlab.serve.answers import SENTENCES, Gone, Refusal, to_json
from vitlab.serve.content import Files
from vitlab.serve.metrics import Metrics
from vitlab.serve.models import LARGEST_SIDE, Models, Question

IMAGES = ("image/png", "image/jpeg", "application/octet-stream", "")  # "": no content type; the bytes decide
SWITCH = {"true": True, "false": False}
MOST_LABELS = 1000
PARAMETERS = (
    f"the parameters are model=ID (see /v1/model), top=1 to {MOST_LABELS} and center=true or false, each at most once; "
    "there are no others"
)


class LabelAnswer(BaseModel):
    """A class and its probability."""

    name: str
    index: int = Field(ge=0)
    probability: float = Field(ge=0, le=1)


class Prediction(BaseModel):
    """Labels, most likely first, and the model that gave them."""

    model: str = Field(description="id of the model")
    sha256: str = Field(description="of the model's weights", pattern="^[0-9a-f]{64}$")
    labels: list[LabelAnswer]
    blank: bool = Field(description="no ink was found in a drawing, so the labels mean nothing")
    unlike: bool | None = Field(
        description="the picture is unlike anything that the model was trained on, so the labels mean nothing; "
        "null if its run folder has no novelty.safetensors"
    )
    reason: str | None = Field(description="why no readable drawing was found; the labels then mean little")
    request: str = Field(description="id of this request, as in the header x-request-id")


class ModelCard(BaseModel):
    """One model."""

    id: str = Field(pattern="^[a-z0-9][a-z0-9_-]{0,63}$")
    name: str
    arch: str
    classes: list[str]
    channels: int
    image_size: int
    drawing: str | None = Field(description="normalisation that pictures of drawings get")
    data: str
    params: int
    test_top1: float | None
    test_top1_interval: list[float] | None
    sha256: str


class ModelCards(BaseModel):
    """All models; the first is the default."""

    models: list[ModelCard]


class Health(BaseModel):
    """Whether all is well, else why not."""

    status: str


class Problem(BaseModel):
    """A refusal: one sentence, and the id to search for in the server's log."""

    error: str
    request: str


def make_app(models: Models, files: Files, metrics: Metrics, is_stopping: Callable[[], bool]) -> FastAPI:
    """The application without its guard."""
    app = FastAPI(
        title="vitlab",
        version=__version__,
        description="Small Vision Transformers over HTTP.",
        docs_url=None,  # those pages load scripts from other sites
        redoc_url=None,
        redirect_slashes=False,
        responses=problems(400, 401, 403, 405, 408, 413, 500, 503),
    )
    for error in (Refusal, HTTPException, Exception):
        app.add_exception_handler(error, refused)

    async def left(request: Request, error: Exception) -> Response:
        metrics.left.inc()
        return Response(status_code=499)  # only for the count, since nobody reads it

    app.add_exception_handler(Gone, left)

    @app.post(
        "/v1/predict",
        summary="Labels of a picture",
        responses={200: {"model": Prediction}, **problems(404, 415, 422, 504)},
        openapi_extra=predict_extra(list(models.served)),
    )
    async def predict(request: Request) -> Response:
        options = read_options(request.url.query)
        served = models.served.get(options.get("model", next(iter(models.served))))
        if served is None:
            raise Refusal(404, "there is no model with that id; /v1/model lists the models")
        question = await read_question(request, options)
        labels, reason, blank, unlike = await models.answer(served, question, request.receive)
        answer = {
            "model": served.id,
            "sha256": served.classifier.digest,
            "labels": [vars(label) for label in labels],
            "blank": blank,
            "unlike": unlike,
            "reason": reason,
            "request": request.scope["vitlab.request"],
        }
        return as_json(answer)

    @app.get("/v1/model", summary="The models", responses={200: {"model": ModelCards}})
    async def model() -> Response:
        return as_json({"models": [served.card() for served in models.served.values()]})

    @app.get("/livez", summary="Whether the process responds", responses={200: {"model": Health}})
    async def livez() -> Response:
        return as_json({"status": "alive"})

    @app.get("/readyz", summary="Whether it accepts pictures now", responses={200: {"model": Health}})
    async def readyz() -> Response:
        is_broken = not all(served.batcher.thread.is_alive() for served in models.served.values())
        reasons = {"stopping": is_stopping(), "full": any(models.full), "broken": is_broken}
        if not any(reasons.values()):
            return as_json({"status": "ready"})
        raise Refusal(503, f"not ready: {', '.join(name for name, holds in reasons.items() if holds)}")

    @app.get(
        "/metrics",
        summary="Counts in Prometheus' text format",
        response_class=Response,
        responses={200: {"content": {"text/plain": {"schema": {"type": "string"}}}}},
    )
    async def read_metrics() -> Response:
        return Response(metrics.text(), media_type="text/plain; version=0.0.4")

    for path, file in files.items():
        app.add_api_route(path, file.answer, include_in_schema=False, response_model=None)
    return app


def as_json(value: Any) -> Response:
    """A JSON answer that no cache keeps."""
    return Response(to_json(value), headers={"cache-control": "no-store"}, media_type="application/json")


async def refused(request: Request, error: Exception) -> Response:
    """The one form of every refusal, including those of the framework, whose own texts are not shown."""
    if not isinstance(error, Refusal):
        given = getattr(error, "headers", None) or {}
        allowed = [(name.encode(), value.encode()) for name, value in given.items() if name.lower() == "allow"]
        error = Refusal(getattr(error, "status_code", 500), headers=allowed)
    headers, body = error.answer(request.scope["vitlab.request"])
    return Response(body, error.status, {name.decode(): value.decode() for name, value in headers})


def read_options(query: str) -> dict[str, str]:
    """The parameters of /v1/predict; Refusal with 422 for an unknown, repeated or impossible one."""
    try:
        pairs = parse_qsl(query, keep_blank_values=True, strict_parsing=bool(query), max_num_fields=3)
    except ValueError:
        raise Refusal(422, PARAMETERS) from None
    options = dict(pairs)
    top = options.get("top", "5")
    known = len(options) == len(pairs) and set(options) <= {"model", "top", "center"}
    in_range = top.isascii() and top.isdigit() and len(top) <= 4 and 1 <= int(top) <= MOST_LABELS
    if not known or not in_range or options.get("center", "true") not in SWITCH:
        raise Refusal(422, PARAMETERS)
    return options


async def read_question(request: Request, options: dict[str, str]) -> Question:
    """The body with the parameters; Refusal with 415 for an unsupported kind of body."""
    kind = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    coding = request.headers.get("content-encoding", "identity").lower()
    if kind not in (*IMAGES, "application/json") or coding != "identity":
        raise Refusal(415)
    center = SWITCH[options["center"]] if "center" in options else None
    return Question(await request.body(), kind == "application/json", center, int(options.get("top", "5")))


def route_of(path: str, files: Files) -> str:
    """A name for metrics: few, however many addresses clients try."""
    if path in files:
        return "/models/*" if path.startswith("/models/") else "/"
    return path if path in ("/v1/predict", "/v1/model", "/livez", "/readyz", "/metrics", "/openapi.json") else "other"


def predict_extra(ids: list[str]) -> dict[str, Any]:
    """Body and parameters of /v1/predict for /openapi.json."""
    picture = {
        "type": "string",
        "contentMediaType": "image/png",
        "description": "at most 1 MiB; a PNG of at most 4 million pixels, a JPEG of at most 128 million",
    }
    pixel = {"type": "integer", "minimum": 0, "maximum": 255}
    side = {"type": "array", "minItems": 1, "maxItems": LARGEST_SIDE}
    grey, colour = ({"type": "array", "items": pixel, "minItems": n, "maxItems": n} for n in (1, 3))
    rows = {
        "description": f"1 to {LARGEST_SIDE} rows of equal length, of grey, [grey] or [red, green, blue]",
        "anyOf": [{**side, "items": {**side, "items": item}} for item in (pixel, grey, colour)],
    }
    parameters: list[tuple[str, dict[str, Any], str]] = [
        ("model", {"type": "string", "enum": ids}, "id of the model; by default the first one"),
        ("top", {"type": "integer", "minimum": 1, "maximum": MOST_LABELS, "default": 5}, "number of labels"),
        ("center", {"type": "boolean"}, "false: do not centre a drawing"),
    ]
    pixels = {"type": "object", "required": ["pixels"], "additionalProperties": False, "properties": {"pixels": rows}}
    return {
        "requestBody": {
            "required": True,
            "content": {
                "image/png": {"schema": picture},
                "image/jpeg": {"schema": {**picture, "contentMediaType": "image/jpeg"}},
                "application/json": {"schema": pixels},
            },
        },
        "parameters": [
            {"name": name, "in": "query", "required": False, "schema": schema, "description": text}
            for name, schema, text in parameters
        ],
    }


def problems(*statuses: int) -> dict[int | str, dict[str, Any]]:
    """These refusals, for /openapi.json."""
    return {status: {"model": Problem, "description": SENTENCES[status]} for status in statuses}
