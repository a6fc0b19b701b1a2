"""One real server for all tests that only ask it things."""

from __future__ import annotations

from collections.abc import Iterator

import httpx
import pytest

from roastops.tests.one_server import one_server, server_errors
from roastops.tests.stack import Stack, roasting_house


@pytest.fixture(scope="session")
def house() -> Iterator[Stack]:
    with one_server() as stack:
        yield stack
        assert not server_errors(stack), "nobody foresaw what the server logged"


@pytest.fixture
def wire(house: Stack) -> Iterator[httpx.Client]:
    """A client that is nobody and follows nothing."""
    with httpx.Client(base_url=house.url(""), timeout=30) as client:
        yield client


@pytest.fixture(scope="session", name="roasting_house")
def one_roasting_house(chromium: str) -> Iterator[Stack]:
    """`manage.py up` with a roast under way, for everything that is looked at in a browser."""
    with roasting_house() as stack:
        yield stack
