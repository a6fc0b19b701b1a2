"""One house on one PostgreSQL database: put back before each episode, looked at after each commit."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping
from typing import Any

import psycopg
from django.apps import apps
from django.db import connection

from commands.loop.notes import View, live_payload
from commands.models import Proposal
from kernel import canonical, clock, ids, live
from simulation import population, race_invariants, sandbox
from simulation.beginning import STEPS
from simulation.race_picture import Picture
from simulation.scheduler import Scheduler, classify
from simulation.sim_broker import SimBroker
from simulation.sim_keeper import SimKeeper
from simulation.virtual_clock import Chance, VirtualClock

SHADOW = "simulation_base"
#: Only the episode's own machine lives in its time: the others' orders run out on another day.
_LATER = "interval '1 day'"
_PROPOSAL = Proposal._meta.db_table
VACUUM_EVERY = 150


class World:
    """Installs the simulation's clock and ids; :meth:`close` gives the real ones back."""

    def __init__(self, place: sandbox.Place) -> None:
        self.clock = VirtualClock()
        self.scheduler = Scheduler(self.clock)
        self.chance = Chance(self.scheduler.whose)
        self._clock_before = clock.install(self.clock)
        self._ids_before = ids.install(self.chance.random_bytes)
        self.chance.restart(0)
        self.control = psycopg.connect(sandbox.address(place), autocommit=True)
        sandbox.keep_plans(self.control)
        self.control.execute("SET session_replication_role = replica; SET plan_cache_mode = force_generic_plan")
        self.cast = population.populate()
        sandbox.keep_plans(connection.connection)
        self.broker = SimBroker(self.scheduler)
        self.keeper = SimKeeper("", self.scheduler, {})
        self.orders: list[str] = []
        self._first_digests = dict(Proposal.objects.values_list("pk", "digest"))
        self.digests = dict(self._first_digests)
        self.machine = self.cast.machines["free"]
        self.control.execute(f"UPDATE {_PROPOSAL} SET expires_at = expires_at + {_LATER}, runs_at = runs_at + {_LATER}")  # type: ignore[arg-type]
        self._keep()
        self._left: set[str] = set()
        self._episodes = 0

    def close(self) -> None:
        """Give clock and ids back, end actors and connections."""
        self.scheduler.close()
        self.broker.close()
        self.control.close()
        clock.install(self._clock_before)
        ids.install(self._ids_before)
        live.forget_readings()

    # -- the beginning, kept and put back ---------------------------------------------------------------------------

    def _keep(self) -> None:
        """Copy every table's rows aside, and write down how each is put back (planned once, by its own function)."""
        self.control.execute(f"DROP SCHEMA IF EXISTS {SHADOW} CASCADE; CREATE SCHEMA {SHADOW}")  # type: ignore[arg-type]
        for model in apps.get_models(include_auto_created=True):
            table, key = model._meta.db_table, model._meta.pk
            self.control.execute(f"CREATE TABLE {SHADOW}.{table} AS TABLE {table}")  # type: ignore[arg-type]
            self.control.execute(self._putting_back(table, getattr(key, "column", None) or ""))  # type: ignore[arg-type]

    def _putting_back(self, table: str, key: str) -> str:
        """SQL of a function that gives a table its rows back, and its sequence: of one that ``is_changed``, rows that
        are not as they were go, too, and come again; else only new ones go."""
        everything = f"DELETE FROM {table}; INSERT INTO {table} SELECT * FROM {SHADOW}.{table};"
        if not key:  # of several columns
            return self._function(table, everything)
        sequence = self._ask(f"SELECT pg_get_serial_sequence('{table}', '{key}')")[0][0]
        rewound = ""
        if sequence:
            [[last, is_called]] = self._ask(f"SELECT last_value, is_called FROM {sequence}")
            rewound = f"PERFORM setval('{sequence}', {last}, {is_called});"
        return self._function(
            table,
            f"""
            IF is_changed THEN
             DELETE FROM {table} now WHERE NOT EXISTS (SELECT 1 FROM {SHADOW}.{table} old
              WHERE old.{key} = now.{key} AND old IS NOT DISTINCT FROM now);
             INSERT INTO {table} SELECT * FROM {SHADOW}.{table} old
              WHERE NOT EXISTS (SELECT 1 FROM {table} now WHERE now.{key} = old.{key});
            ELSE
             DELETE FROM {table} now WHERE now.{key} NOT IN (SELECT {key} FROM {SHADOW}.{table});
            END IF;
            {rewound}""",
        )

    def _function(self, table: str, body: str) -> str:
        return (
            f"CREATE FUNCTION {SHADOW}.put_back_{table}(is_changed boolean) RETURNS void LANGUAGE plpgsql AS "
            f"$$ BEGIN {body} END $$"
        )

    def _ask(self, query: str) -> list[tuple[Any, ...]]:
        return self.control.execute(query).fetchall()  # type: ignore[arg-type]

    def reset(self, dirty: Mapping[str, bool]) -> None:
        """Every table that was written is as it was at the beginning, its sequence too."""
        changed = {**dirty, _PROPOSAL: True}
        calls = ", ".join(f"{SHADOW}.put_back_{table}({is_more})" for table, is_more in sorted(changed.items()))
        self.control.execute(f"SELECT {calls}")  # type: ignore[arg-type]
        self._episodes += 1
        if self._episodes % VACUUM_EVERY == 0:
            for table in sorted(self._left):
                self.control.execute(f"VACUUM {table}")  # type: ignore[arg-type]
        self._left |= set(changed)

    def begin(self, seed: int, machine: str, *, is_wired: bool = False) -> None:
        """An episode on one machine. ``is_wired``: of an order that was on the wire, bytes had left."""
        self.clock.restart()
        self.chance.restart(seed)
        live.forget_readings()
        self.machine = self.cast.machines[machine]
        self.orders = list(self.cast.orders[machine])
        moved = f"expires_at = expires_at - {_LATER}, runs_at = runs_at - {_LATER}"
        self.control.execute(f"UPDATE {_PROPOSAL} SET {moved} WHERE machine_id = %s", [self.machine.pk])  # type: ignore[arg-type]
        self.digests = dict(self._first_digests)
        self.keeper = SimKeeper(self.machine.pk, self.scheduler, population.steps_of(machine))
        if machine in ("flying", "doubt") and is_wired:
            self.keeper.remember_write(self.orders[0], "heater", STEPS["heater"] - 1, token=1)
        self.broker.begin()
        self.show_reading()

    def remember(self, order: Proposal) -> None:
        """An order that was just filed, for symbolic reference."""
        self.orders.append(order.pk)
        self.digests[order.pk] = order.digest

    # -- looking ----------------------------------------------------------------------------------------------------

    def look(self, written: frozenset[str] | None = None) -> tuple[Picture, list[tuple[str, str]]]:
        """The committed state, and (sentence, what) of every invariant that is broken. ``written``: the tables that
        were written since the last look; None looks at everything."""
        looked_at = None if written is None else written & race_invariants.READ
        looking, machine = race_invariants.statement(looked_at), {"machine": self.machine.pk}
        rows = self.control.execute(looking, machine, prepare=True).fetchall()  # type: ignore[arg-type]
        broken = [(a, str(b)) for kind, a, b, _c in rows if kind == "broken"]
        return Picture.of(row for row in rows if row[0] != "broken"), broken

    def digest(self, dirty: Mapping[str, bool]) -> str:
        """A digest of every row of these tables."""
        parts = []
        for table in sorted(dirty):
            query = f"SELECT coalesce(string_agg(t::text, chr(10) ORDER BY t::text), '') FROM {table} t"
            parts.append(f"{table}\n{self._ask(query)[0][0]}")
        return canonical.digest_text("\n".join(parts))

    @contextlib.contextmanager
    def noting_home_writes(self, dirty: dict[str, bool]) -> Iterator[None]:
        """What the house's own connection writes meanwhile (healing), table by table as `Scheduler.dirty`."""

        def note(execute: Any, sql: str, params: Any, many: bool, context: dict[str, Any]) -> Any:
            statement = classify(sql)
            for table in statement.written:
                dirty[table] = dirty.get(table, False) or statement.verb != "INSERT"
            return execute(sql, params, many, context)

        with connection.execute_wrapper(note):
            yield

    def view(self) -> View:
        """What a machine loop sees of this machine now."""
        now, now_s = self.clock.now(), self.clock.monotonic()
        reading = self.keeper.read(now, now_s)
        return View(
            boot_id="boot", is_keeper_up=True, is_heard=True, link="up", reading=reading, fresh_monotonic_s=now_s,
            processed_sequence=reading.sequence, rate_of_rise_c_per_min=population.RATE_C_PER_MIN,
            are_beans_proved=True, latch=self.keeper.latch, is_heat_up_allowed=True,
        )  # fmt: skip

    def show_reading(self) -> None:
        """The loop streams what the machine reads now."""
        payload = live_payload(self.machine.pk, self.view(), self.clock.now())
        live.publish_reading(self.machine.organization_id, self.machine.pk, payload)
