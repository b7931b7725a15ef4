"""Where the files that ship beside the program are: the router's source, and the machines' recipe.

In a checkout they are at its top. In a wheel they are in this package, where ``setup.py`` puts
them.
"""

from __future__ import annotations

from pathlib import Path

_HERE = Path(__file__).resolve().parent
ROUTER = "router_binary"
ROOT = _HERE if (_HERE / ROUTER).is_dir() else _HERE.parents[1]
"""The folder that has ``router_binary``, ``Vagrantfile`` and ``vagrant``."""


def router_source(given: Path = Path(ROUTER)) -> Path:
    """The router's source as a person names it; what ships, where there is none in this folder."""
    return ROOT / ROUTER if given == Path(ROUTER) and not given.is_dir() else given
