"""Which process acts as the service: over every combination of what can be seen of one."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from dataclasses import dataclass, replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from deploytool.agent import acting, interpreters
from deploytool.agent.acting import ServiceSubject
from deploytool.agent.model import Other, Process
from deploytool.agent.port import HeldFile, HeldSocket, View
from deploytool.agent.settings import NeighbourSetting

OLD, NEW, STRANGE = "a" * 64, "b" * 64, "c" * 64
INTERPRETER = "d" * 64
ROUTER, OTHER = 990, 1000
PROBE = NeighbourSetting(executable="/usr/bin/probe", account="router", reason="monitors the venue")
SUBJECT = ServiceSubject(
    root="/opt/router",
    name="router",
    main=100,
    group="/system.slice/router.service",
    account=ROUTER,
    connects=("192.0.2.1:4000",),
    neighbours=(PROBE,),
    neighbour_accounts=(ROUTER,),
    releases=(OLD, NEW),
    interpreters=(INTERPRETER,),
)
PATHS = {
    "release": f"/opt/router/releases/{OLD}/router",
    "gone": f"/opt/router/releases/{OLD}/router (deleted)",
    "copy": "/tmp/something else",
    "upload": f"/opt/router/releases/.incoming.{OLD}.4/router",
}


def process(pid: int, parent: int = 1, account: int = OTHER, state: str = "S") -> Process:
    return Process(pid=pid, parent=parent, start=pid, state=state, account=account, command="x")


def held(how: str, path: str, number: int = 7) -> HeldFile:
    return HeldFile(how=how, handle="h", device=1, number=number, size=10, path=path, deleted=False)


@dataclass(frozen=True)
class Seen:
    """One process, by what can be seen of it."""

    how: str
    sha: str | None
    place: str
    program: str
    script: str
    account: int
    socket: str
    hidden: bool
    client: bool

    @property
    def view(self) -> View:
        files = [held(self.how, PATHS[self.place])] if self.how else []
        arguments = [self.program]
        if self.script == "inline":
            arguments += ["-c", "pass"]
        elif self.script == "file":
            arguments += ["/x/script"]
            files += [held("argument", "/x/script", 7)] if self.how else []
        elif self.script == "another":
            arguments += ["/x/backup"]
            files += [held("argument", "/x/backup", 9)]
        elif self.script == "lost":
            arguments += ["router"]
        port = HeldSocket(port=4000, listens=True)
        venue = HeldSocket(port=50000, listens=False, peer="192.0.2.1:4000")
        return View(
            process=process(200, account=self.account),
            group="/user.slice",
            program=held("exe", self.program, 5),
            accounts=(self.account,),
            files=tuple(files),
            sockets={"": (), "port": (port,), "venue": (venue,)}[self.socket],
            arguments=tuple(arguments),
            client=self.client,
            hidden="no permission" if self.hidden else "",
        )

    @property
    def digests(self) -> dict[tuple[int, int], str | None]:
        return {(1, 7): self.sha, (1, 9): STRANGE, (1, 5): STRANGE}

    @property
    def of_release(self) -> bool:
        below = self.place in {"release", "gone"}
        return bool(self.how) and (below or self.sha in {OLD, NEW})

    @property
    def runs(self) -> bool:
        """Whether it surely runs a release."""
        interprets = self.program.startswith("/usr/bin/python") and self.of_release
        by_script = self.script == "file" or (self.how == "fd" and self.script == "lost")
        return self.of_release and (self.how in {"exe", "map"} or (interprets and by_script))

    def but(self, account: int) -> Seen:
        """The same as another account."""
        return replace(self, account=account)

    @property
    def counts(self) -> bool:
        """Whether anything of it keeps it from being a mere reader."""
        return self.runs or bool(self.socket) or self.hidden or self.account == ROUTER

    def role(self) -> Other | None:
        found = acting.classify({200: self.view}, SUBJECT, self.digests)
        assert len(found) <= 1
        return found[0] if found else None


def everything() -> Iterator[Seen]:
    for values in itertools.product(
        ("", "exe", "map", "fd", "argument"),
        (OLD, STRANGE, None),
        PATHS,
        ("/usr/bin/python3.11", "/usr/bin/less", "/usr/bin/probe"),
        ("inline", "file", "another", "lost"),
        (ROUTER, OTHER),
        ("", "port", "venue"),
        (False, True),
        (False, True),
    ):
        yield Seen(*values)


def test_every_process_has_its_role() -> None:
    roles = set()
    for seen in everything():
        found = seen.role()
        role = found.role if found is not None else None
        roles.add(role)
        neighbour = seen.program == PROBE.executable and seen.account == ROUTER
        if seen.runs:
            # Neither a client that is connected to the venue nor a declared neighbour is excused.
            assert role == ("client" if seen.client and not seen.socket else "acts"), seen
            assert found is not None
            assert found.release == seen.sha, seen
        elif seen.socket and role != "acts":
            assert (role, neighbour) == ("neighbour", True), seen
        elif seen.hidden or (seen.how in {"exe", "map"} and seen.sha is None and not seen.socket):
            assert role in {"unseen", "acts"}, seen
        if role == "reader":
            assert not seen.counts, seen
            assert seen.of_release, seen
        if role == "account":
            assert seen.account == ROUTER, seen
            assert not seen.but(account=OTHER).counts, seen
            assert not seen.client, seen
        if role is None:
            assert not seen.counts, seen
    assert roles == {None, "acts", "account", "client", "neighbour", "reader", "unseen"}


def test_the_service_itself_is_never_another() -> None:
    for group in ("/system.slice/router.service", "/system.slice/router.service/below"):
        for seen in itertools.islice(everything(), 0, None, 7):
            view = seen.view.but(group=group)
            assert acting.classify({200: view}, SUBJECT, seen.digests) == ()
    alike = Seen("exe", OLD, "copy", "/x", "inline", OTHER, "", hidden=False, client=False).view
    for group in ("/system.slice/router.service2", "/system.slice", "/", ""):
        found = acting.classify({200: alike.but(group=group)}, SUBJECT, {(1, 7): OLD})
        assert [other.role for other in found] == ["acts"]


def test_a_stopped_service_has_no_processes() -> None:
    """Without a control group and a main process, none is the service's."""
    view = Seen("exe", OLD, "copy", "/x", "inline", OTHER, "", hidden=False, client=False).view
    stopped = SUBJECT.but(group="", main=0)
    assert [o.role for o in acting.classify({200: view}, stopped, {(1, 7): OLD})] == ["acts"]


