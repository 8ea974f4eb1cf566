import jax
import pytest

from cnn_jax.models import registry
from cnn_jax.training import setup
from tests.training.tiny import Tiny


@pytest.fixture(scope="module", autouse=True)  # a test elsewhere counts the networks
def _tiny_is_registered():
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(registry.NETWORKS, "tiny", Tiny)
        yield


@pytest.fixture(scope="session", autouse=True)
def _digits_are_read_once():
    """Most runs here are of the digits, and decoding them takes as long as training."""
    load, known = setup.load_dataset, {}

    def load_once(data, **options):
        if data.name != "digits":
            return load(data, **options)
        asked = repr((data, options))
        if asked not in known:
            known[asked] = load(data, **options)
        return known[asked]

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(setup, "load_dataset", load_once)
        yield


@pytest.fixture(scope="module")
def optax_promotes():
    """Optax's schedules and Adams mix integers and floats, which strict promotion forbids."""
    with jax.numpy_dtype_promotion("standard"):
        yield
