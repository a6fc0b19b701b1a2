"""The house's laws over the whole tree (design/house.md, spec/proof.md "Detectors").

Who is excused stands here, each with a reason; an excuse nobody needs any more fails too.
"""

from __future__ import annotations

import functools
import subprocess
import sys
from collections.abc import Iterable

import pytest

from kernel.tests import detectors
from kernel.tests.detectors import Detector, Finding, Source

#: Deciding modules: plain values in, plain values out. All of ours that they import must be pure too.
PURE = frozenset(
    """
    agents.corridor agents.heuristics
    commands.alarms.states
    commands.commissioning.drill commands.commissioning.steps
    commands.governor commands.lifecycle commands.reasons
    commands.history.alerts commands.history.analytics commands.history.breakers commands.history.sums
    commands.loop.interlocks
    commands.plans.sequence
    commands.rules.authority commands.rules.conversion commands.rules.machine commands.rules.policy
    commands.rules.significance commands.rules.values
    drivers.bullet.codec_r1 drivers.bullet.codec_r2 drivers.bullet.readings_r2 drivers.bullet.tables
    drivers.lines.greeting drivers.lines.parsing drivers.lines.readings drivers.lines.tc4_codec drivers.lines.timing
    drivers.port drivers.stop_token drivers.wire_json
    drivers.virtual.heat
    kernel.canonical
    roasts.alog.columns roasts.alog.literal roasts.alog.marks roasts.alog.metadata roasts.alog.reading
    roasts.alog.schema roasts.alog.writing
    roasts.curve roasts.curve_rates roasts.inference roasts.rate_of_rise
    roasts.events.crack_history roasts.events.crack_shape roasts.events.crack_track roasts.events.marks
    roasts.events.phases
    roasts.files.artisan_words roasts.files.import_rows
    roasts.formats.artisan_csv roasts.formats.imported roasts.formats.own roasts.formats.reading
    roasts.formats.roastime roasts.formats.roastime_csv roasts.formats.tables
    roasts.library.comparison roasts.library.profile
    roasts.recording.decision_json roasts.recording.filing roasts.recording.recorder roasts.recording.recorder_acts
    roasts.recording.sample_extras roasts.recording.sample_rows
    roasts.store.packing
    roasts.twin.calibration roasts.twin.estimator roasts.twin.fitting roasts.twin.judging roasts.twin.lanes
    roasts.twin.memory roasts.twin.parameters roasts.twin.physics roasts.twin.prediction roasts.twin.recorded
    roasts.twin.simulation roasts.twin.values
    roasts.telemetry.envelope roasts.telemetry.following roasts.telemetry.signing roasts.telemetry.stream_state
    """.split()
)

#: Processes that must start and work without Django, database and broker.
WITHOUT_DJANGO = ("drivers.keeper", "drivers.virtual.server", "agents.roastrunner")

