"""What the server answers: pictures, pixels, models, health, counts, files; one clear refusal for all else."""

from __future__ import annotations

import io
import json
from contextlib import closing
from dataclasses import replace
from importlib import metadata
from pathlib import Path
from typing import Any
from urllib.parse import quote

import numpy as np
import pytest
from PIL import Image

from tests.image_zoo import Case, saved, seven, zoo
from tests.serving import PNG, Reply, Running, ask, pictures, running, same_answer, tiny_classifier, unbatched
from tests.tiny import glyphs
from vitlab.predict import Classifier
from vitlab.web.pages import page_files

SECRETS = ("Traceback", "vitlab/", "site-packages", "/tmp", "Error", "torch", "starlette", "pydantic")


@pytest.fixture(scope="module")
def tiny() -> Classifier:
    """A classifier of 8 x 8 bars."""
    return tiny_classifier()


@pytest.fixture(scope="module")
def drawer(tiny: Classifier) -> Classifier:
    """The same one, which takes every picture for a drawing."""
    return replace(tiny, drawing="mnist-drawing")


@pytest.fixture(scope="module")
def page(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a page."""
    folder = tmp_path_factory.mktemp("page")
    (folder / "panels").mkdir()
    (folder / "index.html").write_text("<!doctype html><title>page</title>")
    (folder / "app.js").write_text("export const one = 1;\n")
    (folder / "panels" / "lens.js").write_text("export const two = 2;\n")
    (folder / "style.css").write_text("body { margin: 0 }\n")
    (folder / "notes.py").write_text("not for the web")
    return folder


@pytest.fixture(scope="module")
def server(tiny: Classifier, drawer: Classifier, page: Path) -> Any:
    """A server with two models and a page."""
    with running({"tiny": tiny, "drawer": drawer}, page_files(page)) as made:
        yield made
        assert made.notes == [], "no request made the server fail"


def assert_refused(reply: Reply, status: int) -> None:
    """A refusal of that status, in the one form, with nothing internal in it."""
    assert reply.status == status, reply.body
    assert reply.headers["content-type"] == "application/json"
    assert set(reply.json) == {"error", "request"}
    assert reply.json["request"] == reply.headers["x-request-id"]
    assert [word for word in SECRETS if word in reply.body.decode()] == []


# ---------------------------------------------------------------- pictures and pixels


def test_a_picture_gets_the_answer_that_the_classifier_gives(server: Running, tiny: Classifier) -> None:
    for data in pictures(7):
        reply = server.predict(data)
        assert reply.status == 200
        assert same_answer(reply, unbatched(tiny, data))
        assert (reply.json["model"], reply.json["sha256"]) == ("tiny", tiny.digest)
        assert reply.json["request"] == reply.headers["x-request-id"]
        assert set(reply.json) == {"model", "sha256", "labels", "request"}
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


# ---------------------------------------------------------------- the zoo


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


# ---------------------------------------------------------------- other routes


def test_the_models_are_listed_with_accuracy_and_digest(server: Running, tiny: Classifier) -> None:
    cards = server.ask("GET", "/v1/model").json["models"]
    assert [(card["id"], card["drawing"]) for card in cards] == [("tiny", None), ("drawer", "mnist-drawing")]
    assert cards[0]["classes"] == list(tiny.classes)
    assert cards[0]["sha256"] == tiny.result["model_sha256"]
    assert cards[0]["test_top1"] == tiny.result["test_top1"]


def test_health(server: Running) -> None:
    assert server.ask("GET", "/livez").json == {"status": "alive"}
    assert server.ask("GET", "/readyz").json == {"status": "ready"}
    server.server.guard.draining = True
    try:
        assert server.ask("GET", "/livez").status == 200
        assert_refused(server.ask("GET", "/readyz"), 503)
        assert server.predict(pictures(1)[0]).headers["connection"] == "close"
    finally:
        server.server.guard.draining = False


def test_metrics_count_what_happened(tiny: Classifier) -> None:
    data = pictures(3)
    with running({"tiny": tiny}) as server:
        for picture in data:
            server.predict(picture)
        server.predict(b"nonsense")
        server.ask("GET", "/nonsense")
        server.ask("GET", "/more?nonsense")
        reply = server.ask("GET", "/metrics")
    lines = reply.body.decode().splitlines()
    assert reply.headers["content-type"].startswith("text/plain; version=0.0.4")
    assert 'vitlab_requests_total{route="/v1/predict",status="200"} 3' in lines
    assert 'vitlab_requests_total{route="/v1/predict",status="415"} 1' in lines
    assert 'vitlab_requests_total{route="other",status="404"} 2' in lines
    assert 'vitlab_request_seconds_bucket{le="+Inf"} 6' in lines
    assert "vitlab_request_seconds_count 6" in lines
    assert 'vitlab_batch_images_bucket{le="1"} 3' in lines
    assert 'vitlab_queue{model="tiny"} 0' in lines
    kinds = {line.split()[2] for line in lines if line.startswith("# TYPE")}
    names = {line.split("{")[0].split()[0] for line in lines if not line.startswith("#")}
    stems = {name.removesuffix("_bucket").removesuffix("_sum").removesuffix("_count") for name in names}
    assert stems - {"vitlab"} <= kinds | {"vitlab_refused_total"}


def test_the_page_comes_with_its_types_and_nothing_else(server: Running, page: Path) -> None:
    types = {"/": "text/html", "/index.html": "text/html", "/app.js": "text/javascript",
             "/panels/lens.js": "text/javascript", "/style.css": "text/css"}  # fmt: skip
    for address, kind in types.items():
        reply = server.ask("GET", address)
        assert reply.status == 200
        assert reply.headers["content-type"] == f"{kind}; charset=utf-8"
        assert reply.body == (page / (address[1:] or "index.html")).read_bytes()
    assert server.ask("GET", "/?model=tiny").status == 200
    assert_refused(server.ask("GET", "/notes.py"), 404)
    assert_refused(server.ask("GET", "/panels/"), 404)


def test_a_browser_that_has_a_file_is_told_so(server: Running) -> None:
    first = server.ask("GET", "/app.js")
    again = server.ask("GET", "/app.js", headers={"If-None-Match": first.headers["etag"]})
    assert (again.status, again.body) == (304, b"")
    assert server.ask("GET", "/app.js", headers={"If-None-Match": '"other"'}).status == 200


def test_head_answers_as_get_without_the_body(server: Running) -> None:
    for address in ("/", "/app.js", "/livez", "/v1/model"):
        got, head = server.ask("GET", address), server.ask("HEAD", address)
        assert (head.status, head.body) == (200, b"")
        assert head.headers["content-length"] == got.headers["content-length"] == str(len(got.body))


TRAVERSAL = [
    f"{start}{step * n}{target}"
    for start in ("/", "/panels/", "/models/", "/models/tiny/", "//")
    for step in ("../", "..%2f", "%2e%2e/", "%2e%2e%2f", "..\\", "..%5c", "....//", "%252e%252e%252f", "..;/", "..%00/")
    for n in (1, 3, 7)
    for target in ("etc/passwd", "index.html")
]


def test_no_path_leads_out_of_the_table(server: Running) -> None:
    with closing(server.connect()) as connection:
        for path in TRAVERSAL:
            reply = ask(connection, "GET", path)
            assert reply.status == 404, path
            assert b"root:" not in reply.body
            assert b"<title>page" not in reply.body
    assert len(TRAVERSAL) == 300


def test_methods_that_an_address_does_not_take_are_405(server: Running) -> None:
    for address, allowed in (("/v1/predict", "POST"), ("/livez", "GET"), ("/app.js", "GET"), ("/v1/model", "GET")):
        for method in ("GET", "POST", "PUT", "DELETE", "PATCH", "OPTIONS", "TRACE"):
            if method != allowed:
                reply = server.ask(method, address)
                assert_refused(reply, 405)
                assert reply.headers["allow"] == allowed


def test_no_documentation_page_loads_scripts_from_elsewhere(server: Running) -> None:
    assert [server.ask("GET", address).status for address in ("/docs", "/redoc", "/v1/predict/")] == [404, 404, 404]
    assert server.ask("GET", "/openapi.json").json["info"]["title"] == "vitlab"


def test_every_answer_carries_the_headers_that_protect_a_browser(server: Running) -> None:
    replies = [server.ask("GET", path) for path in ("/", "/app.js", "/v1/model", "/metrics", "/nonsense")]
    replies += [server.predict(pictures(1)[0]), server.predict(b""), server.ask("GET", "/", headers={"Host": "evil"})]
    for reply in replies:
        policy = reply.headers["content-security-policy"]
        assert policy.startswith("default-src 'none'; script-src 'self'; style-src 'self'; ")
        assert "unsafe" not in policy
        assert "*" not in policy
        assert reply.headers["x-content-type-options"] == "nosniff"
        assert reply.headers["referrer-policy"] == "no-referrer"
        assert reply.headers["cross-origin-opener-policy"] == "same-origin"
        assert reply.headers["cross-origin-resource-policy"] == "same-origin"
        assert "server" not in reply.headers
        assert "access-control-allow-origin" not in reply.headers


def test_forms_need_no_parser() -> None:
    """FastAPI wants python-multipart for them: one more thing to attack, so it is no dependency."""
    requirements = metadata.requires("vitlab") or []
    assert any(line.startswith("fastapi") for line in requirements)
    assert not any("multipart" in line or "fastapi[" in line for line in requirements)


def test_ids_of_requests_differ(server: Running) -> None:
    ids = [server.ask("GET", "/livez").headers["x-request-id"] for _ in range(13)]
    assert len(set(ids)) == 13


def test_a_picture_of_a_mebibyte_is_taken_and_one_byte_more_is_not(server: Running) -> None:
    stream = io.BytesIO(saved(Image.fromarray(seven())))
    data = stream.getvalue()
    assert server.predict(data + bytes((1 << 20) - len(data))).status == 200
    assert_refused(server.predict(data + bytes((1 << 20) - len(data) + 1)), 413)
