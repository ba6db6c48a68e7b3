"""Pictures and pixels over HTTP: the classifier's own answer, or one clear refusal."""

from __future__ import annotations

import io
import json
from collections.abc import Iterator
from dataclasses import replace
from urllib.parse import quote

import numpy as np
import pytest
from PIL import Image

from tests.image_zoo import Case, saved, seven, zoo
from tests.serving import PNG, Running, assert_refused, pictures, running, same_answer, tiny_classifier, unbatched
from tests.tiny import glyphs
from vitlab.predict import Classifier


@pytest.fixture(scope="module")
def tiny() -> Classifier:
    """A classifier of 8 x 8 bars."""
    return tiny_classifier()


@pytest.fixture(scope="module")
def drawer(tiny: Classifier) -> Classifier:
    """The same one, which takes every picture for a drawing."""
    return replace(tiny, drawing="mnist-drawing")


@pytest.fixture(scope="module")
def server(tiny: Classifier, drawer: Classifier) -> Iterator[Running]:
    """A server with two models."""
    with running({"tiny": tiny, "drawer": drawer}) as made:
        yield made
        assert made.notes == [], "no request made the server fail"


def test_a_picture_gets_the_answer_that_the_classifier_gives(server: Running, tiny: Classifier) -> None:
    for data in pictures(7):
        reply = server.predict(data)
        assert reply.status == 200
        assert same_answer(reply, unbatched(tiny, data))
        assert (reply.json["model"], reply.json["sha256"]) == ("tiny", tiny.digest)
        assert reply.json["request"] == reply.headers["x-request-id"]
        assert set(reply.json) == {"model", "sha256", "labels", "blank", "reason", "unlike", "request"}
        assert reply.json["blank"] is False
        assert [tiny.classes[label["index"]] for label in reply.json["labels"]] == [
            label["name"] for label in reply.json["labels"]
        ]


def test_content_decides_and_not_what_it_is_called(server: Running, tiny: Classifier) -> None:
    (data,) = pictures(1)
    for headers in ({}, PNG, {"Content-Type": "image/jpeg"}, {"Content-Type": "application/octet-stream"}):
        assert same_answer(server.ask("POST", "/v1/predict", data, headers), unbatched(tiny, data))
    jpeg = saved(Image.fromarray(seven()), "JPEG")
    assert same_answer(server.predict(jpeg), unbatched(tiny, jpeg))


def test_pixels_get_the_answer_of_the_same_picture(server: Running, tiny: Classifier) -> None:
    image = glyphs(1, seed=3).images[0]
    expected = unbatched(tiny, saved(Image.fromarray(image[..., 0])))
    for pixels in (image[..., 0], image, np.repeat(image, 3, axis=2), image[..., 0].astype(float)):
        body = json.dumps({"pixels": pixels.tolist()}).encode()
        assert same_answer(server.predict(body, kind="application/json"), expected)
        assert same_answer(server.predict(body, kind="application/json; charset=utf-8"), expected)


def test_one_pixel_and_the_largest_side_are_taken_and_one_more_is_not(server: Running) -> None:
    for height, width, status in ((1, 1, 200), (512, 3, 200), (3, 512, 200), (513, 3, 422), (3, 513, 422)):
        body = json.dumps({"pixels": np.full((height, width), 7).tolist()}).encode()
        assert server.predict(body, kind="application/json").status == status, (height, width)


def test_a_drawing_without_ink_is_called_blank(server: Running) -> None:
    """All models that are served here; only that of drawings knows blanks."""
    for model, blank in (("drawer", True), ("tiny", False)):
        reply = server.predict(saved(Image.fromarray(0 * seven())), f"?model={model}").json
        assert reply["blank"] is blank
        assert reply["reason"] == ("no ink stands out from the paper" if blank else None)


def test_top_and_center_are_obeyed(server: Running, drawer: Classifier) -> None:
    data = saved(Image.fromarray(seven()))
    assert [len(server.predict(data, f"?top={n}").json["labels"]) for n in (1, 2, 3, 1000)] == [1, 2, 3, 3]
    for query, center in (("", None), ("&center=true", True), ("&center=false", False)):
        expected = [(label.name, label.probability) for label in drawer(data, center)]
        assert same_answer(server.predict(data, f"?model=drawer{query}"), expected)
    assert drawer(data, True)[0].probability != drawer(data, False)[0].probability


