"""The library's pages: what they find, what they show, to whom, and in how many queries."""

from __future__ import annotations

import html
import itertools
import json
import re
from typing import Any

import pytest
from django.test import Client

from kernel import clock
from kernel.models import Organization
from roasts import services
from roasts.library import questions as library
from roasts.library import services_library
from roasts.models import Machine, PackedRoast, Profile, Roast
from roasts.tests.stored_roasts import MARKS, curve_of, machine_of, store_roast

pytestmark = pytest.mark.django_db
LIBRARY_QUERIES = 6  # session, person, memberships, preferences, machines, roasts
ROAST_QUERIES = 12  # the same four, then roast, marks, limits, versions, corrections, gaps, notes, shift


@pytest.fixture
def machine(organization: Organization) -> Machine:
    return machine_of(organization)


@pytest.fixture
def lead(people: Any) -> Client:
    return signed_in(people.lead)


def signed_in(user: Any) -> Client:
    client = Client()
    client.force_login(user, backend="kernel.sign_in.ThrottledBackend")
    return client


def text_of(client: Client, path: str, **query: Any) -> str:
    answer = client.get(path, query)
    assert answer.status_code == 200, answer.status_code
    return answer.content.decode()


def listed(client: Client, **query: Any) -> list[str]:
    """Titles of the roasts on the page, in order."""
    return re.findall(r'<a href="/roasts/rst_\w+/">([^<]*)</a>', text_of(client, "/roasts/", **query))


def row(machine: Machine, title: str, days: int = 0, **values: Any) -> Roast:
    """A closed roast without samples: what the library lists."""
    roast = store_roast(machine, curve_of(end_s=3), (), days=days, title=title)
    Roast.objects.filter(pk=roast.pk).update(**values)
    return roast


# --- finding


def test_words_are_found_by_their_beginning_in_any_field_and_case(machine: Machine, lead: Client) -> None:
    for number, (title, values) in enumerate(
        [
            ("Yirgacheffee-Banko-Gotiti_no4", {}),
            ("A", {"bean": "Kenya AA"}),
            ("B", {"origin": "Huila"}),
            ("C", {"lot": "L-77"}),
            ("D", {"variety": "Geisha", "process": "natural"}),
        ]
    ):
        store_roast(machine, curve_of(end_s=3), (), days=number, title=title, **values)
    for words, found in {
        "gotiti": ["Yirgacheffee-Banko-Gotiti_no4"],
        "NO4 yirga": ["Yirgacheffee-Banko-Gotiti_no4"],
        "ken": ["A"],
        "huila": ["B"],
        "l 77": ["C"],
        "77": ["C"],
        "natural geisha": ["D"],
        "enya": [],
        "geisha kenya": [],
        "%": ["D", "C", "B", "A", "Yirgacheffee-Banko-Gotiti_no4"],
    }.items():
        assert listed(lead, q=words) == found, words


@pytest.mark.parametrize("walked", [1, 4, 1000])
def test_several_words_find_the_same_wherever_the_walk_ends(
    machine: Machine, people: Any, monkeypatch: pytest.MonkeyPatch, walked: int
) -> None:
    for number in range(12):
        words = {"bean": "Guji" if number % 2 else "Huila", "origin": "Huila" if number % 3 else "Kenya"}
        roast = store_roast(machine, curve_of(end_s=3), (), days=number % 5, title=f"r{number}", **words)
        counted = {"development_ratio": number % 4 / 10, "total_ms": number % 3, "drop_bean_temp_c": number % 2}
        Roast.objects.filter(pk=roast.pk).update(**counted)
    monkeypatch.setattr(library, "WALKED", walked)
    monkeypatch.setattr(library, "PAGE_ROWS", 2)
    lead = people.principal("lead")
    for order, text in itertools.product(library.ORDERS, ("guji huila", "huila kenya", "kenya guji huila", "huila")):
        search = library.Search(words=text, order=order)
        plain = library.find(lead, search).order_by(*library.ORDERS[order])
        assert all_pages(lead, search) == list(plain.values_list("pk", flat=True)), (order, text)