@pytest.mark.parametrize("state", ["Z", "X"])
def test_what_has_ended_and_was_not_waited_for_does_nothing(state: str) -> None:
    view = Seen("exe", OLD, "copy", "/x", "inline", ROUTER, "", hidden=False, client=False).view
    ended = view.but(process=process(200, account=ROUTER, state=state))
    assert acting.classify({200: ended}, SUBJECT, {(1, 7): OLD}) == ()


def test_a_copied_interpreter_is_known_by_its_digest() -> None:
    view = View(
        process=process(200),
        group="/",
        program=held("exe", "/tmp/innocent", 5),
        accounts=(OTHER,),
        files=(held("argument", "/tmp/x"),),
        arguments=("innocent", "/tmp/x"),
    )
    digests = {(1, 7): OLD, (1, 5): INTERPRETER}
    (other,) = acting.classify({200: view}, SUBJECT, digests)
    assert (other.role, other.ways, other.release) == ("acts", ("interprets",), OLD)
    (reader,) = acting.classify({200: view}, SUBJECT, {**digests, (1, 5): STRANGE})
    assert (reader.role, reader.ways) == ("reader", ("names",))


def test_what_is_loaded_counts_and_not_what_the_link_says_by_now() -> None:
    """``current`` leads to the new release; the process has the old one open."""
    script = "/opt/router/current/router"
    view = View(
        process=process(200),
        group="/",
        program=held("exe", "/usr/bin/python3", 5),
        accounts=(OTHER,),
        files=(held("fd", PATHS["gone"], 7), held("argument", script, 8)),
        arguments=("python3", "-I", script, "run"),
    )
    (other,) = acting.classify({200: view}, SUBJECT, {(1, 7): OLD, (1, 8): NEW})
    assert (other.role, other.release) == ("acts", OLD)


def test_a_script_of_this_root_that_is_gone_acts() -> None:
    script = f"/opt/router/releases/{OLD}/router"
    view = View(
        process=process(200),
        group="/",
        program=held("exe", "/bin/dash", 5),
        accounts=(OTHER,),
        arguments=("/bin/sh", script),
    )
    (other,) = acting.classify({200: view}, SUBJECT, {})
    assert (other.role, other.release) == ("acts", None)


def test_without_root_only_this_release_root_counts() -> None:
    """Siblings of a throwaway fleet run the same bytes as the same account."""
    alone = SUBJECT.but(whole=False, group="", main=100)
    for seen in itertools.islice(everything(), 0, None, 5):
        if seen.socket == "port" or seen.hidden:
            continue
        found = acting.classify({200: seen.view}, alone, seen.digests)
        below = seen.place in {"release", "gone"}
        if not (below and seen.how):
            assert all(other.role == "unseen" for other in found), seen
        elif seen.runs and not seen.client:
            assert [other.role for other in found] == ["acts"], seen


