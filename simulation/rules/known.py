"""Who is in the house, and its limits, as the model knows them before anything is played."""

from __future__ import annotations

from simulation import house_people, oracle
from simulation.oracle import Person


def people() -> dict[str, Person]:
    """The house's people and agents as the model knows them."""
    known = {
        name: Person(name, place, frozenset(role.value for role in roles))
        for name, (place, roles) in house_people.PEOPLE.items()
    }
    return known | {
        name: Person(name, place, owner=owner, is_agent=True)
        for name, (place, owner) in house_people.AGENTS.items()
    }


def limits() -> dict[str, oracle.Limit]:
    return {control: oracle.Limit(*numbers) for control, numbers in house_people.LIMITS.items()}
