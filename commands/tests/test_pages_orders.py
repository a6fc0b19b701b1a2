"""The orders' pages: filters, views, news, one order's story, CSV; the envelope and the grants."""

from __future__ import annotations

import csv
import datetime as dt
import io
import json

import pytest
from django.db import connection
from django.test import Client
from django.test.utils import CaptureQueriesContext

from commands import services
from commands.console import order_story, pages_orders
from commands.history import search
from commands.models import Execution, Proposal, SavedView
from commands.tests import console_scene
from roasts.models import ControlLimit

pytestmark = pytest.mark.django_db
ORDERS_PAGE_QUERIES = 13  # for any number of orders up to a page
ORDER_PAGE_QUERIES = 14  # with everything that may belong to an order


@pytest.fixture
def operator(scene) -> Client:
    return signed_in(scene.operator)


def signed_in(user) -> Client:
    client = Client()
    client.force_login(user)
    return client


def body_of(client: Client, path: str, status: int = 200) -> str:
    response = client.get(path)
    assert response.status_code == status, path
    return response.content.decode()


def asked_for(scene, now, **changes) -> Proposal:
    """An agent's fan order with these columns: what the page shows does not depend on how it came to be."""
    columns = {
        "order_type": "SET_FAN", "control": "fan", "target_step": 5, "from_step": 4, "reasoning": "More air.",
        "status": "PENDING_APPROVAL", "decision": "HOLD", "digest": "c" * 64, "reasons": [],
    } | changes  # fmt: skip
    return Proposal.objects.create(
        organization=scene.organization, machine=scene.machine, roast=scene.roast, proposer_agent=scene.agent,
        proposed_at=now, expires_at=now + dt.timedelta(seconds=45), **columns,
    )  # fmt: skip


def shown(client: Client, query: str = "") -> set[str]:
    """Ids of the orders that a search shows."""
    body = body_of(client, f"/orders/{query}")
    return {order.pk for order in Proposal.objects.all() if f'data-order="{order.pk}"' in body}


# --- the list ------------------------------------------------------------------------------------


def test_each_filter_keeps_what_it_names_and_leaves_out_the_rest(scene, operator, now):
    done = console_scene.complete_order(scene, now)
    held = console_scene.hold_order(scene, now)
    advice = console_scene.advise(scene, now)
    adopted = console_scene.adopt(scene, advice, now)
    everything = {held.pk, done.pk, advice.pk, adopted.pk}
    assert shown(operator) == everything
    for query, expected in {
        "?status=PENDING_APPROVAL": {held.pk},
        "?status=open": {held.pk, adopted.pk},
        "?status=refused": {advice.pk},
        "?status=rejected": set(),
        "?status=COMPLETED": {done.pk},
        f"?machine={scene.machine.pk}": everything,
        "?machine=mch_other": set(),
        f"?roast={scene.roast.pk}&order_type=SET_FAN": {advice.pk, adopted.pk},
        "?actor=person": {adopted.pk},
        "?actor=agent": everything - {adopted.pk},
        f"?agent={scene.agent.pk}&status=COMPLETED": {done.pk},
        "?period=hour": everything,
    }.items():
        assert shown(operator, query) == expected, query


def test_time_is_half_open_in_the_persons_zone(scene, operator, now):
    at = now.replace(second=0, microsecond=0) - dt.timedelta(minutes=10)
    order = console_scene.hold_order(scene, at)
    text = at.strftime("%Y-%m-%dT%H:%M")
    later = (at + dt.timedelta(minutes=1)).strftime("%Y-%m-%dT%H:%M")
    assert shown(operator, f"?from={text}") == {order.pk}
    assert shown(operator, f"?to={text}") == set()
    assert shown(operator, f"?to={later}&from={text}") == {order.pk}
    assert shown(operator, f"?from={later}") == set()


