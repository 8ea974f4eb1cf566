"""Downloads a TFDS dataset and prepares it once as array_record, whole or not at all."""

import contextlib
import importlib.util
import os
import shutil
import signal
import sys
import tempfile
import threading
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from cnn_jax.data.sources.quiet import no_warnings, say
from cnn_jax.data.sources.stand_in import is_enough, replaced, stand_in
from cnn_jax.data.sources.tfds_builder import (
    data_dir_of,
    is_prepared,
    name_of,
    not_prepared,
    one_line,
    open_builder,
    spec_of,
)
from cnn_jax.errors import InputError

_PROBE_SECONDS = 5.0  # for an answer from the network
_TIMEOUTS = (5.0, 20.0)  # seconds to connect and between two blocks of a download
_RETRIES = 1  # TFDS has 10, which take 204 seconds to say that there is no network
_INSTALL = "pip install 'cnn_jax[prepare]', or in a clone: pip install -e '.[prepare]'"


def prepare(builder: Any) -> Path:
    """Downloads and prepares a dataset, with progress on stderr; returns where it lies.

    What is already prepared is left as it is. Written beside its place and then renamed: an
    interrupted preparation leaves nothing half-made. Finished downloads stay in the data
    directory's downloads, where the next attempt finds them.

    Raises:
      InputError: the dataset is none of images and classes, is half prepared, needs TensorFlow or
        files that are to be had by hand, can't be downloaded, or can't be written.
    """
    spec_of(builder)  # before downloading what could not be used
    home, data_dir = Path(builder.data_dir), data_dir_of(builder)
    if is_prepared(builder):
        return home
    if reason := obstacle(builder):
        raise InputError(f"{name_of(builder)} can't be prepared: {reason}")
    say(f"preparing {name_of(builder)} in {home} …")
    with writing(name_of(builder), data_dir):
        data_dir.mkdir(parents=True, exist_ok=True)
        with scratch_directory(data_dir, builder.name) as scratch:
            made = _download_and_prepare(_in_place_of(builder, scratch), data_dir)
            home.parent.mkdir(parents=True, exist_ok=True)
            try:
                os.rename(made, home)
            except OSError:
                if not (home / "dataset_info.json").is_file():  # else another process was first
                    raise
    return home


@contextlib.contextmanager
def writing(name: str, data_dir: Path) -> Iterator[None]:
    """Turns an OSError of the block into an InputError: the dataset can't be prepared there."""
    try:
        yield
    except OSError as error:
        raise InputError(
            f"{name} can't be prepared in {data_dir}: {error.strerror or error}; "
            "choose another directory with --data_dir or TFDS_DATA_DIR"
        ) from error


@contextlib.contextmanager
def scratch_directory(data_dir: str | os.PathLike, name: str) -> Iterator[Path]:
    """Gives a new directory in `data_dir`; nothing is left of it, also when SIGTERM comes."""
    with (
        _clean_up_before_sigterm(),
        tempfile.TemporaryDirectory(dir=data_dir, prefix=f".{name}-") as scratch,
    ):
        yield Path(scratch)


@contextlib.contextmanager
def _clean_up_before_sigterm() -> Iterator[None]:
    """Has SIGTERM first leave the block as an exception does, and then do what it does else."""
    before, came = signal.getsignal(signal.SIGTERM), []
    in_main_thread = threading.current_thread() is threading.main_thread()
    if not in_main_thread or before in (signal.SIG_IGN, None):
        yield
        return

    def interrupt(number: int, _: object) -> None:
        signal.signal(number, signal.SIG_IGN)
        came.append(number)
        raise KeyboardInterrupt

    signal.signal(signal.SIGTERM, interrupt)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)
        if came:
            signal.raise_signal(signal.SIGTERM)


def prepare_by_itself(builder: Any) -> None:
    """Prepares a dataset that a run has found not to be prepared, if that can be done at once.

    Raises:
      InputError: it can't; the message says where it was looked for, why, and what to run.
    """
    if reason := obstacle(builder):
        raise not_prepared(builder, reason)
    size = sum(info.size for info in builder.url_infos.values())
    say(f"{name_of(builder)} is not prepared yet; downloading {size or 'it'}")
    prepare(builder)


def obstacle(builder: Any) -> str:
    """Returns why a dataset can't be prepared here and now, or nothing. Takes 5 s at most.

    CNN_JAX_OFFLINE, if set to anything, says that there is no network, without asking.
    """
    manual = data_dir_of(builder) / "downloads" / "manual"
    if builder.MANUAL_DOWNLOAD_INSTRUCTIONS and not (manual.is_dir() and any(manual.iterdir())):
        steps = " ".join(builder.MANUAL_DOWNLOAD_INSTRUCTIONS.split()).rstrip(".")
        return f"its files are to be downloaded by hand into {manual}: {steps}"
    if not is_enough(builder) and importlib.util.find_spec("tensorflow") is None:
        return f"its builder needs TensorFlow, which is not installed: {_INSTALL}"
    downloads = data_dir_of(builder) / "downloads" / builder.name
    if any(downloads.rglob("*.INFO")):  # downloaded before, maybe all of it
        return ""
    reason = unreachable(builder.url_infos)
    return reason and f"{reason} (without one, copy {builder.data_dir} from another machine)"