#: rule -> {module, or module:function: why it may}. Tests are excused from the seams (they own their fakes).
EXCUSED: dict[str, dict[str, str]] = {
    "reads_clock": {
        "roastops.benches.propose_rate": "keeps the readings of machines that no loop tends fresh",
        "roastops.benches.floor": "keeps the readings of machines that no loop tends fresh",
        "kernel.clock": "the seam itself",
    },
    "draws_chance": {
        "simulation.plan": "every choice comes from a stream made of seed and name",
        "simulation.rules.seeds": "a seed's bytes, and fresh seeds that nobody has played",
        "kernel.ids": "the seam itself",
        "drivers.benches": "a bench that stops at a random moment of the poll; nothing of it is kept",
    },
    "starts_thread": {
        "roastops.benches.propose_rate": "readings are kept fresh beside the load",
        "roastops.benches.fanout": "orders and stops go on beside the viewers",
        "roastops.benches.crowd": "three hundred viewers of a real server, and the one who times them",
        "simulation.scheduler": "an actor is a thread with its own connection; one of them runs at a time",
        "simulation.race_hunt": "a copy of the process for each planted race: what is planted is never taken back",
        "roastops.bridging": "a bridge reads while it sends: neither waits for the other",
        "kernel.fan_out": "one listener and one sender per process; a frozen Redis must hold up no request",
        "kernel.hub": "one thread per process reads new decisions for all viewers",
        "kernel.sealer": "the sealer: one thread that chains what was committed",
        "kernel.stream": "database reads of a stream leave the event loop",
        "kernel.work": "one sender per process owns the broker connection",
        "roasts.files.importing": "the next file is read while one is being filed",
        "roasts.files.reader_process": "a process that reads files ahead ends with whoever started it",
        "roasts.files.artisan_socket": "whether a watcher's key still holds is asked outside the event loop",
        "drivers.keeper": "poll and watch run beside each other: a device that hangs must not stop the watch",
        "drivers.keeper_record": "a disk that stalls holds up its own thread, not STOP",
        "drivers.keeper_socket": "one thread per client: STOP never waits behind another client",
        "drivers.keeper_stops": "STOP runs in a thread that nothing else can block",
        "drivers.lines.links": "the system's name lookup has no bound of its own; it must not hold the link",
        "drivers.virtual.line_server": "a virtual peer served in a test's own process",
        "drivers.virtual.server": "a machine lives on while its clients are served",
        "commands.loop.keeper_side": "the keeper's side of a loop goes on while the store is away",
        "commands.loop.order_aborts": "it waits for the keeper's receipt while a person may call the order off",
        "commands.machine_loop": "two sides and an executor: a database outage never takes the wire away",
        "commands.management.commands.stop": "tells all machines to stop at once, not one after the other",
        "commands.stop.authority": "keeps the stop authority fresh so that STOP asks no database",
        "commands.stop.asgi": "STOP's own pools: the wire first, the record after, neither behind a request",
        "roasts.telemetry.asgi": "filing leaves the event loop; a pool of its own, so that pages never wait behind it",
        "roastops.embedded": "worker and beat in one process",
        "roastops.wsgi_threads": "Django's ordinary requests, beside the streams",
        "roastops.management.commands.up": "signals and the announcement beside the server",
    },
    "starts_process": {
        "roastops.benches.fanout": "the crowd of viewers is a process of its own",
        "roastops.benches.ingest": "the bridges are a process of their own",
        "drivers.benches": "benches run against real processes",
        "drivers.keeper_process": "the keeper is a process of its own",
        "roastops.children": "the children of `up`",
        "roastops.vendor": "npm, once, at set-up",
        "simulation.mutants": "each planted bug in a process of its own: it is planted while modules are imported",
        "simulation.crew": "lane A's seeds in processes of their own, so that a machine's cores are used",
        "simulation.runs": "lane B's seeds in processes of their own, so that a machine's cores are used",
    },
    "talks_to_network": {
        "roastops.benches.propose_rate": "benches speak HTTP to a real server",
        "roastops.benches.floor": "benches speak HTTP to a real server",
        "roastops.benches.crowd": "three hundred viewers of a real server",
        "roastops.benches.viewers": "three hundred viewers of a real server",
        "roastops.benches.fanout": "names what a server under load answers, to say what was not measured",
        "roastops.bridging": "a bridge sends to a server elsewhere",
        "roastops.management.commands.bridge": "a bridge sends to a server elsewhere",
        "agents.client": "the agents' HTTP client: the one door an agent has",
        "kernel.fan_out": "Redis pub/sub between processes",
        "kernel.request_counts": "one limit for all web processes; a Redis that hangs is left alone after 50 ms",
        "drivers.keeper_client": "the keeper's local socket",
        "drivers.keeper_socket": "the keeper's local socket",
        "drivers.lines.links": "line machines are reached over TCP",
        "drivers.virtual.line_server": "the virtual line machines' own door",
        "drivers.virtual.server": "the virtual machine's local socket",
        "drivers.virtual.socket_wire": "the virtual machine's local socket",
        "roastops.benches.house": "benches speak HTTP to a real server",
        "roastops.benches.ingest_load": "a thousand bridges speak HTTP to a real server",
        "roastops.environment": "asks for the host's name only",
        "roastops.management.commands.up": "opens the server's own door first, so that a taken port is said at once",
    },
    "speaks_to_keeper": {
        "simulation.house": "a whole house in one process: it reaches its keeper in the process's place",
        "simulation.house_keeper": "holds the real keeper, without threads and sockets",
        "simulation.sim_keeper": "stands in the keeper's place and refuses as it does",
        "simulation.verbs": "names the keeper's refusal, to tell it from a surprise",
        "roastops.management.commands.bridge": "reads a device that no keeper has: its lock is taken first",
        "commands.api.machines": "names the keeper's refusals, to answer 409 or 503; it speaks through stop.wire alone",
        "commands.execution": "the one that applies orders",
        "commands.management.commands.stop": "STOP from the command line, without a server",
        "commands.loop.order_aborts": "tells the keeper that a person called an order off",
        "commands.loop.reconcile": "the machine loop's first act: what did the wire see before us?",
        "commands.loop.keeper_side": "the machine loop's keeper side",
        "commands.machine_loop": "the machine loop",
        "commands.stop.wire": "STOP's way to the keeper, and to the device itself when the keeper is dead",
        "commands.stop.asgi": "STOP",
        "roasts.machines": "makes a driver of a new machine's options, to say what is wrong with them; opens nothing",
        "roastops.benches.stop": "asks the keeper whether the heater is up before each stop",
    },
    "broad_except": {
        "simulation.scheduler:Actor._live": "outermost loop: the scheduler raises it in the main thread",
        "simulation.rules.seeds:player.play": "outermost of a seed: what fails is its result",
        "simulation.verbs:perform": "outermost of an operation: what the API has no answer for is a finding",
        "kernel.sealer:SealerThread._tick": "outermost loop",
        "drivers.keeper:Keeper._watch_loop": "outermost loop",
        "drivers.keeper:Keeper._link_loop": "outermost loop",
        "drivers.keeper_socket:Client.serve": "outermost loop of one client",
        "drivers.keeper_stops:StopDesk._run": "outermost loop: a stop must end in an answer whatever happens",
        "commands.governor:review": "around each rule: a rule that raises refuses",
        "commands.machine_loop:MachineLoop._run_keeper_side": "outermost loop",
        "commands.machine_loop:MachineLoop._run_store_side": "outermost loop",
        "commands.machine_loop:MachineLoop._run_executor": "outermost loop",
        "commands.stop.authority:Authority._run": "outermost loop",
        "commands.stop.asgi:stop_asgi": "outermost of the STOP application: an error is answered as unproved",
        "roastops.embedded:EmbeddedBeat._run": "outermost loop",
    },
    "writes_status": {
        "simulation.population": "the roast that is open when an episode begins",
        "simulation.rules.play": "the model's own orders, not rows",
        "roastops.benches.library_store": "a store of 100,000 closed roasts is made at once, for a bench",
    },
    "names_table": {
        "roastops.benches.propose_rate": "counts what was filed, in a database made for the bench",
        "kernel.management.commands.verifyaudit": "reads a copy of the database that no model is bound to",
    },
    "publishes_directly": {
        "kernel.work": "the seam itself",
        "roastops.embedded": "wakes the worker's own loop so that it sees it is to stop",
    },
    "publishes_in_transaction": {},
    "view_imports_driver": {
        "commands.api.machines": "names the keeper's refusals, to answer 409 or 503; it speaks through stop.wire alone",
    },
}


