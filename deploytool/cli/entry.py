"""The console script. A stop goes past everything that is slow to import or able to break."""

from __future__ import annotations

import sys

_HELP = frozenset({"--help", "-h"})


def main() -> None:
    """Does what was typed; ends the process with its exit code."""
    try:
        if len(sys.argv) > 1 and sys.argv[1] == "stop" and not _HELP & {*sys.argv}:
            from deploytool.cli.stopnow import run

            sys.exit(run(sys.argv[2:]))
        from deploytool.cli.main import main as everything
    except KeyboardInterrupt:  # in a stop, or while the rest is still being read in
        from deploytool.cli.output import broken_off

        sys.exit(broken_off())
    everything()
