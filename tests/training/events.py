"""Reads TensorBoard's event files."""

import struct

from tensorboardX.proto.event_pb2 import Event


def events(workdir):
    """Yields (value, step) of all summaries of a run, oldest file first."""
    for path in sorted((workdir / "tensorboard").iterdir()):
        data = path.read_bytes()
        while data:
            (length,) = struct.unpack_from("<Q", data)
            event = Event.FromString(data[12 : 12 + length])
            data = data[16 + length :]
            for value in event.summary.value:
                yield value, event.step