@functools.cache
def tree() -> tuple[Source, ...]:
    return tuple(detectors.read_tree())


def product() -> list[Source]:
    return [source for source in tree() if not source.is_test and not source.is_migration]


def check(detector: Detector, sources: Iterable[Source]) -> None:
    rule = detector.__name__
    excused = EXCUSED.get(rule, {})
    found = [finding for source in sources for finding in detector(source)]
    used = {key for finding in found for key in keys_of(finding)} & set(excused)
    breaches = [str(finding) for finding in found if not set(keys_of(finding)) & set(excused)]
    stale = sorted(set(excused) - used)
    assert not breaches, f"{len(breaches)} of {rule}:\n" + "\n".join(breaches)
    assert not stale, f"excused from {rule} without need: {stale}"


def keys_of(finding: Finding) -> tuple[str, str]:
    """What an excuse may name: the module, or one function of it."""
    return finding.module, f"{finding.module}:{finding.where}"


def test_imports_run_downwards_only() -> None:
    check(detectors.imports_upwards, tree())


@pytest.mark.parametrize(
    "detector",
    [
        detectors.reads_clock,
        detectors.draws_chance,
        detectors.starts_thread,
        detectors.starts_process,
        detectors.talks_to_network,
        detectors.speaks_to_keeper,
        detectors.broad_except,
        detectors.guards_with_assert,
        detectors.writes_status,
        detectors.names_table,
        detectors.bare_enum,
        detectors.publishes_directly,
        detectors.publishes_in_transaction,
        detectors.view_imports_driver,
        detectors.empty_name,
    ],
    ids=lambda detector: detector.__name__,
)
def test_the_product_keeps_the_law(detector: Detector) -> None:
    check(detector, product())


