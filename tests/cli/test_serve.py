"""The command `hfdn serve` as a process."""

import json
import re
import signal
import subprocess
import sys

import pytest

from tests.helpers.paths import ROOT

httpx = pytest.importorskip("httpx")
pytest.importorskip("uvicorn")


def test_json_logs_and_one_line_for_the_backend():
    pytest.importorskip("pythonjsonlogger")
    command = [sys.executable, "-m", "hfdn_deploy", "serve", "--port", "0", "--scale", "2", "3"]
    command += ["--precision", "int8", "--backend", "onnxruntime", "--log-format", "json", "-v"]
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True, cwd=ROOT) as process:
        records = []
        try:
            while not records or "serving on" not in records[-1]["message"]:
                records.append(json.loads(process.stderr.readline()))
            port = re.search(r":(\d+) ", records[-1]["message"])[1]
            httpx.get(f"http://127.0.0.1:{port}/v1/models?x=1", timeout=30)
        finally:
            process.send_signal(signal.SIGINT)
        records += map(json.loads, process.stderr)
    assert process.returncode in (0, 130)
    backends = [r for r in records if r["message"].startswith("backend:")]
    assert [r["message"] for r in backends] == ["backend: onnxruntime (requested)"]
    assert backends[0]["logger"] == "hfdn_deploy.upscaler.network"
    assert backends[0]["level"] == "INFO"
    assert re.match(r"20\d\d-\d\d-\d\dT\d\d:\d\d:\d\d[+-]\d{4}$", backends[0]["time"])
    (request,) = (r for r in records if r["logger"] == "uvicorn.access")
    assert request["method"] == "GET"
    assert request["path"].startswith("/v1/models")
    assert isinstance(request["status"], int)
    assert request["client"].startswith("127.0.0.1:")
