"""The German catalog against the source: nothing asked for is missing, nothing is garbled, what matters is exact."""

from __future__ import annotations

import re
from collections import Counter
from pathlib import Path

import polib
import pytest
from django.utils import translation

from commands.console import known_patterns, known_sentences, known_told, script_words
from kernel.models import Language
from roastops import catalogs
from roastops.testing import bare_words, catalog_words, written_sentences

CATALOG = catalogs.LOCALE_DIR / "de" / "LC_MESSAGES" / "django.po"
_GAP = re.compile(r"%\(\w+\)s|(?<!%)\{\w+\}|</?\w+[^>]*>|&\w+;")


@pytest.fixture(scope="module")
def entries() -> dict[str, polib.POEntry]:
    """msgid (both forms of a plural) → its entry."""
    found = {}
    for entry in polib.pofile(str(CATALOG)):
        found[entry.msgid] = entry
        if entry.msgid_plural:
            found[entry.msgid_plural] = entry
    return found


def worded(entry: polib.POEntry) -> list[str]:
    return list(entry.msgstr_plural.values()) if entry.msgid_plural else [entry.msgstr]


@pytest.mark.parametrize("part", ["of_templates", "of_scripts", "of_modules", "of_fields"])
def test_every_sentence_the_source_asks_for_has_a_german_one(entries, part):
    asked = getattr(catalog_words, part)()
    assert len(asked) > 50, "the reader of the source found next to nothing"
    missing = {words: sorted(where) for words, where in asked.items() if words not in entries}
    assert not missing


def test_no_german_sentence_is_empty_or_fuzzy(entries):
    assert not [e.msgid for e in entries.values() if e.fuzzy or e.obsolete or not all(w.strip() for w in worded(e))]


def test_the_catalog_holds_nothing_that_nobody_asks_for(entries):
    assert set(entries) == set(catalog_words.of_everything())


def test_gaps_tags_and_entities_are_those_of_the_english_sentence(entries):
    for entry in entries.values():
        originals = [entry.msgid, entry.msgid_plural] if entry.msgid_plural else [entry.msgid]
        for original, german in zip(originals, worded(entry), strict=True):
            assert Counter(_GAP.findall(german)) == Counter(_GAP.findall(original)), original


def test_no_german_sentence_could_end_the_attribute_it_may_stand_in(entries):
    for entry in entries.values():
        for german in worded(entry):
            assert '"' not in re.sub(r"<[^>]*>", "", german), german


@pytest.mark.parametrize(
    ("english", "german"),
    [
        (
            "NOT PROVED: heat may still be on. Use the panel or the mains now.",
            "NICHT NACHGEWIESEN: Die Heizung kann noch an sein. Jetzt am Bedienfeld abschalten oder vom Netz trennen.",
        ),
        ("NOT PROVED", "NICHT NACHGEWIESEN"),
        (
            "Heat off is not cold. Beans still hot: drop by hand.",
            "Heizung aus heißt nicht kalt. Die Bohnen sind noch heiß: von Hand auswerfen.",
        ),
        ("Heat off, proved. Heat off is not cold.", "Heizung aus, nachgewiesen. Heizung aus heißt nicht kalt."),
        (
            "STOP not confirmed: use the panel or the mains.",
            "STOP nicht bestätigt: am Bedienfeld abschalten oder vom Netz trennen.",
        ),
        ("STOP sent, heat off NOT PROVED.", "STOP gesendet, „Heizung aus“ NICHT NACHGEWIESEN."),
        (
            "STOP sent; no proof yet. Be ready at the panel.",
            "STOP gesendet; noch kein Nachweis. Am Bedienfeld bereit sein.",
        ),
        (
            "<strong>People first.</strong> Everybody out of the way; call the fire brigade if in any doubt.",
            "<strong>Menschen zuerst.</strong> Alle aus dem Gefahrenbereich; beim geringsten Zweifel die Feuerwehr"
            " rufen.",
        ),
        (
            "Heat off: STOP, and the machine's panel. <strong>Leave the fan as it is.</strong>",
            "Heizung aus: STOP und das Bedienfeld der Maschine. <strong>Den Lüfter lassen, wie er ist.</strong>",
        ),
        (
            "<strong>Keep the flap shut</strong>: do not drop the beans, do not give it air.",
            "<strong>Klappe geschlossen halten</strong>: Bohnen nicht auswerfen, keine Luft zuführen.",
        ),
        ("<strong>Mains off</strong> at the wall.", "<strong>Netzstrom abschalten</strong>, an der Wand."),
    ],
)
def test_what_a_life_may_hang_on_is_said_exactly(english, german):
    with translation.override("de"):
        assert translation.gettext(english) == german
    with translation.override("en"):
        assert translation.gettext(english) == english


