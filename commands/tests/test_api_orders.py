"""Orders, grants and envelopes over REST."""

from __future__ import annotations

import datetime as dt

import pytest

from commands import services
from commands.models import Proposal
from kernel.models import Agent
from kernel.principals import Principal

pytestmark = pytest.mark.django_db


@pytest.fixture
def by_agent(api_by_key, agent):
    return api_by_key(agent=agent, scopes=["read", "propose"])


@pytest.fixture
def body(machine):
    return {
        "machine_id": machine.pk,
        "order_type": "SET_POWER",
        "target_value": 5,
        "target_unit": "step",
        "reasoning": "hot",
    }


def test_agent_proposes_operator_approves(by_agent, granted, body, people, signed_in):
    filed = by_agent.post("/v1/proposals", body, format="json")
    assert filed.status_code == 201, filed.json()
    order = filed.json()
    assert order["status"] == "PENDING_APPROVAL"
    assert order["verdict"]["decision"] == "HOLD"
    assert order["verdict"]["reasons"][0]["code"] == "approval_required"
    assert order["expires_at"].endswith("Z")
    console = signed_in(people.operator)
    pending = console.get("/v1/proposals/pending").json()["results"]
    assert [row["proposal_id"] for row in pending] == [order["proposal_id"]]
    done = console.post(f"/v1/proposals/{order['proposal_id']}/approve", {"digest": order["digest"]}, format="json")
    assert done.status_code == 200
    assert done.json()["status"] == "APPROVED"
    assert done.json()["approver"]["name"] == "operator"


def test_a_refusal_is_filed_and_explained(by_agent, body):
    order = by_agent.post("/v1/proposals", body, format="json")
    assert order.status_code == 201
    assert order.json()["status"] == "REJECTED"
    assert order.json()["rejection"]["code"] == "AGENT_COMMANDS_NOT_ALLOWED"
    assert order.json()["is_advice"] is True
    assert order.json()["verdict"]["reasons"][0]["legacy_code"] == "AGENT_COMMANDS_NOT_ALLOWED"


def test_the_list_of_orders_says_which_limit_it_was_not_the_predecessors_word(signed_in, people, propose):
    refused = propose(people.principal("operator"), target=99)
    assert refused.rejection_code == "CONSTRAINT_VIOLATION"
    page = signed_in(people.operator).get("/orders/").content.decode()
    assert "above ceiling" in page and "constraint violation" not in page


@pytest.mark.parametrize(
    ("change", "code"),
    [
        ({"target_value": None}, "target_missing"),
        ({"target_unit": "celsius"}, "unit_does_not_fit"),
        ({"target_unit": "rpm"}, "unit_does_not_fit"),
        ({"target_value": 1_000_000}, "above_ceiling"),
        ({"order_type": "PREHEAT", "target_value": 200, "target_unit": "celsius"}, "target_not_supported"),
    ],
)
def test_targets_that_do_not_fit_are_refused_by_name(signed_in, people, body, change, code):
    order = signed_in(people.operator).post("/v1/proposals", body | change, format="json")
    assert order.status_code == 201
    assert order.json()["status"] == "REJECTED"
    assert code in [reason["code"] for reason in order.json()["verdict"]["reasons"]]


@pytest.mark.parametrize(
    "change",
    [
        {"target_value": "5"},
        {"target_value": True},
        {"target_value": 1e300},
        {"target_value": [5]},
        {"order_type": "SET_HEAT"},
        {"order_type": 5},
        {"target_unit": "bananas"},
        {"reasoning": ""},
        {"reasoning": 5},
        {"reasoning": "x" * 4001},
        {"machine_id": {}},
        {"expires_in_s": 0},
        {"expires_in_s": -5},
        {"expires_in_s": "9"},
        {"evidence": "x"},
        {"evidence": [5]},
        {"evidence": ["x"] * 51},
        {"constraints": {"max_stepp": 1}},
        {"constraints": {"max_step": 1.5}},
        {"constraints": {"require_states": ["hot"]}},
        {"constraints": []},
        {"proposer": "me"},
        {"approval_required": False},
    ],
)
def test_malformed_is_400_with_the_cure(signed_in, people, body, change):
    answer = signed_in(people.operator).post("/v1/proposals", body | change, format="json")
    assert answer.status_code == 400, answer.json()
    assert answer.json()["how_to_fix"]
    assert Proposal.objects.count() == 0


