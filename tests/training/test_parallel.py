import jax
import jax.numpy as jnp
import numpy as np
import pytest

from cnn_jax.errors import InputError
from cnn_jax.placement import replicated
from cnn_jax.training.parallel import check_batch_size, compile_step, make_mesh, shard_batch


@pytest.mark.parametrize(("asked", "size"), [(0, 8), (1, 1), (3, 3), (8, 8)])
def test_a_mesh_has_the_devices_asked_for(asked, size):
    mesh = make_mesh(asked)
    assert mesh.axis_names == ("data",)
    assert list(mesh.devices) == jax.devices()[:size]


def test_more_devices_than_there_are_are_refused():
    with pytest.raises(InputError, match="devices is 9, but there are 8"):
        make_mesh(9)


def test_processes_with_unequal_numbers_of_devices_are_told_how_many_do(monkeypatch):
    devices = jax.devices()
    monkeypatch.setattr(jax, "process_count", lambda: 2)
    monkeypatch.setattr(jax, "local_devices", lambda i: [devices[:3], devices[3:]][i])
    with pytest.raises(InputError, match=r"8, 4 of each of 2 processes, .*config.devices=6"):
        make_mesh()
    assert make_mesh(6).size == 6


@pytest.mark.parametrize(
    ("batch_size", "advice"), [(12, "take 8 or 16"), (3, "take 8"), (100, "take 96 or 104")]
)
def test_a_batch_that_devices_cannot_share_is_refused(batch_size, advice):
    mesh = make_mesh(8)
    with pytest.raises(InputError, match=f"{batch_size}.*{advice}"):
        check_batch_size(batch_size, mesh)
    check_batch_size(16, mesh)
    check_batch_size(batch_size, make_mesh(1))


def test_a_step_splits_its_batch_and_returns_whole_results():
    mesh, shards = make_mesh(8), []

    def step(state, batch):
        batch = shard_batch(batch, mesh)
        jax.debug.inspect_array_sharding(batch["x"], callback=shards.append)
        return state + batch["x"].sum(), batch["x"] * 2

    x = jax.device_put(jnp.arange(16.0), replicated(mesh))
    state = jax.device_put(jnp.float32(1), replicated(mesh))
    compiled = compile_step(step, (state, {"x": x}), mesh=mesh, donate=True)
    total, doubled = compiled(state, {"x": x})
    assert shards[0].shard_shape((16,)) == (2,)
    assert float(total) == 121
    assert total.sharding == doubled.sharding == replicated(mesh)
    np.testing.assert_array_equal(doubled, 2 * np.arange(16))
    assert state.is_deleted()
    assert not x.is_deleted()
