"""A sweep whose storage is a PostgreSQL server, as several machines share it."""

import getpass
import os
import shutil
import subprocess
import tempfile
from pathlib import Path

import optuna
import pytest

from launch import pool
from launch.command_line import LaunchError
from launch.devices import Place
from launch.storage import open_storage
from tests.launch.sweeps import kill_while_training, run, settings, starts, states

psycopg = pytest.importorskip("psycopg")
_DEBIAN = sorted(Path("/usr/lib/postgresql").glob("*/bin"))
_BIN = next((d for d in reversed(_DEBIAN) if (d / "initdb").exists()), None)
_FOUND = _BIN or (shutil.which("initdb") and Path(shutil.which("initdb")).parent)
pytestmark = [
    pytest.mark.skipif(not _FOUND, reason="needs PostgreSQL: apt-get install postgresql"),
    pytest.mark.usefixtures("no_page"),
]


@pytest.fixture(autouse=True)
def _connections_closed(monkeypatch):
    """They end with the process; but here that goes on."""
    opened = []

    class Storage(optuna.storages.RDBStorage):
        def __init__(self, *args, **options):
            opened.append(self)
            super().__init__(*args, **options)

    monkeypatch.setattr(optuna.storages, "RDBStorage", Storage)
    yield
    for storage in opened:
        if hasattr(storage, "engine"):
            storage.engine.dispose()


def _as_user(*command):
    """The server refuses to run as root; Debian's package brings a user for it."""
    if os.getuid():
        return list(command)
    return ["runuser", "-u", "postgres", "--", *command]


@pytest.fixture(scope="module")
def server():
    """The URL of a database on a server of its own, which listens on a Unix socket alone.

    It lies outside of pytest's directory, which no other user can enter.
    """
    with tempfile.TemporaryDirectory(prefix="postgresql-", ignore_cleanup_errors=True) as place:
        yield from _serve(Path(place))


def _serve(place):
    if not os.getuid():
        if subprocess.run(["id", "postgres"], capture_output=True, check=False).returncode:
            pytest.skip("needs a user other than root for PostgreSQL")
        shutil.chown(place, "postgres")
    data, user = place / "data", getpass.getuser() if os.getuid() else "postgres"
    options = f"-k {place} -c listen_addresses= -c fsync=off"
    commands = (
        [_FOUND / "initdb", "-D", data, "-A", "trust", "--no-sync"],
        [_FOUND / "pg_ctl", "-D", data, "-o", options, "-l", place / "log", "-w", "start"],
    )
    for command in commands:
        subprocess.run(_as_user(*map(str, command)), capture_output=True, check=True, cwd=place)
    yield f"postgresql+psycopg://{user}@/postgres?host={place}"
    stop = [_FOUND / "pg_ctl", "-D", data, "-m", "immediate", "stop"]
    subprocess.run(_as_user(*map(str, stop)), capture_output=True, check=True, cwd=place)


def test_two_machines_share_a_sweep_and_its_trials(server, fake_train):
    given = settings(fake_train, seeds=2)
    pid = os.fork()
    if not pid:
        code = 1
        try:
            run(given, storage=server, study="shared")
            code = 0
        finally:
            os._exit(code)
    trials = run(given, storage=server, study="shared")
    assert os.waitpid(pid, 0)[1] == 0
    assert states(trials) == ["COMPLETE"] * 3
    assert set(starts(fake_train).values()) == {1}
    assert (fake_train / "sweep/best.json").exists()
    assert not (fake_train / "sweep/journal.log").exists()


@pytest.mark.parametrize(
    ("rates", "where"), [("0.1", "0000/seed_0"), ("0.1,0.3", "0000/together_0")]
)
def test_silent_trials_are_given_back_and_resumed(server, fake_train, rates, where):
    params = "model.name=waits", f"optim.learning_rate={rates}"
    given, study = settings(fake_train, *params, together=2), f"silent{len(rates)}"
    kill_while_training(given, fake_train, storage=server, study=study, grace=2)
    trials = run(given, storage=server, study=study, grace=2)
    count = given.trials
    assert states(trials) == ["FAIL"] * count + ["COMPLETE"] * count
    assert starts(fake_train) == {where: 2}
    assert trials.study.best_trial.user_attrs["home"] == count - 1  # the better rate's


def test_another_sweep_of_that_name_is_refused(server, fake_train):
    pool.open_trials(settings(fake_train), storage=server, study="one")
    with pytest.raises(LaunchError, match="another sweep called one: seeds is 1 there, not 2"):
        pool.open_trials(settings(fake_train, seeds=2), storage=server, study="one")


def test_a_server_that_goes_away_is_one_line(server, fake_train, monkeypatch):
    trials = pool.open_trials(settings(fake_train), storage=server, study="lost")
    storage = trials._storage
    storage.engine.dispose()
    monkeypatch.setattr(storage.engine.pool, "_creator", _refuse)
    with pytest.raises(LaunchError, match="the storage can't be reached"):
        pool.run(trials, [Place()], "")


def _refuse(*_):
    raise psycopg.OperationalError("no server")


def test_no_server_is_one_line_without_the_password(tmp_path):
    with pytest.raises(LaunchError) as refused:
        open_storage("postgresql+psycopg://me:secret@127.0.0.1:1/none", tmp_path, grace=9)
    text = str(refused.value)
    assert "postgresql+psycopg://127.0.0.1:1/none can't be used" in text
    assert "secret" not in text and "\n" not in text