@pytest.mark.parametrize(
    "text",
    [
        b"",
        b"{",
        b"[]",
        b"5",
        b'{"target_value": NaN}',
        b'{"target_value": Infinity}',
        b"\xff",
        b'{"machine_id": "a\\u0000"}',
        b'{"target_value": 1' + b"0" * 400 + b"}",
    ],
)
def test_bad_json_is_400(signed_in, people, text):
    answer = signed_in(people.operator).post("/v1/proposals", text, content_type="application/json")
    assert answer.status_code == 400
    assert answer.json()["how_to_fix"]


@pytest.mark.parametrize("missing", ["machine_id", "order_type", "reasoning"])
def test_missing_field_is_400(signed_in, people, body, missing):
    del body[missing]
    answer = signed_in(people.operator).post("/v1/proposals", body, format="json")
    assert answer.status_code == 400
    assert missing in answer.json()["fields"]


def test_unknown_machine_is_404(signed_in, people, body):
    assert (
        signed_in(people.operator).post("/v1/proposals", body | {"machine_id": "mch_0"}, format="json").status_code
        == 404
    )


def test_viewer_may_not_order(signed_in, people, body):
    assert signed_in(people.viewer).post("/v1/proposals", body, format="json").status_code == 403


def test_operator_order_runs_at_once(signed_in, people, body):
    order = signed_in(people.operator).post("/v1/proposals", body, format="json").json()
    assert (order["status"], order["approver"], order["proposer"]["name"]) == ("APPROVED", None, "operator")


def held_url(held, verb):
    return f"/v1/proposals/{held.pk}/{verb}"


def test_approve_refusals_have_their_status(held, by_agent, people, signed_in, api):
    def approve(client, digest=held.digest):
        answer = client.post(held_url(held, "approve"), {"digest": digest}, format="json")
        return answer.status_code, answer.json()["error"]

    assert approve(by_agent) == (403, "agents_cannot_approve")
    assert approve(signed_in(people.lead)) == (403, "owner_cannot_approve")
    assert approve(signed_in(people.viewer)) == (403, "role_required")
    assert approve(signed_in(people.stranger))[0] == 404
    assert approve(api)[0] == 401
    assert approve(signed_in(people.operator), "0" * 64) == (412, "stale_digest")
    assert signed_in(people.operator).post(held_url(held, "approve"), {}, format="json").status_code == 400
    signed_in(people.operator).post(held_url(held, "reject"), {"code": "WRONG_TIMING"}, format="json")
    assert approve(signed_in(people.operator)) == (409, "not_awaiting_approval")


def test_a_key_without_the_scope_does_not_approve(held, people, api_by_key):
    narrow = api_by_key(user=people.operator, scopes=["read", "propose"])
    answer = narrow.post(held_url(held, "approve"), {"digest": held.digest}, format="json")
    assert (answer.status_code, answer.json()["error"]) == (403, "role_required")
    wide = api_by_key(user=people.operator, scopes=["read", "approve"])
    assert wide.post(held_url(held, "approve"), {"digest": held.digest}, format="json").status_code == 200


def test_own_order_is_not_approved(signed_in, people, body):
    console = signed_in(people.operator)
    order = console.post("/v1/proposals", body, format="json").json()
    answer = console.post(f"/v1/proposals/{order['proposal_id']}/approve", {"digest": order["digest"]}, format="json")
    assert (answer.status_code, answer.json()["error"]) == (403, "proposer_cannot_approve")


def test_expired_is_409(held, signed_in, people):
    from kernel import clock

    class Later(clock.SystemClock):
        def now(self):
            return super().now() + dt.timedelta(seconds=400)

    previous = clock.install(Later())
    try:
        answer = signed_in(people.operator).post(held_url(held, "approve"), {"digest": held.digest}, format="json")
    finally:
        clock.install(previous)
    assert (answer.status_code, answer.json()["error"]) == (409, "expired")
    held.refresh_from_db()
    assert held.status == "TIMEOUT"


@pytest.mark.parametrize(
    "sent", [{"code": "BORED"}, {}, {"code": "OTHER"}, {"code": "OTHER", "text": "  "}, {"code": 5}]
)
def test_reject_needs_a_known_reason(held, signed_in, people, sent):
    assert signed_in(people.operator).post(held_url(held, "reject"), sent, format="json").status_code == 400