BAD_JSON = {
    "nothing": b"",
    "not JSON": b"{",
    "NaN": b'{"pixels": [[NaN]]}',
    "Infinity": b'{"pixels": [[Infinity]]}',
    "-Infinity": b'{"pixels": [[-Infinity]]}',
    "1e999": b'{"pixels": [[1e999]]}',
    "nested": b'{"pixels": ' + b"[" * 200_000 + b"]" * 200_000 + b"}",
    "nested objects": b'{"a":' * 100_000,
    "long number": b'{"pixels": [[' + b"9" * 9999 + b"]]}",
    "large number": b'{"pixels": [[256]]}',
    "negative": b'{"pixels": [[-1]]}',
    "fraction": b'{"pixels": [[0.5]]}',
    "boolean": b'{"pixels": [[true]]}',
    "string": b'{"pixels": [["7"]]}',
    "null": b'{"pixels": [[null]]}',
    "no rows": b'{"pixels": []}',
    "empty row": b'{"pixels": [[]]}',
    "ragged": b'{"pixels": [[1, 2], [3]]}',
    "two channels": b'{"pixels": [[[1, 2]]]}',
    "four channels": b'{"pixels": [[[1, 2, 3, 4]]]}',
    "mixed": b'{"pixels": [[1, [1, 2, 3]]]}',
    "mixed the other way": b'{"pixels": [[[1, 2, 3], 1]]}',
    "too deep": b'{"pixels": [[[[1]]]]}',
    "an object in it": b'{"pixels": [[{"a": 1}]]}',
    "other name": b'{"pixel": [[1]]}',
    "one name more": b'{"pixels": [[1]], "more": 1}',
    "list": b"[[1]]",
    "UTF-16": '{"pixels": [[1]]}'.encode("utf-16"),
    "byte order mark": b'\xef\xbb\xbf{"pixels": [[1]]}',
    "not UTF-8": b'{"pixels": [["\xff"]]}',
}


@pytest.mark.parametrize("name", BAD_JSON)
def test_bad_json_is_422(server: Running, name: str) -> None:
    assert_refused(server.predict(BAD_JSON[name], kind="application/json"), 422)


@pytest.mark.parametrize(
    "query",
    ["?top=0", "?top=-1", "?top=1001", "?top=1e1", "?top=", "?top=٣", "?top=00009", "?top=5&top=6", "?center=maybe",
     "?center=", "?center=1", "?centre=true", "?top", "?=5", "?top=5&center=true&model=tiny&more=1", "?%00=1"],
)  # fmt: skip
def test_a_wrong_parameter_is_422(server: Running, query: str) -> None:
    (data,) = pictures(1)
    assert_refused(server.predict(data, quote(query, safe="?=&%")), 422)


@pytest.mark.parametrize("name", ["nobody", "", "..", "../tiny", "TINY", "a" * 3000, "%00", "<script>"])
def test_an_unknown_model_is_404(server: Running, name: str) -> None:
    reply = server.predict(pictures(1)[0], f"?model={quote(name)}")
    assert_refused(reply, 404)
    assert len(name) < 3 or name.encode() not in reply.body


@pytest.mark.parametrize(
    "headers",
    [{"Content-Type": "multipart/form-data; boundary=x"}, {"Content-Type": "application/x-www-form-urlencoded"},
     {"Content-Type": "text/plain"}, {"Content-Type": "image/svg+xml"}, {"Content-Type": "image/png, text/html"},
     PNG | {"Content-Encoding": "gzip"}, PNG | {"Content-Encoding": "br"}],
)  # fmt: skip
def test_other_kinds_of_bodies_are_415(server: Running, headers: dict[str, str]) -> None:
    assert_refused(server.ask("POST", "/v1/predict", pictures(1)[0], headers), 415)


@pytest.mark.parametrize("case", zoo(), ids=lambda case: case.name)
def test_every_picture_of_the_zoo_is_answered_rightly_or_refused_clearly(
    server: Running, drawer: Classifier, case: Case
) -> None:
    reply = server.predict(case.data, "?model=drawer")
    if len(case.data) > 1 << 20:
        assert_refused(reply, 413)
    elif case.status != 200:
        assert_refused(reply, case.status)
    else:
        assert reply.status == 200
        if case.shows == "seven" and case.loss == 0:
            assert same_answer(reply, [(label.name, label.probability) for label in drawer(seven())])
        assert same_answer(reply, unbatched(drawer, case.data))


def test_there_are_enough_animals() -> None:
    assert len(zoo()) >= 40


def test_a_picture_of_a_mebibyte_is_taken_and_one_byte_more_is_not(server: Running) -> None:
    stream = io.BytesIO(saved(Image.fromarray(seven())))
    data = stream.getvalue()
    assert server.predict(data + bytes((1 << 20) - len(data))).status == 200
    assert_refused(server.predict(data + bytes((1 << 20) - len(data) + 1)), 413)
