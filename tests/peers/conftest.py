"""Comparisons with other frameworks, for those who have them: the extra `peers`.

    python -m pip install -e '.[test,peers]'
    python -m pytest tests/peers -rP

Without Keras or PyTorch they are skipped. KERAS_BACKEND chooses what Keras computes with; PyTorch,
so that it's not JAX that is compared with JAX, unless said otherwise. `-rP` shows the differences.
"""

import os

import pytest

os.environ.setdefault("KERAS_BACKEND", "torch")
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")


def pytest_configure(config):
    config.addinivalue_line("markers", "peers: needs the extra `peers`, skipped without it")


def pytest_collection_modifyitems(items):
    for item in items:
        if item.path.parent.name == "peers":
            item.add_marker(pytest.mark.peers)
            item.add_marker(pytest.mark.filterwarnings("default"))  # theirs, not ours