def test_adopt_abort_and_timeline(held, signed_in, people, by_agent):
    console = signed_in(people.operator)
    adopted = console.post(held_url(held, "adopt"), {}, format="json")
    assert (adopted.status_code, adopted.json()["adopted_from"]) == (201, held.pk)
    assert by_agent.post(held_url(held, "adopt"), {}, format="json").status_code == 403
    own = adopted.json()["proposal_id"]
    assert console.post(f"/v1/proposals/{own}/abort", {"text": "no"}, format="json").json()["status"] == "ABORTED"
    assert console.post(f"/v1/proposals/{own}/abort", {}, format="json").status_code == 409
    entries = console.get(f"/v1/proposals/{own}/timeline").json()["entries"]
    assert [entry["what"] for entry in entries] == ["PROPOSED", "APPROVED", "ABORTED"]


def test_an_agent_withdraws_its_own_and_only_its_own(held, by_agent, api_by_key, organization, now):
    other = Agent.objects.create(organization=organization, name="other", created_at=now)
    assert (
        api_by_key(agent=other, scopes=["propose"]).post(held_url(held, "abort"), {}, format="json").status_code == 403
    )
    assert by_agent.post(held_url(held, "abort"), {}, format="json").json()["outcome"]["code"] == "withdrawn"


def test_filters_name_what_they_are(held, signed_in, people, propose):
    own = propose(people.principal("operator"), "SET_FAN", 5)
    console = signed_in(people.operator)

    def ids(query):
        answer = console.get(f"/v1/proposals?{query}")
        assert answer.status_code == 200, answer.json()
        return {row["proposal_id"] for row in answer.json()["results"]}

    assert ids("") == {held.pk, own.pk}
    assert ids("status=PENDING_APPROVAL") == {held.pk}
    assert ids("order_type=SET_FAN") == {own.pk}
    assert ids("actor=agent") == {held.pk}
    assert ids("actor=person") == {own.pk}
    assert ids("agent=roastrunner") == {held.pk}
    assert ids(f"machine={held.machine_id}") == {held.pk, own.pk}
    assert ids("machine=mch_0") == set()
    at = held.proposed_at.isoformat().replace("+00:00", "Z")
    assert ids(f"from={at}") == {held.pk, own.pk}
    assert ids(f"to={at}") == set()


@pytest.mark.parametrize(
    "query",
    [
        "stauts=APPROVED",
        "status=DONE",
        "limit=0",
        "limit=x",
        "cursor=x",
        "from=yesterday",
        "actor=robot",
        "status=APPROVED&status=FAILED",
    ],
)
def test_bad_filters_are_400(signed_in, people, query):
    assert signed_in(people.operator).get(f"/v1/proposals?{query}").status_code == 400


def test_pages_follow_one_another(held, signed_in, people, propose):
    orders = {held.pk} | {propose(people.principal("operator"), "SET_FAN", 5).pk for _ in range(4)}
    console, seen, cursor = signed_in(people.operator), [], ""
    while cursor is not None:
        page = console.get("/v1/proposals", {"limit": 2} | ({"cursor": cursor} if cursor else {})).json()
        seen += [row["proposal_id"] for row in page["results"]]
        cursor = page["next_cursor"]
    assert len(seen) == len(orders)
    assert set(seen) == orders


def test_idempotency_key_has_one_effect(by_agent, granted, body):
    first = by_agent.post("/v1/proposals", body, format="json", HTTP_IDEMPOTENCY_KEY="k1")
    again = by_agent.post("/v1/proposals", body, format="json", HTTP_IDEMPOTENCY_KEY="k1")
    assert again.json() == first.json()
    assert again["Idempotent-Replay"] == "true"
    assert Proposal.objects.count() == 1
    other = by_agent.post("/v1/proposals", body | {"target_value": 4}, format="json", HTTP_IDEMPOTENCY_KEY="k1")
    assert other.status_code == 422


def test_an_expiry_found_at_a_keyed_approval_is_kept(held, signed_in, people, now):
    Proposal.objects.filter(pk=held.pk)
    services.expire_due(now=held.expires_at)
    answer = signed_in(people.operator).post(
        held_url(held, "approve"), {"digest": held.digest}, format="json", HTTP_IDEMPOTENCY_KEY="k2"
    )
    assert (answer.status_code, answer.json()["error"]) == (409, "expired")