@pytest.mark.parametrize(
    "query",
    ["?status=nonsense", "?from=yesterday", "?agent=%27%3B--", "?machine=%ED%A0%80",
     "?from=9999-12-31T23:59&to=0001-01-01T00:00",
     "?from=0001-01-01T00:00:00%2B14:00", "?to=9999-12-31T23:59:59-14:00",
     "?order_type=ABORT", "?period=aeon", "?cursor=%21", "?cursor=eyJh", "?actor[]=x", "?roast=" + "x" * 400],
)  # fmt: skip
def test_no_address_breaks_the_list(scene, operator, now, query):
    console_scene.hold_order(scene, now)
    body_of(operator, f"/orders/{query}")
    body_of(operator, f"/orders/news/{query}")
    assert operator.get(f"/orders/export.csv{query}").status_code == 200


def test_pages_follow_each_other_without_a_gap_or_a_double(scene, operator, now, monkeypatch):
    monkeypatch.setattr(search, "PAGE_ROWS", 3)
    ids = [console_scene.complete_order(scene, now - dt.timedelta(seconds=i % 2)).pk for i in range(5)]
    ids += [console_scene.hold_order(scene, now, control=c).pk for c in ("heater", "fan", "drum")]
    seen: list[str] = []
    path = "/orders/"
    for _ in range(9):
        body = body_of(operator, path)
        seen += [pk for pk in ids if f'data-order="{pk}"' in body]
        after = body.split('rel="next" href="')
        if len(after) == 1:
            break
        path = "/orders/" + after[1].split('"')[0].replace("&amp;", "&")
    assert sorted(seen) == sorted(ids)


def test_the_list_takes_a_fixed_number_of_queries(scene, operator, now):
    console_scene.complete_order(scene, now)
    operator.get("/orders/")
    with CaptureQueriesContext(connection) as few:
        operator.get("/orders/")
    for _ in range(4):
        console_scene.complete_order(scene, now)
    with CaptureQueriesContext(connection) as many:
        operator.get("/orders/")
    assert len(few) == len(many) <= ORDERS_PAGE_QUERIES, [q["sql"][:90] for q in few]


def test_news_counts_what_came_after_and_answers_the_search(scene, operator, now):
    first = console_scene.complete_order(scene, now - dt.timedelta(seconds=5))
    news = f"/orders/news/?after={first.pk}"
    assert operator.get(news).json() == {"count": 0, "is_more": False, "newest": ""}
    console_scene.hold_order(scene, now)
    assert operator.get(news).json()["count"] == 1
    assert "Heater" in operator.get(news).json()["newest"]
    assert operator.get(news + "&actor=person").json()["count"] == 0


def test_rows_are_shown_again_as_they_stand_and_only_ours(scene, operator, now):
    other = console_scene.build(now, slug="other")
    ours, theirs = console_scene.complete_order(scene, now), console_scene.hold_order(other, now)
    body = body_of(operator, f"/orders/rows/?ids={ours.pk},{theirs.pk},nonsense")
    assert ours.pk in body
    assert "Completed" in body
    assert theirs.pk not in body


def test_another_organisations_orders_are_nowhere(scene, operator, now):
    other = console_scene.build(now, slug="other")
    order = console_scene.hold_order(other, now)
    assert order.pk not in body_of(operator, "/orders/")
    for path in (f"/orders/{order.pk}/", f"/orders/{order.pk}/story/"):
        body_of(operator, path, 404)
    assert order.pk not in b"".join(operator.get("/orders/export.csv").streaming_content).decode()


def test_csv_holds_every_order_of_the_search_and_no_formula(scene, operator, now):
    order = console_scene.complete_order(scene, now)
    scene.machine.name = "=cmd()"
    scene.machine.save()
    text = b"".join(operator.get("/orders/export.csv?status=COMPLETED").streaming_content).decode()
    head, row = list(csv.reader(io.StringIO(text)))
    told = dict(zip(head, row, strict=True))
    assert tuple(head) == pages_orders.CSV_COLUMNS
    assert told["order_id"] == order.pk
    assert told["machine"] == "'=cmd()"
    assert told["status"] == "COMPLETED"
    assert told["actual_step"] == "6"
    assert told["proposed_at"].endswith("Z")


# --- one order -----------------------------------------------------------------------------------