def all_pages(principal: Any, search: library.Search) -> list[str]:
    """Every roast of a search, page by page."""
    page = library.page_of(principal, search)
    found = [roast.pk for roast in page.rows]
    while page.next_cursor:
        page = library.page_of(principal, search, page.next_cursor)
        found += [roast.pk for roast in page.rows]
    return found


@pytest.mark.parametrize(
    "words", ["it's", "a&b", "x | y", "!", "(", "' OR 1=1 --", "\\", "a:*", "%_", "é", "\u00df" * 300]
)
def test_no_words_break_the_search(machine: Machine, lead: Client, words: str) -> None:
    row(machine, "it's a&b")
    listed(lead, q=words)


@pytest.mark.parametrize("days", [("0001-01-01", "9999-12-31"), ("9999-12-31", "0001-01-01")])
def test_the_ends_of_the_calendar_break_no_search(machine: Machine, lead: Client, days: tuple[str, str]) -> None:
    row(machine, "first")
    assert listed(lead, **{"from": days[0], "to": days[1]}) == ["first"], "no roast was ever there: left out"


def test_machine_days_and_ratio_narrow_it(organization: Organization, machine: Machine, lead: Client) -> None:
    other = machine_of(organization, "Other")
    row(machine, "first", 0, development_ratio=0.14)
    row(machine, "second", 1, development_ratio=0.2)
    row(other, "third", 2, development_ratio=0.25)
    assert listed(lead, machine=other.pk) == ["third"]
    assert listed(lead, **{"from": "2026-03-02", "to": "2026-03-02"}) == ["second"]
    assert listed(lead, dtr_from="14", dtr_to="20") == ["second", "first"], "the edges count in"
    assert listed(lead, dtr_from="14,1") == ["third", "second"]


def test_it_is_ordered_as_asked_and_a_measure_leaves_the_rest_out(machine: Machine, lead: Client) -> None:
    row(machine, "a", 0, development_ratio=0.14, total_ms=500_000)
    row(machine, "b", 1, development_ratio=None, total_ms=600_000)
    row(machine, "c", 2, development_ratio=0.2, total_ms=400_000)
    assert listed(lead) == ["c", "b", "a"] == listed(lead, order="nonsense")
    assert listed(lead, order="oldest") == ["a", "b", "c"]
    assert listed(lead, order="ratio") == ["c", "a"]
    assert listed(lead, order="total") == ["b", "a", "c"]


