"""Before a build runs: no flag is armed (P3), and no bit in use changes its meaning (P5).

Theory of operation
-------------------
A flag is a bit in the messages that senders send. A build obeys it by its own flag table, whether
it was armed or not. Two questions follow:

- ``armed`` (P3): is a runtime flag armed on any host? A host whose process does not report its
  flags is an obstacle, unless its manifest shows that its build has no runtime flag.
- ``readings`` (P5): would the build that is about to run interpret a bit in use differently from a
  build that runs now?

``rollout/admission.py`` asks both for `plan` and `--disarm`; ``effects/prepare.py`` before the
locks and under them; ``effects/forward.py`` asks the second before each wave is switched, and
``effects/revert.py`` before the first host goes back.

``readings`` works in four steps:

1. Collect the builds that serve: every process on every host, wherever ``current`` points. Where
   senders can be asked, a build that was active where the process has died counts too: orders that
   it took may still be open.
2. Find the manifest of each of those builds, from what any host shows and from the targets
   of the rollout. Each manifest that is shown for a build is compared, so that one host's lie
   hides nothing. A build without a manifest interprets every bit differently from every build but
   itself.
3. For each different target build, compare flag tables (``registry/compatibility.py``) and ask the
   senders which bits are in use. Senders that cannot be observed count as using all of them.
4. If an obstacle is left, probe once more: it falls if every process was seen HALTED just now under
   a latch of ``deploytool stop``, which outlives the switch. Whoever starts the host later is asked
   the same (``start/flag_checks.py``).

Decision 6 (``docs/decisions/0006-bits-in-use.md``) says why, and what this cannot find.

What may never happen
---------------------
- "Not known" passes: an unanswered probe, an unreadable table and silent senders are obstacles.
- An old answer counts: the senders are asked at each check, and HALTED is probed anew.
- A host's word about its own build vouches for another host.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping

from deploytool.core.finding import Finding, forbids
from deploytool.errors import HostFault
from deploytool.fleet.model import Digest
from deploytool.parity.model import Evidence
from deploytool.registry.compatibility import (
    Senders,
    named_bits,
    obeyed_differently,
    objection,
    read_differently,
)
from deploytool.release.model import FlagTable, Manifest
from deploytool.rollout.build_conflicts import manifest_of, running

Probe = Callable[[tuple[str, ...]], Mapping[str, Evidence | HostFault]]
Evidences = Mapping[str, Evidence]


class FlagCheck:
    """Asks what has to be known. ``probe`` takes a full round over some hosts.

    ``senders`` None: the inventory names nobody who could be asked.
    """

    def __init__(self, senders: Senders | None, probe: Probe) -> None:
        self._senders = senders
        self._probe = probe

    def armed(self, evidence: Evidences) -> tuple[Finding, ...]:
        """Every host on which a runtime flag is armed, or on which that is not known."""
        unasked = tuple(h for h, e in evidence.items() if _may_arm(e) and e.status is None)
        seen = {**evidence, **(self._probe(unasked) if unasked else {})}
        return tuple(obstacle for host, item in seen.items() for obstacle in _armed(host, item))

    def readings(
        self, evidence: Evidences, to: Mapping[str, Manifest | None]
    ) -> tuple[Finding, ...]:
        """Every host of ``to`` that may not run that build now, for what it makes of a bit.

        It is checked against every build that runs on any host of ``evidence``: what those read is
        what the senders mean; and where they can be asked, against what was active on a host whose
        process has died, for they may mean that yet. Where nothing is active, no bit has a meaning
        yet. Bytes that nobody knows read every bit otherwise, unless the build to be run serves
        beside them already: to replace them by it starts no new reading, and to leave them would
        be worse.
        """
        serve = {host: item for host, item in evidence.items() if _serving(item)}
        active = {h: item for h, item in evidence.items() if h in serve or item.release}
        serving = _builds(serve)
        builds = serving if self._senders is None else _builds(active)
        # A host that lies about a build says nothing for the others: each word about it counts.
        shown = (*map(manifest_of, evidence.values()), *to.values())
        known = [manifest for manifest in shown if manifest is not None]
        live = [manifest for manifest in known if manifest.sha256 in builds]
        unknown = [(None, False)] if builds - {manifest.sha256 for manifest in known} else []
        found: dict[str, str] = {}
        asked: dict[Digest, str | None] = {}  # the senders are asked once for each build
        for host, manifest in to.items():
            if manifest is None:
                continue  # nothing is to run there
            if manifest.digest() not in asked:
                # Where it runs already, its readings are nothing new beside what nobody can read.
                beside = [(now.flags, now.sha256 == manifest.sha256) for now in live]
                beside += [] if manifest.sha256 in serving else unknown
                differ = [item for at, item in enumerate(beside) if item not in beside[:at]]
                whys = (self._objection(now, manifest.flags, same=same) for now, same in differ)
                asked[manifest.digest()] = next(filter(None, whys), None)
            if why := asked[manifest.digest()]:
                found[host] = why
        if not found or self._halted(active):
            return ()
        return tuple(forbids(host, "FLAGS_READ_DIFFERENTLY", why) for host, why in found.items())

    def _objection(
        self, now: FlagTable | None, then: FlagTable | None, *, same: bool
    ) -> str | None:
        if self._senders is None:
            if not (differing := obeyed_differently(now, then)):
                return None
            return (
                f"the builds obey {named_bits(differing)} differently, and the inventory names no "
                "'gateway' that could say whether any sender sets them"
            )
        if not (differing := read_differently(now, then, same_build=same)):
            return None
        try:
            in_use: frozenset[int] | None = self._senders.bits_in_use()
        except HostFault:
            in_use = None
        return objection(differing, in_use, halted=False)

    def _halted(self, active: Evidences) -> bool:
        """Whether every process was seen to be HALTED just now, and what comes after it will be.

        A host whose process has died is not: what is started there serves. Nor is one that shows
        HALTED with nothing latched: it only waits for its first lease. Nor one that was not
        stopped by ``deploytool stop``: only under its latch does a host keep what the bits meant,
        for whoever starts it (start/flag_checks.py).
        """
        seen = {**active, **self._probe(tuple(active))}
        return all(isinstance(item, Evidence) and _latched(item) for item in seen.values())


def _latched(evidence: Evidence) -> bool:
    said = evidence.status or {}
    if evidence.halt is None:
        return False
    # Not every artifact shows its latch (docs/contract.md); one that does shows whether it has one.
    return said.get("trading_state") == "HALTED" and bool(said.get("latch", True))


def _serving(evidence: Evidence) -> int:
    """The process that serves, also one that its supervisor has lost sight of; 0: there is none."""
    return evidence.main_pid or next(iter(_lost(evidence)), 0)


def _lost(evidence: Evidence) -> tuple[int, ...]:
    """Every process that runs a release, where the supervisor knows of none."""
    return tuple(dict.fromkeys(item.pid for item in evidence.running))


def _builds(evidence: Evidences) -> frozenset[str]:
    return frozenset(sha for item in evidence.values() for sha in running(item))


def _may_arm(evidence: Evidence) -> bool:
    """Whether something runs that may have a flag armed, as far as is known."""
    if not _serving(evidence):
        return False
    manifest = manifest_of(evidence)
    if manifest is None:
        return True
    entries = manifest.flags.entries if manifest.flags else ()
    return any(entry.get("activation") == "runtime" for entry in entries)


def _armed(host: str, item: Evidence | HostFault) -> Iterator[Finding]:
    if isinstance(item, HostFault):
        yield forbids(host, "FLAGS_UNKNOWN", f"which flags are armed is not known: {item}")
        return
    said = item.status or {}
    names = said.get("armed")
    if isinstance(names, (list, tuple)) and all(isinstance(name, str) for name in names):
        for name in names:
            yield forbids(host, "FLAGS_ARMED", f"{name} is armed on it", flag=name)
        # Where nobody knows which of them is the service, each has to have spoken.
        silent = () if item.main_pid else tuple(p for p in _lost(item) if p != said.get("pid"))
    else:
        silent = (_serving(item),)
    for pid in silent if _may_arm(item) else ():
        text = f"process {pid} does not say which flags are armed; end it first"
        yield forbids(host, "FLAGS_UNKNOWN", text, process=pid)
