import subprocess

import jax
import pytest

from cnn_jax.training.parallel import make_mesh
from cnn_jax.training.provenance import device_line, facts, git_commit


@pytest.fixture
def git(tmp_path, monkeypatch):
    for name in ("GIT_DIR", "GIT_WORK_TREE", "GIT_INDEX_FILE"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("GIT_CEILING_DIRECTORIES", str(tmp_path.parent))
    monkeypatch.setenv("GIT_CONFIG_GLOBAL", "/dev/null")

    def run(*arguments):
        settings = ["-c", "user.name=a", "-c", "user.email=a@b"]
        command = ["git", *settings, *arguments]
        answer = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=True)
        return answer.stdout.strip()

    return run


def test_the_commit_tells_of_changes(git, tmp_path):
    assert git_commit(tmp_path) is None
    git("init", "-q")
    assert git_commit(tmp_path) is None  # nothing committed yet
    (tmp_path / "file").write_text("a")
    git("add", "file")
    git("commit", "-qm", "a")
    git("tag", "v1")
    commit = git("rev-parse", "HEAD")
    assert git_commit(tmp_path) == commit
    (tmp_path / "file").write_text("b")
    assert git_commit(tmp_path) == commit + "+changes"


def test_without_git_there_is_no_commit(tmp_path, monkeypatch):
    monkeypatch.setenv("PATH", str(tmp_path))
    assert git_commit(tmp_path) is None


def test_facts_say_with_what_and_on_what():
    found = facts(make_mesh(2))
    assert found["versions"]["jax"] == jax.__version__
    assert (found["platform"], found["devices"], found["processes"]) == ("cpu", 2, 1)
    assert all(isinstance(version, str) for version in found["versions"].values())


def test_devices_in_a_few_words():
    assert [device_line(make_mesh(n)) for n in (1, 8)] == ["1 cpu device", "8 cpu devices"]
