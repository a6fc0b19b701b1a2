"""The governor over HTTP: its page, and its endpoints."""

from __future__ import annotations

import copy

import pytest

from commands import services
from commands.console.pages_governor import lines_of, typed_document
from commands.models import GovernorPolicy, Proposal
from commands.rules import policy
from commands.tests.conftest import set_reading
from kernel import clock, preferences

pytestmark = pytest.mark.django_db


def form_of(document, **changes):
    """What a browser sends of an unchanged form."""
    found = {f"n.{name}": str(value) for name, value in document["numbers"].items()}
    found |= {name: document[name] or "" for name in policy.FROM}
    found |= {
        f"m.{level}.{each}": decision
        for level, across in document["matrix"].items()
        for each, decision in across.items()
    }
    found["table"] = lines_of(document["table"])
    return found | {"reason": "because", "based_on": "0"} | changes


@pytest.fixture
def by(signed_in, people):
    return lambda who="lead": signed_in(getattr(people, who))


def test_the_page_shows_numbers_tables_and_history(by, people, machine, now):
    services.set_policy(
        people.principal("lead"), document=policy.DEFAULT_DOCUMENT | {"two_person_from": "distress"}, now=now,
        reason="two pairs",
    )  # fmt: skip
    text = by("viewer").get("/governor/").content.decode()
    for words in (
        "version 1",
        "two pairs",
        "A little less heat: the safe direction.",
        "veto_window_s",
        "act with veto",
    ):
        assert words in text
    assert "two_person_from: critical → distress" in text
    assert '<form method="post" action="/governor/"' not in text


def test_only_a_lead_is_offered_the_form(by, machine):
    assert 'action="/governor/"' in by().get("/governor/?edit=1").content.decode()
    assert 'action="/governor/"' not in by("operator").get("/governor/?edit=1").content.decode()


def test_a_stranger_is_sent_to_sign_in(api):
    assert api.get("/governor/").status_code == 302


def test_an_unchanged_form_is_the_same_document(machine):
    assert typed_document(form_of(policy.DEFAULT_DOCUMENT), policy.DEFAULT_DOCUMENT) == policy.DEFAULT_DOCUMENT


def test_a_lead_puts_a_version_in_force(by, organization, machine):
    answer = by().post(
        "/governor/", form_of(policy.DEFAULT_DOCUMENT, **{"n.veto_window_s": "20,5"}), format="multipart"
    )
    assert (answer.status_code, answer.url) == (302, "/governor/?saved=1")
    row = GovernorPolicy.objects.get()
    assert (row.document["numbers"]["veto_window_s"], row.reason) == (20.5, "because")


def test_rows_are_moved_taken_out_and_added(by, machine):
    lines = lines_of(policy.DEFAULT_DOCUMENT["table"]).splitlines()
    moved = [lines[1], "", *lines[2:], "SET_POWER | same | 1 | any | watch | again"]
    form = form_of(policy.DEFAULT_DOCUMENT, table="\r\n".join(moved))
    assert by().post("/governor/", form, format="multipart").status_code == 302
    table = GovernorPolicy.objects.get().document["table"]
    assert table[0] == policy.DEFAULT_DOCUMENT["table"][1]
    assert (table[-1]["reason"], len(table)) == ("again", len(lines))


@pytest.mark.parametrize(
    ("field", "value", "told"),
    [
        ("n.veto_window_s", "soon", "numbers.veto_window_s"), ("n.veto_window_s", "nan", "numbers.veto_window_s"),
        ("n.session_limit", "1e400", "numbers.session_limit"),
        ("table", "SET_FAN | up | 1 | any | watch |", "table[0].reason"),
        ("m.L3.none", "allow", "matrix.L3.none"), ("own_second_from", "watch", "own_second_from"),
        ("table", "SET_FAN | up | 1 | burning | watch | why", "table[0].states"),
        ("table", "", "table"), ("table", "SET_FAN", "table[0].significance"),
    ],
)  # fmt: skip
def test_what_is_wrong_is_told_beside_its_place_and_nothing_changes(by, machine, field, value, told):
    answer = by().post("/governor/", form_of(policy.DEFAULT_DOCUMENT, **{field: value}), format="multipart")
    text = answer.content.decode()
    assert answer.status_code == 400 and f"<code>{told}</code>" in text and "Nothing has changed" in text
    assert not GovernorPolicy.objects.exists()


def test_a_form_filled_before_another_lead_signed_is_a_conflict(by, people, machine, now):
    services.set_policy(people.principal("lead"), document=policy.DEFAULT_DOCUMENT, reason="first", now=now)
    assert by().post("/governor/", form_of(policy.DEFAULT_DOCUMENT), format="multipart").status_code == 409


