"""What /openapi.json says of bodies, parameters and answers."""

from __future__ import annotations

from typing import Any

from pydantic import BaseModel, Field

from vitlab.serve.answers import SENTENCES
from vitlab.serve.limits import LARGEST_SIDE

MODEL_ID = "^[a-z0-9][a-z0-9_-]{0,63}$"
MOST_LABELS = 1000


class LabelAnswer(BaseModel):
    """A class and its probability."""

    name: str
    index: int = Field(ge=0)
    probability: float = Field(ge=0, le=1)


class Prediction(BaseModel):
    """Labels, likeliest first, and which model said so."""

    model: str = Field(description="id of the model")
    sha256: str = Field(description="of the model's weights", pattern="^[0-9a-f]{64}$")
    labels: list[LabelAnswer]
    blank: bool = Field(description="no ink was found in a drawing, so the labels say nothing")
    request: str = Field(description="id of this request, as in the header x-request-id")


class ModelCard(BaseModel):
    """One model."""

    id: str = Field(pattern=MODEL_ID)
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
    """A refusal: one sentence, and the id by which the server's log can be searched."""

    error: str
    request: str


PIXEL = {"type": "integer", "minimum": 0, "maximum": 255}
SIDE = {"type": "array", "minItems": 1, "maxItems": LARGEST_SIDE}
PICTURE = {"type": "string", "contentMediaType": "image/png", "description": "at most 1 MiB, at most 4 million pixels"}
PIXELS = {
    "type": "object",
    "required": ["pixels"],
    "additionalProperties": False,
    "properties": {
        "pixels": {
            "description": f"1 to {LARGEST_SIDE} rows, equally long, of grey, [grey] or [red, green, blue]",
            "anyOf": [
                {**SIDE, "items": {**SIDE, "items": PIXEL}},
                {**SIDE, "items": {**SIDE, "items": {"type": "array", "items": PIXEL, "minItems": 1, "maxItems": 1}}},
                {**SIDE, "items": {**SIDE, "items": {"type": "array", "items": PIXEL, "minItems": 3, "maxItems": 3}}},
            ],
        }
    },
}


def predict_extra(ids: list[str]) -> dict[str, Any]:
    """Body and parameters of /v1/predict."""
    return {
        "requestBody": {
            "required": True,
            "content": {
                "image/png": {"schema": PICTURE},
                "image/jpeg": {"schema": {**PICTURE, "contentMediaType": "image/jpeg"}},
                "application/json": {"schema": PIXELS},
            },
        },
        "parameters": [
            parameter("model", {"type": "string", "enum": ids}, "id of the model; the first one if left out"),
            parameter(
                "top", {"type": "integer", "minimum": 1, "maximum": MOST_LABELS, "default": 5}, "how many labels"
            ),
            parameter("center", {"type": "boolean"}, "false: do not centre a drawing"),
        ],
    }


def parameter(name: str, schema: dict[str, Any], text: str) -> dict[str, Any]:
    """An optional query parameter."""
    return {"name": name, "in": "query", "required": False, "schema": schema, "description": text}


def problems(*statuses: int) -> dict[int | str, dict[str, Any]]:
    """These refusals, documented."""
    return {status: {"model": Problem, "description": SENTENCES[status]} for status in statuses}
