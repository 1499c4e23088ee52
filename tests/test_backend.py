"""Which library an array belongs to, the way between host and device, and what is refused."""

import importlib
import re
import sys
from fractions import Fraction

import numpy as np
import pytest
import scipy.sparse

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


@pytest.mark.parametrize("kind", [np.matrix, np.ma.masked_array])
@pytest.mark.filterwarnings("ignore::PendingDeprecationWarning")
def test_check_array_refuses_arrays_that_compute_differently(kind):
    with pytest.raises(TypeError, match=r"theta to be a NumPy or CuPy array, got (matrix|MaskedArray)"):
        backend.check_array(kind(np.ones((1, 2))), "theta")


def test_check_array_accepts_arrays():
    backend.check_array(np.ones(()), "theta")


# data from outside --------------------------------------------------------------

X = np.array([[0.25, -1.5], [3.0, 2.0], [0.0, 7.5]])


class Tensor:
    """What a tensor of PyTorch has, on a device and with a gradient."""

    def __init__(self, array, error=None):
        self.array, self.error = array, error

    def __array__(self, *_, **__):
        raise RuntimeError("Can't call numpy() on Tensor that requires grad.")

    def detach(self):
        return self

    def cpu(self):
        return self

    def numpy(self):
        if self.error:
            raise self.error
        return self.array


class Table:
    """What a table or a column of pandas has; numbers with gaps are objects."""

    def __init__(self, values):
        self.values = values

    def to_numpy(self):
        return self.values


LIKES = {
    "a list": X.tolist(),
    "a tuple of lists": tuple(X.tolist()),
    "a list of arrays": list(X),
    "a matrix": X.view(np.matrix),
    "masked where nothing is": np.ma.masked_array(X, False),
    "a list of masked rows": [np.ma.masked_array(row, False) for row in X],
    "objects": X.astype(object),
    "masked objects": np.ma.masked_array(X.astype(object), False),
    "fractions": np.array([[Fraction(v) for v in row] for row in X.tolist()]),
    "big-endian": X.astype(">f8"),
    "a tensor": Tensor(X),
    "a table": Table(X),
    "a table of objects": Table(X.astype(object)),
    "sparse": scipy.sparse.csr_matrix(X),
    "a sparse array": scipy.sparse.coo_array(X),
    "a generator's list": [list(row) for row in zip(*X.T.tolist(), strict=True)],
    "reversed": X[::-1].copy()[::-1],
}


@pytest.mark.filterwarnings("ignore::PendingDeprecationWarning")
@pytest.mark.parametrize("like", LIKES.values(), ids=LIKES)
def test_whatever_holds_numbers_becomes_a_plain_array(like):
    array = backend.as_array(like, "x")
    assert type(array) is np.ndarray and array.dtype == float and array.dtype.isnative
    assert (array == X).all() and array.shape == X.shape


def test_plain_arrays_are_not_copied(tmp_path):
    for dtype in (np.float16, np.float32, np.longdouble, np.int8, np.uint64, bool, complex):
        array = X.astype(dtype)
        assert backend.as_array(array, "x") is array
    mapped = np.memmap(tmp_path / "x", float, "w+", shape=X.shape)
    mapped[:] = X
    assert np.shares_memory(backend.as_array(mapped, "x"), mapped)


@pytest.mark.parametrize("dtype", [np.int32, np.uint8, bool, np.float16, np.float32, np.longdouble])
def test_numbers_keep_their_kind(dtype):
    plain = (abs(X) > 1).astype(dtype)
    for like in (Table(plain), Tensor(plain), np.ma.masked_array(plain)):
        assert backend.as_array(like, "y").dtype == dtype
    listed = backend.as_array(Table(plain.astype(object)), "y")
    assert listed.dtype.kind == ("f" if plain.dtype.kind == "f" else plain.dtype.kind.replace("u", "i"))
    assert (listed == plain).all()