def test_after_a_conflict_the_form_holds_the_other_leads_version_with_ones_own_changes_in_it(by, people, machine, now):
    theirs = copy.deepcopy(policy.DEFAULT_DOCUMENT)
    theirs["numbers"]["session_limit"], theirs["matrix"]["L4"]["watch"] = 7, "hold"
    theirs["matrix"]["L4"]["warning"] = "hold"
    services.set_policy(people.principal("lead"), document=theirs, reason="fewer", now=now)
    mine = form_of(policy.DEFAULT_DOCUMENT, **{"n.veto_window_s": "20", "confirm_from": "warning"})
    answer = by().post("/governor/", mine, format="multipart")
    text = answer.content.decode()
    assert answer.status_code == 409 and "session_limit: 60 → 7" in text and "L4 watch: veto → hold" in text
    shown = answer.context
    assert shown["version"] == 1  # signed again, it is based on what the lead has now been shown
    typed = {number.name: number.value for _title, numbers in shown["groups"] for number in numbers}
    assert (typed["session_limit"], typed["veto_window_s"]) == ("7", "20")
    assert {each["name"]: each["value"] for each in shown["froms"]}["confirm_from"] == "warning"
    cells = {cell.name: cell.decision for _level, _words, row in shown["matrix"] for cell in row}
    assert (cells["L4.watch"], cells["L4.none"]) == ("hold", policy.DEFAULT_DOCUMENT["matrix"]["L4"]["none"])
    assert shown["lines"] == lines_of(policy.DEFAULT_DOCUMENT["table"])


def test_what_is_carried_over_is_only_what_was_changed():
    base, standing = copy.deepcopy(policy.DEFAULT_DOCUMENT), copy.deepcopy(policy.DEFAULT_DOCUMENT)
    standing["table"] = standing["table"][1:]
    assert policy.carried_over(base, base, standing) == standing
    typed = base | {"table": base["table"][2:]}
    assert policy.carried_over(typed, base, standing) == standing | {"table": typed["table"]}
    assert policy.carried_over(typed, typed, base) == base


def test_a_version_that_is_not_in_force_is_not_said_to_be(by, people, machine, now):
    services.set_policy(people.principal("lead"), document=policy.DEFAULT_DOCUMENT, reason="first", now=now)
    assert "is in force. It counts" in by().get("/governor/?saved=1").content.decode()
    assert "is in force. It counts" not in by().get("/governor/?saved=9").content.decode()


def test_what_is_wrong_is_told_in_the_leads_language(by, people, machine):
    values = {"temperature_unit": "C", "mass_unit": "g", "time_zone": "", "language": "de"}
    preferences.save_preferences(people.lead, **values)
    form = form_of(policy.DEFAULT_DOCUMENT, **{"n.veto_window_s": "999", "m.L3.none": "allow", "table": "SET_FAN"})
    text = by().post("/governor/", form, format="multipart").content.decode()
    assert "Das liegt zwischen 5 und 120" in text
    assert "SET_POWER, SET_FAN" in text and "hoch, herunter" not in text  # a row is written in codes, in any language
    for english in ("It lies between", "permits at most", "It is one of", "It is a list"):
        assert english not in text


def test_an_operator_does_not_post_it(by, machine):
    assert by("operator").post("/governor/", form_of(policy.DEFAULT_DOCUMENT), format="multipart").status_code == 403
    assert not GovernorPolicy.objects.exists()


# --- REST ---


def test_the_policy_over_rest(by, machine):
    lead = by()
    assert lead.get("/v1/governor-policy").json()["version"] == 0
    document = copy.deepcopy(policy.DEFAULT_DOCUMENT)
    document["numbers"]["veto_window_s"] = 20
    body = {"document": document, "reason": "slower hands", "based_on": 0}
    made = lead.post("/v1/governor-policy", body, format="json")
    assert (made.status_code, made.json()["version"], made.json()["signed_by"]) == (201, 1, "lead")
    assert lead.post("/v1/governor-policy", body, format="json").json()["error"] == "policy_moved_on"
    shown = by("viewer").get("/v1/governor-policy").json()
    assert (shown["version"], shown["document"]["numbers"]["veto_window_s"], shown["is_in_force"]) == (1, 20, True)
    assert by("viewer").get("/v1/governor-policy?version=0").json()["is_in_force"] is False
    assert by("viewer").get("/v1/governor-policy?version=9").status_code == 404
    history = by("viewer").get("/v1/governor-policy/history").json()["results"]
    assert [row["version"] for row in history] == [1]


def test_a_faulty_policy_over_rest(by, machine):
    body = {"document": policy.DEFAULT_DOCUMENT | {"table": []}, "reason": "r"}
    answer = by().post("/v1/governor-policy", body, format="json")
    assert (answer.status_code, answer.json()["error"]) == (400, "policy_faulty")
    assert answer.json()["faults"] == [{"place": "table", "message": "It is a list of 1 to 200 rows."}]


