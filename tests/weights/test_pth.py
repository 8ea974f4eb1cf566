import zipfile

import ml_dtypes
import numpy as np
import pytest

from cnn_jax.errors import InputError
from cnn_jax.weights.files import load_weights
from tests.weights import pth_files
from tests.weights.pth_files import called, mapping, number, tensor, text

ARRAYS = {
    "features.0.weight": np.arange(24, dtype=np.float32).reshape(2, 3, 2, 2),
    "transposed": np.arange(6, dtype=np.float64).reshape(2, 3).T,
    "half": np.array([0.5, -2], np.float16),
    "brain": np.array([1, 3], ml_dtypes.bfloat16),
    "bn1.num_batches_tracked": np.array(7),
}

ONE = tensor("0", "FloatStorage", 0, (2,), (1,))


def _check(path):
    found = load_weights(path)
    assert found.keys() == ARRAYS.keys()
    for name, array in ARRAYS.items():
        assert found[name].dtype == (np.int64 if array.dtype == np.int64 else np.float32)
        np.testing.assert_array_equal(found[name], array.astype(found[name].dtype))


@pytest.mark.parametrize(
    "wrap",
    [
        lambda state: state,
        lambda state: mapping({"epoch": number(90), "state_dict": state}),
        lambda state: mapping({"best_accuracy": ONE, "model": state}),
        lambda state: state + b"}" + text("_metadata") + mapping({}) + b"sb",  # as torch does
    ],
)
def test_tensors_come_back(tmp_path, wrap):
    pth_files.write_state_dict(tmp_path / "net.pth", ARRAYS, wrap=wrap)
    _check(tmp_path / "net.pth")


def test_parameters_views_and_other_byte_orders(tmp_path):
    values = np.arange(10, dtype=">f4")
    one = tensor("0", "FloatStorage", 1, (2, 2), (4, 1))
    parameter = called("torch._utils", "_rebuild_parameter", one, b"\x88", mapping({}))
    content = mapping({"view": one, "parameter": parameter})
    pth_files.write(tmp_path / "net.pt", content, {"0": values.tobytes()}, byteorder="big")
    found = load_weights(tmp_path / "net.pt")
    for name in ("view", "parameter"):
        np.testing.assert_array_equal(found[name], [[1, 2], [5, 6]])


CALL = called("os", "system", text("touch ran"))
# Each would run a command, or read or change what is ours, if a pickle's programs were executed.
ATTACKS = {
    "a call": CALL,
    "another's call": called("posix", "system", text("touch ran")),
    "builtins": called("builtins", "eval", text("open('ran', 'w')")),
    "old opcodes": b"(" + text("touch ran") + b"ios\nsystem\n",
    "inside a state dict": mapping({"w": called("os", "system", text("touch ran"))}),
    "after a tensor": mapping(
        {
            "a": tensor("0", "FloatStorage", 0, (2,), (1,)),
            "b": called("os", "system", text("touch ran")),
        }
    ),
    "a reference": b"cos\nsystem\n",
    "a dotted name": b"\x80\x04" + text("torch._utils") + text("os.system") + b"\x93",
    "a whole model": called("torchvision.models.vgg", "VGG"),
}


@pytest.mark.parametrize("name", ATTACKS)
def test_programs_are_refused_and_not_run(tmp_path, monkeypatch, name):
    monkeypatch.chdir(tmp_path)
    pth_files.write(tmp_path / "evil.pth", ATTACKS[name], {"0": b"\0" * 8})
    with pytest.raises(InputError, match=r"holds the Python object .* nothing of it was executed"):
        load_weights(tmp_path / "evil.pth")
    assert [path.name for path in tmp_path.iterdir()] == ["evil.pth"]


def test_what_is_known_has_no_state_to_set(tmp_path):
    rebuild = b"ctorch._utils\n_rebuild_tensor_v2\n"
    state = b"}" + text("storage") + number(1) + b"sb"
    targets = [rebuild, b"ctorch\nFloatStorage\n", b"ccollections\nOrderedDict\n", ONE]
    for i, target in enumerate(targets):
        pth_files.write(tmp_path / f"{i}.pth", target + state, {"0": b"\0" * 8})
        with pytest.raises(InputError, match="can't be read as a PyTorch file"):
            load_weights(tmp_path / f"{i}.pth")


@pytest.mark.parametrize(
    ("offset", "shape", "strides"),
    [
        (0, (5,), (1,)),
        (3, (2,), (1,)),
        (0, (2,), (9,)),
        (-1, (1,), (1,)),
        (0, (2, 2), (-1, 1)),
        (0, (99, 99), (0, 0)),
    ],
)
def test_no_tensor_reaches_beyond_its_bytes(tmp_path, offset, shape, strides):
    content = mapping({"w": tensor("0", "FloatStorage", offset, shape, strides)})
    pth_files.write(tmp_path / "net.pth", content, {"0": b"\0" * 16})
    with pytest.raises(InputError, match=r"net\.pth: w "):
        load_weights(tmp_path / "net.pth")


def test_an_expanded_tensor_is_refused_with_what_to_do(tmp_path):
    content = mapping({"w": tensor("0", "FloatStorage", 0, (4, 3), (0, 1))})
    pth_files.write(tmp_path / "net.pth", content, {"0": b"\0" * 12})
    with pytest.raises(InputError, match=r"w is an expanded tensor; save .*contiguous"):
        load_weights(tmp_path / "net.pth")


def test_other_files_are_refused_in_one_line(tmp_path):
    (tmp_path / "old.pth").write_bytes(b"\x80\x02\x8a\x0al\xfc\x9cF\xf9 j\xa8P\x19.")
    pth_files.write(tmp_path / "small.pth", mapping({}), compression=zipfile.ZIP_DEFLATED)
    pth_files.write(tmp_path / "empty.pth", mapping({}))
    pth_files.write(
        tmp_path / "lost.pth", mapping({"w": tensor("7", "FloatStorage", 0, (1,), (1,))})
    )
    with zipfile.ZipFile(tmp_path / "other.pth", "w") as archive:
        archive.writestr("readme", "")
    (tmp_path / "net.onnx").touch()
    for name in ("net.npz", "net.safetensors"):
        (tmp_path / name).write_bytes(b"damaged")
    for name, message in {
        "old.pth": "before version 1.6",
        "small.pth": "is compressed",
        "empty.pth": "holds no state dict",
        "lost.pth": "can't be read as a PyTorch file",
        "other.pth": "holds 0 members data.pkl",
        "net.onnx": "is none of .safetensors, .npz, .pth, .pt",
        "net.npz": "can't be read as .npz",
        "net.safetensors": "can't be read as safetensors",
        "none.pth": "there is no file",
    }.items():
        with pytest.raises(InputError, match=message):
            load_weights(tmp_path / name)


def test_the_other_formats(tmp_path):
    from safetensors.numpy import save_file

    arrays = {name: np.ascontiguousarray(a) for name, a in ARRAYS.items() if name != "brain"}
    save_file(arrays, tmp_path / "net.safetensors")
    np.savez(tmp_path / "net.npz", **arrays)
    for name in ("net.safetensors", "net.npz"):
        found = load_weights(tmp_path / name)
        assert found.keys() == arrays.keys()
        for key, array in arrays.items():
            np.testing.assert_array_equal(found[key], array.astype(found[key].dtype))
    np.savez(tmp_path / "objects.npz", a=np.array([{}], object))
    with pytest.raises(InputError, match=r"can't be read as \.npz"):
        load_weights(tmp_path / "objects.npz")
