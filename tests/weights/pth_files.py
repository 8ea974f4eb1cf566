"""PyTorch's zip format written by hand, opcode by opcode, as torch.save does (protocol 2)."""

import struct
import zipfile

import numpy as np

STORAGES = {
    "float32": "FloatStorage",
    "float64": "DoubleStorage",
    "float16": "HalfStorage",
    "bfloat16": "BFloat16Storage",
    "int64": "LongStorage",
}


def text(value):
    encoded = value.encode()
    return b"X" + struct.pack("<I", len(encoded)) + encoded


def number(value):
    return b"J" + struct.pack("<i", value)


def called(module, name, *arguments):
    return f"c{module}\n{name}\n".encode() + b"(" + b"".join(arguments) + b"tR"


def tensor(member, storage, offset, shape, strides):
    numel = 0 if 0 in shape else 1
    for n in shape:
        numel *= n
    identity = [text("storage"), f"ctorch\n{storage}\n".encode(), text(member), text("cpu")]
    return called(
        "torch._utils",
        "_rebuild_tensor_v2",
        b"(" + b"".join([*identity, number(numel)]) + b"tQ",
        number(offset),
        b"(" + b"".join(map(number, shape)) + b"t",
        b"(" + b"".join(map(number, strides)) + b"t",
        b"\x89",
        called("collections", "OrderedDict"),
    )


def mapping(values):
    """Returns the opcodes of an ordered dict of text to opcodes."""
    items = b"".join(text(key) + value for key, value in values.items())
    return called("collections", "OrderedDict") + b"(" + items + b"u"


def write(path, content, storages=(), *, byteorder="little", compression=zipfile.ZIP_STORED):
    """Writes a .pth of the opcodes `content` and the bytes of {member: bytes}."""
    with zipfile.ZipFile(path, "w", compression) as archive:
        archive.writestr(f"{path.stem}/data.pkl", b"\x80\x02" + content + b".")
        archive.writestr(f"{path.stem}/byteorder", byteorder)
        for member, raw in dict(storages).items():
            archive.writestr(f"{path.stem}/data/{member}", raw)
        archive.writestr(f"{path.stem}/version", "3\n")


def write_state_dict(path, arrays, *, wrap=lambda state: state):
    """Writes arrays as torch.save(OrderedDict(...)) does."""
    values, storages = {}, {}
    for i, (name, array) in enumerate(arrays.items()):
        array = array if array.flags.f_contiguous else np.ascontiguousarray(array)
        strides = [stride // array.itemsize for stride in array.strides]
        kind = STORAGES[array.dtype.name]
        values[name] = tensor(str(i), kind, 0, array.shape, strides)
        storages[str(i)] = array.tobytes("A")
    write(path, wrap(mapping(values)), storages)