def unreachable(urls: Iterable[str]) -> str:
    """Returns why none of the hosts of these addresses answers, or nothing if one does."""
    hosts = {urlsplit(url).netloc: url for url in urls if url.startswith("http")}
    if not hosts:
        return ""
    if _offline():
        return "CNN_JAX_OFFLINE is set"
    answered, left = threading.Event(), threading.Semaphore(0)

    def ask(url: str) -> None:
        import requests

        # Any answer will do, also a refusal; the name may take long to resolve, hence threads.
        with contextlib.suppress(requests.RequestException):
            requests.head(url, timeout=_PROBE_SECONDS)
            answered.set()
        left.release()

    for url in hosts.values():
        threading.Thread(target=ask, args=[url], daemon=True).start()
    for _ in hosts:
        if not left.acquire(timeout=_PROBE_SECONDS) or answered.is_set():
            break
    return "" if answered.is_set() else f"no network, or no answer from {', '.join(hosts)}"


def _offline() -> bool:
    return bool(os.environ.get("CNN_JAX_OFFLINE"))


def _in_place_of(builder: Any, data_dir: Path) -> Any:
    name = f"{name_of(builder)}:{builder.version}"
    return open_builder(name, data_dir, file_format="array_record")


def _download_and_prepare(builder: Any, data_dir: Path) -> Path:
    """Runs TFDS's preparation; returns where the builder's files lie."""
    import requests
    import tensorflow_datasets as tfds
    from tensorflow_datasets.core.download.download_manager import NonMatchingChecksumError
    from tensorflow_datasets.core.download.extractor import ExtractError

    downloads, name = data_dir / "downloads", name_of(builder)
    errors = (requests.RequestException, tfds.download.DownloadError, ConnectionError)
    try:
        with _shown(), _tensorflow_for(builder), _cleaned(downloads), _impatient():
            builder.download_and_prepare(download_dir=downloads)
    except errors as error:
        raise InputError(
            f"{name} can't be downloaded ({one_line(error)}); run it again where there is network"
        ) from error
    except (ExtractError, NonMatchingChecksumError) as error:
        raise InputError(
            f"{name}: what was downloaded is not what it should be ({one_line(error)}); "
            f"delete {downloads / builder.name} and run it again"
        ) from error
    except ModuleNotFoundError as error:
        if (error.name or "").startswith("tensorflow"):
            raise InputError(f"{name} needs TensorFlow to be prepared: {_INSTALL}") from error
        raise InputError(f"{name} needs {error.name}: pip install {error.name}") from error
    return Path(builder.data_dir)


@contextlib.contextmanager
def _shown() -> Iterator[None]:
    """Lets TFDS's progress bars through where a person can see them; no prints, no warnings."""
    from tensorflow_datasets.core.utils import tqdm_utils

    with (
        no_warnings(),
        open(os.devnull, "w") as nowhere,
        contextlib.redirect_stdout(nowhere),
        replaced(tqdm_utils, "_active", sys.stderr.isatty()),
    ):
        yield


@contextlib.contextmanager
def _tensorflow_for(builder: Any) -> Iterator[None]:
    """Puts in the stand-in for TensorFlow, or keeps the real one from taking the GPU's memory."""
    if is_enough(builder):
        with stand_in(builder):
            yield
    else:
        import tensorflow

        tensorflow.config.set_visible_devices([], "GPU")
        yield


@contextlib.contextmanager
def _impatient() -> Iterator[None]:
    """Gives TFDS's downloads time limits and few retries, and ends them when the context ends.

    TFDS downloads in threads that would outlive an interruption.
    """
    from tensorflow_datasets.core.download import downloader

    open_url, over = downloader._open_url, threading.Event()

    def guarded(blocks: Iterable[bytes]) -> Iterator[bytes]:
        for block in blocks:
            if over.is_set():
                raise ConnectionAbortedError("interrupted")
            yield block

    @contextlib.contextmanager
    def open_impatiently(url: str, **options: Any) -> Iterator[tuple[Any, Iterator[bytes]]]:
        if _offline():
            raise ConnectionError("CNN_JAX_OFFLINE is set")
        with open_url(url, timeout=_TIMEOUTS, **options) as (response, blocks):
            yield response, guarded(blocks)

    try:
        with (
            replaced(downloader, "MAX_RETRIES", _RETRIES),
            replaced(downloader, "_open_url", open_impatiently),
        ):
            yield
    finally:
        over.set()


@contextlib.contextmanager
def _cleaned(downloads: Path) -> Iterator[None]:
    """Removes the unfinished downloads and unpackings of this time, and an empty directory."""
    before = set(_unfinished(downloads))
    try:
        yield
    finally:
        for path in set(_unfinished(downloads)) - before:
            shutil.rmtree(path, ignore_errors=True)


def _unfinished(downloads: Path) -> list[Path]:
    patterns = "*.tmp.*", "*incomplete.*"
    return [path for pattern in patterns for path in downloads.rglob(pattern) if path.is_dir()]