def test_no_function_and_no_file_is_too_long() -> None:
    check(detectors.too_long, [source for source in tree() if not source.is_migration])


def _ours(source: Source) -> set[str]:
    """Modules of ours that this one imports (a name imported from a module counts as that module)."""
    known = {other.module for other in tree()}
    found = set()
    for _, name in detectors.imports(source):
        while name and name not in known:
            name = name.rpartition(".")[0]
        if name and name != source.module:
            found.add(name)
    return found


def _closure(start: str) -> set[str]:
    """Every module of ours that importing `start` brings in (packages' own __init__ left aside: all empty)."""
    by_name = {source.module: source for source in tree()}
    seen: set[str] = set()
    queue = [start]
    while queue:
        name = queue.pop()
        if name not in seen and name in by_name:
            seen.add(name)
            queue.extend(_ours(by_name[name]))
    return seen


def test_packages_are_empty_so_that_importing_one_module_imports_one_module() -> None:
    heavy = [s.module for s in product() if s.module in detectors.ROOMS and list(detectors.imports(s))]
    assert heavy in ([], ["roastops"]), heavy  # roastops/__init__ may load the Celery app


@pytest.mark.parametrize("module", sorted(PURE))
def test_a_deciding_module_is_pure_and_so_is_all_it_imports(module: str) -> None:
    by_name = {source.module: source for source in tree()}
    assert module in by_name, f"{module} is listed as pure and is not there"
    breaches: list[Finding] = []
    for name in _closure(module):
        breaches += detectors.impure(by_name[name])
    assert not breaches, "\n".join(map(str, breaches))


def test_drivers_have_no_models_and_django_only_at_the_edge() -> None:
    breaches: list[Finding] = []
    for source in product():
        if source.room == "drivers":
            breaches += detectors.declares_model(source)
            if source.leaf not in {"apps"} and ".management." not in source.module:
                breaches += detectors.imports_django(source)
    assert not breaches, "\n".join(map(str, breaches))


def test_built_in_agents_import_nothing_of_ours_but_their_own_room() -> None:
    outside = [
        f"{source.module} imports {name}"
        for source in product()
        if source.room == "agents" and source.leaf not in {"apps", "models"} and ".management." not in source.module
        for name in _ours(source)
        if not name.startswith("agents.")
    ]
    assert not outside, outside


@pytest.mark.parametrize("module", WITHOUT_DJANGO)
def test_a_process_of_its_own_starts_without_django(module: str) -> None:
    program = (
        f"import sys, importlib; importlib.import_module({module!r}); "
        "print(sorted(n for n in sys.modules if n.split('.')[0] in "
        "('django', 'rest_framework', 'celery', 'redis', 'psycopg', 'sqlite3', 'kombu')))"
    )
    answer = subprocess.run(
        [sys.executable, "-c", program], cwd=detectors.ROOT, capture_output=True, text=True, timeout=60, check=False
    )
    assert answer.returncode == 0, answer.stderr
    assert answer.stdout.strip() == "[]"


@pytest.mark.django_db
def test_migrations_equal_models() -> None:
    from django.core.management import call_command

    call_command("makemigrations", "--check", "--dry-run", verbosity=0)
