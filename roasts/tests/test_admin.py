"""A lead takes a machine into the house and sets its limits; nobody else does, and the trail knows."""

from __future__ import annotations

from typing import Any

import pytest

from kernel.models import AuditEntry, Site
from roasts.models import ControlLimit, Machine

FORM = {
    "name": "Bullet two", "driver_kind": "bullet-r1", "driver_options": "{}", "host": "", "silence_policy": "heat_off",
    "max_bean_temp_c": "225", "max_infrared_temp_c": "235", "max_rate_of_rise_c_per_min": "45",
    "max_heat_time_s": "1500",
}  # fmt: skip


@pytest.fixture
def at_desk(people: Any, signed_in: Any) -> Any:
    """A signed-in browser of one of them, let into the admin."""

    def client(name: str) -> Any:
        user = getattr(people, name)
        user.is_staff = True
        user.save()
        return signed_in(user)

    return client


def _add(browser: Any, site: Site, **changes: str) -> Any:
    return browser.post("/admin/roasts/machine/add/", {**FORM, "site": site.pk, **changes}, format="multipart")


@pytest.mark.django_db
def test_a_lead_adds_a_machine_with_its_kinds_limits(at_desk: Any, site: Site) -> None:
    answer = _add(at_desk("lead"), site)
    assert answer.status_code == 302, answer.content[:2000]
    machine = Machine.objects.get(name="Bullet two")
    assert machine.organization_id == site.organization_id
    limits = {row.control: (row.min_step, row.max_step) for row in ControlLimit.objects.filter(machine=machine)}
    assert limits == {"heater": (0, 9), "fan": (1, 12), "drum": (1, 9)}
    assert AuditEntry.objects.filter(verb="machine_added", subject_id=machine.pk, actor_name="lead").count() == 1


@pytest.mark.django_db
def test_a_driver_nobody_can_make_is_refused_in_words(at_desk: Any, site: Site) -> None:
    answer = _add(at_desk("lead"), site, driver_options='{"bakend": null}')
    assert answer.status_code == 200
    assert b"backend" in answer.content
    assert not Machine.objects.exists()


@pytest.mark.django_db
@pytest.mark.parametrize("options", ["[1]", "nonsense", '"text"', "{"])
def test_nonsense_in_the_options_is_a_form_error(at_desk: Any, site: Site, options: str) -> None:
    assert _add(at_desk("lead"), site, driver_options=options).status_code == 200
    assert not Machine.objects.exists()


@pytest.mark.django_db
@pytest.mark.parametrize("name", ["operator", "viewer", "judge"])
def test_nobody_else_adds_one(at_desk: Any, site: Site, name: str) -> None:
    assert _add(at_desk(name), site).status_code == 403
    assert not Machine.objects.exists()


@pytest.mark.django_db
def test_another_organisations_lead_sees_and_edits_nothing(at_desk: Any, site: Site) -> None:
    _add(at_desk("lead"), site)
    machine = Machine.objects.get()
    stranger = at_desk("stranger")
    assert stranger.get(f"/admin/roasts/machine/{machine.pk}/change/").status_code == 302
    assert b"Bullet two" not in stranger.get("/admin/roasts/machine/").content
    answer = _add(stranger, site, name="Trojan")
    assert answer.status_code == 200, "a site of another organisation is no choice"
    assert not Machine.objects.filter(name="Trojan").exists()


@pytest.mark.django_db
def test_a_lead_narrows_an_envelope_and_the_trail_says_what(at_desk: Any, site: Site) -> None:
    lead = at_desk("lead")
    _add(lead, site)
    machine = Machine.objects.get()
    rows = list(machine.limits.order_by("pk"))
    form = {**FORM, "site": site.pk, "limits-TOTAL_FORMS": "3", "limits-INITIAL_FORMS": "3"}
    for number, row in enumerate(rows):
        for field in ("min_step", "max_step", "full_scale_step", "max_change_step", "min_interval_s", "daily_count",
                      "roast_count"):  # fmt: skip
            form[f"limits-{number}-{field}"] = getattr(row, field)
        form[f"limits-{number}-id"] = row.pk
        form[f"limits-{number}-machine"] = machine.pk
        if row.control == "heater":
            form[f"limits-{number}-max_step"] = 7
    answer = lead.post(f"/admin/roasts/machine/{machine.pk}/change/", form, format="multipart")
    assert answer.status_code == 302, answer.content[:3000]
    assert machine.limits.get(control="heater").max_step == 7
    entry = AuditEntry.objects.get(verb="envelope_changed")
    assert '"control":"heater"' in entry.payload and '"max_step":7' in entry.payload
