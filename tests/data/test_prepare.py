"""Preparation through TFDS's own builders without TensorFlow: exact, whole or not at all."""

import contextlib
import itertools
import os
import signal
import socket
import sys
import threading
import zipfile

import numpy as np
import pytest
import requests
import tensorflow_datasets as tfds
from tensorflow_datasets.core import shuffle
from tensorflow_datasets.core.download import downloader, extractor
from tensorflow_datasets.image_classification import mnist

from cnn_jax.data.sources import prepare as preparing
from cnn_jax.data.sources.prepare import prepare, unreachable
from cnn_jax.data.sources.stand_in import stand_in
from cnn_jax.data.sources.tfds_builder import is_prepared, open_builder
from cnn_jax.errors import InputError
from tests.data import originals
from tests.data.checks import load, refused
from tests.data.fakes import png


@pytest.fixture
def served(tmp_path, monkeypatch):
    """A directory from which TFDS's downloads come."""
    place = tmp_path / "served"
    place.mkdir()
    originals.serve(monkeypatch, place)
    return place


@pytest.fixture
def resolving(monkeypatch):
    """The network is asked, but no name resolves; the names that were asked for."""
    asked = []

    def resolve(host, *_, **__):
        asked.append(host)
        raise socket.gaierror(-2, "Name or service not known")

    monkeypatch.delenv("CNN_JAX_OFFLINE")
    monkeypatch.setattr(socket, "getaddrinfo", resolve)
    return asked


def _prepare_refused(name, data_dir):
    with pytest.raises(InputError) as caught:
        prepare(open_builder(name, data_dir))
    message = str(caught.value)
    assert "\n" not in message
    return message


def _forbid(*_, **__):
    raise PermissionError(13, "Permission denied")


def _check_same(name, data_dir, made):
    """Compares a prepared dataset with its originals, which TFDS has shuffled."""
    data = load(name, data_dir, validation_fraction=0.0)
    for split, (images, labels) in ((data.train, made["train"]), (data.test, made["test"])):
        expected = sorted(
            (image.tobytes(), label) for image, label in zip(images, labels, strict=True)
        )
        found = zip(split.images, split.labels.tolist(), strict=True)
        assert sorted((image.tobytes(), label) for image, label in found) == expected


@pytest.mark.parametrize("name", ["mnist", "fashion_mnist", "kmnist"])
def test_the_mnist_family(name, served, tmp_path, monkeypatch):
    made = originals.write_mnist(monkeypatch, served)
    home = prepare(open_builder(name, tmp_path / "data"))
    assert home == tmp_path / "data" / name / "3.0.1"
    _check_same(name, tmp_path / "data", made)
    assert "tensorflow" not in sys.modules


def test_emnist(served, tmp_path, monkeypatch):
    config = mnist.EMNIST.builder_configs["letters"]
    monkeypatch.setattr(config, "train_examples", 12)
    monkeypatch.setattr(config, "test_examples", 6)
    made = originals.write_mnist(monkeypatch, served)
    with zipfile.ZipFile(served / "gzip.zip", "w") as archive:
        for path in served.glob("*.gz"):
            name = path.name.replace("t10k", "test")
            archive.write(path, f"gzip/emnist-letters-{name}")
    prepare(open_builder("emnist/letters", tmp_path / "data"))
    _check_same("emnist/letters", tmp_path / "data", made)


@pytest.mark.parametrize("name", ["cifar10", "cifar100"])
def test_cifar(name, served, tmp_path):
    made = getattr(originals, f"write_{name}")(served)
    prepare(open_builder(name, tmp_path / "data"))
    _check_same(name, tmp_path / "data", made)
    names = load(name, tmp_path / "data").spec.class_names
    assert names[:2] == (("class 0", "class 1") if name == "cifar10" else ("fine 0", "fine 1"))
    assert "tensorflow" not in sys.modules


def test_a_builder_that_names_no_tensorflow_and_sorts_on_disk(served, tmp_path, monkeypatch):
    monkeypatch.setattr(shuffle, "MAX_MEM_BUFFER_SIZE", 1000)
    builder = open_builder("rock_paper_scissors", tmp_path / "data")
    module = sys.modules[type(builder).__module__]
    for split, url in ("train", "_TRAIN_URL"), ("test", "_TEST_URL"):
        monkeypatch.setattr(module, url, f"{originals.NOWHERE}{split}.zip")
        with zipfile.ZipFile(served / f"{split}.zip", "w") as archive:
            for index, name in enumerate(["rock", "paper", "scissors"] * 3):
                image = png(np.full((300, 300, 3), index, np.uint8)).read()
                archive.writestr(f"rps/{name}/{index}.png", image)
    prepare(builder)
    data = load("rock_paper_scissors", tmp_path / "data", image_size=4)
    assert sorted(data.test.images[:, 0, 0, 0].tolist()) == list(range(9))
    assert data.spec.image_shape == (4, 4, 3)


