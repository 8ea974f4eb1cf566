import pytest

from tests.experiments.command import run

STEPS = 300
ARGUMENTS = [
    "--config=lenet_digits",
    f"--config.train.steps={STEPS}",
    "--config.train.log_every=30",
    "--config.train.eval_every=30",
    "--config.train.checkpoint_every=30",
]


@pytest.fixture(scope="session")
def finished(tmp_path_factory):
    """The directory of a run of lenet_digits, never interrupted, and what it printed."""
    workdir = tmp_path_factory.mktemp("finished")
    answer = run("train", *ARGUMENTS, f"--workdir={workdir}", cwd=workdir)
    assert answer.code == 0, answer.err
    return workdir, answer
