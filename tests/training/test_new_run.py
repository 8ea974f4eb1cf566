import jax
import numpy as np
import pytest

from cnn_jax.data.datasets import dataset_spec
from cnn_jax.data.normalization import Normalization
from cnn_jax.errors import InputError
from cnn_jax.models.registry import initialize
from cnn_jax.training.new_run import write_run
from cnn_jax.training.predictor import load_predictor
from cnn_jax.training.restore import restore_run
from tests.training.tiny import Tiny, tiny_config

NORMALIZATION = Normalization("mean_std", np.full((1, 1, 1), 0.3), np.full((1, 1, 1), 0.2))


def test_the_run_can_be_restored_with_and_without_its_data(tmp_path):
    config = tiny_config(ema_decay=0.9)
    spec = dataset_spec(config.data)
    variables = initialize(jax.random.key(7), model=Tiny(10), image_shape=spec.image_shape)
    facts = {"spec": spec, "normalization": NORMALIZATION, "variables": variables}
    write_run(tmp_path / "run", config, **facts)
    predictor = load_predictor(tmp_path / "run")
    experiment, step, state = restore_run(tmp_path / "run")
    assert predictor.step == step == state.step == 0
    assert predictor.spec == experiment.dataset.spec == spec
    for found in (predictor.variables["params"], state.params, state.ema):
        jax.tree.map(np.testing.assert_array_equal, found, variables["params"])
    for found in (predictor, experiment):
        assert found.normalization.mean == NORMALIZATION.mean
    with pytest.raises(InputError, match="run holds a run already"):
        write_run(tmp_path / "run", config, **facts)