def test_training_prepares_by_itself_and_says_so(served, tmp_path, capsys):
    originals.write_cifar10(served)
    assert len(load("cifar10", tmp_path / "data").test) == 6
    out, err = capsys.readouterr()
    assert out == "" and "cifar10 is not prepared yet" in err
    assert len(load("cifar10", tmp_path / "data").test) == 6
    assert capsys.readouterr().err == ""


def test_nothing_is_left_but_the_data_and_the_downloads(served, tmp_path):
    originals.write_cifar10(served)
    prepare(open_builder("cifar10", tmp_path / "data"))
    assert {path.name for path in (tmp_path / "data").iterdir()} == {"cifar10", "downloads"}


@pytest.fixture
def interruptible():
    """Lets SIGINT interrupt even where tests run in the background of a shell, which ignores it.

    And SIGTERM end nothing.
    """
    handlers = {signal.SIGINT: signal.default_int_handler, signal.SIGTERM: lambda *_: None}
    before = {number: signal.signal(number, handler) for number, handler in handlers.items()}
    yield
    for number, handler in before.items():
        signal.signal(number, handler)


@pytest.mark.parametrize(
    ("owner", "name", "number"),
    [
        (downloader._Downloader, "_sync_download", signal.SIGINT),
        (extractor, "_copy", signal.SIGTERM),
        (tfds.features.Text, "encode_example", signal.SIGINT),  # in the midst of writing examples
    ],
)
def test_an_interruption_leaves_nothing_half_made(
    owner, name, number, served, tmp_path, monkeypatch, interruptible
):
    originals.write_cifar10(served)
    over, killed = threading.Event(), threading.Event()

    def interrupt(*arguments, **_):
        if name == "_sync_download":
            (arguments[2] / "half.bin").touch()
        if not killed.is_set():
            killed.set()
            os.kill(os.getpid(), number)  # reaches the main thread; TFDS's others go on
        over.wait(3)
        raise OSError("over")

    monkeypatch.setattr(owner, name, interrupt)
    with pytest.raises(KeyboardInterrupt):
        prepare(open_builder("cifar10", tmp_path / "data"))
    left = [path for path in (tmp_path / "data").rglob("*") if path.is_file()]
    assert all("downloads" in path.parts and "half" not in path.name for path in left)
    assert not [path for path in (tmp_path / "data").rglob("*") if "incomplete" in path.name]
    over.set()
    assert not is_prepared(open_builder("cifar10", tmp_path / "data"))


def test_what_is_downloaded_is_not_downloaded_again(served, tmp_path, monkeypatch):
    made = originals.write_cifar10(served)
    with monkeypatch.context() as patch:
        patch.setattr(preparing.os, "rename", _forbid)
        assert "Permission denied; choose another" in _prepare_refused("cifar10", tmp_path / "data")
    originals.serve(monkeypatch, tmp_path / "nowhere")
    _check_same("cifar10", tmp_path / "data", made)


def test_offline_nothing_goes_out(resolving, tmp_path, monkeypatch):
    monkeypatch.setenv("CNN_JAX_OFFLINE", "1")
    assert "CNN_JAX_OFFLINE is set" in refused("cifar10", tmp_path / "data")
    monkeypatch.setattr(preparing, "unreachable", lambda urls: "")
    message = _prepare_refused("cifar10", tmp_path / "data")
    assert "can't be downloaded (CNN_JAX_OFFLINE is set)" in message
    assert not resolving


def test_downloads_end_with_the_preparation(monkeypatch):
    monkeypatch.delenv("CNN_JAX_OFFLINE")

    @contextlib.contextmanager
    def endless(url, **_):
        yield "response", itertools.repeat(b"block")

    monkeypatch.setattr(downloader, "_open_url", endless)
    with preparing._impatient(), downloader._open_url("https://a.invalid") as (_, blocks):
        assert next(blocks) == b"block"
    with pytest.raises(ConnectionAbortedError):
        next(blocks)


def test_of_two_that_prepare_at_once_the_first_wins(served, tmp_path, monkeypatch):
    originals.write_cifar10(served)
    first = preparing._download_and_prepare

    def slowly(builder, data_dir):
        made = first(builder, data_dir)
        monkeypatch.setattr(preparing, "_download_and_prepare", first)
        prepare(open_builder("cifar10", data_dir))  # the other process, which is done first
        return made

    monkeypatch.setattr(preparing, "_download_and_prepare", slowly)
    prepare(open_builder("cifar10", tmp_path / "data"))
    assert len(load("cifar10", tmp_path / "data").test) == 6


def test_a_damaged_archive_is_named(served, tmp_path):
    originals.write_cifar10(served)
    (served / "cifar-10-binary.tar.gz").write_bytes(b"no archive")
    message = _prepare_refused("cifar10", tmp_path / "data")
    assert "what was downloaded is not what it should be" in message


