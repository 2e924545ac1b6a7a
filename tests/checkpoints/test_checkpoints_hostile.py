"""Files made to do harm, or damaged by chance: one sentence with the file's name, and little memory."""

import io
import json
import os
import zipfile

import numpy as np
import pytest
import safetensors.numpy

from rmtjax import checkpoints
from rmtjax.checkpoints import guard
from rmtjax.checkpoints.contents import Tensor
from rmtjax.errors import InputError

W = np.arange(1200, dtype=np.float32).reshape(40, 30)


def refused(path, match):
    with pytest.raises(InputError, match=match) as caught:
        dict(checkpoints.open(path))
    assert path.name in str(caught.value)
    assert "\n" not in str(caught.value)
    return caught.value


def test_any_exception_of_a_reader_is_one_sentence_with_its_cause(tmp_path):
    for error in (
        KeyError("a\x1b[2J"),
        RecursionError(),
        MemoryError(),
        ValueError("one\ntwo"),
        OSError(5, "x"),
    ):
        with pytest.raises(InputError) as caught, guard.one_sentence(tmp_path / "f", "is bad"):
            raise error
        assert caught.value.__cause__ is error
        assert str(caught.value).startswith(f"{str(tmp_path / 'f')!r} is bad: ")
        assert str(caught.value).isprintable()
    with pytest.raises(InputError, match=r"^own words$"), guard.one_sentence("f", "is bad"):
        raise InputError("own words")


