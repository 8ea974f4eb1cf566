import fcntl
import json
import shutil

import pytest

from experiments import configs
from tests.experiments.command import run
from tests.forks import Answer
from tests.untrained import write_untrained

STEPS, EVERY = 150, 15
ARGUMENTS = [
    "--config=lenet_digits",
    f"--config.train.steps={STEPS}",
    "--config.data.batch_size=32",
    f"--config.train.log_every={EVERY}",
    f"--config.train.eval_every={EVERY}",
    f"--config.train.checkpoint_every={EVERY}",
]


@pytest.fixture(scope="session")
def finished(session_dir, tmp_path_factory):
    """The directory of a run of lenet_digits, never interrupted, and what it printed.

    The worker that comes first trains it; each has a copy of its own.
    """
    made, said = session_dir / "finished", session_dir / "finished.json"
    with open(session_dir / "finished.lock", "w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not said.exists():
            answer = run("train", *ARGUMENTS, f"--workdir={made}", cwd=session_dir)
            assert answer.code == 0, answer.err
            said.write_text(json.dumps(answer))
    workdir = tmp_path_factory.mktemp("finished") / "run"
    shutil.copytree(made, workdir)
    return workdir, Answer(*json.loads(said.read_text()))


@pytest.fixture(scope="session")
def untrained(tmp_path_factory):
    """The directory of a run of lenet_digits with random weights, at step 0."""
    workdir = tmp_path_factory.mktemp("untrained") / "run"
    write_untrained(workdir, configs.load("lenet_digits"))
    return workdir