def test_stop_is_called_stop_in_every_sentence(entries):
    for entry in entries.values():
        for german in worded(entry):
            assert ("STOP" in german.replace("GESTOPPT", "")) == ("STOP" in entry.msgid.replace("STOPPED", "")), german


def test_off_the_panel_or_the_mains_is_said_in_one_way(entries):
    for english in entries:
        if re.search("panel,? or (cut )?the mains", english):
            german = worded(entries[english])[0].replace("Am Bedienfeld", "am Bedienfeld")
            assert re.search("am Bedienfeld( der Maschine)? abschalten oder vom Netz trennen", german), german


def test_the_scripts_get_exactly_what_they_ask_for():
    asked = set(catalog_words.of_scripts())
    assert set(script_words.SAID_BY_SCRIPTS) == asked
    assert len(script_words.SAID_BY_SCRIPTS) == len(asked)


def test_an_english_page_carries_no_table():
    with translation.override("en"):
        assert script_words.table_json() == ""
    with translation.override("de"):
        assert '"NOT PROVED": "NICHT NACHGEWIESEN"' in script_words.table_json()


KNOWN = (
    *known_sentences.BY_HAND,
    *known_sentences.LINK,
    *known_sentences.ALARMS,
    *known_sentences.PINS,
    *known_told.TOLD,
    *known_patterns.PATTERNS,
)
#: Sentences put together from pieces at run time: no source has one whole.
MADE_OF_PIECES = {
    "{a}: a golden roast needs a turning point and a drop.",
    "This order is not awaiting approval: {a} by {b} ({c}).", "This order is not awaiting approval: {a} by {b}.",
    "{a} Power {b} → {c}.", "{a} Fan {b} → {c}.", "{a} looked: the machine reads {b}. {c}", "{a} gap(s): {b}",
    "{a} and {b}", "{a}; {b}", "{a} is outside {b}", "extrapolating: {a}", "batch mass {a}", "preheat {a}",
    "probe at charge {a}", "time since charge {a}", "heater {a}", "fan {a}", "drum {a}", "mains voltage {a}",
    "{a} °C against the twin's curve without it.", "{a} °C against the twin's curve without it; {b}.",
    "The drill did not turn heat down: it was at 0 already.", "No STOP drill has passed since you began.",
    "No order up and none down was seen on the wire and read back since you began.",
}  # fmt: skip


def test_every_known_sentence_is_one_that_some_module_writes():
    written = written_sentences.of_rooms() | set(catalog_words.inputs_of_templates()) | script_reasonings()
    lost = [each for each in KNOWN if written_sentences.without_names(each) not in written]
    assert set(lost) <= MADE_OF_PIECES, lost


def script_reasonings() -> set[str]:
    """What scripts say for a person in an order's reasoning."""
    scripts = "".join(path.read_text() for path in (catalog_words.BASE_DIR / "static" / "src").glob("*.js"))
    return set(re.findall(r'"((?:[^"\\]|\\.)*)"', scripts))