def test_weights_may_claim_a_hundred_times_the_bytes_of_their_file():
    tensor = Tensor((1 << 10, 1 << 18), np.dtype(np.float32), lambda: W)  # 1 GiB
    guard.check_claims("f", {"w": tensor}, (1 << 30) // 100 + 1)
    with pytest.raises(InputError, match=r"'f' has 10,737,417 bytes and claims 1,073,741,824 bytes .* 'w'"):
        guard.check_claims("f", {"w": tensor}, (1 << 30) // 100 - 1)
    small = Tensor((1 << 12, 1 << 12), np.dtype(np.float32), lambda: W)
    guard.check_claims("f", {"w": small}, 0)


def npz(path, header, body):
    head = repr(header).encode()
    head += b" " * (-(len(head) + 11) % 64) + b"\n"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("a.npy", b"\x93NUMPY\x01\x00" + len(head).to_bytes(2, "little") + head + body)
    return path


@pytest.mark.parametrize("shape", [(2**25, 2**25), (10**6, 10**6), (2, 2), (-40, 30), (40, 31)])
def test_the_shape_of_an_npz_must_be_that_of_its_bytes(tmp_path, shape):
    header = {"descr": "<f4", "fortran_order": False, "shape": shape}
    refused(npz(tmp_path / "a.npz", header, W.tobytes()), "is not a whole npz file")


def test_an_npz_that_expands_without_measure(tmp_path):
    header = {"descr": "<f4", "fortran_order": False, "shape": (2**13, 2**12)}
    path = npz(tmp_path / "a.npz", header, bytes(2**27))
    assert path.stat().st_size < 2**18
    refused(path, "claims 134,217,728 bytes of weights")


def test_members_of_an_npz_that_are_no_arrays_and_two_of_one_name(tmp_path):
    np.savez(tmp_path / "a.npz", w=W)
    with zipfile.ZipFile(tmp_path / "a.npz", "a") as archive:
        archive.writestr("README.txt", "x")
    weights = checkpoints.open(tmp_path / "a.npz")
    assert list(weights) == ["w"]
    assert "README.txt" in weights.refused
    with pytest.warns(UserWarning, match="Duplicate"), zipfile.ZipFile(tmp_path / "a.npz", "a") as archive:
        archive.writestr("w.npy", "x")
    refused(tmp_path / "a.npz", "is not a whole npz file")


@pytest.mark.parametrize("how", ["external", "virtual", "unallocated", "text", "null"])
def test_hdf5_reads_no_other_file_and_allocates_nothing_it_does_not_have(tmp_path, how):
    h5py = pytest.importorskip("h5py")
    (tmp_path / "secret").write_bytes(W.tobytes())
    with h5py.File(tmp_path / "other.h5", "w") as file:
        file["w"] = W
    with h5py.File(tmp_path / "a.h5", "w") as file:
        file["b/kernel"] = W
        if how == "external":
            file.create_dataset("a/kernel", W.shape, "f4", external=[(str(tmp_path / "secret"), 0, W.nbytes)])
        elif how == "virtual":
            layout = h5py.VirtualLayout(W.shape, "f4")
            layout[:] = h5py.VirtualSource(str(tmp_path / "other.h5"), "w", W.shape)
            file.create_virtual_dataset("a/kernel", layout)
        elif how == "unallocated":
            file.create_dataset("a/kernel", (2**20, 2**20), "f4", chunks=(64, 64))
        elif how == "text":
            file.create_dataset("a/kernel", data=["x"], dtype=h5py.string_dtype())
        else:
            file["a/kernel"] = h5py.Empty("f4")
    if how == "unallocated":
        refused(tmp_path / "a.h5", r"claims 4,398,046,511,104|claims 4,398,046,515,904")
        return
    weights = checkpoints.open(tmp_path / "a.h5")
    assert list(weights) == ["b/kernel"]
    assert list(weights.refused) == ["a/kernel"]


def test_a_link_of_hdf5_is_not_followed(tmp_path):
    h5py = pytest.importorskip("h5py")
    with h5py.File(tmp_path / "other.h5", "w") as file:
        file.create_group("g").attrs["name"] = "secret"
    with h5py.File(tmp_path / "a.weights.h5", "w") as file:
        file["layers/dense/vars/0"] = W
        file["layers/vars"] = h5py.ExternalLink("other.h5", "g")
        file["layers/conv2d/vars"] = h5py.ExternalLink("other.h5", "g")
    assert list(checkpoints.open(tmp_path / "a.weights.h5")) == ["layers/dense/kernel"]


def test_a_keras_archive_that_expands_without_measure(tmp_path):
    pytest.importorskip("h5py")
    with zipfile.ZipFile(tmp_path / "a.keras", "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("model.weights.h5", b"\x89HDF\r\n\x1a\n" + bytes(2**27))
    refused(tmp_path / "a.keras", r"'model.weights.h5' has .* bytes and claims 134,217,736")


@pytest.mark.parametrize("location", ["../secret", "/etc/hostname", "link", "absent", ""])
def test_onnx_reads_only_files_of_its_own_folder(tmp_path, location):
    onnx = pytest.importorskip("onnx")
    folder = tmp_path / "m"
    folder.mkdir()
    (tmp_path / "secret").write_bytes(W.tobytes())
    (folder / "link").symlink_to(tmp_path / "secret")
    tensor = onnx.TensorProto(name="w", data_type=1, dims=W.shape, data_location=1)
    tensor.external_data.add(key="location", value=location)
    onnx.save(onnx.helper.make_model(onnx.helper.make_graph([], "g", [], [], [tensor])), folder / "a.onnx")
    refused(folder / "a.onnx", "outside of its folder|put that file into")


def test_onnx_data_beside_the_model_counts_as_its_bytes(tmp_path, monkeypatch):
    onnx = pytest.importorskip("onnx")
    monkeypatch.setattr(guard, "HARMLESS", 1000)
    w = np.ones((300, 400), np.float32)
    graph = onnx.helper.make_graph([], "g", [], [], [onnx.numpy_helper.from_array(w, "w")])
    onnx.save(
        onnx.helper.make_model(graph), tmp_path / "a.onnx", save_as_external_data=True, size_threshold=0
    )
    assert (tmp_path / "a.onnx").stat().st_size * 100 < w.nbytes
    np.testing.assert_array_equal(checkpoints.open(tmp_path / "a.onnx")["w"], w)


@pytest.mark.parametrize("change", [{"dims": [400, 500]}, {"dims": [-4, 5]}, {"data_type": 0}])
def test_an_onnx_tensor_that_is_not_what_it_claims(tmp_path, change):
    onnx = pytest.importorskip("onnx")
    tensor = onnx.numpy_helper.from_array(W, "w")
    for field, value in change.items():
        tensor.ClearField(field)
        if isinstance(value, list):
            tensor.dims.extend(value)
        else:
            tensor.data_type = value
    onnx.save(onnx.helper.make_model(onnx.helper.make_graph([], "g", [], [], [tensor])), tmp_path / "a.onnx")
    refused(tmp_path / "a.onnx", "is not a whole ONNX file|'w' cannot be read")


def test_torch_tensors_without_numbers_and_larger_than_their_storage(tmp_path, recwarn):
    torch = pytest.importorskip("torch")
    w = torch.from_numpy(W)
    state = {
        "w": w,
        "meta": torch.zeros(4, 4, device="meta"),
        "csr": w.to_sparse_csr(),
        "neg": torch._neg_view(w),
    }
    torch.save(state, tmp_path / "a.pt")
    recwarn.clear()
    weights = checkpoints.open(tmp_path / "a.pt")
    assert set(weights.refused) == {"meta", "csr"}
    np.testing.assert_array_equal(weights["neg"], -W)
    assert not recwarn
    torch.save({"w": torch.zeros(1, 1).expand(2**20, 2**20)}, tmp_path / "b.pt")
    refused(tmp_path / "b.pt", "claims 4,398,046,511,104 bytes")
    cycle = {"w": w}
    cycle["again"] = cycle
    torch.save(cycle, tmp_path / "c.pt")
    refused(tmp_path / "c.pt", "is not a whole torch file")


def test_a_torch_archive_that_expands_without_measure(tmp_path):
    pytest.importorskip("torch")
    with zipfile.ZipFile(tmp_path / "a.pt", "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("a/data.pkl", b"\x80\x02}q\x00.")
        archive.writestr("a/data/0", bytes(2**27))
    refused(tmp_path / "a.pt", "'a/data/0' has .* bytes and claims 134,217,728")


@pytest.mark.parametrize("chunks", [{}, {"0": "x"}, {"1": 1}, None])
def test_chunks_of_msgpack_that_are_not_there(tmp_path, chunks):
    import msgpack

    array = {"__msgpack_chunked_array__": True, "shape": {"0": 2, "1": 3}, "chunks": chunks}
    (tmp_path / "a.msgpack").write_bytes(msgpack.packb({"params": {"w": array}}))
    refused(tmp_path / "a.msgpack", "is not a whole msgpack file")


def test_only_files_and_folders_are_opened(tmp_path):
    os.mkfifo(tmp_path / "a.safetensors")
    refused(tmp_path / "a.safetensors", "is neither a file nor a folder")
    folder = tmp_path / "c"
    folder.mkdir()
    os.mkfifo(folder / "model.safetensors")
    refused(folder, "is not a run's folder")
    (folder / "_METADATA").write_text(json.dumps({"tree_metadata": {}}))
    refused(folder, "model.safetensors' is neither a file nor a folder")


def test_names_that_a_terminal_or_an_archive_cannot_hold(tmp_path):
    long = "x" * 70000
    names = {"\x1b[31mred": r"\x1b[31mred", "a\x00b": r"a\x00b", "ü": "ü", f"{long}1": None, f"{long}2": None}
    safetensors.numpy.save_file(dict.fromkeys(names, W), tmp_path / "a.safetensors")
    weights = checkpoints.open(tmp_path / "a.safetensors")
    assert len(weights) == 5
    assert {name for name in names.values() if name} < set(weights)
    assert all(name.isprintable() and len(name) <= 1000 for name in weights)
    np.testing.assert_array_equal(weights[r"a\x00b"], W)
    safetensors.numpy.save_file(dict.fromkeys(["a\x00", r"a\x00"], W), tmp_path / "b.safetensors")
    refused(tmp_path / "b.safetensors", r"has two tensors called 'a\\\\x00'")


def test_a_zip_of_an_unknown_method_is_one_sentence(tmp_path):
    buffer = io.BytesIO()
    np.savez(buffer, a=W)
    content = bytearray(buffer.getvalue())
    for sign, place in ((b"PK\x03\x04", 8), (b"PK\x01\x02", 10)):
        content[content.index(sign) + place] = 99
    (tmp_path / "a.npz").write_bytes(content)
    refused(tmp_path / "a.npz", "is not a whole npz file")
