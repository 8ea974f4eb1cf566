import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import NamedSharding, PartitionSpec

from cnn_jax.errors import InputError
from cnn_jax.placement import replicated
from cnn_jax.training.checkpoint import Checkpoints, SaveError, abstract
from cnn_jax.training.parallel import make_mesh


def _state(value=0.0):
    return {
        "step": jnp.int32(3),
        "params": {"kernel": jnp.full((2, 3), value), "low": jnp.ones(2, jnp.bfloat16)},
        "batch_stats": {},
        "ema": None,
    }


def _scored(accuracy):
    return None if accuracy is None else {"loss": 1.0, "accuracy": accuracy}


def _steps(directory):
    return {int(path.name) for path in directory.iterdir()}


@pytest.fixture
def directory(tmp_path):
    return tmp_path / "checkpoints"


@pytest.fixture
def kept(directory):
    """Checkpoints 1 to 6, of which 2 and 4 are equally good."""
    with Checkpoints(directory) as checkpoints:
        for step, accuracy in enumerate([0.5, 0.75, None, 0.75, 0.1, None], start=1):
            checkpoints.save(step, _state(step), _scored(accuracy))
    return directory


def test_a_state_comes_back_as_it_was(directory):
    sharding = replicated(make_mesh(8))
    state = jax.device_put(_state(0.1), sharding)
    with Checkpoints(directory) as checkpoints:
        checkpoints.save(3, state)
        checkpoints.wait()
        again = checkpoints.restore(3, abstract(state, sharding))
    assert jax.tree.structure(again) == jax.tree.structure(state)
    for old, new in zip(jax.tree.leaves(state), jax.tree.leaves(again), strict=True):
        assert (new.dtype, new.sharding) == (old.dtype, sharding)
        np.testing.assert_array_equal(new, old)


def test_a_save_that_fails_makes_room_of_all_half_checkpoints(directory, monkeypatch):
    def save(*_, **__):
        raise OSError("the disk is full")

    for step in (3, 5):
        (directory / f"{step}.orbax-checkpoint-tmp").mkdir(parents=True)
    with Checkpoints(directory, read_only=True) as checkpoints:  # else Orbax removes them, too
        monkeypatch.setattr(checkpoints._manager, "save", save)
        with pytest.raises(SaveError, match="step 5"):
            checkpoints.save(5, _state())
    assert _steps(directory) == set()


def test_a_state_comes_back_on_other_devices(directory):
    with Checkpoints(directory) as checkpoints:
        checkpoints.save(1, jax.device_put(_state(0.1), replicated(make_mesh(8))))
    sharding = NamedSharding(make_mesh(2), PartitionSpec())
    with Checkpoints(directory, read_only=True) as checkpoints:
        again = checkpoints.restore(1, abstract(_state(), sharding))
    assert again["params"]["kernel"].sharding == sharding
    np.testing.assert_array_equal(again["params"]["kernel"], np.full((2, 3), np.float32(0.1)))


def test_a_save_holds_what_was_when_it_was_called(directory):
    donate = jax.jit(lambda x: x + 1, donate_argnums=0)
    x = jnp.zeros(100_000)
    with Checkpoints(directory) as checkpoints:
        for step in range(1, 4):
            checkpoints.save(step, {"x": x})
            for _ in range(5):
                x = donate(x)
    with Checkpoints(directory, read_only=True) as checkpoints:
        template = abstract({"x": x}, replicated(make_mesh(1)))
        for step in (2, 3):
            saved = checkpoints.restore(step, template)["x"]
            np.testing.assert_array_equal(saved, np.full(100_000, 5 * (step - 1)))


def test_the_two_latest_and_the_best_are_kept(kept):
    assert _steps(kept) == {2, 5, 6}


def test_latest_and_best_are_known_after_a_restart(kept):
    with Checkpoints(kept, read_only=True) as checkpoints:
        assert checkpoints.latest == 6
        assert checkpoints.best == (2, 0.75)  # of equals, the earliest
        assert checkpoints.find("last") == 6
        assert checkpoints.find("best") == 2
        restored = checkpoints.restore(2, abstract(_state(), replicated(make_mesh(1))))
    np.testing.assert_array_equal(restored["params"]["kernel"], np.full((2, 3), 2.0))


def test_a_damage_without_words_is_told_by_its_kind(kept):
    wanted = pytest.raises(InputError, match="/6 is damaged: AssertionError")
    with Checkpoints(kept, read_only=True) as checkpoints, wanted, checkpoints._reading(6):
        raise AssertionError


def test_the_details_of_a_damage_are_left_out(kept):
    wanted = pytest.raises(InputError, match=r"/6 is damaged: can't read index: \(0, 30\)$")
    with Checkpoints(kept, read_only=True) as checkpoints, wanted, checkpoints._reading(6):
        raise ValueError("can't read index: (0, 30). See full TensorStore details: <method>")


def test_the_best_stays_through_a_resumed_run(kept):
    with Checkpoints(kept) as checkpoints:
        for step, accuracy in ((7, 0.2), (8, None), (9, None)):
            checkpoints.save(step, _state(step), _scored(accuracy))
        checkpoints.wait()
        assert checkpoints.best == (2, 0.75)
    assert _steps(kept) == {2, 8, 9}


def test_a_better_one_takes_its_place(kept):
    with Checkpoints(kept) as checkpoints:
        checkpoints.save(7, _state(7), _scored(0.8))
        checkpoints.save(8, _state(8))
        checkpoints.save(9, _state(9))
        checkpoints.wait()
        assert checkpoints.best == (7, 0.8)
    assert _steps(kept) == {7, 8, 9}


def test_without_scores_best_means_last(directory):
    with Checkpoints(directory) as checkpoints:
        for step in (1, 2, 3):
            checkpoints.save(step, _state())
        checkpoints.wait()
        assert checkpoints.best is None
        assert checkpoints.find("best") == 3
    assert _steps(directory) >= {2, 3}


def test_saving_the_latest_step_again_changes_nothing(directory):
    with Checkpoints(directory) as checkpoints:
        checkpoints.save(1, _state(1.0))
        checkpoints.save(1, _state(2.0))
        checkpoints.wait()
        again = checkpoints.restore(1, abstract(_state(), replicated(make_mesh(1))))
    np.testing.assert_array_equal(again["params"]["kernel"], np.ones((2, 3)))


def test_an_unfinished_checkpoint_does_not_count(kept):
    (kept / "7.orbax-checkpoint-tmp-1").mkdir()
    with Checkpoints(kept, read_only=True) as checkpoints:
        assert checkpoints.latest == 6
    assert (kept / "7.orbax-checkpoint-tmp-1").exists()
    with Checkpoints(kept) as checkpoints:
        assert checkpoints.latest == 6


@pytest.mark.parametrize("exists", [False, True])
def test_a_run_without_checkpoints_is_named(directory, exists):
    if exists:
        directory.mkdir()
    with pytest.raises(InputError) as caught, Checkpoints(directory, read_only=True) as checkpoints:
        checkpoints.find("last")
    assert str(directory) in str(caught.value)
    assert directory.exists() == exists
