"""The chapter on convolutions: its numbers, its sentences, and a study of a convolutional net."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import minikfac as mk
from minikfac import datasets, fisher, quality, tour
from minikfac.network.presets import convnet, default_channels
from minikfac.parallel import one_thread
from minikfac.quality import applicable
from minikfac.tour import Run, Tour
from minikfac.tour.chapters import ladder
from minikfac.tour.chapters.batchnorm import Coupling
from minikfac.tour.chapters.ladder import BlockPicture, block_picture
from minikfac.tour.chapters.maps import places
from minikfac.tour.chapters.scatter import weight_name
from minikfac.tour.page import results
from minikfac.tour.parts import Chapter, Section, number, two_digits
from minikfac.tour.run import fisher_study
from minikfac.tour.settings import Settings, make_net, with_targets
from oracles import close

SMALL = Settings(
    sizes=(64, 6, 10),
    steps=20,
    n_examples=50,
    measures=("matrix",),
    approximations=("K-FAC",),
    chapters=("convolutions", "memory"),
)
PARTS = [
    "convgradient", "convassumptions", "convblocks", "convspace", "convplaces", "convexact", "convbatch",
]  # fmt: skip


@pytest.fixture(autouse=True)
def quick() -> Iterator[None]:
    with one_thread():
        yield


@pytest.fixture(scope="module")
def beside() -> Tour:
    """A perceptron with a convolutional net beside it, as in the tour."""
    return tour.tour(datasets.digits(), SMALL, progress=False)


@pytest.fixture(scope="module")
def written(beside: Tour, tmp_path_factory: pytest.TempPathFactory) -> tour.Written:
    return tour.write_report(beside, tmp_path_factory.mktemp("report"), progress=False)


@pytest.fixture(scope="module")
def alone() -> Tour:
    """A convolutional net by itself, as of the command line."""
    settings = Settings(sizes=(), channels=(2, 3), pool="avg", steps=10, n_examples=30, measures=("matrix",))
    return tour.tour(datasets.digits(n_train=200), settings, progress=False)


def chapter_of(made: Tour) -> Chapter:
    return made.chapters["convolutions"]


def conv_run(made: Tour) -> Run:
    assert made.run.convolutional is not None
    return made.run.convolutional


def part(made: Tour, name: str) -> Any:
    return chapter_of(made).results[name].results


def ledgers(made: Tour) -> dict[str, Any]:
    return dict(chapter_of(made).record["convolutions"].get("layer_ledgers", {}))


def words(sections: Sequence[Section], key: str) -> str:
    (section,) = (section for section in sections if section.key == key)
    return " ".join(part for part in section.parts if isinstance(part, str))


# the chapter ----------------------------------------------------------------------------------------------


def test_the_chapter_has_its_sections_and_figures(written: tour.Written) -> None:
    source = written.page.read_text(encoding="utf-8")
    keys = re.findall(r'<(?:details class="chapter"|section) id="([a-z]+)"', source)
    start = keys.index("conv")
    end = start + 1 + len(PARTS)
    assert keys[start:end] == ["conv", *PARTS] and keys[end:] == ["memory", "made"]
    assert source.count("<h4>") == len(PARTS)
    assert {name for name in written.pictures if name.startswith("conv-")} == {
        "conv-gradient", "conv-layers", "conv-ladder", "conv-autocorrelation", "conv-exact",
        "conv-batchnorm",
    }  # fmt: skip
    assert source.count("<img src=") == len(written.pictures)  # each once
    assert not re.search(r"\bnan\b|\binf\b|None", re.sub(r'src="[^"]*"', "", source))


def test_numbers_of_the_chapter_are_those_of_the_run(beside: Tour, written: tour.Written) -> None:
    source = written.page.read_text(encoding="utf-8")
    assert conv_run(beside).net.n_params == 666 and "<b>666 parameters</b>" in source
    strength = part(beside, "maps")["max"][0].derivatives.strength(1)
    assert f"{float(f'{strength:.2g}'):.3g} (conv0)" in source
    assert two_digits(float(np.median(part(beside, "batchnorm").errors[-1]))) in source


def test_layer_ledgers_are_those_of_quality(beside: Tour) -> None:
    study = conv_run(beside).study
    for name, rows in ledgers(beside).items():
        expected = quality.layer_ledger(study.signals, name, study.gradient, study.damping)
        for row, other in zip(rows, expected, strict=True):
            assert row == pytest.approx(other, nan_ok=True)
    assert list(ledgers(beside)) == ["conv0", "conv1"]


def test_the_block_is_the_smallest_and_on_every_rung(beside: Tour) -> None:
    run, block = conv_run(beside), part(beside, "ladder")
    assert block.name == "conv0" and block.maps == 4
    signals = fisher.signals(run.net, run.theta, run.x).select(["conv0"])
    assert list(block.blocks) == list(fisher.LADDER.values())
    exact, *_, kfc = block.blocks.values()
    close(exact, fisher.block_diagonal(signals).to_dense())
    close(kfc, fisher.kfac(signals).to_dense())


def test_both_poolings_are_trained_alike(beside: Tour) -> None:
    run, trained = conv_run(beside), chapter_of(beside).record["convolutions"]["trained_alike"]
    assert list(part(beside, "maps")) == ["max", "avg"] == list(trained)
    assert trained["max"] == run.history.records[-1]
    again = run.alike(pool="avg")[2]
    assert trained["avg"]["loss"] == again.records[-1]["loss"] != trained["max"]["loss"]


def test_results_hold_the_chapter(beside: Tour, written: tour.Written) -> None:
    stored = json.loads(written.results.read_text(encoding="utf-8"))
    assert stored == results(beside)
    chapter = stored["convolutions"]
    assert len(chapter["walks"]) == 4
    assert chapter["layer_ledgers"]["conv0"][1]["error"] == ledgers(beside)["conv0"][1]["error"]
    assert len(chapter["maps"]["max"]) == 4 and len(chapter["shifts"]["gradient"]) == 3
    inner = stored["convolutional_net"]
    assert inner["net"]["parameters"] == 666 and inner["data"]["inputs"] == 64 and "versions" not in inner
    assert len(inner["ledger"]) == 10


def test_memory_has_the_convolutional_nets(beside: Tour) -> None:
    rows = {row["name"]: row for row in results(beside)["memory"]}
    svhn = rows["KFC's net for SVHN"]
    assert svhn["parameters"] == 13_741_578 and svhn["fisher_bytes"] == 4 * 13_741_578**2
    assert svhn["largest_layer"] == 4097 * 2048
    assert "MNIST autoencoder" in rows


# sentences hold the numbers -------------------------------------------------------------------------------


def test_correlations_below_both_poolings_are_stated(beside: Tour) -> None:
    maps, trained = part(beside, "maps"), chapter_of(beside).record["convolutions"]["trained_alike"]
    text = words(chapter_of(beside).sections, "convspace")
    for pool, name in (("max", "max-pooling"), ("avg", "averages")):
        numbers = [two_digits(layer.derivatives.strength(1)) for layer in maps[pool]]
        assert f"{numbers[0]} (conv0) and {numbers[1]} (conv1) with {name}" in text
        assert number(trained[pool]["loss"]) in text
    assert "there are 64 pairs of a location with itself and 4,032 of two different ones" in text


def test_the_largest_error_where_walks_are_exact(beside: Tour) -> None:
    walks = part(beside, "exactness")
    largest = max(walk.errors[name][place] for walk in walks for name, place in walk.exact)
    text = words(chapter_of(beside).sections, "convexact")
    assert f"At the 14 points that theory says are exact the largest error is {number(largest)}." in text


def test_errors_of_constant_statistics_are_stated(beside: Tour) -> None:
    batch: Coupling = part(beside, "batchnorm")
    text = words(chapter_of(beside).sections, "convbatch")
    first, *_, last = np.median(batch.errors, axis=1)
    assert f"{two_digits(first)} in batches of 4 and of {two_digits(last)} in batches of" in text
    for value in (batch.layer_errors[1:].max(), batch.flat.max(), batch.control):
        assert number(value) in text


def test_variances_on_the_border_are_stated(beside: Tour) -> None:
    studied = part(beside, "maps")["max"]
    for signal in ("derivatives", "inputs"):
        borders = [two_digits(layer.signals[signal].border) for layer in studied]
        text = words(chapter_of(beside).sections, "convplaces")
        assert f"{borders[0]} (conv0) and {borders[1]} (conv1)" in text
    flat = [
        replace(
            layer, derivatives=replace(layer.derivatives, variance=np.ones_like(layer.derivatives.variance))
        )
        for layer in studied
    ]
    section = words([places(flat)], "convplaces")
    assert "range over 1 to 1 (conv0)" in section and "they are 1 (conv0)" in section


# a convolutional net by itself ----------------------------------------------------------------------------


def test_a_convolutional_net_by_itself(alone: Tour, tmp_path: Path) -> None:
    assert alone.run.settings.net_name == "conv 2-3, avg-pooling"
    matrices = alone.run.study.matrices
    assert "block-tridiagonal" not in matrices and "KFAC-reduce" in matrices
    assert alone.convnet is None and not {"signals", "matrices"} & set(alone.chapters)
    assert list(part(alone, "maps")) == ["avg", "max"]
    written = tour.write_report(alone, tmp_path, progress=False)
    source = written.page.read_text(encoding="utf-8")
    keys = re.findall(r'<(?:details class="chapter"|section) id="([a-z]+)"', source)
    assert keys[: 2 + len(PARTS)] == ["net", "conv", *PARTS]
    assert "ledger" in keys and "quality" in keys and "signals" not in keys and "matrices" not in keys
    assert "A dense layer uses every weight once" in source
    assert "Left out is block-tridiagonal" in source
    assert "conv0 (3×3, 1 → 2 maps), conv1 (3×3, 2 → 3 maps) and dense2 (12 → 10)" in source
    assert not re.search(r"\bnan\b|\binf\b|None", re.sub(r'src="[^"]*"', "", source))


def test_the_scatter_names_the_weights_of_a_convolution(alone: Tour) -> None:
    cloud: Any = alone.chapters["scatter"].results
    run = alone.run
    assert cloud.layer == "conv1"
    names = [weight_name(run.net, 1, i, o) for i in range(19) for o in range(3)]
    assert names[0] == "weight (0, 0) of map 0 → 0" and names[4] == "weight (0, 0) of map 1 → 1"
    assert names[8] == "weight (0, 1) of map 0 → 2"  # patches are ordered (row, column, channel)
    assert names[-1] == "bias of map 2" and len(set(names)) == 57
    assert weight_name(run.net, 2, 3, 1) == "weight 3 → 1"
    assert weight_name(run.net, 2, 12, 1) == "bias of unit 1"
    places = [names.index(name) for name in cloud.names]
    F = fisher.exact(fisher.signals(run.net, run.theta, run.x).select([1])).to_dense()
    close(cloud.F, F[np.ix_(places, places)])


def test_a_part_without_convolutions_has_no_ledgers_of_them() -> None:
    settings = replace(SMALL, sizes=(), channels=(2, 3), layers=(2,), approximations=None, steps=2)
    made = tour.tour(datasets.digits(n_train=100), settings, progress=False)
    assert ledgers(made) == {}
    assert list(chapter_of(made).results) == ["shifts", "maps", "exactness", "batchnorm"]
    keys = [section.key for section in made.sections()]
    assert "convassumptions" not in keys and "convspace" in keys
    drawn = made.figures()
    assert "conv-layers" not in drawn and "conv-ladder" not in drawn and "conv-autocorrelation" in drawn


@pytest.mark.parametrize("output", ["bernoulli", "gaussian"])
def test_other_outputs_and_single_precision(output: str) -> None:
    settings = replace(
        SMALL, sizes=(), channels=(2,), output=output, dtype="float32", steps=2, approximations=None,
        chapters=(),
    )  # fmt: skip
    run = tour.tour(datasets.digits(n_train=60, dtype="float32"), settings, progress=False).run
    assert run.study.F.array.dtype == np.float32
    assert run.dataset.y_train.shape == (60, 10)
    assert 0 < run.study.table["K-FAC"]["error"] < 2


# nets and choices -----------------------------------------------------------------------------------------


def test_on_digits_it_is_the_tiny_preset() -> None:
    assert repr(convnet((8, 8, 1), 10).layers) == repr(mk.presets.tiny_convnet().layers)
    for options in ({"pool": "avg"}, {"activation": "relu"}, {"output": "gaussian"}, {"channels": (3, 5)}):
        expected = repr(mk.presets.tiny_convnet(**options).layers)  # type: ignore[arg-type]
        assert repr(convnet((8, 8, 1), 10, **options).layers) == expected  # type: ignore[arg-type]


def test_large_images_are_averaged_first() -> None:
    large, small = convnet((32, 32, 3), 10), convnet((16, 16, 3), 10)
    assert repr(large.layers).startswith("(AvgPool2d(kernel_size=2")
    assert large.shapes == small.shapes and default_channels((32, 32, 3)) == (6, 8, 8)
    x = np.random.default_rng(0).random((2, 32, 32, 3))
    theta = small.init(np.random.default_rng(1))
    halved = x.reshape(2, 16, 2, 16, 2, 3).mean((2, 4))
    close(large.forward(theta, x).z, small.forward(theta, halved).z)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"channels": ()}, r"expected channels of one convolution or more, .* got \[\] for images of 8 x 8"),
        ({"channels": (2, 2, 2, 2)}, "at least 2 x 2 pixels to pool"),
        ({"channels": (2, 0)}, r"got \[2, 0\]"),
        ({"pool": "median"}, "expected one of avg, max, got 'median'"),
        ({"activation": "foo"}, "expected one of .*identity, .*, got 'foo'"),
        ({"output": "foo"}, "expected one of bernoulli, categorical, gaussian, got 'foo'"),
    ],
)
def test_nets_that_cannot_be_made(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        convnet((8, 8, 1), 10, **changes)


def test_images_are_needed() -> None:
    flat = datasets.digits(components=16)
    conv = Settings(sizes=(), channels=(2, 3))
    with pytest.raises(
        ValueError, match=r"expected images \(N, H, W, C\) for a convolutional net, got inputs"
    ):
        make_net(conv, flat)
    with pytest.raises(ValueError, match="expected images for the study of a convolutional net, got Dataset"):
        tour.tour(flat, replace(SMALL, sizes=(16, 3, 10), steps=1), progress=False)
    with pytest.raises(
        ValueError, match="got block-tridiagonal, which exists for chains of dense layers only"
    ):
        make_net(replace(conv, approximations=("block-tridiagonal",)), datasets.digits(images=True))


def test_targets_of_images() -> None:
    data = datasets.digits(images=True)
    net = convnet((8, 8, 1), 10, (2, 3))
    assert with_targets(data, net) is data
    rows = with_targets(data, convnet((8, 8, 1), 10, (2, 3), output="gaussian")).y_train
    np.testing.assert_array_equal(rows.argmax(1), data.y_train)
    with pytest.raises(ValueError, match="expected a net with 10 outputs, one per class of digits, got 9"):
        with_targets(data, convnet((8, 8, 1), 9, (2, 3)))


def test_approximations_are_those_that_exist_and_differ() -> None:
    rng = np.random.default_rng(0)
    every = set(tour.APPROXIMATIONS)

    def names(net: mk.Network, x: np.ndarray, layers: Any = None) -> set[str]:
        signals = fisher.signals(net, net.init(rng), x)
        return set(applicable(signals if layers is None else signals.select(layers)))

    dense, x = mk.mlp([4, 3, 2]), rng.random((5, 4))
    assert names(dense, x) == every - {"KFAC-reduce", "T x KFC"}
    small, images = mk.presets.tiny_convnet(channels=(2, 3)), rng.random((5, 8, 8, 1))
    assert names(small, images) == every - {"block-tridiagonal"}
    assert names(small, images, [2]) == every - {"block-tridiagonal", "KFAC-reduce", "T x KFC"}
    wide = mk.presets.tiny_convnet(channels=(4, 24))
    assert wide.n_params > 1000
    assert names(wide, images) == every - {"block-tridiagonal", "low rank"}


def test_a_study_builds_what_is_named() -> None:
    rng = np.random.default_rng(0)
    net = mk.mlp([4, 3, 2])
    x, y = rng.random((20, 4)), rng.integers(0, 2, 20)
    theta = net.init(rng)
    study = fisher_study(net, theta, x, y, ["KFAC-reduce", "K-FAC", "T x KFC"], progress=False)
    reduce, kfac, full = (study.matrices[name].to_dense() for name in ("KFAC-reduce", "K-FAC", "T x KFC"))
    close(reduce, kfac)  # dense layers have one location
    close(full, kfac)


def test_a_layer_with_too_many_locations_is_not_drawn(alone: Tour, monkeypatch: pytest.MonkeyPatch) -> None:
    study = alone.run.study
    drawn = block_picture(study)
    assert isinstance(drawn, BlockPicture) and drawn.name == "conv0"
    monkeypatch.setattr(ladder, "_DRAWN", 20)
    other = block_picture(study)
    assert (
        isinstance(other, BlockPicture) and other.name == "conv1" and len(other.blocks["exact blocks"]) == 57
    )
    monkeypatch.setattr(ladder, "_DRAWN", 5)
    assert block_picture(study) is None


def test_findings_of_a_convolutional_net_are_about_its_layers(alone: Tour, beside: Tour) -> None:
    (block, assumptions) = chapter_of(alone).findings
    rows = {row["label"].split(":")[0]: row for row in ledgers(alone)["conv0"]}
    assert block.value == two_digits(rows["IAD + SH + SUD"]["error"]) and block.figure == "conv-ladder"
    assert assumptions.value == f"{two_digits(rows['SUD']['error'])} and {two_digits(rows['IAD']['error'])}"
    figures = [finding.figure for finding in alone.head().findings]
    assert figures == ["conv-ladder", "conv-layers", "quality", "sampling"]
    assert not chapter_of(beside).findings  # there the findings are those of the dense net