def test_large_whole_numbers_as_objects_become_floats():
    assert backend.as_array([2**70, 1], "y").tolist() == [2.0**70, 1.0]


REFUSED = {
    "None": (None, TypeError, "got NoneType: None is not a number"),
    "a word": ("x", TypeError, "got str of dtype <U1"),
    "words": (np.array(["a", "b"]), TypeError, "got ndarray of dtype <U1; number them"),
    "words in a list": (["a", 1], TypeError, r"got list of dtype <U\d+; number them"),
    "words as objects": (
        Table(np.array(["1", 2], object)),
        TypeError,
        "got Table: '1' is not a number; number",
    ),
    "a gap": (Table(np.array([1.0, None], object)), TypeError, "got Table: None is not a number"),
    "a dict": ({"x": 1}, TypeError, r"got dict: \{'x': 1\} is not a number"),
    "a set": ({1, 2}, TypeError, r"got set: \{1, 2\} is not a number"),
    "a function": (abs, TypeError, "got builtin_function_or_method: <built-in function abs> is not a number"),
    "dates": (np.array(["2020-01-01"], "datetime64[D]"), TypeError, r"got ndarray of dtype datetime64\[D\]"),
    "records": (np.zeros(2, [("a", float)]), TypeError, "got ndarray of dtype .*'a', '<f8'"),
    "ragged": ([[1.0, 2.0], [3.0]], ValueError, "got list: setting an array element with a sequence"),
    "too large": ([Fraction(10**400)], TypeError, "got list: integer .* too large for a float"),
    "complex objects": (np.array([1j], object), TypeError, "got ndarray: 1j is not a number"),
    "half a tensor": (
        Tensor(X, TypeError("Got unsupported ScalarType BFloat16")),
        TypeError,
        "got Tensor: Got unsupported ScalarType BFloat16",
    ),
    "without numbers": (
        Tensor(X, NotImplementedError("Cannot copy out of meta tensor\nmore")),
        TypeError,
        "got Tensor: Cannot copy out of meta tensor; number",
    ),
}


@pytest.mark.parametrize(("values", "error", "message"), REFUSED.values(), ids=REFUSED)
def test_what_is_no_array_of_numbers_is_refused_by_name(values, error, message):
    with pytest.raises(error, match="expected labels to be an array of numbers, " + message):
        backend.as_array(values, "labels", "; number them")


@pytest.mark.filterwarnings("ignore:Warning. converting a masked element to nan")
@pytest.mark.parametrize(
    "masked",
    [
        np.ma.masked_array(X, X > 2),
        list(np.ma.masked_array(X, X > 2)),
        np.ma.masked_array(X, X > 2).astype(object),
        np.ma.masked_invalid(np.where(X > 2, np.nan, X)),
        [*X[:, 1].tolist(), 0.0, 0.0, 0.0][:4] + [np.ma.masked, np.ma.masked],
    ],
    ids=["array", "rows", "objects", "invalid", "constants"],
)
def test_masked_entries_are_refused(masked):
    with pytest.raises(ValueError, match="expected x without masked entries, got 2 of 6 masked; leave those"):
        backend.as_array(masked, "x")


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_numbers_that_are_not_finite_are_noticed(bad, dtype):
    largest = np.finfo(dtype).max
    array = np.array([[largest, -largest, 0], [1, 2, largest]], dtype)  # its square overflows
    assert backend.all_finite(array)
    for place in np.ndindex(array.shape):
        other = array.copy()
        other[place] = bad
        assert not backend.all_finite(other) and not backend.all_finite(other[:, ::-1].T)


@pytest.mark.parametrize(
    "rng", [None, 0, np.random, np.random.RandomState(0), "x", np.random.SeedSequence(0)]
)
def test_only_generators_are_generators(rng):
    with pytest.raises(TypeError, match=r"expected rng = numpy\.random\.default_rng\(seed\), got "):
        backend.check_generator(rng)
    backend.check_generator(np.random.default_rng(0))


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
