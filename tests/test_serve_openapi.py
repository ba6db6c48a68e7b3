"""schemathesis reads the running server's own description and tries to break its promises."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from typing import Any

import hypothesis
import hypothesis.strategies as st
import pytest
import schemathesis
from schemathesis.checks import CHECKS

from tests.image_zoo import zoo
from tests.serving import Running, pictures, running, tiny_classifier

SETTINGS = hypothesis.settings(
    max_examples=25, database=None, deadline=None, suppress_health_check=list(hypothesis.HealthCheck)
)
GOOD = [*pictures(5), *(case.data for case in zoo() if case.status == 200 and len(case.data) < 10_000)]


@pytest.fixture(scope="module")
def server() -> Iterator[Running]:
    """A server with one model."""
    with running({"tiny": tiny_classifier()}) as made:
        yield made
        assert made.notes == []


def test_the_server_keeps_what_its_description_promises(server: Running) -> None:
    schemathesis.openapi.media_type("image/png", st.sampled_from(GOOD))
    schemathesis.openapi.media_type("image/jpeg", st.sampled_from(GOOD))
    schema = schemathesis.openapi.from_url(f"http://127.0.0.1:{server.port}/openapi.json")
    acceptance: Any = CHECKS.get_by_names(["positive_data_acceptance"])
    assert len(CHECKS.get_all()) >= 9, "documented statuses, content types, headers, bodies and more"
    asked: Counter[str] = Counter()

    def check(case: schemathesis.Case[Any]) -> None:
        response, uneven = case.call(), is_uneven(case.body)
        case.validate_response(response, excluded_checks=acceptance if uneven else None)
        assert not uneven or response.status_code == 422
        asked[f"{case.method} {case.path} {response.status_code}"] += 1

    for result in schema.get_all_operations():
        operation: Any = result.ok()  # type: ignore[union-attr]
        modes = [schemathesis.GenerationMode.POSITIVE]
        if operation.body:  # the others take nothing that could be wrong
            modes.append(schemathesis.GenerationMode.NEGATIVE)
        for mode in modes:
            given: Any = hypothesis.given(operation.as_strategy(generation_mode=mode))
            run: Any = hypothesis.seed(7)(SETTINGS(given(check)))
            run()
    assert {f"GET {path} 200" for path in ("/v1/model", "/livez", "/readyz", "/metrics")} < set(asked)
    assert asked["POST /v1/predict 200"] >= 10
    assert sum(count for what, count in asked.items() if what.startswith("POST /v1/predict 4")) >= 10
    assert not [what for what in asked if what[-3] == "5"]


def is_uneven(body: object) -> bool:
    """Whether these are pixels in rows of several lengths: JSON Schema cannot say that they are not taken."""
    rows = body.get("pixels") if isinstance(body, dict) else None
    return isinstance(rows, list) and all(isinstance(row, list) for row in rows) and len({len(row) for row in rows}) > 1
