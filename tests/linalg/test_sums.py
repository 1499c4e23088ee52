"""Sums over chunks against sums over everything."""

import numpy as np
import pytest

from minikfac.linalg import Sums, sum_over_chunks
from minikfac.parallel import chunks
from oracles import EXACT, FLOAT32, close

RNG = np.random.default_rng(0)
M = RNG.standard_normal((50, 7))


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("n_chunks", [1, 2, 7, 50])
def test_sums_over_chunks_are_those_over_everything(n_chunks, dtype):
    rows = [slice(part[0], part[-1] + 1) for part in np.array_split(np.arange(50), n_chunks)]
    data = M.astype(dtype)

    def add(rows, sums):
        sums.add("sum", data[rows].sum(0))
        sums.add_gram(("layer", 0), data[rows])

    sums = sum_over_chunks(add, rows, data)
    gram = sums["layer", 0]
    exact = FLOAT32 if dtype == np.float32 else EXACT
    close(sums["sum"], data.sum(0), exact)
    close(gram, data.T @ data, exact)
    assert (gram == gram.T).all()
    assert gram.dtype == sums["sum"].dtype == dtype
    assert "sum" in sums
    assert "other" not in sums


def test_rows_are_read_only_once_and_not_changed():
    data = M.copy()
    data.flags.writeable = False
    sums = Sums()
    sums.add_gram("A", data)
    first = sums["A"]
    sums.add_gram("A", data)
    close(sums["A"], 2 * first)
    close(first, M.T @ M)  # a sum that was read does not move on


def test_rows_that_are_not_contiguous_count_the_same():
    sums = Sums()
    sums.add_gram("A", M[::2, 1:4])
    sums.add_gram("A", M.T[:3, :3])
    close(sums["A"], M[::2, 1:4].T @ M[::2, 1:4] + M[:3, :3] @ M[:3, :3].T)


def test_an_error_in_a_chunk_comes_out():
    def add(rows, sums):
        raise ZeroDivisionError("in a chunk")

    with pytest.raises(ZeroDivisionError, match="in a chunk"):
        sum_over_chunks(add, [slice(0, 1), slice(1, 2)], M)


def test_chunks_cover_the_examples_in_order():
    for n, size in ((1, 1), (128, 200_000), (129, 2**22), (7, 2**30)):
        rows = chunks(n, size, M)
        assert np.concatenate([np.arange(n)[part] for part in rows]).tolist() == list(range(n))
        lengths = {part.stop - part.start for part in rows}
        assert max(lengths) - min(lengths) <= 1
        assert len(rows) == 1 or len(rows) % 2 == 0 or len(rows) == n


def test_examples_are_divided_where_a_thread_pays():
    assert len(chunks(512, 1000, M, 10)) == 1
    assert len(chunks(512, 1000, M, 2_000_000)) == 2  # 10^9 multiplications
    assert len(chunks(1, 1000, M, 2_000_000_000)) == 1
    parts = chunks(513, 1000, M, 2_000_000)
    assert [part.stop - part.start for part in parts] == [256, 257]
