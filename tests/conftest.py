"""Strict mode for every test: no promotion, eight virtual devices, shapes checked at run time."""

import gc
import os
import tempfile

# Read when jax is imported, so it comes before every import that may bring jax along.
# Compiling takes longer than all computing: with fewer passes, and by XLA's older code generator.
os.environ["JAX_DISABLE_MOST_OPTIMIZATIONS"] = "1"
os.environ["XLA_FLAGS"] = (
    os.environ.get("XLA_FLAGS", "")
    + " --xla_cpu_use_fusion_emitters=false --xla_force_host_platform_device_count=8"
)
os.environ.setdefault("JAX_PLATFORMS", "cpu")

import jax
import pytest
from jax.experimental.compilation_cache import compilation_cache
from jaxtyping import install_import_hook

jax.config.update("jax_numpy_dtype_promotion", "strict")
jax.config.update("jax_numpy_rank_promotion", "raise")
# An int is a float, as Python's own typing has it.
install_import_hook(
    "cnn_jax", "beartype.beartype(conf=beartype.BeartypeConf(is_pep484_tower=True))"
)


gc.disable()  # what is imported stays, and need not be looked through again and again


def pytest_collection_finish():
    gc.freeze()
    gc.enable()


@pytest.fixture(scope="session")
def session_dir(tmp_path_factory):
    """A directory that all workers of this session share."""
    base = tmp_path_factory.getbasetemp()
    return base.parent if "PYTEST_XDIST_WORKER" in os.environ else base


@pytest.fixture(scope="session", autouse=True)
def _data_of_its_own(session_dir):
    """Keeps the tests out of the user's data and cache; the digits prepare themselves once."""
    temporary = session_dir / "temporary"  # TFDS leaves a directory wherever data is missing
    temporary.mkdir(exist_ok=True)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("TMPDIR", str(temporary))
        patch.setattr(tempfile, "tempdir", str(temporary))
        patch.setenv("TFDS_DATA_DIR", str(session_dir / "tfds"))
        patch.setenv("CNN_JAX_CACHE", str(session_dir / "cache"))
        patch.setenv("CNN_JAX_OFFLINE", "1")
        yield


@pytest.fixture(scope="session", autouse=True)
def _compiled_once(session_dir):
    """What is slow to compile is kept for the session, for its workers and commands too."""
    settings = {
        "jax_compilation_cache_dir": str(session_dir / "compiled"),
        "jax_persistent_cache_min_compile_time_secs": 0.1,
    }
    with pytest.MonkeyPatch.context() as patch:
        for name, value in settings.items():
            jax.config.update(name, value)
            patch.setenv(name.upper(), str(value))
        compilation_cache.reset_cache()  # a compilation while collecting tests settled on none
        yield
