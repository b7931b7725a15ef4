"""Every version that the release branch ever had is read, or that it can't be is an error."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Callable, Iterable
from pathlib import Path

import pytest

from deploytool.errors import DeploytoolError, InputError
from deploytool.registry.git import Repository
from deploytool.registry.history import Source
from deploytool.registry.lint import Linted, LintRequest, conclude, lint
from deploytool.registry.rules import FlagRule
from deploytool.rehearsal.fleets.ready import make_key
from tests.unable import unable

from .conftest import Repo
from .registries import BEFORE, INCIDENT, POWER_PEG, RLP, flag, registry, reserved

A = flag("A", 1)
OTHER = flag("A", 1, meaning="Something else.")
RETIRED = registry(flag("HIDDEN", 0), reserved("POWER_PEG", 3))


def linted(
    repo: Repo, branch: str | None = None, excuses: Iterable[str] = (), path: Path | None = None
) -> Linted:
    at = path or repo.registry
    return lint(LintRequest(at, at.parent, branch, repo.folder / "no-store", tuple(excuses)))


def rules(repo: Repo, branch: str | None = None) -> set[FlagRule]:
    found = linted(repo, branch)
    assert not found.unread
    return {refusal.rule for refusal in found.refusals}


def refused(repo: Repo, branch: str | None = None, path: Path | None = None) -> DeploytoolError:
    with pytest.raises(InputError) as error:
        linted(repo, branch, path=path)
    assert error.value.exit_code == 2
    assert "nothing is proven" in error.value.means
    return error.value


def test_p4_the_incident_is_refused_in_the_working_tree(repo: Repo) -> None:
    repo.commit(BEFORE)
    assert rules(repo) == set()
    repo.write(INCIDENT)
    assert rules(repo) == {FlagRule.BIT_NO_REUSE}


def test_p4_the_incident_is_refused_in_history(repo: Repo) -> None:
    first = repo.commit(BEFORE)
    repo.commit(INCIDENT)
    (refusal,) = linted(repo).refusals
    assert refusal.rule is FlagRule.BIT_NO_REUSE
    assert refusal.place.endswith("flags.yaml:11")
    assert f"POWER_PEG at {first[:12]}" in refusal.text
    assert "app/flags.yaml:11" in refusal.text


def test_p4_the_incident_is_refused_when_the_bit_was_free_for_a_while(repo: Repo) -> None:
    repo.commit(BEFORE)
    repo.commit(registry(flag("HIDDEN", 0)))
    repo.commit(registry(flag("HIDDEN", 0), flag("B", 5)))
    repo.commit(registry(flag("HIDDEN", 0), flag("B", 5), RLP))
    assert rules(repo) == {FlagRule.BIT_NO_REUSE}


def test_what_satisfies_the_rule_is_what_the_message_says(repo: Repo) -> None:
    repo.commit(BEFORE)
    repo.commit(INCIDENT)
    moved = RLP.replace("RLP", "RETAIL").replace("bit: 3", "bit: 1")
    repo.write(registry(flag("HIDDEN", 0), moved, reserved("POWER_PEG", 3), reserved("RLP", 3)))
    assert rules(repo) == set()


def test_p4_a_merge_brings_what_it_brings(repo: Repo) -> None:
    """First parents only: what a side branch tried out and took back was never released."""
    repo.commit(registry(A))
    repo.git("checkout", "-q", "-b", "side")
    repo.commit(registry(A, flag("TRIED", 4)))
    repo.commit(registry(A, flag("KEPT", 5)))
    repo.git("checkout", "-q", "main")
    repo.commit("x", "other")
    repo.git("merge", "-q", "--no-ff", "-m", "m", "side")
    assert rules(repo) == set()
    repo.commit(registry(A))
    assert rules(repo) == {FlagRule.NO_DELETE_UNLESS_RESERVED}
    repo.write(registry(A, flag("ELSE", 4), flag("KEPT", 5)))
    assert rules(repo) == set()


def test_p4_a_registry_is_followed_when_it_moves_twice_and_changes(repo: Repo) -> None:
    many = [flag(f"F{n}", n) for n in range(6, 12)]
    repo.commit(registry(POWER_PEG, *many), "first/table.yaml")
    repo.git("mv", "first", "second")
    repo.commit(registry(POWER_PEG, *many, flag("G", 12)), "second/table.yaml")
    repo.commit(registry(*many, flag("G", 12)), "second/table.yaml")
    (repo.folder / "app").mkdir()
    repo.git("mv", "second/table.yaml", "app/flags.yaml")
    repo.commit()
    repo.write(registry(RLP, *many, flag("G", 12)))
    assert rules(repo) == {FlagRule.BIT_NO_REUSE}


def test_a_file_that_was_no_registry_is_not_taken_for_its_past(repo: Repo) -> None:
    repo.commit("schema: 1\nflags_are: elsewhere\nreserved_words: []\n", "app/old.yaml")
    repo.write(None, "app/old.yaml")
    repo.commit(registry())
    repo.commit("just: notes\n", "app/flags-notes.yaml")
    assert rules(repo) == set()


def test_p4_an_old_build_s_registry_counts_even_when_it_was_deleted_later(repo: Repo) -> None:
    repo.commit(registry(A))
    repo.commit(BEFORE, "app/history/flags-2011.yaml")
    repo.write(None, "app/history/flags-2011.yaml")
    repo.commit()
    repo.write(registry(A, RLP))
    assert FlagRule.BIT_NO_REUSE in rules(repo)


def test_p4_an_old_build_s_registry_counts_before_it_is_committed(repo: Repo) -> None:
    repo.commit(registry(A))
    repo.write(registry(A, RLP))
    repo.write(BEFORE, "app/history/anything.yaml")
    repo.write('version: "1"\nregistry: anything.yaml\n', "app/history/builds/1.yaml")
    assert FlagRule.BIT_NO_REUSE in rules(repo)
    repo.write(None, "app/history/anything.yaml")
    (source,) = linted(repo).unread
    assert source.kind == "build"
    assert "can't be read" in source.trouble


def test_a_branch_is_named_where_none_is_checked_out(repo: Repo) -> None:
    repo.commit(BEFORE)
    repo.git("checkout", "-q", "-b", "feature")
    repo.commit(INCIDENT)
    repo.git("checkout", "-q", "--detach")
    assert "--branch" in refused(repo).now
    assert rules(repo, "main") == {FlagRule.BIT_NO_REUSE}
    assert "'nowhere'" in refused(repo, "nowhere").what
    assert "'--all'" in refused(repo, "--all").what
    assert "'main..feature'" in refused(repo, "main..feature").what


def test_p4_a_shallow_clone_is_refused(repo: Repo, make_repo: Callable[[str], Repo]) -> None:
    repo.commit(BEFORE)
    repo.commit(INCIDENT)
    clone = make_repo("clone")
    clone.git("fetch", "-q", "--depth", "1", f"file://{repo.folder}", "main")
    clone.git("reset", "-q", "--hard", "FETCH_HEAD")
    error = refused(clone)
    assert "shallow" in error.what
    assert "--unshallow" in error.now
    clone.git("fetch", "-q", "--unshallow", f"file://{repo.folder}", "main")
    assert rules(clone) == {FlagRule.BIT_NO_REUSE}


def test_what_is_no_repository_or_never_was_committed_is_refused(
    repo: Repo, tmp_path: Path
) -> None:
    repo.write(BEFORE)
    assert "no branch 'main' with a commit" in refused(repo).what
    repo.commit("x", "other")
    repo.git("rm", "-q", "--cached", "app/flags.yaml")
    repo.git("commit", "-q", "--amend", "-m", "x")
    assert "never was committed on main" in refused(repo).what
    bare = tmp_path / "plain" / "flags.yaml"
    bare.parent.mkdir()
    bare.write_text(BEFORE)
    assert "is not in a git repository" in refused(repo, path=bare).what
    with pytest.raises(InputError, match="is not in the repository"):
        lint(LintRequest(bare, repo.folder, None, tmp_path / "no-store"))


def test_p4_a_blob_that_is_missing_is_not_nothing(repo: Repo) -> None:
    repo.commit(BEFORE)
    blob = repo.git("rev-parse", "HEAD:app/flags.yaml")
    repo.commit(INCIDENT)
    loose = repo.folder / ".git" / "objects" / blob[:2] / blob[2:]
    loose.unlink()
    (source,) = linted(repo).unread
    assert "missing" in source.trouble


def test_p4_a_commit_that_was_replaced_or_grafted_away_counts(repo: Repo) -> None:
    repo.commit("x", "other")
    start = repo.git("rev-parse", "HEAD")
    repo.commit(BEFORE)
    tip = repo.commit(INCIDENT)
    repo.git("replace", "--graft", tip, start)
    assert rules(repo) == {FlagRule.BIT_NO_REUSE}
    repo.git("replace", "-d", tip)
    (repo.folder / ".git" / "info" / "grafts").write_text(f"{tip} {start}\n")
    assert rules(repo) == {FlagRule.BIT_NO_REUSE}


def test_where_git_is_pointed_elsewhere_the_registry_s_own_history_counts(
    repo: Repo, make_repo: Callable[[str], Repo], monkeypatch: pytest.MonkeyPatch
) -> None:
    repo.commit(BEFORE)
    repo.commit(INCIDENT)
    other = make_repo("other")
    other.commit(INCIDENT)
    monkeypatch.setenv("GIT_DIR", str(other.folder / ".git"))
    monkeypatch.setenv("GIT_WORK_TREE", str(other.folder))
    assert rules(repo) == {FlagRule.BIT_NO_REUSE}


def test_settings_of_git_hide_nothing(repo: Repo) -> None:
    repo.commit(BEFORE)
    repo.commit(INCIDENT)
    for key, value in {
        "log.follow": "true", "log.showRoot": "false", "log.date": "relative",
        "diff.renames": "copies", "log.showSignature": "true", "color.ui": "always",
        "log.decorate": "full",
        "format.pretty": "oneline", "log.diffMerges": "off", "diff.noprefix": "true",
    }.items():  # fmt: skip
        repo.git("config", key, value)
    assert rules(repo) == {FlagRule.BIT_NO_REUSE}


def test_signed_commits_are_read_as_any_other(repo: Repo, tmp_path: Path) -> None:
    """With ``log.showSignature`` git prints a line about each signature among its own."""
    make_key(tmp_path / "k")
    public = (tmp_path / "k.pub").read_text().split()
    (tmp_path / "signers").write_text(f"a@b.c {public[0]} {public[1]}\n")
    for key, value in {
        "gpg.format": "ssh", "user.signingkey": str(tmp_path / "k"), "commit.gpgsign": "true",
        "gpg.ssh.allowedSignersFile": str(tmp_path / "signers"), "log.showSignature": "true",
        "user.email": "a@b.c",
    }.items():  # fmt: skip
        repo.git("config", key, value)
    repo.commit(BEFORE)
    repo.commit(INCIDENT)
    assert "Good" in repo.git("log", "-1"), "git is told to show it"
    assert rules(repo) == {FlagRule.BIT_NO_REUSE}


def test_a_checkout_of_another_user_is_read_where_the_environment_allows_it(
    repo: Repo, monkeypatch: pytest.MonkeyPatch
) -> None:
    if os.geteuid() != 0:
        unable("only root can give a checkout to another user")
    repo.commit(BEFORE)
    repo.commit(INCIDENT)
    for path in (repo.folder, repo.folder / ".git"):
        os.chown(path, 12345, 12345)
    assert "git" in str(refused(repo))
    for key, value in {"COUNT": "2", "KEY_0": "safe.directory", "VALUE_0": "*",
                       "KEY_1": "log.showRoot", "VALUE_1": "false"}.items():  # fmt: skip
        monkeypatch.setenv(f"GIT_CONFIG_{key}", value)
    assert rules(repo) == {FlagRule.BIT_NO_REUSE}


def test_the_very_first_commit_counts_whatever_git_was_told_to_show(repo: Repo) -> None:
    repo.git("config", "log.showRoot", "false")
    repo.commit(BEFORE)
    repo.write(INCIDENT)
    assert rules(repo) == {FlagRule.BIT_NO_REUSE}


def test_p4_a_version_that_nobody_can_read_is_excused_by_name_and_not_otherwise(repo: Repo) -> None:
    repo.commit(registry(A))
    broken = repo.commit("flags: [")
    repo.commit(registry(A))
    found = linted(repo)
    (source,) = found.unread
    assert source.place.startswith(broken[:12])
    error = conclude(found, "deploytool flags lint")
    assert error is not None
    assert error.exit_code == 2
    assert f"--excuse {broken[:12]}" in error.now
    for useless in ("", broken[:6], "0" * 40):
        assert linted(repo, excuses=[useless]).unread
    assert not linted(repo, excuses=[broken[:12]]).unread


def test_names_that_git_would_quote(repo: Repo) -> None:
    path = "app é/[x] *?/flags.yaml"
    repo.commit(BEFORE, path)
    repo.write(INCIDENT, path)
    found = linted(repo, path=repo.folder / path)
    assert {refusal.rule for refusal in found.refusals} == {FlagRule.BIT_NO_REUSE}


def test_a_symbolic_link_is_followed_to_what_is_committed(repo: Repo) -> None:
    repo.commit(BEFORE)
    (repo.folder / "link.yaml").symlink_to("app/flags.yaml")
    repo.commit(INCIDENT)
    found = linted(repo, path=repo.folder / "link.yaml")
    assert {refusal.rule for refusal in found.refusals} == {FlagRule.BIT_NO_REUSE}


def test_without_git_it_says_so(repo: Repo, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "")
    with pytest.raises(InputError, match="no git"):
        Repository(repo.folder)


def test_git_that_hangs_is_not_waited_for(repo: Repo, monkeypatch: pytest.MonkeyPatch) -> None:
    def hang(*_arguments: object, timeout: float, **_options: object) -> None:
        raise subprocess.TimeoutExpired("git", timeout)

    monkeypatch.setattr(subprocess, "run", hang)
    with pytest.raises(InputError, match="did not end within"):
        Repository(repo.folder)


def test_hosts_that_were_not_seen_are_another_end_than_bad_input() -> None:
    unseen = Linted("f", (Source("host", "router8", trouble="unreachable"),), ())
    error = conclude(unseen, "again")
    assert error is not None
    assert error.exit_code == 5
    assert "router8: unreachable" in error.details[0]
    both = Linted("f", (*unseen.sources, Source("commit", "c", trouble="x", id="abcdefg")), ())
    assert (error := conclude(both, "again")) is not None
    assert error.exit_code == 2
    assert conclude(Linted("f", (Source("host", "router8"),), ()), "again") is None
