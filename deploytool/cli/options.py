"""The options that many commands share, with the one text that explains each."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

InventoryOption = Annotated[
    Path,
    typer.Option("--inventory", "-i", help="The fleet's YAML file.", show_default=False),
]
JsonOption = Annotated[
    bool, typer.Option("--json", help="One JSON document on stdout, nothing else there.")
]
StoreOption = Annotated[
    Path, typer.Option("--store", help="Where releases are kept on this machine.")
]
ReleaseArgument = Annotated[
    str,
    typer.Argument(
        metavar="RELEASE",
        help="A version, a SHA-256 or its beginning, or a release's folder.",
        show_default=False,
    ),
]
DEFAULT_STORE = Path(".deploytool/store")
JournalOption = Annotated[
    Path, typer.Option("--journal", help="The folder where rollouts are written down.")
]
DEFAULT_JOURNAL = Path(".deploytool/journal")
