"""One real server: uvicorn as a child, the demo organisation, another one beside it, keys and sessions.

The demo's virtual machine runs too, so that STOP finds one; no loop tends it, so nothing else moves meanwhile.
"""

from __future__ import annotations

import contextlib
import functools
import json
import os
import re
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
from django.urls import URLPattern, URLResolver, get_resolver

from commands.console.pages import PANELS
from drivers import keeper_config
from roastops.testing import servers
from roastops.tests.stack import Stack, base_environment, tell, wait_for

#: Who asks: a person of the demo, its lead, its agent; a lead and an agent of another organisation.
EVERYBODY = ("operator", "lead", "agent", "stranger", "strange_agent")
_PARAMETER = re.compile(r"<(?:\w+:)?(\w+)>|\(\?P<(\w+)>[^)]*\)")
#: Open by design; they name nobody.
PUBLIC = {"/livez", "/readyz", "/ready", "/health", "/metrics", "/v1/openapi.json", "/v1/docs", "/sign-in/"}
EVERY_SCOPE = "read,propose,approve,stop,operate,lead,admin"
STRANGER_PASSWORD = "a-stranger's-password"

_NEIGHBOURS = f"""
from django.contrib.auth.models import Permission, User
from django.db import transaction
from kernel import clock
from kernel.models import Agent, Membership, Organization
from roastops import staff
other = Organization.objects.create(slug="other", name="Other", created_at=clock.now())
for name, is_staff in (("stranger", False), ("staffstranger", True)):
    user = User.objects.create_user(name, password={STRANGER_PASSWORD!r}, is_staff=is_staff)
    for role in ("lead", "operator", "admin", "auditor", "judge"):
        Membership.objects.create(organization=other, user=user, role=role)
wanted = {{name for names in staff.PERMISSIONS.values() for name in names}}
user.user_permissions.set(Permission.objects.filter(codename__in=wanted))
Agent.objects.create(organization=other, name="roastrunner", created_at=clock.now())
"""
_HAPPENED = """
import json
from django.db import transaction
from django.contrib.auth.models import User
from commands.history import services_alerts
from commands.plans import services_plans
from commands.records import halts
from commands.history.alerts import Found, Kind, Severity
from commands.rules.conversion import OrderType
from commands.models import Grant
from kernel import clock, principals
from kernel.models import Agent, Organization
from roasts.models import Machine, Roast
from roasts.recording import services_planned
machine = Machine.objects.get(organization__slug="demo")
roast = Roast.objects.filter(machine=machine).order_by("id").first()
with transaction.atomic():
    alarm = halts.raise_alarm(
        machine, code="test", cause="demo-secret-cause", consequence="c", action="a", now=clock.now())
person = principals.for_user(User.objects.get(username="operator"))
plan = services_plans.propose_plan(
    person, machine=machine, title="demo-secret-title", reasoning="demo-secret-plan", now=clock.now(),
    orders=[services_plans.PlannedOrder(OrderType.SET_FAN, 5, "step")])
planned = services_planned.plan_batch(
    person, machine, said={"bean": "demo-secret-bean"}, version=machine.profile_version, now=clock.now())
now = clock.now()
alert = services_alerts.raise_found(
    machine.organization,
    Found(Kind.HIGH_LATENCY, Severity.LOW, "demo-secret-subject", "demo-secret-alert", "", now, machine.pk), now=now)
print(json.dumps({
    "alert_id": alert.pk,
    "plan_id": plan.pk, "machine_id": machine.pk, "machine": machine.name, "roast_id": roast.pk,
    "planned_id": planned.pk, "alarm_id": alarm.pk,
    "event_id": roast.events.order_by("id").first().pk, "grant_id": Grant.objects.get(machine=machine).pk,
    "agent_id": Agent.objects.get(organization__slug="demo").pk, "site_id": machine.site_id,
    "profile_id": machine.profile_version.profile_id,
    "organization_id": machine.organization_id, "organization": machine.organization.name,
}))
"""


@contextlib.contextmanager
def one_server() -> Iterator[Stack]:
    """The server, its demo loaded, `keys` of EVERYBODY, `demo["ids"]` what a stranger must not see; reaped."""
    with contextlib.ExitStack() as held:
        name = held.enter_context(tempfile.TemporaryDirectory(prefix="ro-", ignore_cleanup_errors=True))
        port = servers.free_port()
        environment = base_environment(Path(name), port)
        if os.environ.get("DATABASE_URL"):  # the suite's PostgreSQL pair: one of our own, since the server keeps rows
            environment["DATABASE_URL"] = held.enter_context(servers.running(servers.start_brief_postgres)).url
        stack = Stack(Path(name), environment, None, None, port)
        try:
            stack.migrate()
            _furnish(stack)
            stack.start_machine()
            _start_keeper(stack)
            stack.start_web()
            order = stack.order("SET_POWER", 3, reasoning="demo-secret-reasoning")
            stack.demo["ids"]["proposal_id"] = order["proposal_id"]
            yield stack
        except BaseException:
            tell(stack)
            raise
        finally:
            stack.close()


