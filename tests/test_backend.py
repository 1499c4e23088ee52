"""Which library an array belongs to, the way between host and device, and what is refused."""

import importlib
import re
import sys

import numpy as np
import pytest

import minikfac as mk
from minikfac import backend
from oracles import standin


@pytest.fixture
def cupy():
    with standin.installed() as module:
        yield module


# without CuPy --------------------------------------------------------------


def test_the_library_of_host_arrays_is_numpy():
    assert mk.array_module(np.ones(2), np.ones(3)) is np
    assert mk.array_module(1.0) is np
    assert mk.array_module() is np


def test_copies_to_the_host_leave_host_arrays_alone():
    array = np.ones(3)
    assert mk.to_host(array) is array
    assert mk.to_device(array, "cpu") is array


def test_to_device_without_cupy_says_what_to_install(monkeypatch):
    monkeypatch.setitem(sys.modules, "cupy", None)  # as if it were not installed
    with pytest.raises(
        RuntimeError, match=re.escape("device 'cuda' needs CuPy: pip install 'minikfac[gpu]'")
    ):
        mk.to_device(np.ones(3))


@pytest.mark.parametrize(
    "device", ["gpu", "cuda:", "cuda:x", "cuda:-1", "cpu:0", "cpu:", "", "cuda0", "cuda:²"]
)
def test_to_device_refuses_other_names(device):
    message = f"expected device 'cpu', 'cuda' or 'cuda:N', got {device!r}"
    with pytest.raises(ValueError, match=re.escape(message)):
        mk.to_device(np.ones(3), device)


@pytest.mark.parametrize("thing", [[1.0], 1.0, np.float64(1), None])
def test_check_array_refuses_what_is_no_array(thing):
    message = f"expected theta to be a NumPy or CuPy array, got {type(thing).__name__}"
    with pytest.raises(TypeError, match=message):
        backend.check_array(thing, "theta")


def test_check_array_accepts_arrays():
    backend.check_array(np.ones(()), "theta")


# with the stand-in --------------------------------------------------------------


def test_the_library_of_device_arrays_is_cupy(cupy):
    array = mk.to_device(np.ones(3))
    assert isinstance(array, cupy.ndarray)
    assert mk.array_module(array, 2 * array) is cupy
    assert mk.array_module(np.ones(3)) is np
    backend.check_array(array, "theta")


def test_arrays_of_two_devices_are_refused(cupy):
    host, device = np.ones(3), mk.to_device(np.ones(3))
    with pytest.raises(
        TypeError,
        match="all arrays on one device, got array 1 on the host, array 2 on cuda:0; move them with",
    ):
        mk.array_module(host, device)
    with pytest.raises(TypeError, match="got theta on cuda:0, x on the host; move them"):
        mk.array_module(device, host, names="theta, x")


def test_arrays_go_to_the_device_and_back(cupy):
    host = np.arange(3.0)
    for name in ("cuda", "cuda:0"):
        device = mk.to_device(host, name)
        back = mk.to_host(device)
        assert isinstance(back, np.ndarray) and (back == host).all()
        assert not np.shares_memory(back, host)
    assert isinstance(mk.to_device(device, "cpu"), np.ndarray)


@pytest.mark.parametrize("count, present", [(1, "'cuda:0'"), (2, "'cuda:0', 'cuda:1'")])
def test_a_device_that_is_not_there_is_named(cupy, monkeypatch, count, present):
    monkeypatch.setattr(cupy.cuda.runtime, "getDeviceCount", lambda: count)
    message = f"expected a device that is here, {present}; got 'cuda:3'"
    for ask in (lambda: mk.to_device(np.ones(3), "cuda:3"), lambda: mk.use_device("cuda:3")):
        with pytest.raises(ValueError, match=re.escape(message)):
            ask()


def test_no_gpu_at_all_is_told(cupy, monkeypatch):
    monkeypatch.setattr(cupy.cuda.runtime, "getDeviceCount", lambda: 0)
    with pytest.raises(
        ValueError, match="expected a device that is here, no GPU: use device 'cpu'; got 'cuda'"
    ):
        mk.to_device(np.ones(3))


def test_cupy_without_a_driver_is_told(cupy, monkeypatch):
    def count():
        raise standin.CUDARuntimeError("cudaErrorInsufficientDriver: CUDA driver version is insufficient")

    monkeypatch.setattr(cupy.cuda.runtime, "getDeviceCount", count)
    message = (
        "device 'cuda' needs an NVIDIA GPU and a driver that suits CuPy's CUDA, got: "
        "cudaErrorInsufficientDriver: CUDA driver version is insufficient; see what nvidia-smi says, "
        "or use device 'cpu'"
    )
    with pytest.raises(RuntimeError, match=re.escape(message)):
        mk.to_device(np.ones(3))


def test_cupy_without_the_libraries_of_cuda_is_told(cupy, monkeypatch):
    class Cuda:
        runtime = cupy.cuda.runtime

        def __getattr__(self, name):  # as CuPy does when it first needs one
            raise ImportError('Failure finding "libcublasLt.so.12"\nand more')

    monkeypatch.setattr(cupy, "cuda", Cuda())
    message = (
        "device 'cuda' needs CuPy with CUDA's libraries, got: Failure finding \"libcublasLt.so.12\"; "
        "pip install 'cupy-cuda12x[ctk]' brings them"
    )
    with pytest.raises(RuntimeError, match=re.escape(message)):
        mk.to_device(np.ones(3))


