"""Fine-tuning: what is taken over, what is new, and what is refused."""

import jax
import numpy as np
import pytest

from cnn_jax.errors import InputError
from cnn_jax.metric_rows import read_rows
from cnn_jax.training.checkpoint import Checkpoints, Damaged
from cnn_jax.training.loop import train_and_evaluate
from cnn_jax.training.run_directory import create_run, read_json
from cnn_jax.training.transfer import read_variables, transfer
from tests.training.tiny import saved_state, tiny_config

DEVICE = jax.sharding.SingleDeviceSharding(jax.devices()[0])


def _variables(classes=10, channels=4, fill=0.0):
    return {
        "params": {
            "conv": {"kernel": np.full((3, 3, 1, channels), fill)},
            "logits": {
                "bias": np.full(classes, fill),
                "kernel": np.full((channels, classes), fill),
            },
        },
        "batch_stats": {"norm": {"mean": np.full(channels, fill)}},
    }


@pytest.mark.parametrize(("classes", "new"), [(10, []), (7, ["logits/bias", "logits/kernel"])])
def test_all_but_another_head_is_taken(classes, new):
    result = transfer(_variables(), _variables(classes, fill=1.0))
    assert result.new == new
    assert {*result.taken, *result.new} == {
        "conv/kernel", "logits/bias", "logits/kernel", "norm/mean",
    }  # fmt: skip
    assert (result.variables["params"]["conv"]["kernel"] == 1).all()
    assert (result.variables["batch_stats"]["norm"]["mean"] == 1).all()
    assert (result.variables["params"]["logits"]["kernel"] == (0 if new else 1)).all()


def test_what_differs_beyond_the_head_is_named():
    words = (
        r"conv/kernel is \(3, 3, 1, 8\) there, not \(3, 3, 1, 4\), and 1 more differ; only the h"
    )
    with pytest.raises(InputError, match=f"run does not fit the network: {words}"):
        transfer(_variables(), _variables(channels=8), name="run")
    deeper = _variables()
    deeper["params"]["conv2"] = {"bias": np.zeros(3)}
    with pytest.raises(InputError, match=r"conv2/bias is \(3,\) there, not absent"):
        transfer(_variables(), deeper)
    with pytest.raises(InputError, match=r"conv2/bias is absent there, not \(3,\)"):
        transfer(deeper, _variables())


def test_a_population_is_no_source(tmp_path):
    config = tiny_config()
    config.population.seeds = 2
    create_run(tmp_path, config)
    with pytest.raises(InputError, match=r"is a population; take one of its members"):
        read_variables(tmp_path, DEVICE)


@pytest.fixture(scope="module")
def source(tmp_path_factory):
    with jax.numpy_dtype_promotion("standard"):
        workdir = tmp_path_factory.mktemp("source")
        train_and_evaluate(tiny_config(steps=4, eval_every=4, ema_decay=0.5), workdir)
        return workdir


def _two_classes(tmp_path, source, **train):
    rng = np.random.default_rng(0)
    np.savez(
        tmp_path / "two.npz",
        images=rng.integers(0, 256, (60, 8, 8), np.uint8),
        labels=np.arange(60) % 2,
    )
    fields = {"steps": 2, "log_every": 1, "eval_every": 2, "init_from": str(source)}
    config = tiny_config(**fields | train)
    config.data.name, config.data.dir = "npz", str(tmp_path / "two.npz")
    config.data.batch_size, config.optim.freeze = 16, "^(conv|norm)"
    return config


@pytest.mark.usefixtures("optax_promotes")
def test_a_run_starts_from_anothers_weights_with_a_head_of_its_own(source, tmp_path, capsys):
    config = _two_classes(tmp_path, source)
    config.data.test_mirror, config.data.test_shift = True, 1
    result = train_and_evaluate(config, tmp_path / "run")
    said = f"from the best weights of {source}: 5 arrays taken; new: logits/bias, logits/kernel"
    assert said in capsys.readouterr().err
    _, state = saved_state(tmp_path / "run", config)
    _, trained = saved_state(source, tiny_config(ema_decay=0.5), "best")
    for name in ("conv", "norm"):  # frozen
        jax.tree.map(np.testing.assert_array_equal, state.params[name], trained.ema[name])
    assert state.params["logits"]["kernel"].shape == (64, 2)
    # The views of test-time augmentation are seen in the test alone, which is not the validation.
    config.data.test_mirror, config.data.test_shift = False, 0
    plain = train_and_evaluate(config, tmp_path / "plain")
    assert plain["test_loss"] != result["test_loss"]
    rows, plain_rows = (read_rows(tmp_path / d / "metrics.jsonl") for d in ("run", "plain"))
    assert rows[-1]["validation_loss"] == plain_rows[-1]["validation_loss"]


@pytest.mark.usefixtures("optax_promotes")
def test_the_best_weights_are_read_and_statistics_with_them(source):
    variables = read_variables(source, DEVICE)
    _, state = saved_state(source, tiny_config(ema_decay=0.5), "best")
    jax.tree.map(np.testing.assert_array_equal, variables["params"], state.ema)
    jax.tree.map(np.testing.assert_array_equal, variables["batch_stats"], state.batch_stats)


@pytest.mark.usefixtures("optax_promotes")
def test_what_cannot_be_started_from_is_said_and_leaves_no_run(source, tmp_path, monkeypatch):
    config = _two_classes(tmp_path, source)
    config.model.name, config.optim.freeze = "lenet_same", ""
    with pytest.raises(InputError, match=r"train.init_from=.* does not fit the network: "):
        train_and_evaluate(config, tmp_path / "run")
    config.train.init_from = str(tmp_path / "nowhere")
    with pytest.raises(InputError, match=r"nowhere is no run directory"):
        train_and_evaluate(config, tmp_path / "run")

    def torn(*_):
        raise Damaged(source / "checkpoints", "an array can't be read")

    monkeypatch.setattr(Checkpoints, "restore_fields", torn)
    with pytest.raises(InputError, match=r"is damaged: an array can't be read"):
        train_and_evaluate(_two_classes(tmp_path, source), tmp_path / "run")
    assert not (tmp_path / "run").exists()
    assert read_json(source / "result.json")["steps"] == 4
