"""The image of a bare host: Debian with systemd, sshd, sudo and Python, and nothing of ours.

It is built once and kept under a digest of its recipe. Host keys are not in it: each container
makes its own when it first starts.
"""

from __future__ import annotations

import hashlib
import shutil
from importlib import resources
from pathlib import Path

from deploytool.rehearsal.fleets.engine import Engine
from deploytool.rehearsal.fleets.model import Progress
from deploytool.rehearsal.fleets.run import run

_BUILD_S = 900.0
_IMPORT_S = 180.0
_SUITE = "bookworm"
_HERE = resources.files("deploytool.rehearsal.fleets")
_PACKAGES = tuple(_HERE.joinpath("bare.packages").read_text(encoding="utf-8").split())
_CUSTOMISE = _HERE.joinpath("bare.sh").read_text(encoding="utf-8")
"""What virtual machines are made by too (vagrant/build-box)."""

_CONTAINERFILE = f"""\
FROM debian:{_SUITE}-slim
RUN apt-get update && apt-get install -y --no-install-recommends {" ".join(_PACKAGES)} \\
    && rm -rf /var/lib/apt/lists/*
COPY customise.sh /customise.sh
RUN sh /customise.sh "" && rm /customise.sh
STOPSIGNAL SIGRTMIN+3
CMD ["/sbin/init"]
"""


def image_name() -> str:
    """The image's name: it changes whenever the recipe does."""
    recipe = "\n".join((_SUITE, *_PACKAGES, _CUSTOMISE, _CONTAINERFILE))
    return f"localhost/deploytool-host:{hashlib.sha256(recipe.encode()).hexdigest()[:16]}"


def ensure_image(engine: Engine, workspace: Path, progress: Progress) -> str:
    """The image's name, once it is there; ``workspace`` takes what the build needs meanwhile.

    Raises:
        EnvironmentProblem: it can't be built.
    """
    name = image_name()
    if engine.has_image(name):
        return name
    workspace.mkdir(mode=0o700, exist_ok=True)
    progress("building the hosts' image: once on this machine, a minute or less")
    script = workspace / "customise.sh"
    script.write_text(_CUSTOMISE)
    if shutil.which("mmdebstrap"):
        _bootstrap(engine, workspace, name)
    else:
        (workspace / "Containerfile").write_text(_CONTAINERFILE)
        file = str(workspace / "Containerfile")
        run([engine.program, "build", "--tag", name, "--file", file, str(workspace)], _BUILD_S)
    shutil.rmtree(workspace)
    return name


def _bootstrap(engine: Engine, workspace: Path, name: str) -> None:
    """From Debian's packages alone, for machines that can't pull images."""
    archive = workspace / "root.tar"
    hook = f'--customize-hook=sh {workspace}/customise.sh "$1"'
    packages = f"--include={','.join(_PACKAGES)}"
    # What it unpacks lies with the fleet, so that it goes with the fleet, whoever is killed when.
    bootstrap = ("env", f"TMPDIR={workspace}", "mmdebstrap", "--quiet", "--variant=minbase")
    run([*bootstrap, packages, hook, _SUITE, str(archive)], _BUILD_S)
    changes = ("--change", 'CMD ["/sbin/init"]', "--change", "STOPSIGNAL SIGRTMIN+3")
    run([engine.program, "import", *changes, str(archive), name], _IMPORT_S)
