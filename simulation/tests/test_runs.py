"""Seeds are shared out among processes without a gap, and what they say adds up."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import pytest

from simulation import mutants, proof_page, race_hunt
from simulation.race_hunt import words
from simulation.runs import Summary, shares, together


@pytest.mark.parametrize("count", range(1, 9))
def test_every_seed_is_in_exactly_one_share(count: int) -> None:
    for first, last in ((0, 1), (0, 7), (5, 5_003), (10, 18)):
        ranges = [tuple(int(part) for part in share.split(":")) for share in shares(first, last, count)]
        assert len(ranges) == min(count, last - first)
        assert ranges[0][0] == first and ranges[-1][1] == last
        assert all(begin < end for begin, end in ranges)
        assert all(before[1] == after[0] for before, after in zip(ranges, ranges[1:], strict=False))


def test_processes_beside_each_other_take_as_long_as_the_longest() -> None:
    first = Summary.of(100, 2_400, Counter({"approve ok": 3}), [[7, "two"]], 5.0)
    second = Summary.of(50, 600, Counter({"approve ok": 1, "stop ok": 2}), [[3, "one"]], 10.0)
    both = together([first, second])
    assert (both.episodes, both.took_s, both.per_minute, both.decisions) == (150, 10.0, 900, 20.0)
    assert both.met == {"approve ok": 4, "stop ok": 2}
    assert both.failing == [[3, "one"], [7, "two"]]


def test_what_was_found_is_told_without_what_differs_from_seed_to_seed() -> None:
    first = "commit 3 by actor1 tick: order prp_01abc: APPROVED > EXECUTING: claimed while halted"
    assert words(first) == words(first.replace("3", "11").replace("actor1", "actor0").replace("01abc", "0zz9"))
    assert "claimed while halted" in words(first)
    assert "|" not in words("a | b")


def test_a_table_is_put_between_its_marks_and_nothing_else_of_the_page_changes(tmp_path: Path) -> None:
    page = tmp_path / "proof.md"
    page.write_text("Before.\n<!-- a -->\nold\nrows\n<!-- b -->\nAfter.\n", encoding="utf-8")
    for _ in range(2):
        proof_page.put_between(page, "<!-- a -->", "<!-- b -->", "| new |")
        assert page.read_text(encoding="utf-8") == "Before.\n<!-- a -->\n| new |\n<!-- b -->\nAfter.\n"


@pytest.mark.parametrize("text", ["no mark", "<!-- a --> alone", "<!-- b --> alone", "<!-- b --> before <!-- a -->"])
def test_a_page_without_both_marks_stays_as_it_is(tmp_path: Path, text: str) -> None:
    page = tmp_path / "proof.md"
    page.write_text(text, encoding="utf-8")
    with pytest.raises(ValueError, match="has no"):
        proof_page.put_between(page, "<!-- a -->", "<!-- b -->", "| new |")
    assert page.read_text(encoding="utf-8") == text


@pytest.mark.parametrize("hunt", [mutants, race_hunt])
def test_both_pages_have_their_marks(hunt: object) -> None:
    text = hunt.TABLE.read_text(encoding="utf-8")  # type: ignore[attr-defined]
    assert 0 <= text.find(hunt.BEGIN) < text.find(hunt.END)  # type: ignore[attr-defined]
