"""Answers match /openapi.json for the requests that schemathesis generates."""

from collections import Counter
from urllib.parse import parse_qsl, urlsplit

import pytest
import schemathesis
from hypothesis import given, settings
from hypothesis import strategies as st
from schemathesis import GenerationMode
from schemathesis.specs.openapi.checks import negative_data_rejection

from hfdn_deploy.options import ModelOptions
from hfdn_deploy.service import ModelSettings
from tests.helpers.service import encoded, running

TOKEN = {"Authorization": "Bearer word"}
FEW = settings(max_examples=25, derandomize=True, database=None, deadline=10_000)


@pytest.fixture(scope="module")
def images(photo):
    return [encoded(photo[:4, :5], suffix) for suffix in (".png", ".jpg", ".webp")]


@pytest.fixture(scope="module")
def api(images):
    """The schema of a running service; its example images are valid."""
    schemathesis.openapi.format("binary", st.sampled_from(images))
    for kind, image in zip(("png", "jpeg", "webp"), images, strict=True):
        schemathesis.openapi.media_type(f"image/{kind}", st.just(image))
    with running(token="word") as served:
        yield schemathesis.openapi.from_url(f"http://127.0.0.1:{served.port}/openapi.json")


def statuses(operation, mode, images=()):
    """Send generated requests of an operation, check the answers and count their statuses."""
    counts = Counter()
    values = {each.name: each.definition["schema"]["enum"] for each in operation.query}

    @FEW
    @given(case=operation.as_strategy(generation_mode=mode))
    def send(case):
        answer = case.call_and_validate(excluded_checks=[negative_data_rejection], headers=TOKEN)
        counts[answer.status_code] += 1
        # A request that schemathesis calls invalid may be valid as it is sent.
        if mode is GenerationMode.NEGATIVE and answer.status_code == 200:
            assert any(image in answer.request.body for image in images)
            for name, value in parse_qsl(urlsplit(answer.request.url).query):
                assert value in map(str, values.get(name, [value]))

    send()
    return counts


def test_what_is_described_is_served(api):
    for operation in (found.ok() for found in api.get_all_operations()):
        assert set(statuses(operation, GenerationMode.POSITIVE)) == {200}, operation.label


def test_what_is_not_described_is_refused(api, images):
    counts = statuses(api["/v1/upscale"]["POST"], GenerationMode.NEGATIVE, images)
    assert {400, 401, 422} <= set(counts) <= {200, 400, 401, 415, 422}


def test_a_service_describes_itself():
    models = [
        ModelOptions(model=2, precision="int8"),
        ModelOptions(model=2, precision="fp32"),
        ModelOptions(model=4, precision="int8"),
    ]
    with running(ModelSettings(tuple(models))) as served:
        api = served.get("/openapi.json").json()
    upscale = api["paths"]["/v1/upscale"]["post"]
    values = {p["name"]: p["schema"]["enum"] for p in upscale["parameters"]}
    assert values == {
        "scale": [2, 4],
        "precision": ["int8", "fp32"],
        "format": ["png", "jpeg", "webp"],
    }
    answers = upscale["responses"]
    assert set(answers) == {"200", "400", "408", "413", "415", "422", "429", "500", "503"}
    assert {status for status, facts in answers.items() if "Retry-After" in facts["headers"]} == {
        "429",
        "503",
    }
    error = {"$ref": "#/components/schemas/Error"}
    for status, facts in answers.items():
        if status != "200":
            assert facts["content"]["application/json"]["schema"] == error, status
    assert api["components"]["schemas"]["Error"]["required"] == ["detail"]


def test_only_a_token_is_security(served):
    open_to_all = served.get("/openapi.json").json()
    assert "securitySchemes" not in open_to_all["components"]
    with running(token="word") as asks:
        protected = asks.get("/openapi.json").json()
    scheme = protected["components"]["securitySchemes"]["HTTPBearer"]
    assert (scheme["type"], scheme["scheme"]) == ("http", "bearer")
    for path, methods in protected["paths"].items():
        (method,) = methods
        asked = path.startswith("/v1/") or path == "/metrics"
        for api, expected in ((protected, asked), (open_to_all, False)):
            operation = api["paths"][path][method]
            assert ("security" in operation) == expected
            assert ("401" in operation["responses"]) == expected
