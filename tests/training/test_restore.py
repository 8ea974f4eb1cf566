import dataclasses
import json
import shutil

import jax
import numpy as np
import pytest

from cnn_jax.config import to_json
from cnn_jax.errors import InputError
from cnn_jax.training.loop import train_and_evaluate
from cnn_jax.training.restore import restore_run
from cnn_jax.training.run_directory import read_spec, write_spec
from tests.training.tiny import saved_state, tiny_config

pytestmark = pytest.mark.usefixtures("optax_promotes")


@pytest.fixture(scope="module")
def workdir(tmp_path_factory, optax_promotes):
    workdir = tmp_path_factory.mktemp("run")
    train_and_evaluate(tiny_config(), workdir)
    return workdir


def test_state_and_constants_are_the_runs(workdir):
    experiment, step, state = restore_run(workdir)
    _, saved = saved_state(workdir, tiny_config())
    assert step == int(state.step) == 12
    assert experiment.mesh.size == jax.device_count()
    jax.tree.map(np.testing.assert_array_equal, state, saved)
    with np.load(workdir / "normalization.npz") as constants:
        np.testing.assert_array_equal(experiment.normalization.mean, constants["mean"])


def test_the_best_checkpoint_is_its_own(workdir):
    _, step, state = restore_run(workdir, which="best")
    best_step, saved = saved_state(workdir, tiny_config(), "best")
    assert step == best_step == int(state.step)
    jax.tree.map(np.testing.assert_array_equal, state.params, saved.params)


def test_what_was_trained_can_be_restored_for_less_data_than_a_batch(workdir, tmp_path):
    shutil.copytree(workdir, tmp_path / "run")
    config = tiny_config()
    config.data.batch_size = 5000
    (tmp_path / "run" / "config.json").write_text(to_json(config))
    assert restore_run(tmp_path / "run")[1] == 12


@pytest.mark.parametrize(
    ("names", "words"),
    [("1023456789", "class 0 of the data is 0, but 1 in "), ("012345678", "is 9, but missing in ")],
)
def test_data_of_other_classes_is_refused(workdir, tmp_path, names, words):
    shutil.copytree(workdir, tmp_path / "run")
    spec = dataclasses.replace(read_spec(workdir), class_names=tuple(names))
    write_spec(tmp_path / "run", spec)
    with pytest.raises(InputError, match=words):
        restore_run(tmp_path / "run")
    (tmp_path / "run" / "dataset.json").unlink()
    restore_run(tmp_path / "run")


def test_what_is_no_run_is_told(tmp_path):
    with pytest.raises(InputError, match="is no run directory"):
        restore_run(tmp_path)


def _truncate(checkpoint):
    for path in (checkpoint / "default").rglob("d/*"):
        path.write_bytes(b"")


def _remove(part):
    return lambda checkpoint: shutil.rmtree(checkpoint / part)


# The thread in which a read fails closes its event loop before all that waits on it is collected.
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
@pytest.mark.parametrize("damage", [_truncate, _remove("default"), _remove("metrics")])
def test_a_damaged_checkpoint_is_told(workdir, tmp_path, damage):
    shutil.copytree(workdir, tmp_path / "run")
    damage(tmp_path / "run" / "checkpoints" / "12")
    with pytest.raises(InputError, match=r"checkpoint .*12 is damaged"):
        restore_run(tmp_path / "run")


def test_a_checkpoint_of_an_older_format_is_kept_and_refused(workdir, tmp_path):
    shutil.copytree(workdir, tmp_path / "run")
    (tmp_path / "run" / "result.json").unlink()
    for path in (tmp_path / "run" / "checkpoints").glob("*/metrics/metrics"):
        known = json.loads(path.read_text())
        path.write_text(json.dumps({name: v for name, v in known.items() if name != "format"}))
    with pytest.raises(InputError, match="has checkpoint format 0"):
        train_and_evaluate(tiny_config(), tmp_path / "run")
    assert not list((tmp_path / "run" / "checkpoints").glob("damaged*"))
