"""Run an unmodified pyusb program against a served machine.

``python -m drivers.virtual.run_client SOCKET script.py …``
"""

from __future__ import annotations

import runpy
import sys
from collections.abc import Sequence

from drivers.virtual import install_as_default, socket_backend


def main(arguments: Sequence[str]) -> int:
    """Run ``script.py`` (or ``-m module``) with the served machine as the only USB device."""
    if len(arguments) < 2:
        print("usage: python -m drivers.virtual.run_client SOCKET (script.py | -m module) [arguments]", file=sys.stderr)
        return 2
    install_as_default(socket_backend(arguments[0]))
    if arguments[1] == "-m" and len(arguments) > 2:
        sys.argv = list(arguments[2:])
        runpy.run_module(arguments[2], run_name="__main__", alter_sys=True)
    else:
        sys.argv = list(arguments[1:])
        runpy.run_path(arguments[1], run_name="__main__")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
