"""The API tried against its own description by schemathesis, over the wire, as everybody.

No 5xx, no undocumented status, no answer that breaks its schema, nothing accepted that the description forbids. The
stream never ends, so its refusals are tried in `test_strangers`, and its place in the description here.
"""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import httpx
import pytest

from roastops.tests.one_server import EVERYBODY
from roastops.tests.stack import Stack

pytestmark = [pytest.mark.slow, pytest.mark.timeout(300)]
SCHEMATHESIS = Path(sys.executable).with_name("schemathesis")
#: Seconds for each caller; `ROASTOPS_TEST_…` would not pass our own environment check, hence no prefix.
BUDGETS_S = [5, pytest.param(int(os.environ.get("SCHEMATHESIS_SECONDS", "14")), marks=pytest.mark.prove)]
#: All of schemathesis' checks but one: what fits the description may still be refused (a mark outside its roast, an
#: order that is settled). STOP takes any body: none is a reason not to stop.
SETTINGS = """
[checks]
positive_data_acceptance.enabled = false

[[operations]]
include-path = "/v1/machines/{machine_id}/stop"
checks.negative_data_rejection.enabled = false

[parameters]
"""


def settings_for(house: Stack) -> str:
    """schemathesis.toml, with ids that exist, so that more than 404s are met."""
    ids = house.demo["ids"]
    names = ("machine_id", "proposal_id", "plan_id", "roast_id", "grant_id", "alarm_id", "alert_id")
    named = {name: ids[name] for name in names}
    return SETTINGS + "".join(f'"path.{name}" = "{value}"\n' for name, value in named.items())


def run(house: Stack, who: str, *, seconds: int) -> subprocess.CompletedProcess[str]:
    """schemathesis as ``who``, at its end."""
    settings = house.folder / f"{who}.toml"
    settings.write_text(settings_for(house), encoding="utf-8")
    return subprocess.run(
        [
            SCHEMATHESIS, "--config-file", settings, "run", house.url("/v1/openapi.json"), "--header",
            f"Authorization: Bearer {house.keys[who]}", "--exclude-path", "/v1/stream", "--phases", "coverage,fuzzing",
            "--max-time", str(seconds), "--max-examples", "15", "--request-timeout", "15",
            "--continue-on-failure", "--no-shrink", "--seed", "1", "--generation-database", "none",
            "--no-color",
        ],
        cwd=house.folder, env={**os.environ, "HYPOTHESIS_STORAGE_DIRECTORY": str(house.folder / "hypothesis")},
        capture_output=True, text=True, timeout=seconds + 60, check=False,
    )  # fmt: skip


@pytest.mark.parametrize("who", [name for name in EVERYBODY if name != "strange_agent"])
@pytest.mark.parametrize("seconds", BUDGETS_S)
def test_the_api_keeps_its_word(who: str, seconds: int, house: Stack) -> None:
    done = run(house, who, seconds=seconds)
    assert done.returncode == 0, done.stdout[-6000:] + done.stderr[-2000:]
    operations, cases = re.search(r"(\d+) selected", done.stdout), re.search(r"(\d+) generated", done.stdout)
    assert operations is not None and int(operations[1]) >= 27, done.stdout[-2000:]
    assert cases is not None and int(cases[1]) > int(operations[1]), done.stdout[-2000:]  # 1000 and more at rest


def test_a_broken_word_would_be_seen(house: Stack) -> None:
    """The same run over a description that lies about one answer must fail: otherwise the test above says nothing."""
    lie = house.get("/v1/openapi.json").json()
    lie["paths"] = {"/v1/me": lie["paths"]["/v1/me"]}
    lie["components"]["schemas"]["Me"]["properties"]["name"] = {"type": "integer"}
    path = house.folder / "lie.json"
    path.write_text(json.dumps(lie), encoding="utf-8")
    done = subprocess.run(
        [SCHEMATHESIS, "run", path, "--url", house.url(""), "--header", f"Authorization: Bearer {house.keys['lead']}",
         "--checks", "response_schema_conformance",
         "--phases", "examples,fuzzing", "--max-examples", "3", "--max-time", "5", "--no-color"],
        cwd=house.folder, capture_output=True, text=True, timeout=90, check=False,
    )  # fmt: skip
    assert done.returncode == 1
    assert "Response violates schema" in done.stdout


def test_the_stream_is_described_too(house: Stack) -> None:
    described = house.get("/v1/openapi.json").json()["paths"]["/v1/stream"]["get"]["responses"]
    assert "text/event-stream" in described["200"]["content"]
    answer = httpx.get(house.url("/v1/stream?kind=x"), headers=house.headers("agent"), timeout=10)
    assert str(answer.status_code) in described
    assert answer.json()["error"] == "unknown_kind"
