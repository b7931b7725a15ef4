"""What the gate refuses in CI, ``deploy`` refuses on a laptop: the same code, on what is at hand.

There is no checkout and no history here, but the release, the store and the inventory. Throwaway
fleets are exempt: they are where what is not proven yet is tried.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

from deploytool.errors import InputError, Refused
from deploytool.gate.check_inventory import objections as inventory_objections
from deploytool.gate.check_manifest import objections as manifest_objections
from deploytool.gate.check_rehearsed import judge
from deploytool.gate.declared import read
from deploytool.gate.model import Check, GateFinding
from deploytool.registry.artifact import NotReadable, read_artifact
from deploytool.registry.history import stored
from deploytool.registry.model import FlagEntry
from deploytool.registry.reachability import unreachable
from deploytool.registry.rules import between
from deploytool.release.model import Release
from deploytool.release.store import MANIFEST, all_releases


def check_deploy(path: Path, release: Release, store: Path, now: float) -> None:
    """Refuses a deployment of ``release`` to the fleet of the inventory at ``path``.

    Raises:
        Refused: with every finding at once; the rule is the first check's id.
        InputError: the inventory, the release or the store can't be read.
    """
    declared = read(path)
    if isinstance(declared, tuple):
        raise InputError(
            f"The inventory {path} is refused.",
            "Nothing was touched.",
            f"deploytool gate --check {Check.INVENTORY.value} -i {path}",
            tuple(map(str, declared)),
        )
    if declared.inventory.throwaway:
        return
    found = [*_release(release, store)]
    runtime = any(item.activation == "runtime" for item in _table(release) if not item.reserved)
    found += inventory_objections(declared, runtime=runtime)
    if declared.inventory.rehearsal is not None:
        found += judge(declared, release, now)[1]
    if found:
        first = found[0].rule
        raise Refused(
            first if first.startswith("GATE_") else Check.FLAGS.value,
            f"{release.label} may not be deployed to {declared.inventory.fleet}.",
            "Nothing was changed. CI refuses it for the same reasons: docs/gate.md.",
            "Do what the lines name. To try it all the same, on a throwaway fleet: "
            "deploytool fleet up --fleet local",
            tuple(map(str, found)),
        )


def _table(release: Release) -> tuple[FlagEntry, ...]:
    source = stored(release)
    if source.trouble:
        raise InputError(
            f"The flag table of {release.label} is not true: {source.trouble}.",
            "Nothing was touched: what it does with any bit is not known.",
            "Build it again; do not deploy it.",
        )
    return source.entries


def _release(release: Release, store: Path) -> Iterator[GateFinding]:
    """What is to be said against the release by itself, and beside the others in the store."""
    place = str(Path(release.artifact).with_name(MANIFEST))
    for text, remedy in manifest_objections(release):
        yield GateFinding(Check.MANIFEST.value, place, 1, text, remedy)
    own = _table(release)
    others = [item for item in all_releases(store) if item.digest != release.digest]
    past = [entry for item in others for entry in _table(item)]
    for refusal in between(own, past, release.label):
        yield GateFinding(refusal.rule.value, place, 1, refusal.text, refusal.remedy)
    yield from _code(release, own, past, place)


def _code(
    release: Release, own: Sequence[FlagEntry], past: Sequence[FlagEntry], place: str
) -> Iterator[GateFinding]:
    """What is in the artifact. One that lists no modules is not of Python: nobody looks into it."""
    if not own or not release.manifest.modules:
        return
    try:
        contents = read_artifact(Path(release.artifact))
    except NotReadable:
        return  # the manifest's objections say so
    for refusal in unreachable(contents, own, past, release.label):
        text = f"{refusal.place}: {refusal.text}"
        yield GateFinding(Check.RETIRED_CODE.value, place, 1, text, refusal.remedy)
