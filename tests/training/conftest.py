import jax
import pytest

from cnn_jax.models import registry
from tests.training.tiny import Tiny


@pytest.fixture(scope="session", autouse=True)
def _tiny_is_registered():
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(registry.NETWORKS, "tiny", Tiny)
        yield


@pytest.fixture(scope="module")
def optax_promotes():
    """Optax's schedules and Adams mix integers and floats, which strict promotion forbids."""
    with jax.numpy_dtype_promotion("standard"):
        yield