def test_etag(held, signed_in, people):
    console = signed_in(people.operator)
    first = console.get(f"/v1/proposals/{held.pk}")
    assert console.get(f"/v1/proposals/{held.pk}", HTTP_IF_NONE_MATCH=first["ETag"]).status_code == 304
    console.post(held_url(held, "reject"), {"code": "WRONG_TIMING"}, format="json")
    assert console.get(f"/v1/proposals/{held.pk}", HTTP_IF_NONE_MATCH=first["ETag"]).status_code == 200


PATHS = ["proposals", "proposals/pending", "proposals/{id}", "proposals/{id}/timeline", "grants", "envelopes"]


@pytest.mark.parametrize("path", PATHS)
def test_strangers_see_nothing(path, held, signed_in, people, api):
    url = f"/v1/{path.format(id=held.pk)}"
    assert api.get(url).status_code == 401
    answer = signed_in(people.stranger).get(url)
    assert answer.status_code == 404 or answer.json()["results"] == []


def test_a_stale_revocation_is_412_and_changes_nothing(signed_in, people, granted, agent, machine):
    lead = signed_in(people.lead)
    path = f"/v1/grants/{granted.pk}"
    seen = lead.get(path)
    assert seen.json()["grant_id"] == granted.pk
    assert lead.get(path, headers={"If-None-Match": seen["ETag"]}).status_code == 304
    late = lead.post(f"{path}/revoke", {}, format="json", headers={"If-Match": '"other"'})
    assert (late.status_code, late.json()["error"]) == (412, "stale")
    granted.refresh_from_db()
    assert granted.revoked_at is None
    done = lead.post(f"{path}/revoke", {}, format="json", headers={"If-Match": seen["ETag"]})
    assert done.status_code == 200 and done.json()["revoked_at"] and done["ETag"] == lead.get(path)["ETag"]
    assert lead.post(f"{path}/revoke", {}, format="json", headers={"If-Match": seen["ETag"]}).status_code == 412
    assert lead.post(f"{path}/revoke", {}, format="json").status_code == 200, "without it, as it always was"


def test_grants_by_a_lead(signed_in, people, agent, machine, by_agent):
    body = {"agent_id": agent.pk, "machine_id": machine.pk, "level": "L3"}
    assert signed_in(people.operator).post("/v1/grants", body, format="json").status_code == 403
    assert by_agent.post("/v1/grants", body, format="json").status_code == 403
    lead = signed_in(people.lead)
    assert lead.post("/v1/grants", body | {"level": "L7"}, format="json").status_code == 400
    for unknown in (["COOLING_CYCLE"], ["SET_POWER", "ABORT"]):  # the predecessor's whitelists named such
        assert lead.post("/v1/grants", body | {"order_types": unknown}, format="json").status_code == 400
    first = lead.post("/v1/grants", body, format="json")
    assert first.status_code == 201
    lead.post("/v1/grants", body | {"level": "L2"}, format="json")
    live = lead.get("/v1/grants?is_live=true").json()["results"]
    assert [grant["level"] for grant in live] == ["L2"]
    revoked = lead.post(f"/v1/grants/{live[0]['grant_id']}/revoke", {}, format="json").json()
    assert revoked["revoked_at"]
    assert (
        signed_in(people.stranger).post(f"/v1/grants/{live[0]['grant_id']}/revoke", {}, format="json").status_code
        == 404
    )


def test_envelopes(machine, by_agent):
    row = by_agent.get("/v1/envelopes").json()["results"][0]
    assert [limit["control"] for limit in row["limits"]] == ["heater", "fan", "drum"]
    assert row["limits"][2] == {
        "control": "drum",
        "min_step": 1,
        "max_step": 9,
        "full_scale_step": 9,
        "max_change_step": 2,
        "min_interval_s": 0.0,
        "daily_count": 1000,
        "roast_count": 100,
        "max_ramp_step_per_s": None,
    }


def test_proposer_is_who_the_key_says(by_agent, granted, body, agent_principal: Principal):
    order = by_agent.post("/v1/proposals", body, format="json").json()
    assert order["proposer"] == {"kind": "agent", "id": agent_principal.id, "name": "roastrunner"}