@pytest.mark.parametrize(
    "error", [ImportError("libcuda.so.1: cannot open"), ModuleNotFoundError("No module", name="fastrlock")]
)
def test_a_broken_cupy_is_told_from_a_missing_one(monkeypatch, error):
    class Finder:
        def find_spec(self, name, *_):
            if name == "cupy":
                raise error

    monkeypatch.delitem(sys.modules, "cupy", raising=False)
    monkeypatch.setattr(sys, "meta_path", [Finder(), *sys.meta_path])
    with pytest.raises(RuntimeError, match=f"needs CuPy with CUDA's libraries, got: {error}; pip install"):
        mk.to_device(np.ones(3))


def test_arrays_on_two_gpus_are_refused(cupy, monkeypatch):
    class Elsewhere(standin.ndarray):
        device = type("Device", (), {"id": 1})

    with pytest.raises(TypeError, match="got array 1 on cuda:0, array 2 on cuda:1"):
        mk.array_module(mk.to_device(np.ones(3)), Elsewhere(np.ones(3)))


def test_a_device_can_be_chosen_for_what_follows(cupy, monkeypatch):
    monkeypatch.setattr(cupy.cuda.Device, "used", [])
    mk.use_device("cpu")
    assert cupy.cuda.Device.used == []
    mk.use_device("cuda:0")
    assert cupy.cuda.Device.used == [0]


def test_small_numbers_of_a_device_come_in_one_transfer(cupy):
    M, b = np.arange(4.0, dtype=np.float32).reshape(2, 2), np.array(True)
    with standin.counted() as traffic:
        fetched = backend.fetch(mk.to_device(M), 3, mk.to_device(b), mk.to_device(np.ones(0)))
        assert traffic.to_host == [5]
        assert backend.to_floats({"a": 1, "b": mk.to_device(M)[1, 1]}) == {"a": 1.0, "b": 3.0}
    assert (fetched[0] == M).all() and fetched[0].dtype == float
    assert fetched[1:3] == [3.0, 1.0] and fetched[3].shape == (0,)
    assert [type(value) for value in backend.fetch(np.float32(0.5), 2)] == [float, float]


def test_a_net_refuses_parameters_and_inputs_on_two_devices(cupy):
    net = mk.mlp([3, 2])
    theta, x = net.init(np.random.default_rng(0)), np.ones((2, 3))
    with pytest.raises(TypeError, match="got theta on cuda:0, x on the host"):
        net.forward(mk.to_device(theta), x)
    with pytest.raises(TypeError, match="got theta on the host, x on cuda:0"):
        net.forward(theta, mk.to_device(x))


# memory --------------------------------------------------------------


def test_too_large_an_array_is_refused_with_its_size(monkeypatch):
    monkeypatch.setattr(backend, "available_memory", lambda xp: 3 * 2**30)
    message = (
        "the exact Fisher matrix (40,000 x 40,000, float32) needs 6.0 GiB, 3.0 GiB are free; use fisher.kfac"
    )
    with pytest.raises(MemoryError, match=re.escape(message)):
        backend.check_memory((40_000, 40_000), np.float32, "the exact Fisher matrix", "fisher.kfac")


def test_check_memory_counts_bytes_and_lets_pass_what_fits(monkeypatch):
    monkeypatch.setattr(backend, "available_memory", lambda xp: 800)
    backend.check_memory((10, 10), np.float64, "a matrix", "less")
    with pytest.raises(MemoryError, match="a matrix"):
        backend.check_memory((101,), np.float64, "a matrix", "less")


def test_check_memory_does_not_overflow():
    with pytest.raises(MemoryError, match=r"needs 66,168,266,162,176\.0 GiB"):
        backend.check_memory((np.int32(2**30), np.int32(2**30), 7703), np.float64, "a tensor", "less")


def test_available_memory_of_the_host_is_a_plausible_number():
    assert 2**20 < backend.available_memory() < 2**63


def test_available_memory_without_the_files_of_linux(monkeypatch):
    def missing(*_, **__):
        raise FileNotFoundError

    monkeypatch.setattr("builtins.open", missing)
    assert backend.available_memory() > 2**20
    monkeypatch.setattr(backend.os, "sysconf", missing)
    assert backend.available_memory() == 2**63 - 1


def test_available_memory_of_a_device_counts_its_pool(cupy):
    assert backend.available_memory(cupy) == standin.FREE + standin.POOLED
    with pytest.raises(MemoryError, match="a matrix"):
        backend.check_memory((standin.FREE + standin.POOLED + 1,), np.int8, "a matrix", "less", cupy)


# the package --------------------------------------------------------------


def test_parts_are_imported_when_they_are_used():
    assert mk.datasets is importlib.import_module("minikfac.datasets")
    with pytest.raises(AttributeError, match="module 'minikfac' has no attribute 'nothing'"):
        mk.nothing  # noqa: B018
