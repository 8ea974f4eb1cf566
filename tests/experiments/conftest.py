import jax
import numpy as np
import pytest

from cnn_jax.data.datasets import dataset_spec
from cnn_jax.data.normalization import Normalization
from cnn_jax.models.registry import build_model, initialize
from cnn_jax.training.new_run import write_run
from experiments import configs
from tests.experiments.command import run

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
def finished(tmp_path_factory):
    """The directory of a run of lenet_digits, never interrupted, and what it printed."""
    workdir = tmp_path_factory.mktemp("finished")
    answer = run("train", *ARGUMENTS, f"--workdir={workdir}", cwd=workdir)
    assert answer.code == 0, answer.err
    return workdir, answer


@pytest.fixture(scope="session")
def untrained(tmp_path_factory):
    """The directory of a run of lenet_digits with random weights, at step 0."""
    workdir = tmp_path_factory.mktemp("untrained") / "run"
    config = configs.load("lenet_digits")
    spec = dataset_spec(config.data)
    model = build_model("lenet_same", 10, width=config.model.width)
    constants = np.full((2, 1, 1, 1), [[[[0.3]]], [[[0.2]]]], np.float32)
    write_run(
        workdir,
        config,
        spec=spec,
        normalization=Normalization("mean_std", *constants),
        variables=initialize(jax.random.key(1), model=model, image_shape=spec.image_shape),
    )
    return workdir