@pytest.mark.parametrize(
    "module",
    [
        "agents/heuristics.py", "commands/commissioning/drill.py", "commands/commissioning/steps.py",
        "commands/history/alerts.py", "commands/history/breakers.py", "commands/loop/interlocks.py",
        "commands/rules/significance.py", "evals/report.py", "roasts/library/page_words.py",
    ],
)  # fmt: skip
def test_whatever_these_modules_tell_people_is_known(module):
    known = {written_sentences.without_names(each) for each in KNOWN} | set(catalog_words.of_modules())
    told = written_sentences.sentences(catalog_words.BASE_DIR / module)
    assert len(told) >= 2, "the reader of the source found next to nothing"
    assert [each for each in told if each not in known and each.strip("{} →.") != ""] == []


def test_no_template_and_no_script_says_a_word_that_nobody_can_translate():
    templates = sorted((catalog_words.BASE_DIR / "templates").rglob("*.html"))
    assert bare_words.of_templates(templates) == {}
    scripts = sorted((catalog_words.BASE_DIR / "static" / "src").glob("*.js"))
    assert {path.name: found for path in scripts if (found := bare_words.of_script(path.read_text()))} == {}


@pytest.mark.parametrize(
    ("source", "found"),
    [
        ("<p>Hello there</p>", ["Hello there"]),
        ('<p aria-label="Hello there">{{ x }}</p>', ["aria-label=Hello there"]),
        ("<p>{% if x %}Hello{% endif %}</p>", ["Hello"]),
        ('<p>{{ x|default:"nobody" }}</p>', ['x|default:"nobody"']),
        ("<p>{{ n }} order{{ n|pluralize }}</p>", ["n|pluralize", "… order…"]),
        ('<p>{% translate "Hello" %} {{ x }} · <code>make run</code> 5 ms STOP</p>', []),
        ("<p>{% blocktranslate %}Hello {{ x }}{% endblocktranslate %}</p>", []),
        ('<p data-path="/v1/orders" class="big text">{{ x|default:"–" }}</p>', []),
    ],
)
def test_the_reader_of_templates_finds_bare_words(source, found):
    assert bare_words.of_template(source) == found


@pytest.mark.parametrize(
    ("source", "found"),
    [
        ('say("No alarm to shelve.")', ["No alarm to shelve."]),
        ('x = a ? "Off" : "On the wire";', ["Off", "On the wire"]),
        ('say(t("No alarm to shelve.")); roastops.t("Off")', []),
        ('box.querySelector("details.shelve[open] > summary"); // Not a word of it', []),
    ],
)
def test_the_reader_of_scripts_finds_bare_words(source, found):
    assert bare_words.of_script(source) == found


def test_a_sentence_without_translation_is_shown_in_english():
    with translation.override("de"):
        assert translation.gettext("Nobody has translated this.") == "Nobody has translated this."


def test_settings_and_preferences_name_the_same_languages(settings):
    assert list(settings.LANGUAGES) == list(Language.choices)
    for code in Language.values:
        assert code == settings.LANGUAGE_CODE or (catalogs.LOCALE_DIR / code / "LC_MESSAGES" / "django.po").is_file()


def test_a_catalog_is_compiled_when_its_source_changed_and_not_otherwise(tmp_path: Path):
    source = tmp_path / "de" / "LC_MESSAGES" / "django.po"
    source.parent.mkdir(parents=True)
    source.write_text(CATALOG.read_text())
    compiled = source.with_suffix(".mo")
    assert catalogs.compile_all(tmp_path) == [compiled]
    assert catalogs.compile_all(tmp_path) == []
    assert list(source.parent.iterdir()) != [] and {p.suffix for p in source.parent.iterdir()} == {".po", ".mo"}
    source.write_text(source.read_text().replace("NICHT NACHGEWIESEN", "NICHT BEWIESEN"))
    assert catalogs.compile_all(tmp_path) == [compiled]
    assert b"NICHT BEWIESEN" in compiled.read_bytes()
