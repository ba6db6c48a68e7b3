"""The commit that a run records: right, without a lock in the checkout, and without running its programs."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

import pytest

from vitlab.runs import session

pytestmark = pytest.mark.skipif(shutil.which("git") is None, reason="needs git")


def git(folder: Path, *words: str) -> str:
    """What git says there."""
    own = {name: value for name, value in os.environ.items() if not name.startswith("GIT_")}
    who = ("-c", "user.name=a", "-c", "user.email=a@b.example", "-c", "core.fsmonitor=false")
    return subprocess.run(["git", *who, *words], cwd=folder, env=own, check=True, capture_output=True, text=True).stdout


@pytest.fixture
def checkout(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A checkout with one committed file, which takes the place of vitlab's source."""
    folder = tmp_path / "checkout"
    folder.mkdir()
    git(folder, "init", "--quiet")
    (folder / "session.py").write_text("1\n")
    git(folder, "add", ".")
    git(folder, "commit", "--quiet", "-m", "one")
    monkeypatch.setattr(session, "__file__", str(folder / "session.py"))
    return folder


def test_the_commit_and_whether_anything_changed(checkout: Path) -> None:
    commit = git(checkout, "rev-parse", "HEAD")[:12]
    git(checkout, "tag", "-a", "v1", "-m", "a tag is not shown")
    assert session.git_commit() == commit
    (checkout / "other").touch()
    assert session.git_commit() == commit
    (checkout / "session.py").write_text("2\n")
    assert session.git_commit() == f"{commit}+"
    git(checkout, "add", "session.py")
    assert session.git_commit() == f"{commit}+"


def test_a_file_of_no_checkout_has_none(checkout: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(session, "__file__", str(checkout / "untracked.py"))
    assert session.git_commit() is None
    monkeypatch.setattr(session, "__file__", str(tmp_path / "session.py"))
    assert session.git_commit() is None
    monkeypatch.setenv("GIT_DIR", str(checkout / ".git"))
    monkeypatch.setenv("GIT_WORK_TREE", str(checkout))
    assert session.git_commit() is None


def test_the_checkout_is_not_written(checkout: Path) -> None:
    """Its index is out of date, so git would like to refresh it: that takes index.lock, and renames it over index."""
    os.utime(checkout / "session.py", (10**9, 10**9))
    before = (checkout / ".git" / "index").stat().st_ino, (checkout / ".git" / "index").read_bytes()
    assert session.git_commit() is not None
    assert ((checkout / ".git" / "index").stat().st_ino, (checkout / ".git" / "index").read_bytes()) == before


def test_a_lock_that_another_git_holds_is_left_alone(checkout: Path) -> None:
    lock = checkout / ".git" / "index.lock"
    lock.write_text("theirs")
    assert session.git_commit() == git(checkout, "rev-parse", "HEAD")[:12]
    assert lock.read_text() == "theirs"


def test_programs_that_the_checkout_names_do_not_run(checkout: Path, tmp_path: Path) -> None:
    trap = tmp_path / "trap"
    trap.write_text(f"#!/bin/sh\ntouch {tmp_path}/ran\n")
    trap.chmod(0o755)
    for name in ("core.fsmonitor", "core.pager", "pager.status", "core.editor", "core.sshCommand", "diff.external"):
        git(checkout, "config", name, str(trap))
    hooks = checkout / ".git" / "hooks"
    hooks.mkdir(exist_ok=True)
    for hook in ("post-index-change", "fsmonitor-watchman"):
        shutil.copy(trap, hooks / hook)
    (tmp_path / "ran").unlink(missing_ok=True)
    os.utime(checkout / "session.py", (10**9, 10**9))
    assert session.git_commit() is not None
    assert not (tmp_path / "ran").exists()
