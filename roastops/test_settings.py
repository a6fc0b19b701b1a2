"""Settings of the test suite: a data folder of its own per run, a database file per process, quick passwords."""

from __future__ import annotations

import atexit
import os
import shutil
import tempfile

os.environ["ROASTOPS_ENV"] = "test"
if not os.environ.get("PYTEST_DATA_DIR"):
    _folder = tempfile.mkdtemp(prefix="roastops-test-")
    os.environ["PYTEST_DATA_DIR"] = _folder
    os.environ["ROASTOPS_DATA_DIR"] = _folder
    atexit.register(shutil.rmtree, _folder, ignore_errors=True)

from roastops.settings import *  # noqa: F403
from roastops.settings import DATA_DIR, DATABASES, STORAGES

ALLOWED_HOSTS = ["*"]
PASSWORD_HASHERS = ["django.contrib.auth.hashers.MD5PasswordHasher"]
STORAGES = {**STORAGES, "staticfiles": {"BACKEND": "django.contrib.staticfiles.storage.StaticFilesStorage"}}
# A file, not memory: tests with threads need connections that wait for each other as in production.
if DATABASES["default"]["ENGINE"].endswith("sqlite3"):
    DATABASES["default"]["TEST"] = {"NAME": str(DATA_DIR / "test.sqlite3")}
else:
    DATABASES["default"]["TEST"] = {"NAME": f"test_roastops_{os.getpid()}"}
    DATABASES["default"]["CONN_MAX_AGE"] = 0
