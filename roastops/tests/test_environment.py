"""The environment: every variable bounded, every fault named, nothing half right boots."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from roastops import environment
from roastops.testing.processes import BASE_DIR

SECRET = "k3Jx9-qLw7Zt2Vb8Nm4Rp6Yc1Hd5Gf0Sa-Ue3Wi7Ok9Pl2Mz6Xn"


def read(**variables: str) -> environment.Environment:
    return environment.read(variables, base_dir=Path("/base"))


def faults(**variables: str) -> list[str]:
    with pytest.raises(environment.BadEnvironment) as refused:
        read(**variables)
    return [fault.id for fault in refused.value.faults]


def test_nothing_is_needed() -> None:
    plain = read()
    assert (plain.name, plain.port, plain.speed, plain.redis_url) == ("development", 8000, 1.0, "")
    assert plain.data_dir == Path("/base/.data")


@pytest.mark.parametrize(
    ("name", "good", "bad"),
    [
        ("PORT", ["1", "65535"], ["0", "65536", "x", "8000.5"]),
        ("ROASTOPS_SPEED", ["0.1", "100", "4"], ["0.09", "101", "fast", "nan", "inf"]),
        ("ROASTOPS_HTTP_THREADS", ["4", "256"], ["3", "257"]),
        ("ROASTOPS_ENV", ["development", "test"], ["staging"]),
        ("ROASTOPS_LOG_LEVEL", ["DEBUG"], ["debug", "LOUD"]),
        ("ROASTOPS_HOST_NAME", ["pi-4.local"], ["a b", "x" * 61]),
        ("ROASTOPS_REQUESTS_PER_MINUTE", ["0", "1", "1000000"], ["-1", "1000001", "6.5", "many"]),
        ("ROASTOPS_DEMO", ["0", "true"], ["maybe"]),
        ("ROASTOPS_DEMO_MACHINE", ["bullet-r1", "bullet-r2"], ["bullet-r3", "R2"]),
        ("DATABASE_URL", ["postgresql://a@b/c"], ["mysql://a/b", "nonsense"]),
        ("REDIS_URL", ["redis://a:1/0", "rediss://a"], ["http://a"]),
    ],
)
def test_bounds_of_each_variable(name: str, good: list[str], bad: list[str]) -> None:
    for value in good:
        read(**{name: value})
    for value in bad:
        assert faults(**{name: value}) == ["roastops.E002"], value


def test_unknown_variable_of_ours_is_refused_and_the_nearest_named() -> None:
    with pytest.raises(environment.BadEnvironment, match="Did you mean ROASTOPS_SPEED"):
        read(ROASTOPS_SPED="4")
    read(ROAST="others may have theirs")


def test_all_faults_are_told_at_once() -> None:
    assert faults(PORT="x", ROASTOPS_SPEED="y", ROASTOPS_ZZZ="1") == ["roastops.E002", "roastops.E002", "roastops.E001"]


def test_secret_from_a_file(tmp_path: Path) -> None:
    path = tmp_path / "secret"
    path.write_text(SECRET + "\n")
    assert read(ROASTOPS_SECRET_KEY_FILE=str(path)).secret_key == SECRET
    assert faults(ROASTOPS_SECRET_KEY_FILE=str(path), ROASTOPS_SECRET_KEY=SECRET) == ["roastops.E003"]
    assert faults(ROASTOPS_SECRET_KEY_FILE=str(tmp_path / "none")) == ["roastops.E004"]
    (tmp_path / "url").write_text("postgresql://u:p@h/d")
    assert read(DATABASE_URL_FILE=str(tmp_path / "url")).database_url == "postgresql://u:p@h/d"


@pytest.mark.parametrize("secret", ["", "short", "a" * 60, "changeme"])
def test_production_refuses_default_secrets(secret: str) -> None:
    assert faults(ROASTOPS_ENV="production", ROASTOPS_SECRET_KEY=secret, ROASTOPS_ALLOWED_HOSTS="a.example") == [
        "roastops.E005"
    ]


def test_production_must_name_its_hosts() -> None:
    for hosts in ("", "*"):
        assert faults(ROASTOPS_ENV="production", ROASTOPS_SECRET_KEY=SECRET, ROASTOPS_ALLOWED_HOSTS=hosts) == [
            "roastops.E006"
        ]


def test_database_of_a_url(tmp_path: Path) -> None:
    made = environment.database("postgresql://u:p%40w@h:5433/d?sslmode=require", tmp_path)
    assert (made["USER"], made["PASSWORD"], made["HOST"], made["PORT"], made["NAME"]) == ("u", "p@w", "h", "5433", "d")
    assert made["OPTIONS"]["sslmode"] == "require"
    assert environment.database("postgresql:///d?host=/run/pg", tmp_path)["HOST"] == "/run/pg"
    assert environment.database("", tmp_path)["OPTIONS"]["transaction_mode"] == "IMMEDIATE"


def manage(*arguments: str, **variables: str) -> subprocess.CompletedProcess[str]:
    kept = {name: value for name, value in os.environ.items() if not name.startswith("ROASTOPS_")}
    kept.pop("DATABASE_URL", None)
    return subprocess.run(
        [sys.executable, "manage.py", *arguments],
        cwd=BASE_DIR,
        env={**kept, "DJANGO_SETTINGS_MODULE": "roastops.settings", **variables},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


def test_bad_environment_refuses_to_boot_and_says_why(tmp_path: Path) -> None:
    outcome = manage("check", ROASTOPS_DATA_DIR=str(tmp_path), ROASTOPS_SPED="4")
    assert outcome.returncode != 0
    assert "(roastops.E001) ROASTOPS_SPED is not a setting of RoastOps. Did you mean ROASTOPS_SPEED?" in outcome.stderr


def test_deployment_check_is_clean_in_production(tmp_path: Path) -> None:
    outcome = manage(
        "check",
        "--deploy",
        "--fail-level",
        "WARNING",
        ROASTOPS_DATA_DIR=str(tmp_path),
        ROASTOPS_ENV="production",
        ROASTOPS_SECRET_KEY=SECRET,
        ROASTOPS_ALLOWED_HOSTS="roast.example.org",
    )
    assert outcome.returncode == 0, outcome.stderr
    assert "no issues" in outcome.stdout
