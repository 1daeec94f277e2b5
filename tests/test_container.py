"""The Dockerfile and compose.yaml, tested as far as possible without Docker."""

import json
import re
import subprocess
import sys

import pytest
import yaml

from hfdn_deploy.cli import main
from hfdn_deploy.service import Limits
from tests.helpers.paths import ROOT
from tests.helpers.service import running

DOCKERFILE = (ROOT / "Dockerfile").read_text().replace("\\\n", "")


def command(instruction: str) -> list[str]:
    """Return the words of a Dockerfile instruction that is written in JSON."""
    (found,) = re.findall(rf"^{instruction} .*?(\[.*\])$", DOCKERFILE, re.MULTILINE)
    return json.loads(found)


def test_the_health_check_fails_when_the_service_is_stuck(monkeypatch):
    python, *arguments, script = command("HEALTHCHECK")
    assert python == "python"

    def check(port):
        code = script.replace(":8000", f":{port}")
        done = subprocess.run([sys.executable, *arguments, code], capture_output=True, text=True)
        return done.returncode, done.stderr

    with running(answer_seconds=5) as served:
        assert check(served.port) == (0, "")
        monkeypatch.setattr(type(served.service.batcher), "stuck", 61.0)
        code, errors = check(served.port)
        assert code == 1
        assert "503" in errors
    assert check(served.port)[0] == 1


def test_the_command_is_one_that_hfdn_knows(capsys):
    words = [*command("ENTRYPOINT"), *command("CMD")]
    assert words[0] == "hfdn"
    assert main([*words[1:], "--scale", "7"]) == 2
    assert "7" in capsys.readouterr().err.splitlines()[-1]
    with pytest.raises(SystemExit):
        main(["serve", "--help"])
    assert "(default: 8000)" in capsys.readouterr().out
    assert re.search(r"^EXPOSE 8000$", DOCKERFILE, re.MULTILINE)


def test_compose_keeps_to_what_the_image_expects():
    (service,) = yaml.safe_load((ROOT / "compose.yaml").read_text())["services"].values()
    home = re.search(r" HOME=(\S+)", DOCKERFILE)[1]
    assert service["read_only"] is True
    assert home in service["tmpfs"]
    assert service["ports"] == ["127.0.0.1:8000:8000"]
    assert service["environment"]["HFDN_TOKEN"].startswith("${HFDN_TOKEN:?")
    assert float(service["stop_grace_period"].removesuffix("s")) > Limits().shutdown_seconds
    assert service["mem_limit"] == service["memswap_limit"]
