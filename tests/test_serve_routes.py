"""The other addresses: models, health, counts, the page and its files; and that there are no more."""

from __future__ import annotations

import gzip
import json
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from importlib import metadata
from pathlib import Path

import pytest

from tests.made_runs import make_run
from tests.serving import Running, ask, assert_refused, counts, pictures, running, tiny_classifier
from tests.studies import a_study
from vitlab.errors import ConfigError, RunError
from vitlab.export import map as export_map
from vitlab.export.bundle import bundled
from vitlab.export.web import page_files as read_page
from vitlab.files import write_json_lines
from vitlab.predict import Classifier
from vitlab.runs.zoo import ZOO
from vitlab.serve.content import File, Later, LaterFile, load, page_files
from vitlab.studies.driver import write_study


@pytest.fixture(scope="module")
def tiny() -> Classifier:
    """A classifier of 8 x 8 bars."""
    return tiny_classifier()


@pytest.fixture(scope="module")
def page(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a page."""
    folder = tmp_path_factory.mktemp("page")
    (folder / "panels").mkdir()
    (folder / "index.html").write_text(
        '<!doctype html><head><title>page</title>\n<link rel="stylesheet" href="style.css">\n'
        '<script type="module" src="app.js"></script>\n</head>'
    )
    (folder / "app.js").write_text('import { two } from "./panels/lens.js";\n' + "console.log(two);\n" * 97)
    (folder / "panels" / "lens.js").write_text("export const two = 2;\n")
    (folder / "style.css").write_text("body { margin: 0 }\n")
    (folder / "notes.py").write_text("not for the web")
    return folder


@pytest.fixture(scope="module")
def server(tiny: Classifier, page: Path) -> Iterator[Running]:
    """A server with two models and a page."""
    with running({"tiny": tiny, "again": tiny}, page_files(page)) as made:
        yield made
        assert made.notes == [], "no request made the server fail"


def test_the_models_are_listed_with_accuracy_and_digest(server: Running, tiny: Classifier) -> None:
    cards = server.ask("GET", "/v1/model").json["models"]
    assert [(card["id"], card["drawing"]) for card in cards] == [("tiny", None), ("again", None)]
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
    assert reply.headers["content-type"].startswith("text/plain; version=0.0.4")
    counted = counts(reply)
    assert counted['vitlab_requests_total{route="/v1/predict",status="200"}'] == 3
    assert counted['vitlab_requests_total{route="/v1/predict",status="415"}'] == 1
    assert counted['vitlab_requests_total{route="other",status="404"}'] == 2
    assert counted['vitlab_request_seconds_bucket{le="+Inf"}'] == counted["vitlab_request_seconds_count"] == 6
    assert counted['vitlab_batch_images_bucket{le="1.0"}'] == counted["vitlab_batch_images_sum"] == 3
    assert counted['vitlab_queue{model="tiny"}'] == 0
    assert counted["vitlab_connections"] == 1


def test_the_names_and_buckets_of_metrics_are_those_that_dashboards_know(tiny: Classifier) -> None:
    """And two servers of one process do not share their counts."""
    with running({"tiny": tiny}) as first, running({"tiny": tiny}) as second:
        for _ in range(3):
            first.ask("GET", "/livez")
        second.ask("GET", "/nonsense", headers={"Host": "evil"})
        replies = [server.ask("GET", "/metrics") for server in (first, second)]
    assert [counts(reply)["vitlab_request_seconds_count"] for reply in replies] == [3, 1]
    kinds = [line.split()[2:] for line in replies[1].body.decode().splitlines() if line.startswith("# TYPE")]
    assert kinds == [
        ["vitlab_requests_total", "counter"],
        ["vitlab_refused_total", "counter"],
        ["vitlab_left_total", "counter"],
        ["vitlab_request_seconds", "histogram"],
        ["vitlab_batch_images", "histogram"],
        ["vitlab_queue", "gauge"],
        ["vitlab_connections", "gauge"],
    ]
    seconds = ["0.001", "0.0025", "0.005", "0.01", "0.025", "0.05", "0.1", "0.25", "0.5", "1.0", "2.5", "5.0", "10.0"]
    images = ["1.0", "2.0", "4.0", "8.0", "16.0", "32.0", "64.0", "+Inf"]
    assert list(counts(replies[1])) == [
        'vitlab_requests_total{route="other",status="403"}',
        'vitlab_refused_total{reason="origin"}',
        "vitlab_left_total",
        *(f'vitlab_request_seconds_bucket{{le="{bound}"}}' for bound in [*seconds, "+Inf"]),
        "vitlab_request_seconds_count",
        "vitlab_request_seconds_sum",
        *(f'vitlab_batch_images_bucket{{le="{bound}"}}' for bound in images),
        "vitlab_batch_images_count",
        "vitlab_batch_images_sum",
        'vitlab_queue{model="tiny"}',
        "vitlab_connections",
    ]


def test_the_page_comes_with_its_types_and_nothing_else(server: Running, page: Path) -> None:
    types = {"/": "text/html", "/index.html": "text/html", "/page.js": "text/javascript", "/page.css": "text/css"}
    delivered = bundled(read_page(page))
    for address, kind in types.items():
        reply = server.ask("GET", address)
        assert reply.status == 200
        assert reply.headers["content-type"] == f"{kind}; charset=utf-8"
        assert reply.body == delivered[address[1:] or "index.html"]
    assert server.ask("GET", "/?model=tiny").status == 200
    assert_refused(server.ask("GET", "/notes.py"), 404)
    assert_refused(server.ask("GET", "/panels/"), 404)


def test_text_is_compressed_for_those_who_take_it(server: Running) -> None:
    plain = server.ask("GET", "/page.js")
    assert "content-encoding" not in plain.headers
    for accepted, packed in (("gzip", True), ("br, gzip;q=0.5", True), ("gzip;q=0", False), ("br", False)):
        reply = server.ask("GET", "/page.js", headers={"Accept-Encoding": accepted})
        assert (reply.headers.get("content-encoding") == "gzip") is packed
        assert reply.headers["vary"] == "accept-encoding"
        assert (gzip.decompress(reply.body) if packed else reply.body) == plain.body
        assert (reply.headers["etag"] == plain.headers["etag"]) is not packed
        again = {"Accept-Encoding": accepted, "If-None-Match": reply.headers["etag"]}
        assert server.ask("GET", "/page.js", headers=again).status == 304


def test_a_browser_that_has_a_file_is_told_so(server: Running) -> None:
    first = server.ask("GET", "/page.js")
    again = server.ask("GET", "/page.js", headers={"If-None-Match": first.headers["etag"]})
    assert (again.status, again.body) == (304, b"")
    assert server.ask("GET", "/page.js", headers={"If-None-Match": '"other"'}).status == 200


def test_head_answers_as_get_without_the_body(server: Running) -> None:
    for address in ("/", "/page.js", "/livez", "/v1/model"):
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
    for address, allowed in (("/v1/predict", "POST"), ("/livez", "GET"), ("/page.js", "GET"), ("/v1/model", "GET")):
        for method in ("GET", "POST", "PUT", "DELETE", "PATCH", "OPTIONS", "TRACE"):
            if method != allowed:
                reply = server.ask(method, address)
                assert_refused(reply, 405)
                assert reply.headers["allow"] == allowed


def test_no_documentation_page_loads_scripts_from_elsewhere(server: Running) -> None:
    assert [server.ask("GET", address).status for address in ("/docs", "/redoc", "/v1/predict/")] == [404, 404, 404]
    assert server.ask("GET", "/openapi.json").json["info"]["title"] == "vitlab"


def test_every_answer_carries_the_headers_that_protect_a_browser(server: Running) -> None:
    replies = [server.ask("GET", path) for path in ("/", "/page.js", "/v1/model", "/metrics", "/nonsense")]
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
    """FastAPI wants python-multipart for them: one more thing to attack, so it is not a dependency."""
    requirements = metadata.requires("vitlab") or []
    assert any(line.startswith("fastapi") for line in requirements)
    assert not any("multipart" in line or "fastapi[" in line for line in requirements)


def test_ids_of_requests_differ(server: Running) -> None:
    ids = [server.ask("GET", "/livez").headers["x-request-id"] for _ in range(13)]
    assert len(set(ids)) == 13


def test_what_few_need_is_made_once_and_when_it_is_asked_for() -> None:
    """Two browsers that ask at the same time wait for the same files."""
    made: list[float] = []

    def make() -> dict[str, bytes]:
        made.append(0)
        time.sleep(0.1)
        return {"a.json": b"{}", "b.png": b"png"}

    later = Later(make)
    assert made == []
    with ThreadPoolExecutor(2) as pool:
        one, other = pool.map(later.named, ("a.json", "b.png"))
    assert one is not None
    assert other is not None
    assert (one.data, other.data, len(made)) == (b"{}", b"png", 1)
    assert later.named("c.json") is None


def test_a_map_is_made_when_somebody_opens_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(export_map, "MOST_IMAGES", 23)
    _, files = load([ZOO / "mnist-fast"], tmp_path, print)
    drawn, menu = files["/models/mnist-fast/map.json"], files["/models.json"]
    assert isinstance(drawn, LaterFile)
    assert isinstance(menu, File)
    assert b'"map": true' in menu.data
    assert drawn.group.made == {}
    made = drawn.group.named("map.json")
    assert made is not None
    sprite = files[f"/{json.loads(made.data)['sprite']}"]
    assert isinstance(sprite, LaterFile)
    assert sprite.group is drawn.group
    assert sprite.name in drawn.group.made


def test_runs_and_a_study_become_models_and_files(tmp_path: Path) -> None:
    study = a_study(1, 2, seeds=1)
    rows = []
    for job in study.order:
        result = {"test_top1": 0.9, "val_top1": None, "test_images": 100, "train_seconds": 10.0}
        rows.append({"cell": job.cell.name, "seed": 0, "status": "done", "run": job.digest} | result)
        make_run(tmp_path / "runs" / job.digest, "mnist", depth=job.cell.config.model.depth)
    write_study(study, tmp_path / "study")
    write_json_lines(tmp_path / "study" / "rows.jsonl", rows)
    single = make_run(tmp_path / "Single run", depth=3)
    models, files = load([tmp_path / "study", single], tmp_path / "runs", print)
    assert next(iter(models)) == "single-run", "what is named alone comes first"
    assert len(models) == 3
    for name in models:
        weights = files[f"/models/{name}/model.safetensors"]
        assert isinstance(weights, File)
        assert weights.data == (models[name].path / "model.safetensors").read_bytes()
        assert {f"/models/{name}/config.json", f"/models/{name}/examples.json"} < set(files)
    menu = files["/models.json"]
    assert isinstance(menu, File)
    assert b'"study": {"name": "depths"' in menu.data
    with pytest.raises(ConfigError, match="one study"):
        load([tmp_path / "study", tmp_path / "study"], tmp_path / "runs", print)
    with pytest.raises(RunError, match="no model to serve"):
        load([tmp_path / "study"], tmp_path / "elsewhere", print)