def test_a_completed_order_tells_proposal_verdict_approval_bytes_and_read_back(scene, operator, now):
    body = body_of(operator, f"/orders/{console_scene.complete_order(scene, now).pk}/")
    for words in (
        "Heater 7\u00a0→\u00a06", "above the corridor", "sample 4021", "Judged: hold", "approval_required",
        "34 02 aa aa", "heater \u22121", "Read back", "as asked", "Completed", "operator", "Timeline",
    ):  # fmt: skip
        assert words in body, words


def test_a_refusal_tells_value_bound_and_what_would_change_it(scene, operator, now):
    why = {"code": "above_ceiling", "legacy_code": "CONSTRAINT_VIOLATION", "decision": "REFUSE",
           "message": "Too much.", "value": 10, "bound": 9.0, "how_to_fix": "Ask for 9 or less."}  # fmt: skip
    order = asked_for(scene, now, status="REJECTED", decision="REFUSE", reasons=[why])
    body = body_of(operator, f"/orders/{order.pk}/")
    for words in ("value <b>10</b>", "bound <b>9.0</b>", "Ask for 9 or less.", "CONSTRAINT_VIOLATION"):
        assert words in body, words


def test_reasons_and_evidence_of_any_shape_are_shown_as_text(scene, operator, now):
    for reasons in ([], ["odd"], [{}], [{"code": None, "value": [1, {"a": 2}], "bound": {"x": 1}}]):
        order = asked_for(
            scene, now, status="REJECTED", decision="REFUSE", reasons=reasons, evidence={"a": [1]},
            constraints={"max_step": 3},
        )  # fmt: skip
        body_of(operator, f"/orders/{order.pk}/")
        body_of(operator, "/orders/")


def test_the_story_takes_a_fixed_number_of_queries(scene, operator, now):
    order = console_scene.complete_order(scene, now)
    operator.get(f"/orders/{order.pk}/")
    with CaptureQueriesContext(connection) as captured:
        operator.get(f"/orders/{order.pk}/")
    assert len(captured) <= ORDER_PAGE_QUERIES, [q["sql"][:90] for q in captured]


def test_a_viewer_is_offered_no_act_on_an_order(scene, now):
    order = console_scene.hold_order(scene, now)
    body = body_of(signed_in(scene.viewer), f"/orders/{order.pk}/")
    assert "data-api" not in body
    assert "Only an operator decides" in body


def test_an_open_veto_window_is_shown_with_its_end_and_a_veto(scene, operator, now):
    order = asked_for(scene, now, decision="VETO", runs_at=now + dt.timedelta(seconds=15))
    for path in (f"/orders/{order.pk}/", "/", "/queue/", f"/machines/{scene.machine.pk}/panels/queue/"):
        body = body_of(operator, path)
        assert f'data-held="{order.pk}" data-kind="veto"' in body
        assert "runs in" in body
    assert shown(operator, "?status=veto") == {order.pk}


def test_an_order_that_needs_two_says_who_said_yes(scene, operator, now):
    order = asked_for(scene, now, approvals_needed=2, significance="critical")
    body = body_of(operator, f"/orders/{order.pk}/")
    assert "Needs 2 different people; 0 said yes so far." in body
    assert f'id="grave-{order.pk}"' in body


def test_an_order_that_ran_at_once_asks_for_a_review_until_there_is_one(scene, operator, now):
    order = asked_for(scene, now, decision="ALLOW", status="PROPOSED")
    Proposal.objects.filter(pk=order.pk).update(status="APPROVED")
    Execution.objects.create(proposal=order, machine=scene.machine, lease_token=1, claimed_at=now, outcome="proved")
    for status in ("EXECUTING", "COMPLETED"):
        Proposal.objects.filter(pk=order.pk).update(status=status)
    assert f'data-review="{order.pk}"' in body_of(operator, "/")
    assert shown(operator, "?status=to_review") == {order.pk}
    Proposal.objects.filter(pk=order.pk).update(reviewed_at=now, reviewed_by=scene.operator, review_finding="in_order")
    assert f'data-review="{order.pk}"' not in body_of(operator, "/")
    assert shown(operator, "?status=to_review") == set()
    assert "In order" in body_of(operator, f"/orders/{order.pk}/")