@pytest.mark.parametrize(
    ("line", "scripts"),
    [
        ("python3 router", ["router"]),
        ("python3 -I -S router run", ["router"]),
        ("python3 -IS -W ignore -X dev router", ["router"]),
        ("python3 -Wignore router", ["router"]),
        ("python3 -c pass router", []),
        ("python3 -Ic pass router", []),
        ("python3 -m http.server router", []),
        ("python3 -Wc router", ["router"]),
        ("python3 --check-hash-based-pycs never router", ["never", "router"]),
        ("python3 -- router x", ["router"]),
        ("python3 - router", []),
        ("python3", None),
        ("python3 -W", None),
        ("python3 --long --longer", None),
        ("sh -", []),
        ("sh router", ["router"]),
        ("sh -e router", ["router"]),
        ("sh -o pipefail router", ["router"]),
        ("sh +o posix router", ["router"]),
        ("sh -ec router", []),
        ("bash -s router", []),
        ("perl -w router", ["router"]),
        ("perl -ne print router", []),
        ("java -Xmx1g -cp x -jar router run", ["x", "router"]),
        ("awk -F : -f router data", ["router"]),
        ("ld-linux-x86-64.so.2 --preload x router", ["x", "router"]),
        ("node --inspect=1 router", ["router"]),
    ],
)
def test_which_argument_is_the_script(line: str, scripts: list[str] | None) -> None:
    words = line.split()
    assert interpreters.is_one(f"/usr/bin/{words[0]}", words)
    found = interpreters.scripts(f"/usr/bin/{words[0]}", words)
    assert found == (None if scripts is None else tuple(scripts))


@pytest.mark.parametrize(
    ("program", "line", "name"),
    [
        ("/usr/bin/python3.11", "python3", "python"),
        ("/usr/bin/python3.11 (deleted)", "python3", "python"),
        ("/usr/bin/python3-dbg", "python3", "python"),
        ("/lib64/ld-linux-x86-64.so.2", "ld", "ld-linux"),
        ("/bin/busybox", "sh x", "sh"),
        ("/bin/busybox", "busybox sh x", "sh"),
        ("/bin/busybox", "-ash", "ash"),
        ("/bin/busybox", "less x", "less"),
    ],
)
def test_families(program: str, line: str, name: str) -> None:
    assert interpreters.family(program, line.split()) == name


WORDS = st.lists(st.sampled_from(["python3", "sh", "-", "--", "-c", "-IW", "-m", "x", "--y", "+o"]))


@given(st.sampled_from(["/bin/sh", "/usr/bin/python3", "/bin/busybox", "/x/java"]), WORDS)
def test_a_script_is_always_an_argument(program: str, words: list[str]) -> None:
    found = interpreters.scripts(program, words) or ()
    assert set(found) <= set(words[1:])
    assert isinstance(interpreters.is_one(program, words), bool)


# --- families of processes ----------------------------------------------------------------------


@st.composite
def hosts(draw: st.DrawFn) -> dict[int, View]:
    """A host: some of its processes run a release, run as the account or are of the service."""
    views = {}
    for pid in draw(st.lists(st.integers(2, 12), unique=True)):
        runs = draw(st.booleans())
        account = draw(st.sampled_from([ROUTER, OTHER]))
        views[pid] = View(
            process=process(pid, parent=draw(st.integers(1, 12)), account=account),
            group=draw(st.sampled_from([SUBJECT.group, "/user.slice"])),
            program=held("exe", "/tmp/x", 7 if runs else 5),
            accounts=(account,),
            files=(held("exe", "/tmp/x", 7),) if runs else (),
        )
    return views


@given(hosts(), st.booleans(), st.integers(0, 12))
def test_a_stop_ends_what_can_send_and_nothing_of_others(
    views: dict[int, View], grouped: bool, main: int
) -> None:
    subject = SUBJECT if grouped else SUBJECT.but(group="", main=main)
    others = acting.classify(views, subject, {(1, 7): OLD})
    service = acting.service_pids(views, subject)
    killed = set(acting.to_kill(views, subject, others))
    acts = {other.pid for other in others if other.role == "acts"}
    assert acts | service >= {pid for pid, view in views.items() if view.files}
    assert not acts & service
    assert acts <= killed
    for pid in killed - acts:
        # A shell of the account, above one that acts.
        assert views[pid].accounts == (ROUTER,)
        assert any(views[child].process.parent == pid for child in killed if child != pid)
    assert not killed & service
    assert all(pid > 1 for pid in killed)


def test_a_stop_does_not_climb_past_the_service() -> None:
    """A process of the service started a stray; a shell of the account started that process."""
    stray = View(
        process=process(4, parent=3, account=ROUTER),
        group="/user.slice",
        program=held("exe", "/tmp/x", 7),
        accounts=(ROUTER,),
        files=(held("exe", "/tmp/x", 7),),
    )
    own = stray.but(process=process(3, parent=2, account=ROUTER), group=SUBJECT.group, files=())
    shell = own.but(process=process(2, account=ROUTER), group="/user.slice")
    views = {2: shell, 3: own, 4: stray}
    others = acting.classify(views, SUBJECT, {(1, 7): OLD})
    assert acting.to_kill(views, SUBJECT, others) == (4,)


@given(hosts(), st.randoms())
def test_the_order_of_a_look_does_not_matter(views: dict[int, View], random: object) -> None:
    shuffled = list(views.items())
    random.shuffle(shuffled)  # type: ignore[attr-defined]
    first = acting.classify(views, SUBJECT, {(1, 7): OLD})
    assert first == acting.classify(dict(shuffled), SUBJECT, {(1, 7): OLD})
