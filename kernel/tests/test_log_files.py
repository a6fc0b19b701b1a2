"""The JSON log on disk."""

import json
import logging
import multiprocessing
import os
import queue
import threading
import time

import django
import pytest

from kernel import log_files
from kernel.log_lines import add_log_ids, log_context

logger = logging.getLogger("kernel.tests.log")


@pytest.fixture
def kept(tmp_path):
    logging.getLogger().setLevel(logging.INFO)
    log_files.keep(tmp_path)
    yield tmp_path / "logs" / log_files.NAME
    log_files.close()


def lines_of(path):
    return [json.loads(line) for line in path.read_text().splitlines()]


def test_lines_carry_the_ids_of_the_thread_they_were_born_in(kept):
    def tend():
        add_log_ids(machine_id="mch_1", roast_id="")
        with log_context(order_id="prp_1"):
            logger.info("sent %d", 5, extra={"roast_id": "rst_1"})
        logger.info("after")

    thread = threading.Thread(target=tend)
    thread.start()
    thread.join()
    logger.warning("elsewhere")
    log_files.close()
    sent, after, elsewhere = lines_of(kept)
    assert (sent["message"], sent["level"], sent["pid"]) == ("sent 5", "INFO", os.getpid())
    assert (sent["machine_id"], sent["order_id"], sent["roast_id"]) == ("mch_1", "prp_1", "rst_1")
    assert after["machine_id"] == "mch_1" and "order_id" not in after and "roast_id" not in after
    assert not {"machine_id", "order_id", "roast_id"} & set(elsewhere)
    assert kept.stat().st_mode & 0o077 == 0


def test_whoever_sets_django_up_again_does_not_end_the_log(kept):
    """Celery's workers do, and our ASGI module does: each time the loggers are cleared."""
    logger.warning("before")
    django.setup()
    logger.warning("between")
    django.setup()
    logger.warning("after")
    log_files.close()
    assert [line["message"] for line in lines_of(kept)] == ["before", "between", "after"]


def test_a_traceback_is_kept(kept):
    try:
        raise ValueError("broken")
    except ValueError:
        logger.exception("it broke")
    log_files.close()
    assert "ValueError: broken" in lines_of(kept)[0]["traceback"]


def test_a_disk_that_hangs_holds_nobody_up(tmp_path, monkeypatch):
    hangs = threading.Event()
    monkeypatch.setattr(log_files.SharedFile, "emit", lambda self, record: hangs.wait(10))
    monkeypatch.setattr(log_files.handler(), "queue", queue.Queue(10))
    log_files.keep(tmp_path)
    try:
        started = time.monotonic()
        for number in range(100):
            logger.warning("line %d", number)
        assert time.monotonic() - started < 1.0
    finally:
        hangs.set()
        log_files.close()


def _write(path, name, count):
    handler = log_files.SharedFile(path, bytes_max=20_000, files_kept=50)
    for number in range(count):
        handler.emit(logging.LogRecord("x", logging.INFO, "", 0, json.dumps({"n": f"{name}-{number}"}), None, None))


def test_processes_share_one_file_and_lose_no_line_when_it_is_turned_over(tmp_path):
    path = tmp_path / "log.jsonl"
    context = multiprocessing.get_context("spawn")
    writers = [context.Process(target=_write, args=(path, name, 1500)) for name in "abc"]
    for writer in writers:
        writer.start()
    for writer in writers:
        writer.join(60)
        assert writer.exitcode == 0
    files = sorted(set(tmp_path.glob("log.jsonl*")) - set(tmp_path.glob("*.lock")))
    assert len(files) >= 3
    assert all(file.stat().st_size < 21_000 for file in files)
    found = [line["n"] for file in files for line in lines_of(file)]
    assert sorted(found) == sorted(f"{name}-{number}" for name in "abc" for number in range(1500))


def test_only_so_many_files_are_kept(tmp_path):
    path = tmp_path / "log.jsonl"
    handler = log_files.SharedFile(path, bytes_max=100, files_kept=3)
    for number in range(100):
        handler.emit(logging.LogRecord("x", logging.INFO, "", 0, f"{number:050d}", None, None))
    handler.close()
    assert len(set(tmp_path.glob("log.jsonl*")) - set(tmp_path.glob("*.lock"))) == 3
