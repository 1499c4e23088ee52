"""Records on disk: lines of JSON that come back as they were."""

import json
import zlib
from pathlib import Path

import numpy as np
import pytest

from minikfac.training import describe, records
from minikfac.training.keep import Keep
from oracles.resumable import STEPS, run


def test_records_of_a_run_are_read_as_arrays(tmp_path: Path) -> None:
    keep = Keep(tmp_path)
    history, stored = run(keep), records.read(keep.records)
    assert stored.records == history.records
    assert np.array_equal(stored["loss"], history["loss"])
    assert np.isnan(stored["gamma"][0]) and np.isfinite(stored["gamma"][1:]).all()
    assert stored.about == history.about == json.loads(json.dumps(history.about))
    assert stored.about["optimizer"]["kind"] == "KFAC" and stored.about["optimizer"]["T1"] == 2
    assert stored.about["batch_size"] == {
        "kind": "ExponentialBatches",
        "first": 10,
        "scale": 12.0,
        "most": 40,
    }
    assert stored.theta is None and len(stored["step"]) == 1 + STEPS // 4 + 1


def test_each_line_is_json_by_the_book(tmp_path: Path) -> None:
    path = tmp_path / "a.jsonl"
    given = {
        "step": np.int64(3), "rho": -np.inf, "error": np.float32(0.1), "nan": np.nan, "ok": np.bool_(True),
        "many": [1, np.inf], "text": "µ",
    }  # fmt: skip
    records.write(path, {"net": "Dense"}, [given])
    records.append(path, {"step": 4})

    def refuse(word: str) -> None:
        raise AssertionError(word)

    text = path.read_text("utf-8").splitlines()
    lines = [json.loads(line, parse_constant=refuse) for line in text]
    for line, row in zip(text, lines, strict=True):
        before = line.rpartition('"crc32"')[0]
        assert row["crc32"] == f"{zlib.crc32(before.encode()):08x}"
    assert lines[0]["about"] == {"net": "Dense"} and {"cores", "numpy"} <= set(lines[0]["machine"])
    assert lines[1]["rho"] == "-Infinity"
    first, second = records.read(path).records
    assert np.isnan(first.pop("nan")) and np.isnan(given.pop("nan"))
    assert first == given and second == {"step": 4}
    assert first["error"] == np.float32(0.1)


def test_only_a_torn_last_line_is_left_out(tmp_path: Path) -> None:
    path = tmp_path / "a.jsonl"
    records.write(path, {}, [{"step": 0}, {"step": 10}])
    whole = path.read_text()
    path.write_text(whole[:-5])
    assert [row["step"] for row in records.read(path).records] == [0]
    head, first, last = whole.splitlines()
    for line, named in (
        ('{"step": ', r"'\{\"step\":' in line 2"),
        ("7", "'7' in line 2"),
        ("[" * 100_000, r"in line 2 \(maximum recursion depth exceeded"),
        ("7" * 5_000, r"in line 2 \(Exceeds the limit"),
        (first.replace("0", "1", 1), r"in line 2 \(its checksum is wrong\)"),
        ('{"step": 0}', r"in line 2 \(only some lines have checksums\)"),
        ('{"step": "0"}', r"in line 2 \(step is not a number\)"),
        (head, r"in line 2 \(a second file starts there\)"),
        ('{"step": true}', r"in line 2 \(step is not a number\)"),
    ):
        path.write_text(f"{head}\n{line}\n{last}\n")
        with pytest.raises(ValueError, match=rf"a\.jsonl: expected one record .*, got .*{named}"):
            records.read(path)
    path.write_bytes(whole.encode().replace(b"step", b"ste\xff"))
    with pytest.raises(ValueError, match=r"a\.jsonl: expected one record of JSON per line, got .* line 2 \("):
        records.read(path)


def test_lines_without_checksums_are_read_too(tmp_path: Path) -> None:
    """As they were written before there were any."""
    path = tmp_path / "a.jsonl"
    path.write_text('{"about": {"seed": 3}}\r\n{"step": 0, "loss": "NaN"}\r\n')
    assert records.read(path).about == {"seed": 3} and np.isnan(records.read(path)["loss"]).all()


@pytest.mark.parametrize("content", ["", '{"step": 0}\n', "step,loss\n", "[]\n", '{"about": 7}\n', "{}"])
def test_other_files_are_refused(tmp_path: Path, content: str) -> None:
    path = tmp_path / "a.jsonl"
    path.write_text(content)
    with pytest.raises(ValueError, match=r"a\.jsonl: expected (a first line|one record)"):
        records.read(path)


def test_only_plain_data_is_recorded(tmp_path: Path) -> None:
    for wrong in (np.ones(2), object()):
        with pytest.raises(TypeError, match="expected numbers, text, lists or dicts in a record, got"):
            records.append(tmp_path / "a.jsonl", {"x": wrong})


def test_differences_are_named_by_their_place() -> None:
    here = {"a": 1, "b": {"c": [1, 2], "d": [1]}, "e": None}
    there = {"a": 1, "b": {"c": [1, 3], "d": [1, 2]}, "f": 0}
    assert list(describe.differences(here, there)) == [
        "b.c[1]: 2 here, 3 there",
        "b.d: [1] here, [1, 2] there",
        "f: None here, 0 there",
    ]
    assert not list(describe.differences(here, here))


def test_descriptions_tell_what_matters() -> None:
    assert describe.describe(np.float32(0.5)) == 0.5
    assert describe.describe(len) == "builtins.len"
    assert describe.describe(object()) == "object"
    a = np.arange(6.0)
    digests = {describe.digest(array) for array in (a, a + 1e-12, a.astype(np.float32), a.reshape(2, 3))}
    assert len(digests) == 4
    assert describe.digest(a.reshape(2, 3)) == describe.digest(np.asfortranarray(a.reshape(2, 3)))
    assert describe.digest(a[:3], a[3:]) != describe.digest(a[:2], a[2:])