@pytest.mark.parametrize("who", ["operator", "viewer"])
def test_only_a_lead_posts_a_policy(by, machine, who):
    body = {"document": policy.DEFAULT_DOCUMENT, "reason": "r"}
    assert by(who).post("/v1/governor-policy", body, format="json").status_code == 403


def test_another_houses_policy_is_not_ours(by, people, machine, now):
    services.set_policy(people.principal("stranger"), document=policy.DEFAULT_DOCUMENT, reason="theirs", now=now)
    assert by().get("/v1/governor-policy").json()["version"] == 0
    assert by().get("/v1/governor-policy/history").json()["results"] == []


def test_presence_over_rest(by, machine):
    path = f"/v1/machines/{machine.pk}/attend"
    assert by("viewer").get(path).json()["attended_by"] is None
    assert by("viewer").post(path, {}, format="json").status_code == 403
    said = by("operator").post(path, {}, format="json")
    assert (said.status_code, said.json()["attended_by"]) == (200, "operator")
    assert by("viewer").get(path).json()["counts_until"] == said.json()["counts_until"]
    assert by("stranger").post(path, {}, format="json").status_code == 404


@pytest.fixture
def window(people, agent, agent_principal, machine, propose, now) -> Proposal:
    services.grant_autonomy(people.principal("lead"), agent=agent, machine=machine, level="L4", now=now)
    services.attend_machine(people.principal("operator"), machine, now=now)
    return propose(agent_principal)


def test_veto_over_rest(by, window):
    path = f"/v1/proposals/{window.pk}/veto"
    shown = by("viewer").get(f"/v1/proposals/{window.pk}").json()
    assert (shown["significance"], shown["approvals_needed"], shown["approvals"]) == ("watch", 1, [])
    assert shown["runs_at"] is not None
    assert by("viewer").post(path, {}, format="json").status_code == 403
    vetoed = by("operator").post(path, {"text": "too early"}, format="json")
    assert (vetoed.status_code, vetoed.json()["rejection"]) == (200, {"code": "vetoed", "text": "too early"})
    assert by("operator").post(path, {}, format="json").json()["error"] == "too_late"


def test_review_over_rest(by, people, agent, agent_principal, machine, propose, now):
    services.grant_autonomy(people.principal("lead"), agent=agent, machine=machine, level="L5", now=now)
    services.attend_machine(people.principal("operator"), machine, now=now)
    order = propose(agent_principal)
    path = f"/v1/proposals/{order.pk}/review"
    assert by("operator").post(path, {"finding": "in_order"}, format="json").json()["error"] == "not_for_review"
    from commands import situation

    gathered = situation.gather(machine.pk, Proposal.objects.get(pk=order.pk), None, now)
    assert services.claim_execution(order.pk, lease_token=1, situation=gathered, now=now) is not None
    assert by("operator").post(path, {"finding": "fine"}, format="json").status_code == 400
    assert by("lead").post(path, {"finding": "in_order"}, format="json").status_code == 403
    done = by("operator").post(path, {"finding": "not_in_order", "text": "too much air"}, format="json").json()
    assert (done["review"]["finding"], done["review"]["by"]["name"]) == ("not_in_order", "operator")


def test_two_yeses_over_rest(by, granted, machine, propose, agent_principal, now):
    machine.limits.filter(control="heater").update(max_change_step=9)
    set_reading(machine, now, heater_step=3)
    order = propose(agent_principal, target=8)
    path, body = f"/v1/proposals/{order.pk}/approve", {"digest": order.digest}
    once = by("operator").post(path, body, format="json").json()
    assert (once["status"], [row["name"] for row in once["approvals"]]) == ("PENDING_APPROVAL", ["operator"])
    assert by("operator").post(path, body, format="json").json()["error"] == "approved_already"
    twice = by("second_operator").post(path, body, format="json").json()
    assert twice["status"] == "APPROVED"
    assert [row["name"] for row in twice["approvals"]] == ["operator", "second"]


def test_grants_name_release_and_evidence(by, agent, machine):
    body = {"agent_id": agent.pk, "machine_id": machine.pk, "level": "L4", "agent_release": "2", "evidence": ["run 7"]}
    made = by().post("/v1/grants", body, format="json").json()
    assert (made["agent_release"], made["evidence"], made["effective_level"]) == ("2", ["run 7"], "L4")


def test_the_admin_vetoes(client, window, people):
    people.operator.is_staff = True
    people.operator.save()
    client.force_login(people.operator, backend="kernel.sign_in.ThrottledBackend")
    answer = client.post("/admin/commands/proposal/", {"action": "veto", "_selected_action": [window.pk]}, follow=True)
    assert answer.status_code == 200
    window.refresh_from_db()
    assert (window.status, window.rejection_code) == ("REJECTED", "vetoed")
    assert clock.now() > window.proposed_at
