"""The demo organisation: made once, found again, taken away whole, and refused in production."""

from __future__ import annotations

import io
import json
import stat
from pathlib import Path
from typing import Any

import pytest
from django.apps import apps
from django.core.management import CommandError, call_command
from django.db import models

from agents.management.commands import runagent
from commands.models import Grant
from drivers import keeper_config
from kernel import append_only, clock, keys, principals
from kernel.models import ApiKey, AuditEntry, Membership, Organization
from roastops import demo, demo_reset
from roasts.library.profile import from_json
from roasts.models import Machine, Roast, RoastEvent, Sample

pytestmark = pytest.mark.django_db


@pytest.fixture(autouse=True)
def data_dir(tmp_path: Path, settings: Any) -> Path:
    settings.DATA_DIR = tmp_path
    settings.RUN_DIR = tmp_path / "run"
    return tmp_path


def run_demo(*arguments: str) -> dict[str, Any]:
    words = io.StringIO()
    call_command("demo", "--json", *arguments, stdout=words)
    return dict(json.loads(words.getvalue()))


def test_the_demo_prints_logins_that_open_the_door(data_dir: Path, client: Any) -> None:
    made = run_demo()
    assert made["organization"] == "demo"
    assert {"operator", "lead", "judge"} <= set(made["users"])
    for role in ("operator", "lead", "judge"):
        login = made["users"][role]
        assert client.login(username=login["username"], password=login["password"])
        membership = Membership.objects.get(user__username=login["username"])
        assert (membership.role, membership.organization.slug) == (role, "demo")
    kept = data_dir / demo.LOGINS_FILE
    assert stat.S_IMODE(kept.stat().st_mode) == 0o600


def test_a_second_call_changes_nothing() -> None:
    first = run_demo()
    rows = (Roast.objects.count(), Sample.objects.count(), Grant.objects.count(), AuditEntry.objects.count())
    assert run_demo() == first
    assert (Roast.objects.count(), Sample.objects.count(), Grant.objects.count(), AuditEntry.objects.count()) == rows


def test_the_agent_has_l3_by_the_lead_and_is_not_the_operators() -> None:
    run_demo()
    grant = Grant.objects.get(agent__name="roastrunner")
    assert (grant.level, grant.granted_by.username, grant.revoked_at) == ("L3", "lead", None)
    assert grant.agent.owner is not None and grant.agent.owner.username == "lead"


def test_the_next_roast_follows_a_golden_curve_that_the_lead_made() -> None:
    made = run_demo()
    version = Machine.objects.get(pk=made["machine_id"]).profile_version
    assert version is not None and version.created_by is not None and version.created_by.username == "lead"
    document = from_json(version.document)
    assert document.drop_c == pytest.approx(200.4, abs=0.5) and len(document.plan) > 3


def test_a_revoked_grant_is_not_given_again() -> None:
    run_demo()
    Grant.objects.update(revoked_at=clock.now())
    run_demo()
    assert Grant.objects.filter(revoked_at__isnull=True).count() == 0


def test_the_machine_is_virtual_with_limits_and_a_run_file_of_its_own(data_dir: Path) -> None:
    made = run_demo()
    machine = Machine.objects.get(pk=made["machine_id"])
    limits = {limit.control: (limit.min_step, limit.max_step, limit.max_change_step) for limit in machine.limits.all()}
    assert limits == {"heater": (0, 9, 1), "fan": (1, 12, 1), "drum": (1, 9, 1)}
    config = keeper_config.read(data_dir / "run" / f"{machine.pk}.json")
    assert config.driver_options == machine.driver_options
    assert config.driver_options["device_clock"] == "counter"
    assert config.limits.max_bean_temp_c == machine.max_bean_temp_c
    assert len(config.driver_options["backend"]["path"].encode()) < 100


