"""The routes: what each address answers."""

from __future__ import annotations

from collections.abc import Callable
from importlib import metadata
from typing import Any
from urllib.parse import parse_qsl

from fastapi import FastAPI, Request, Response
from starlette.exceptions import HTTPException

from vitlab.serve.answers import Gone, Refusal, to_json
from vitlab.serve.metrics import Metrics
from vitlab.serve.models import Models, Question
from vitlab.serve.openapi import MOST_LABELS, Health, ModelCards, Prediction, predict_extra, problems
from vitlab.serve.pages import File

IMAGES = ("image/png", "image/jpeg", "application/octet-stream", "")  # "": no content type; the bytes tell
SWITCH = {"true": True, "false": False}
PARAMETERS = (
    "parameters are model=ID (of /v1/model), top=1 to 1000 and center=true or false, each at most once, no others"
)


def make_app(
    models: Models, files: dict[str, File], metrics: Metrics, state: Callable[[], tuple[bool, int]]
) -> FastAPI:
    """The application without its guard; ``state`` says whether the server is stopping, and how many connect."""
    app = FastAPI(
        title="vitlab",
        version=metadata.version("vitlab"),
        description="Small Vision Transformers behind HTTP.",
        docs_url=None,  # those pages load scripts from elsewhere
        redoc_url=None,
        redirect_slashes=False,
        responses=problems(400, 401, 403, 405, 408, 413, 500, 503),
    )
    app.add_exception_handler(Refusal, refused)
    app.add_exception_handler(HTTPException, refused)
    app.add_exception_handler(Exception, refused)

    async def left(request: Request, error: Exception) -> Response:
        metrics.left()
        return Response(status_code=499)  # for the count only, since nobody reads it

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
            raise Refusal(404, "there is no model of that id; /v1/model lists them")
        question = await read_question(request, options)
        labels, blank = await models.answer(served, question, request.receive)
        answer = {
            "model": served.id,
            "sha256": served.classifier.digest,
            "labels": [vars(label) for label in labels],
            "blank": blank,
            "request": request.scope["vitlab.request"],
        }
        return as_json(answer)

    @app.get("/v1/model", summary="The models", responses={200: {"model": ModelCards}})
    async def model() -> Response:
        return as_json({"models": [served.card() for served in models.served.values()]})

    @app.get("/livez", summary="Whether the process answers", responses={200: {"model": Health}})
    async def livez() -> Response:
        return as_json({"status": "alive"})

    @app.get("/readyz", summary="Whether it takes pictures now", responses={200: {"model": Health}})
    async def readyz() -> Response:
        reasons = {"stopping": state()[0], "full": models.full, "broken": not models.alive}
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
        queues = {name: served.batcher.length for name, served in models.served.items()}
        return Response(metrics.text(queues, state()[1]), media_type="text/plain; version=0.0.4")

    for path, file in files.items():
        app.add_api_route(path, file.answer, include_in_schema=False, response_model=None)
    return app


def as_json(value: Any, status: int = 200, headers: dict[str, str] | None = None) -> Response:
    """A JSON answer that no cache keeps."""
    more = {"cache-control": "no-store"} | (headers or {})
    return Response(to_json(value), status, more, "application/json")


async def refused(request: Request, error: Exception) -> Response:
    """The one form of every refusal, also of those that come from the framework, whose own texts are not shown."""
    if not isinstance(error, Refusal):
        headers = getattr(error, "headers", None) or {}
        allowed = [(name.encode(), value.encode()) for name, value in headers.items() if name.lower() == "allow"]
        error = Refusal(getattr(error, "status_code", 500), headers=allowed)
    headers = {name.decode(): value.decode() for name, value in error.headers}
    return as_json({"error": error.sentence, "request": request.scope["vitlab.request"]}, error.status, headers)


def read_options(query: str) -> dict[str, str]:
    """The parameters of /v1/predict; Refusal with 422 for an unknown, doubled or impossible one."""
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
    """What is asked, with the body; Refusal with 415 for a kind of body that is not taken."""
    kind = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    coding = request.headers.get("content-encoding", "identity").lower()
    if kind not in (*IMAGES, "application/json") or coding != "identity":
        raise Refusal(415)
    center = SWITCH[options["center"]] if "center" in options else None
    return Question(await request.body(), kind == "application/json", center, int(options.get("top", "5")))
