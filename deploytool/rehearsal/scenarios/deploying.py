"""The three scenarios of the main job: it works; a copy fails; a host is missed, the old way."""

from __future__ import annotations

from deploytool.errors import NotProven
from deploytool.parity.model import Verdict
from deploytool.rehearsal.faults.copy import refuses_copies
from deploytool.rehearsal.scenarios.model import Scenario, Showing
from deploytool.rehearsal.scenarios.oldway import the_old_way
from deploytool.rehearsal.stage import CommandEnd, Stage

_PARENTS = 400


def _proven(ended: CommandEnd) -> str:
    count = ended.round.count(Verdict.MATCH) if ended.round else 0
    total = len(ended.round.hosts) if ended.round else 0
    return f"exit {ended.exit_code}, {count} of {total} proven: {ended.text}"


def healthy(stage: Stage, showing: Showing) -> None:
    """A baseline, then the candidate, while a client trades before and after."""
    first = stage.deploy(stage.baseline)
    showing.point(first.exit_code == 0, f"baseline deployed: {_proven(first)}")
    if first.exit_code != 0:
        return
    with stage.trading() as trading:
        trouble = trading.through_all(stage.baseline, _PARENTS, 0)
        showing.point(not trouble, trouble or f"{_PARENTS} parents flowed through all hosts before")
        second = stage.deploy(stage.candidate)
        showing.point(second.exit_code == 0, f"candidate deployed: {_proven(second)}")
        trouble = trading.through_all(stage.candidate, _PARENTS, 1)
        showing.point(not trouble, trouble or f"{_PARENTS} parents flowed through all hosts after")
        books = trading.reconcile()
        showing.point(books.equal, f"client, routers and market agree: {books}")
        for line in books.differences[:5]:
            showing.point(False, line)  # noqa: FBT003 the point did not hold


def copy_fails(stage: Stage, showing: Showing) -> None:
    """One host refuses the copy: nobody is switched, and all are proven to be what they were."""
    first = stage.deploy(stage.baseline)
    showing.point(first.exit_code == 0, f"baseline deployed: {_proven(first)}")
    victim = stage.last_host
    stage.forget(stage.candidate)
    with refuses_copies(stage.fleet, victim):
        second = stage.deploy(stage.candidate)
    showing.point(second.exit_code == 4, f"{victim} refuses the copy: exit {second.exit_code}")
    named = str(second.report.trouble.get(victim, "")) if second.report else ""
    showing.point(bool(named), f"it is named: {victim}: {named or 'NOT NAMED'}")
    after = stage.status()
    old = after.on(stage.baseline.digest)
    everybody = len(stage.record.hosts)
    showing.point(
        after.exit_code == 0 and len(old) == everybody,
        f"all of them are proven on the baseline: {_proven(after)}",
    )


def missed_host(stage: Stage, showing: Showing) -> None:
    """The old way goes on after a failed copy and prints SUCCESS; ``status`` sees through it."""
    first = stage.deploy(stage.baseline)
    showing.point(first.exit_code == 0, f"baseline deployed: {_proven(first)}")
    victim = stage.last_host
    with refuses_copies(stage.fleet, victim):
        old_way = the_old_way(stage)
    showing.point(
        old_way.exit_code == 0 and "SUCCESS" in old_way.text,
        f"the old script, one copy refused by {victim}: exit {old_way.exit_code}, {old_way.text!r}",
    )
    after = stage.status()
    new, old = after.on(stage.candidate.digest), after.on(stage.baseline.digest)
    others = len(stage.record.hosts) - 1
    showing.point(
        after.exit_code == NotProven.exit_code and len(new) == others and old == (victim,),
        f"status: exit {after.exit_code}: {len(new)} hosts on {stage.candidate.label}, "
        f"on {stage.baseline.label}: {', '.join(old) or 'NONE FOUND'}",
    )
    reasons = (
        [item.findings for item in after.round.hosts if item.host == victim] if after.round else []
    )
    found = str(reasons[0][0]) if reasons and reasons[0] else "NOT FOUND"
    showing.point(found != "NOT FOUND", f"the missed host is named: {victim}: {found}")
    mended = stage.deploy(stage.candidate)
    showing.point(mended.exit_code == 0, f"deploytool deploy fixes it: {_proven(mended)}")


HEALTHY = Scenario("healthy", "a baseline and then a candidate, with orders flowing", healthy)
COPY_FAILS = Scenario("copy-fails", "one host refuses the copy", copy_fails)
MISSED_HOST = Scenario("missed-host", "a shell loop misses one host and says SUCCESS", missed_host)