def test_the_past_is_two_finished_roasts_with_curves_and_marks() -> None:
    run_demo()
    assert [roast.status for roast in Roast.objects.all()] == ["finished", "finished"]
    for roast in Roast.objects.all():
        kinds = set(RoastEvent.objects.filter(roast=roast).values_list("kind", flat=True))
        assert {"charge", "turning_point", "first_crack_start", "drop"} <= kinds
        samples = list(roast.samples.all())
        assert len(samples) > 400 and max(sample.bean_temp_c or 0 for sample in samples) > 198
        turning = RoastEvent.objects.get(roast=roast, kind="turning_point")
        assert 40_000 < turning.elapsed_ms < 110_000
        assert roast.bean and roast.title and roast.ended_at is not None and roast.ended_at < clock.now()


def test_operators_may_enter_the_admin_for_held_orders_only() -> None:
    run_demo()
    operator = Membership.objects.get(user__username="operator").user
    assert operator.is_staff and not operator.is_superuser
    assert operator.has_perm("commands.change_proposal") and not operator.has_perm("commands.add_grant")


def test_reset_makes_it_anew_with_the_same_machine_and_logins() -> None:
    first = run_demo()
    agent_id = first["agent_id"]
    second = run_demo("--reset")
    assert second["machine_id"] == first["machine_id"] and second["users"] == first["users"]
    assert second["agent_id"] != agent_id
    assert Organization.objects.filter(slug="demo").count() == 1
    assert append_only.missing_triggers() == set()


def test_reset_leaves_other_organisations_alone() -> None:
    run_demo()
    other = Organization.objects.create(slug="other", name="Other", created_at=clock.now())
    entry = AuditEntry.objects.create(
        organization=other, at=clock.now(), actor_kind="system", actor_id="x", actor_name="x", verb="x",
        subject_kind="x", subject_id="x", payload="{}", payload_digest="0" * 64,
    )  # fmt: skip
    run_demo("--reset")
    assert AuditEntry.objects.filter(pk=entry.pk).exists()


def test_reset_is_refused_in_production(settings: Any) -> None:
    run_demo()
    settings.IS_PRODUCTION = True
    with pytest.raises(CommandError, match="refused in production"):
        run_demo("--reset")
    assert Machine.objects.exists()


def test_reset_knows_every_model_that_belongs_to_an_organisation() -> None:
    """A new model of ours must be entered in ROWS, or the reset would fail on it or leave it behind."""
    ours = [m for m in apps.get_models() if m.__module__.split(".")[0] in {"kernel", "roasts", "commands", "agents"}]

    def reaches_organization(model: type[models.Model], seen: frozenset[type[models.Model]]) -> bool:
        if model is Organization:
            return True
        parents = [f.related_model for f in model._meta.fields if f.is_relation and f.related_model not in seen]
        return any(reaches_organization(p, seen | {model}) for p in parents if isinstance(p, type) and p in ours)

    missing = {m.__name__ for m in ours if reaches_organization(m, frozenset())} - {m.__name__ for m in demo_reset.ROWS}
    assert missing == set()


def test_the_demo_will_not_take_over_somebody_elses_user(django_user_model: Any) -> None:
    django_user_model.objects.create_user("lead", password="x")
    with pytest.raises(CommandError, match="user 'lead' already"):
        run_demo()


def test_the_demo_agents_key_is_made_once_and_again_when_it_opens_nothing(data_dir: Path) -> None:
    run_demo()
    path = data_dir / "agent-roastrunner.key"
    plain = runagent.demo_key(path)
    assert runagent.demo_key(path) == plain
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    principal = principals.for_key(keys.find_key(plain, now=clock.now()))
    assert principal.is_agent and principal.may("propose") and not principal.may("approve")
    ApiKey.objects.update(revoked_at=clock.now())
    assert runagent.demo_key(path) != plain


def test_without_a_demo_there_is_no_demo_key(data_dir: Path) -> None:
    with pytest.raises(CommandError, match=r"manage\.py demo"):
        runagent.demo_key(data_dir / "key")