@pytest.mark.parametrize(("writes", "told"), [(4, "holds 4 writes of it"), (1, "holds 1 write of it"), (0, "")])
def test_an_order_whose_sender_was_lost_says_what_the_wire_log_holds_and_never_that_nothing_was_sent(
    scene, operator, now, writes, told
):
    order = asked_for(scene, now, decision="ALLOW", status="PROPOSED")
    Proposal.objects.filter(pk=order.pk).update(status="APPROVED")
    attempt = Execution.objects.create(proposal=order, machine=scene.machine, lease_token=1, claimed_at=now)
    Proposal.objects.filter(pk=order.pk).update(status="EXECUTING")
    services.mark_in_doubt(attempt, code="executor_lost", message="Whoever carried it out is gone.", now=now)
    services.resolve_in_doubt(order, actual_step=5, writes_known=writes, now=now)
    body = body_of(operator, f"/orders/{order.pk}/")
    assert told in body and "the control stood there already" not in body
    assert ("No write is recorded." in body) == (writes == 0)


def test_the_effect_is_shown_in_words_and_its_lists_are_not():
    class Attempt:
        effect = {"rate_of_rise_change_c_per_min": -1.25, "is_extrapolating": True, "points": [[1, 2]], "note": None}

    assert order_story.effect_words(Attempt()) == (
        ("rate of rise change", "-1.2 °C/min"),
        ("is extrapolating", "yes"),
    )
    assert order_story.effect_words(None) == ()


# --- saved views ---------------------------------------------------------------------------------


def save(client: Client, **body) -> tuple[int, dict]:
    answer = client.post("/v1/saved-views", json.dumps(body), content_type="application/json")
    return answer.status_code, answer.json()


def test_a_view_is_kept_shared_and_deleted_by_its_owner_alone(scene, operator, now):
    status, view = save(operator, name="Waiting", query="?status=open&cursor=abc&evil=1")
    assert (status, view["query"], view["is_shared"]) == (201, "status=open", False)
    lead = signed_in(scene.lead)
    assert "Waiting" in body_of(operator, "/orders/")
    assert "Waiting" not in body_of(lead, "/orders/")
    path = f"/v1/saved-views/{view['view_id']}"
    shared = operator.post(f"{path}/share", {"is_shared": True}, content_type="application/json")
    assert shared.status_code == 200
    assert "from operator" in body_of(lead, "/orders/")
    assert lead.post(f"{path}/delete", {}, content_type="application/json").status_code == 404
    assert operator.post(f"{path}/delete", {}, content_type="application/json").status_code == 200
    assert not SavedView.objects.exists()


def test_a_view_saved_again_under_its_name_is_replaced_and_bounded(scene, operator, monkeypatch):
    assert save(operator, name="V", query="status=open")[0] == 201
    assert save(operator, name="V", query="actor=agent")[0] == 201
    assert SavedView.objects.get().query == "actor=agent"
    SavedView.objects.update(is_shared=True)  # colleagues go on seeing it when its owner narrows it
    assert save(operator, name="V", query="actor=person")[1]["is_shared"] is True
    assert save(operator, name="V", query="actor=agent", is_shared=False)[1]["is_shared"] is False
    assert save(operator, name="W", query="cursor=abc")[0] == 400
    monkeypatch.setattr("commands.history.services_views.MAX_VIEWS", 1)
    status, answer = save(operator, name="W", query="actor=agent")
    assert (status, answer["error"]) == (409, "too_many_views")
    assert save(operator, name="V", query="status=open")[0] == 201


def test_an_agent_keeps_no_views(scene, now):
    from kernel.keys import create_key

    _, plain = create_key(organization=scene.organization, agent=scene.agent, scopes=["read", "propose"], now=now)
    client = Client(headers={"Authorization": f"Bearer {plain}"})
    assert save(client, name="V", query="status=open")[0] == 403
    assert client.get("/v1/saved-views").json()["results"] == []


