"""Tiny archives in the formats in which MNIST and CIFAR are published, in place of downloads."""

import gzip
import io
import shutil
import struct
import tarfile
from pathlib import Path

import numpy as np
from tensorflow_datasets.core.download import checksums, downloader
from tensorflow_datasets.image_classification import cifar, mnist

NOWHERE = "https://example.invalid/"


def serve(monkeypatch, place):
    """Makes TFDS's downloads copies of the files in `place`, and the network seem to be there.

    All addresses become NOWHERE's, so that the checksums of the real files are not asked for.
    """

    def copy(self, url, destination, verify=True):
        path = destination / url.rpartition("/")[2]
        shutil.copy(Path(place, path.name), path)
        self._pbar_url.update(1)
        return downloader.DownloadResult(path, checksums.compute_url_info(path))

    monkeypatch.setattr(downloader._Downloader, "_sync_download", copy)
    monkeypatch.setattr("cnn_jax.data.sources.prepare.unreachable", lambda urls: "")
    for builder in mnist.MNIST, mnist.FashionMNIST, mnist.KMNIST:
        monkeypatch.setattr(builder, "URL", NOWHERE)
    monkeypatch.setattr(mnist.EMNIST, "URL", f"{NOWHERE}gzip.zip")
    for builder in cifar.Cifar10, cifar.Cifar100:
        info = builder._cifar_info
        moved = property(lambda self, get=info.fget: _moved(get(self)))
        monkeypatch.setattr(builder, "_cifar_info", moved)


def _moved(info):
    return info._replace(url=NOWHERE + info.url.rpartition("/")[2])


def write_mnist(monkeypatch, place, *, train=12, test=6):
    """Writes the four files of MNIST (idx, gzip); returns {split: (images, labels)}."""
    monkeypatch.setattr(mnist, "_TRAIN_EXAMPLES", train)
    monkeypatch.setattr(mnist, "_TEST_EXAMPLES", test)
    made = {"train": _made(train, (28, 28, 1)), "test": _made(test, (28, 28, 1))}
    for prefix, (images, labels) in zip(("train", "t10k"), made.values(), strict=True):
        header = struct.pack(">IIII", 2051, len(images), 28, 28)
        _gzip(place / f"{prefix}-images-idx3-ubyte.gz", header + images.tobytes())
        header = struct.pack(">II", 2049, len(labels))
        _gzip(place / f"{prefix}-labels-idx1-ubyte.gz", header + labels.tobytes())
    return made


def write_cifar10(place, *, batch=4, test=6):
    """Writes cifar-10-binary.tar.gz of five batches; returns {split: (images, labels)}."""
    made = {"train": _made(5 * batch, (32, 32, 3)), "test": _made(test, (32, 32, 3))}
    records = {split: _records(images, [labels]) for split, (images, labels) in made.items()}
    parts = np.split(records["train"], 5)
    files = {f"data_batch_{i + 1}.bin": part.tobytes() for i, part in enumerate(parts)}
    files["test_batch.bin"] = records["test"].tobytes()
    files["batches.meta.txt"] = _names("class", 10)
    _tar(place / "cifar-10-binary.tar.gz", "cifar-10-batches-bin", files)
    return made


def write_cifar100(place, *, train=12, test=6):
    """Writes cifar-100-binary.tar.gz; returns {split: (images, labels)}."""
    made = {"train": _made(train, (32, 32, 3)), "test": _made(test, (32, 32, 3))}
    files = {
        f"{split}.bin": _records(images, [labels // 5, labels]).tobytes()
        for split, (images, labels) in made.items()
    }
    files["coarse_label_names.txt"] = _names("coarse", 20)
    files["fine_label_names.txt"] = _names("fine", 100)
    _tar(place / "cifar-100-binary.tar.gz", "cifar-100-binary", files)
    return made


def _made(count, shape):
    images = np.random.default_rng(count).integers(0, 256, (count, *shape), np.uint8)
    return images, (np.arange(count) % 10).astype(np.uint8)


def _records(images, labels):
    """A record is its labels, a byte each, then the planes of red, green and blue."""
    planes = images.transpose(0, 3, 1, 2).reshape(len(images), -1)
    return np.concatenate([*(each[:, None] for each in labels), planes], axis=1)


def _names(prefix, count):
    return "".join(f"{prefix} {i}\n" for i in range(count)).encode()


def _gzip(path, content):
    path.write_bytes(gzip.compress(content))


def _tar(path, folder, files):
    with tarfile.open(path, "w:gz") as archive:
        for name, content in files.items():
            info = tarfile.TarInfo(f"{folder}/{name}")
            info.size = len(content)
            archive.addfile(info, io.BytesIO(content))