def test_without_network_it_says_so_at_once(resolving, tmp_path):
    message = _prepare_refused("mnist", tmp_path / "data")
    assert "no network, or no answer from storage.googleapis.com" in message
    assert str(tmp_path / "data" / "mnist" / "3.0.1") in message
    message = refused("cifar10", tmp_path / "data")
    assert "looked for" in message and "no answer from www.cs.toronto.edu" in message
    assert set(resolving) == {"storage.googleapis.com", "www.cs.toronto.edu"}
    assert not (tmp_path / "data").exists()


def test_a_network_that_fails_later_says_so(resolving, tmp_path, monkeypatch):
    monkeypatch.setattr(preparing, "unreachable", lambda urls: "")
    message = _prepare_refused("cifar10", tmp_path / "data")
    assert "can't be downloaded" in message and "www.cs.toronto.edu" in message
    assert len(resolving) == 1 + preparing._RETRIES
    assert not [path for path in (tmp_path / "data").rglob("*") if path.is_file()]


def test_downloads_have_time_limits(tmp_path, monkeypatch):
    seen = {}

    def get(session, url, **options):
        seen.update(options)
        raise requests.ConnectTimeout("too slow")

    monkeypatch.delenv("CNN_JAX_OFFLINE")
    monkeypatch.setattr(requests.Session, "get", get)
    monkeypatch.setattr(preparing, "unreachable", lambda urls: "")
    assert "too slow" in _prepare_refused("cifar10", tmp_path / "data")
    assert seen["timeout"] == preparing._TIMEOUTS


def test_a_network_that_does_not_answer_is_given_up(monkeypatch):
    silent = threading.Event()
    monkeypatch.delenv("CNN_JAX_OFFLINE")
    monkeypatch.setattr(preparing, "_PROBE_SECONDS", 0.05)
    monkeypatch.setattr(requests, "head", lambda *_, **__: silent.wait())
    assert "no answer from a.invalid, b.invalid" in unreachable(
        ["https://a.invalid/x", "https://b.invalid/y", "https://b.invalid/z"]
    )
    silent.set()


def test_one_answer_is_enough(monkeypatch):
    def head(url, timeout):
        if "a.invalid" in url:
            raise requests.ConnectionError
        return requests.Response()

    monkeypatch.delenv("CNN_JAX_OFFLINE")
    monkeypatch.setattr(requests, "head", head)
    assert unreachable(["https://a.invalid/x", "https://b.invalid/y"]) == ""
    assert unreachable([]) == ""


def test_what_needs_tensorflow_says_how_to_get_it(tmp_path):
    message = _prepare_refused("svhn_cropped", tmp_path)
    assert "needs TensorFlow" in message and "pip install 'cnn_jax[prepare]'" in message


def test_what_turns_out_to_need_tensorflow_says_so_too(served, tmp_path, monkeypatch):
    originals.write_cifar10(served)
    monkeypatch.setattr("cnn_jax.data.sources.stand_in._COVERED", set())
    monkeypatch.setattr(preparing, "is_enough", lambda builder: True)
    message = _prepare_refused("cifar10", tmp_path / "data")
    assert "needs TensorFlow to be prepared" in message


def test_what_is_to_be_had_by_hand_says_where_it_goes(tmp_path):
    message = _prepare_refused("imagenet2012", tmp_path)
    assert str(tmp_path / "downloads" / "manual") in message and "ILSVRC2012_img_train" in message


def test_a_place_that_cannot_be_written(served, tmp_path, monkeypatch):
    monkeypatch.setattr(preparing.tempfile, "TemporaryDirectory", _forbid)
    assert "Permission denied; choose another" in _prepare_refused("cifar10", tmp_path / "data")


def test_the_stand_in_is_gone_afterwards(tmp_path):
    builder = open_builder("cifar10", tmp_path)
    before = extractor.tf, mnist.tf, shuffle.tf
    with pytest.raises(KeyError), stand_in(builder):
        assert extractor.tf is not before[0]
        raise KeyError
    assert (extractor.tf, mnist.tf, shuffle.tf) == before


def test_the_stand_in_encodes_what_the_feature_says(tmp_path):
    image = tfds.features.Image(shape=(4, 4, 3))
    pixels = np.random.default_rng(0).integers(0, 256, (4, 4, 3), np.uint8)
    with stand_in(open_builder("cifar10", tmp_path)):
        encoded = image.encode_example(pixels)
        np.testing.assert_array_equal(image.decode_example_np(encoded), pixels)
        with pytest.raises(ValueError, match="the dataset says uint8"):
            image.encode_example(pixels[:3])
        jpeg = tfds.features.Image(shape=(4, 4, 3), encoding_format="jpeg")
        with pytest.raises(ModuleNotFoundError):
            jpeg.encode_example(pixels)