# --- the envelope --------------------------------------------------------------------------------


def set_envelope(client: Client, machine, **body) -> tuple[int, dict]:
    answer = client.post(f"/v1/envelopes/{machine.pk}", json.dumps(body), content_type="application/json")
    return answer.status_code, answer.json()


def test_a_lead_sets_a_ramp_and_everybody_reads_it(scene, operator):
    lead, machine = signed_in(scene.lead), scene.machine
    limit = {"control": "heater", "max_ramp_step_per_s": 0.5, "max_change_step": 1}
    status, answer = set_envelope(lead, machine, limit=limit, reason="gently")
    assert status == 200
    heater = next(row for row in answer["limits"] if row["control"] == "heater")
    assert (heater["max_ramp_step_per_s"], heater["max_change_step"], heater["max_step"]) == (0.5, 1, 9)
    assert "0.5 steps per second" in body_of(operator, f"/machines/{machine.pk}/envelope/")
    assert "data-api" not in body_of(operator, f"/machines/{machine.pk}/envelope/")
    assert 'value="0.5"' in body_of(lead, f"/machines/{machine.pk}/envelope/")
    none = {"control": "heater", "max_ramp_step_per_s": None}
    assert set_envelope(lead, machine, limit=none, reason="as before")[0] == 200
    assert ControlLimit.objects.get(machine=machine, control="heater").max_ramp_step_per_s is None


def test_an_envelope_that_crosses_exceeds_or_comes_from_an_operator_is_refused(scene, operator):
    lead, machine = signed_in(scene.lead), scene.machine
    for limit, code in (
        ({"control": "heater", "min_step": 8, "max_step": 7}, "limits_crossed"),
        ({"control": "heater", "max_step": 10}, "beyond_machine"),
        ({"control": "fan", "min_step": 0}, "beyond_machine"),
    ):
        status, answer = set_envelope(lead, machine, limit=limit, reason="try")
        assert (status, answer["error"]) == (400, code)
    assert set_envelope(operator, machine, limit={"control": "fan"}, reason="x")[0] == 403
    assert set_envelope(lead, machine, reason="x")[0] == 400
    assert set_envelope(lead, machine, maxima={"max_bean_temp_c": 218.5}, reason="dark roasts are over")[0] == 200
    machine.refresh_from_db()
    assert machine.max_bean_temp_c == 218.5
    assert "218.5" in body_of(operator, f"/machines/{machine.pk}/envelope/")


def test_an_envelope_decided_on_an_old_look_is_stale(scene):
    lead, machine = signed_in(scene.lead), scene.machine
    etag = lead.get(f"/v1/envelopes/{machine.pk}")["ETag"]
    body = json.dumps({"limit": {"control": "fan", "max_step": 11}, "reason": "one"})

    def post():
        return lead.post(
            f"/v1/envelopes/{machine.pk}", body, content_type="application/json", headers={"If-Match": etag}
        )

    assert post().status_code == 200
    assert post().status_code == 412


# --- grants --------------------------------------------------------------------------------------


def test_the_grants_page_tells_signed_and_effective_level_signer_and_end(scene, operator, now):
    grant = console_scene.grant(scene, now, level="L4", expires_at=now + dt.timedelta(days=7))
    grant.lowered_to, grant.lowered_at, grant.lowered_reason = "L3", now, "Two orders were contradicted."
    grant.save()
    body = body_of(operator, "/grants/")
    for words in ("<strong>L3</strong>", "signed L4", "Lowered by a breaker", "Two orders were contradicted.", "lead"):
        assert words in body, words
    assert "data-api" not in body
    assert f"/v1/grants/{grant.pk}/revoke" in body_of(signed_in(scene.lead), "/grants/")


def test_ended_grants_are_shown_when_asked_for(scene, operator, now):
    grant = console_scene.grant(scene, now)
    grant.revoked_at = now
    grant.save()
    assert "No grant is in force" in body_of(operator, "/grants/")
    assert "Taken back" in body_of(operator, "/grants/?show=all")