def _start_keeper(stack: Stack) -> None:
    config = keeper_config.config_path(stack.folder / "data" / "run", stack.machine_id)
    stack.spawn("keeper", sys.executable, "-m", "drivers.keeper", "--config", str(config))
    wait_for(lambda: (stack.keeper_status() or {}).get("reading"), "the keeper", 20)


def _furnish(stack: Stack) -> None:
    """The demo with what happened there, the other organisation, everybody's keys."""
    key = ("createkey", "--org", "other")
    *_, stranger, strange_agent, happened = stack.load_demo(
        ("collectstatic", "--no-input", "--verbosity", "0"),
        ("shell", "--no-imports", "-c", _NEIGHBOURS),
        (*key, "--user", "stranger", "--scopes", EVERY_SCOPE),
        (*key, "--agent", "roastrunner", "--scopes", "read,propose"),
        ("shell", "--no-imports", "-c", _HAPPENED),
    )
    stack.keys |= {"stranger": stranger, "strange_agent": strange_agent}
    stack.demo["ids"] = json.loads(happened.splitlines()[-1])


def signed_in(stack: Stack, username: str, password: str) -> httpx.Client:
    """A browser's session by the sign-in page, its CSRF token sent with everything."""
    browser = httpx.Client(base_url=stack.url(""), timeout=30)
    form = browser.get("/sign-in/")
    token = re.search(r'name="csrfmiddlewaretoken" value="(\w+)"', form.text)
    if token is None:
        raise AssertionError(f"no form: {form.status_code} {form.text[:300]}")
    fields = {"username": username, "password": password, "csrfmiddlewaretoken": token[1]}
    answer = browser.post("/sign-in/", data=fields)
    if answer.status_code != 302:
        raise AssertionError(f"{username} cannot sign in: {answer.status_code}")
    browser.headers["X-CSRFToken"] = browser.cookies["csrftoken"]
    return browser


def routes(resolver: URLResolver | None = None, prefix: str = "") -> Iterator[str]:
    """Every route of the resolver, as written."""
    for entry in (resolver or get_resolver()).url_patterns:
        route = prefix + str(entry.pattern)
        if isinstance(entry, URLPattern):
            yield route
        else:
            yield from routes(entry, route)


def addresses(ids: dict[str, str]) -> list[str]:
    """Every route with the demo's own ids in it; the admin's pages with the id of what they show. A roast's routes
    twice: with one that was roasted, and with one that is only planned."""
    found = set()
    for route in routes():
        app_model = re.match(r"admin/(\w+)/(\w+)/", route)
        object_id = ids.get(f"{app_model[2]}_id", ids["machine_id"]) if app_model else ids["machine_id"]
        values = {"panel": "queue", "object_id": object_id, "app_label": "kernel", "url": "x", "number": "1", **ids}
        path = _PARAMETER.sub(functools.partial(_value, values, object_id), route)
        found.add("/" + re.sub(r"[\^$]|\\Z", "", path))
    planned = {path.replace(ids["roast_id"], ids["planned_id"]) for path in found}
    panels = {f"/machines/{ids['machine_id']}/panels/{name}/" for name in PANELS}
    return sorted(found | planned | panels)


def _value(values: dict[str, str], default: str, match: re.Match[str]) -> str:
    return values.get(match[1] or match[2], default)


def ask(client: Any, method: str, path: str, **extra: Any) -> tuple[int, str, httpx.Headers]:
    """Status, the beginning of the body and the headers; a stream is read for a moment only."""
    body: dict[str, Any] = {"json": {}} if method in ("POST", "PUT", "PATCH") else {}
    with client.stream(method, path, **body, **extra) as answer:
        if "event-stream" in answer.headers.get("content-type", ""):
            text = next(answer.iter_text(), "") if method == "GET" else ""
        else:
            text = answer.read().decode(errors="replace")
        return answer.status_code, text, answer.headers


def is_refusal(status: int, text: str, method: str = "GET") -> bool:
    """Whether the answer is a 4xx in the contract's one shape (HEAD has no body to judge)."""
    if not 400 <= status < 500:
        return False
    if method == "HEAD":
        return True
    with contextlib.suppress(ValueError):
        body = json.loads(text)
        return isinstance(body, dict) and all(
            isinstance(body.get(name), str) and (body[name] or name == "how_to_fix")
            for name in ("error", "message", "how_to_fix")
        )
    return False


def server_errors(stack: Stack) -> list[str]:
    """What the server logged at level ERROR or worse, or died of: nobody foresaw it. (A strange Host is foreseen.)"""
    found = []
    for line in (stack.folder / "web.log").read_text(errors="replace").splitlines():
        entry: dict[str, Any] = {}
        with contextlib.suppress(ValueError):
            entry = json.loads(line)
        is_bad = entry.get("level") in ("ERROR", "CRITICAL") and not str(entry["logger"]).startswith("django.security")
        if is_bad or (not entry and "Exception in ASGI" in line):
            found.append(line[:3000])
    return found


def main() -> int:
    """Keep one running until a line comes; for people at work on it."""
    with one_server() as stack:
        shown = {"url": stack.url(""), "folder": str(stack.folder), "keys": stack.keys, "demo": stack.demo}
        sys.stdout.write(json.dumps(shown) + "\n")
        sys.stdout.flush()
        sys.stdin.readline()
    return 0


if __name__ == "__main__":
    sys.exit(main())
