"""Who am I, and the shape of refusals."""

from kernel.models import ApiKey


def test_stranger_is_asked_who_they_are(api):
    answer = api.get("/v1/me")
    assert answer.status_code == 401
    assert answer.json()["error"] == "not_signed_in"
    assert answer["WWW-Authenticate"] == "Bearer"


def test_person_by_session_is_known(people, signed_in):
    body = signed_in(people.operator).get("/v1/me").json()
    assert body["kind"] == "person"
    assert "operate" in body["may"]
    assert "lead" not in body["may"]


def test_agent_by_key_may_look_and_propose_only(agent, api_by_key):
    caller = api_by_key(agent=agent, scopes=["propose"])
    # A key from before agents' scopes were bounded.
    ApiKey.objects.filter(agent=agent).update(scopes=["propose", "approve", "lead"])
    body = caller.get("/v1/me").json()
    assert body["kind"] == "agent"
    assert body["may"] == ["view", "propose"]


def test_unknown_address_under_v1_is_json(api):
    answer = api.get("/v1/nothing")
    assert answer.status_code == 404
    assert set(answer.json()) == {"error", "message", "how_to_fix"}