@pytest.mark.parametrize("order", ["newest", "bean", "ratio"])
def test_pages_follow_one_another_without_a_hole(
    machine: Machine, lead: Client, order: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("roasts.library.questions.PAGE_ROWS", 2)
    for number in range(5):
        row(machine, f"r{number}", number % 3, development_ratio=0.1 + number % 2 / 10)
    seen: list[str] = []
    query: dict[str, Any] = {"order": order}
    while True:
        body = text_of(lead, "/roasts/", **query)
        seen += re.findall(r'<a href="/roasts/rst_\w+/">([^<]*)</a>', body)
        more = re.search(r'rel="next" href="\?([^"]*)"', body)
        if not more:
            break
        query = dict(pair.split("=", 1) for pair in html.unescape(more.group(1)).split("&"))
    assert sorted(seen) == [f"r{number}" for number in range(5)]


def test_a_cursor_of_nobody_shows_the_first_page_and_says_so(machine: Machine, lead: Client) -> None:
    row(machine, "a")
    body = text_of(lead, "/roasts/", cursor="nonsense")
    assert "not one of ours" in body and ">a</a>" in body


def test_an_empty_library_says_what_fills_it(lead: Client) -> None:
    assert "No roasts yet" in text_of(lead, "/roasts/")
    assert "No roast answers this search" in text_of(lead, "/roasts/", q="x")


def test_the_library_asks_as_often_for_many_as_for_one(
    machine: Machine, lead: Client, django_assert_max_num_queries: Any
) -> None:
    for number in range(12):
        row(machine, f"r{number}", number)
    with django_assert_max_num_queries(LIBRARY_QUERIES):
        lead.get("/roasts/", {"q": "r", "order": "ratio"})


# --- one roast


def test_a_roast_shows_its_phases_marks_and_who_says_so(machine: Machine, lead: Client, people: Any) -> None:
    roast = store_roast(machine, bean="Gigesa", weight_in_g=400.0, weight_out_g=350.0)
    services.mark_event(
        people.principal("operator"), roast, kind="first_crack_start", elapsed_ms=440_000, now=clock.now()
    )
    body = text_of(lead, f"/roasts/{roast.pk}/")
    for words in ("Gigesa", "Drying", "5:10", "12.5 %", "7:20", "(operator)", "another counts", "assumed: 1550 W"):
        assert words in body, words
    assert "100.0" not in re.findall(r"DTR.*?</dd>", body, re.DOTALL)[0] and "18.5 %" in body
    chart = json.loads(html.unescape(re.findall(r'data-marks="([^"]*)"', body)[0]))
    assert [mark["elapsed_ms"] for mark in chart] == [0, 440_000, 540_000]


def test_a_crash_is_said_in_a_sentence(machine: Machine, lead: Client) -> None:
    curve = curve_of()
    temps_c = curve.bean_temp_c.copy()
    temps_c[470:] = temps_c[470] + (curve.elapsed_s[470:] - 470) * 0.08
    crashing = type(curve)(curve.elapsed_s, temps_c, heater_step=curve.heater_step)
    assert "crashed at" in text_of(lead, f"/roasts/{store_roast(machine, crashing).pk}/")


def test_an_open_roast_is_counted_on_the_spot(machine: Machine, lead: Client) -> None:
    opened = Roast.objects.create(
        organization=machine.organization, machine=machine, started_at=clock.now(), device_start_ms=0, title="Now"
    )
    body = text_of(lead, f"/roasts/{opened.pk}/")
    assert "No bean temperature" in body and ">Save</button>" in body


def test_corrections_notes_and_provenance_are_on_the_page(machine: Machine, lead: Client, people: Any) -> None:
    roast = store_roast(machine, bean="Old <b>", source="telemetry", verified_points=7, late_points=3)
    operator, now = people.principal("operator"), clock.now()
    services_library.describe_roast(operator, roast, changes={"bean": "New"}, reason="mixed up", now=now)
    note = {"cupping_score": 86.5, "attributes": {}, "defects": ["tipped"], "colour_whole": None, "colour_ground": None}
    services_library.note_quality(operator, roast, **note, text="<script>", now=now)
    PackedRoast.objects.create(roast=roast, format="roast/1", payload=b"x", digest="ab" * 32, samples=1, packed_at=now)
    body = text_of(lead, f"/roasts/{roast.pk}/")
    for words in (
        "mixed up",
        "86.5",
        "tipped",
        "7 points verified",
        "3 points came after",
        "ab" * 32,
        "&lt;script&gt;",
    ):
        assert words in body, words
    assert "Old <b>" not in body and "Old &lt;b&gt;" in body


def test_a_viewer_looks_and_changes_nothing(machine: Machine, people: Any) -> None:
    roast = store_roast(machine)
    viewer = signed_in(people.viewer)
    body = text_of(viewer, f"/roasts/{roast.pk}/")
    assert "data-mark=" not in body and 'id="describe"' not in body and 'id="note"' not in body
    assert "make-profile" not in text_of(viewer, "/roasts/")


def test_a_lead_makes_a_new_version_of_a_profile_that_is_in_use(machine: Machine, lead: Client) -> None:
    store_roast(machine)
    own = {"organization": machine.organization, "created_at": clock.now()}
    Profile.objects.create(name="House", **own)
    Profile.objects.create(name="Old", is_archived=True, **own)
    body = text_of(lead, "/roasts/")
    assert "a new version of House" in body and "a new version of Old" not in body


def test_a_roast_asks_a_fixed_number_of_times(
    machine: Machine, lead: Client, people: Any, django_assert_max_num_queries: Any
) -> None:
    roast = store_roast(machine)
    for number in range(5):
        services.mark_event(people.principal("lead"), roast, kind="note", elapsed_ms=number, now=clock.now())
    with django_assert_max_num_queries(ROAST_QUERIES):
        lead.get(f"/roasts/{roast.pk}/")


# --- several, and profiles


def test_a_comparison_says_how_far_apart_and_what_cannot_be_compared(machine: Machine, lead: Client) -> None:
    one, two = store_roast(machine, title="One"), store_roast(machine, curve_of(faster=1.1), days=1, title="Two")
    silent = store_roast(machine, curve_of(faster=1.2), MARKS[::2], days=2, title="Silent")
    ids = [one.pk, two.pk, silent.pk]
    body = text_of(lead, "/roasts/compare/", ids=ids, align="first_crack")
    assert "Differences from One" in body and "has no first crack start" in body
    laid = json.loads(html.unescape(re.findall(r'data-laid="([^"]*)"', body)[0]))
    assert [row["zero_s"] for row in laid] == [450, 450, None] and laid[0]["end_s"] == 540
    by_comma = text_of(lead, "/roasts/compare/", ids=",".join(ids[:2]), align="nonsense")
    assert "9.6" in by_comma, "0.02 °C/s for 480 s"


def test_a_comparison_of_one_asks_for_more(machine: Machine, lead: Client) -> None:
    assert "Choose two to six" in text_of(lead, "/roasts/compare/", ids=store_roast(machine).pk)
    assert "Choose two to six" in text_of(lead, "/roasts/compare/")


def profile_of(people: Any, roasts: list[Roast], name: str = "House") -> Any:
    document = services_library.document_of(roasts)
    return services_library.create_profile(
        people.principal("lead"), document, name=name, bean="Gigesa", change_note="the first", now=clock.now()
    )


def test_a_profile_shows_its_curve_versions_and_who_follows(machine: Machine, lead: Client, people: Any) -> None:
    roast = store_roast(machine, title="Best")
    version = profile_of(people, [roast])
    principal, now = people.principal("lead"), clock.now()
    later = services_library.document_of([store_roast(machine, curve_of(faster=1.1), days=1)])
    services_library.add_version(principal, version.profile, later, change_note="hotter", now=now)
    services_library.follow_profile(principal, machine, version, now=now)
    path = f"/profiles/{version.profile_id}/"
    newest, first = text_of(lead, path), text_of(lead, path, version="1")
    assert "hotter" in newest and "the first" in newest and "A width around 1 roast" in newest
    assert "not the newest" in first and ">Best</a>" in first and "follow this version" in first
    document = json.loads(html.unescape(re.findall(r'data-profile="([^"]*)"', first)[0]))
    assert document["roast_ids"] == [roast.pk]
    assert "House" in text_of(lead, "/profiles/")
    services_library.archive_profile(principal, version.profile, is_archived=True, now=now)
    assert "House" not in text_of(lead, "/profiles/") and "House" in text_of(lead, "/profiles/", archived="yes")
    assert 'data-follow="' not in text_of(lead, path)


def test_another_organisation_finds_none_of_it(machine: Machine, people: Any) -> None:
    roast = store_roast(machine, title="Secret")
    version = profile_of(people, [roast], "Secret profile")
    stranger = signed_in(people.stranger)
    for path in (f"/roasts/{roast.pk}/", f"/profiles/{version.profile_id}/"):
        assert stranger.get(path).status_code == 404
        assert Client().get(path).status_code == 302
    for path in (
        "/roasts/",
        "/roasts/?q=secret",
        f"/roasts/?machine={machine.pk}",
        f"/roasts/compare/?ids={roast.pk},x",
    ):
        assert "Secret" not in stranger.get(path).content.decode()
    assert "Secret" not in stranger.get("/profiles/").content.decode()
