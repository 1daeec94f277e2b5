import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import httpx
import pytest

from hfdn_deploy import InputError, Upscaler
from hfdn_deploy.cluster import serve as ray_serve
from hfdn_deploy.images import encode_image
from hfdn_deploy.options import ModelOptions
from hfdn_deploy.service import Limits, ModelSettings, Settings, listen


@pytest.mark.slow
def test_the_service_with_replicas_that_come_by_themselves(cluster, photo):
    from ray import serve

    data = encode_image(photo[:40, :50], Path("a.png"))
    with Upscaler.load(2, precision="int8") as up:
        expected = encode_image(up(photo[:40, :50]), Path("a.png"))
    models = ModelSettings((ModelOptions(model=2, precision="int8"),), batch=2)
    settings = Settings(models, Limits(queue=12), "secret")
    autoscaling = {"min_replicas": 1, "max_replicas": 2, "upscale_delay_s": 0.1}
    autoscaling |= {"metrics_interval_s": 0.1, "look_back_period_s": 0.5}
    with listen("", 0) as free:
        port = free.getsockname()[1]
    url = f"http://127.0.0.1:{port}"
    client = httpx.Client(base_url=url, timeout=60, headers={"Authorization": "Bearer secret"})
    serve.start(http_options={"port": port}, logging_config={"log_level": "ERROR"})
    try:
        serve.run(ray_serve.deploy(settings, autoscaling), route_prefix="/")
        assert replicas(serve) == 1
        answer = client.post("/v1/upscale", content=data)
        assert (answer.status_code, answer.content) == (200, expected)
        assert answer.headers["HFDN-Model"] == "x2 int8 openvino"
        assert client.post("/v1/upscale", content=b"text").status_code == 415
        assert client.post("/v1/upscale", content=bytes(17 * 2**20)).status_code == 413
        assert client.post("/v1/upscale", headers={"Authorization": "no"}).status_code == 401
        assert "<title>" in client.get("/").text

        def send(_):
            return client.post("/v1/upscale", content=data)

        with ThreadPoolExecutor(20) as pool:
            answers = []
            until = time.monotonic() + 60
            while replicas(serve) < 2 and time.monotonic() < until:
                answers += pool.map(send, range(20))
        assert replicas(serve) == 2
        assert {answer.status_code for answer in answers} == {200, 429}
        assert {answer.content for answer in answers if answer.status_code == 200} == {expected}
        assert all("Retry-After" in a.headers for a in answers if a.status_code == 429)
        assert "hfdn_batch_images" in client.get("/metrics").text
    finally:
        serve.shutdown()


def replicas(serve):
    deployments = serve.status().applications["default"].deployments
    return deployments["hfdn"].replica_states.get("RUNNING", 0)


def test_arguments_of_serve_run(monkeypatch):
    with pytest.raises(ValueError, match="precison"):
        ray_serve.Arguments(precison="int8")
    assert ray_serve.Arguments(scale="2", max_replicas="8").max_replicas == 8
    assert ray_serve.Arguments(tile="64").tile == 64
    assert ray_serve.Arguments(tile="auto").tile == "auto"
    monkeypatch.setenv("HFDN_TOKEN", " ")
    with pytest.raises(InputError, match="HFDN_TOKEN is empty"):
        ray_serve.build(ray_serve.Arguments())
