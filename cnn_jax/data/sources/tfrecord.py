"""TFRecord files read without TensorFlow, for the copies of datasets that users already have."""

import os
import struct
from collections.abc import Iterable, Iterator
from typing import Any


def read_records(pieces: Iterable[Any]) -> Iterator[bytes]:
    """Yields the records of TFDS's file instructions: `filename`, `skip` and `take` of each.

    A record is its length (uint64, little-endian), a checksum, its bytes and a checksum. The
    checksums are not compared: that needs a compiled CRC-32C, and a PNG has one of its own.

    Raises:
      ValueError: a file ends too early.
    """
    for piece in pieces:
        with open(piece.filename, "rb") as file:
            size = os.fstat(file.fileno()).st_size
            for index in range(piece.skip + piece.take):
                header = file.read(12)
                length = struct.unpack("<Q", header[:8])[0] if len(header) == 12 else 0
                end = file.tell() + length + 4
                if len(header) < 12 or end > size:
                    raise ValueError(f"{piece.filename} ends within or before record {index}")
                if index >= piece.skip:
                    yield file.read(length)
                file.seek(end)
