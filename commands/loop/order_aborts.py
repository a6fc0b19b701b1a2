"""While an order is on the wire somebody listens for the person who calls it off, and tells the keeper.

The executor's thread waits for the keeper's receipt meanwhile, so this is a thread of its own. An order of one step
is over before it looks for the first time.
"""

from __future__ import annotations

import contextlib
import logging
import threading
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager

from django.db import DatabaseError, connection

from commands import services
from commands.models import Proposal
from drivers.keeper_client import KeeperClient
from drivers.keeper_config import KeeperConfig
from drivers.port import DriverError
from kernel import clock

logger = logging.getLogger(__name__)
LOOK_AFTER_S = 0.12
LOOK_EVERY_S = 0.1
CLIENT_TIMEOUT_S = 1.0
JOIN_S = 2.0

#: What an executor wraps each attempt in: (order, config, token) → a context.
Heed = Callable[[Proposal, KeeperConfig, int], AbstractContextManager[None]]


@contextlib.contextmanager
def heeding(proposal: Proposal, config: KeeperConfig, token: int) -> Iterator[None]:
    """Inside, a person's abort of this order reaches the keeper within two tenths of a second."""
    over = threading.Event()
    thread = threading.Thread(target=_watch, args=(proposal, config, token, over), name="heed-abort", daemon=True)
    thread.start()
    try:
        yield
    finally:
        over.set()
        thread.join(JOIN_S)


@contextlib.contextmanager
def heeding_nobody(proposal: Proposal, config: KeeperConfig, token: int) -> Iterator[None]:
    """For a house without threads (the simulation): an abort is told to the keeper by whoever drives it."""
    yield


def _watch(proposal: Proposal, config: KeeperConfig, token: int, over: threading.Event) -> None:
    if clock.wait(over, LOOK_AFTER_S):
        return
    client = KeeperClient(config.socket, CLIENT_TIMEOUT_S)
    try:
        while not _pass_on(proposal.pk, client, token):
            if clock.wait(over, LOOK_EVERY_S):
                return
    finally:
        client.close()
        connection.close()


def _pass_on(proposal_id: str, client: KeeperClient, token: int) -> bool:
    """Look once; True when the keeper has been told."""
    try:
        if not services.is_abort_requested(proposal_id):
            return False
        client.abort(proposal_id, token=token)
    except DatabaseError as error:
        logger.warning("whether %s was called off cannot be asked: %s", proposal_id, error)
        connection.close()
        return False
    except DriverError as error:
        logger.warning("%s was called off, the keeper cannot be told: %s", proposal_id, error)
        return False
    return True
