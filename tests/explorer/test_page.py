"""The page's numbers against the package's, what it refuses, and that it is one file."""

from __future__ import annotations

import base64
import json
import re

import numpy as np
import pytest
from hatchling.builders.wheel import WheelBuilder

import minikfac as mk
from explorer.equivalent_nets import equivalent_net
from minikfac import cli, datasets, explorer, fisher, layers, outputs, quality
from minikfac.explorer import equivalent, numbers, page
from minikfac.network.presets import tiny_convnet
from oracles import close
from oracles.pages import ROOT, snippets

DAMPINGS = (1e-3, 0.1)


def small(n=40):
    rng = np.random.default_rng(0)
    net = mk.mlp([9, 5, 4])
    thetas = {"before": net.init(rng), "after": net.init(rng)}
    return net, thetas, rng.standard_normal((n, 9)), rng.integers(0, 4, n)


def unpacked(entry):
    values = np.frombuffer(base64.b64decode(entry["data"]), dtype=entry["kind"])
    return (values * entry.get("scale", 1.0)).reshape(entry["shape"])


def data_of(text):
    return json.loads(
        re.search(r'<script type="application/json" id="data">(.*?)</script>', text, re.DOTALL)[1]
    )


def study_of(folder, *arguments, **options):
    path = explorer.write(folder / "page.html", *arguments, progress=False, **options)
    return data_of(path.read_text(encoding="utf-8"))["study"]


def test_arrays_are_packed_with_their_precision():
    values = np.random.default_rng(0).standard_normal((3, 4))
    close(unpacked(numbers.packed(values)), values, 1e-7)
    assert np.isnan(unpacked(numbers.packed(np.array([np.nan, 1.0])))).tolist() == [True, False]
    eight_bits = unpacked(numbers.packed(values, "int8"))
    assert 0 < np.abs(eight_bits - values).max() <= 0.5001 / 127 * np.abs(values).max()
    assert not unpacked(numbers.packed(np.zeros(3), "int8")).any()


def test_measures_and_steps_are_those_of_the_package(tmp_path):
    net, thetas, x, y = small()
    study = study_of(tmp_path, net, thetas, x, y, dampings=DAMPINGS)
    names = study["approximations"]
    assert "block-tridiagonal" in names and "K-FAC (factored damping)" in names
    for (moment, theta), entry in zip(thetas.items(), study["moments"], strict=True):
        assert entry["name"] == moment
        signals, gradient = fisher.signals(net, theta, x), net.gradient(theta, x, y)
        F = fisher.exact(signals)
        matrices = {name: quality.APPROXIMATIONS[name][0](signals) for name in names}
        for place, damping in enumerate(DAMPINGS):
            methods = {"K-FAC (factored damping)": "factored"}
            rows = quality.compare(F, matrices, gradient, damping, methods, ["matrix", "step"]).rows
            expected = np.array([[row.get(key, np.nan) for key in study["measures"]] for row in rows])
            shown = unpacked(entry["table"])[place].reshape(expected.shape)
            left_out = np.isnan(shown)
            np.testing.assert_array_equal(left_out, np.isnan(expected))
            close(shown[~left_out], expected[~left_out], 1e-6)
            for name, step in zip(["exact", *names], unpacked(entry["steps"])[place], strict=True):
                method = methods.get(name)
                exact = F.solve(gradient, damping)
                whole = exact if name == "exact" else matrices[name].solve(gradient, damping, method)
                for part in net.slices:
                    of_layer = whole[part] / np.abs(whole[part]).max()
                    assert np.abs(step[part] - of_layer).max() <= 0.5001 / 127


@pytest.mark.parametrize("most", [18, 50])
def test_a_large_layer_is_drawn_in_part(most, monkeypatch, tmp_path):
    monkeypatch.setattr(numbers, "LARGEST_BLOCK", most)
    net, thetas, x, y = small()
    study = study_of(tmp_path, net, thetas, x, y, dampings=DAMPINGS)
    signals = fisher.signals(net, thetas["after"], x)
    for layer, entry in enumerate(study["layers"]):
        inputs, units = entry["part"]
        assert len(inputs) * len(units) <= most
        A, G = (fisher.kfac(signals).blocks[layer].A, fisher.kfac(signals).blocks[layer].G)
        for part, M in ((inputs, A), (units, G)):
            left_out = np.delete(M.diagonal(), part)
            assert M.diagonal()[part].min() >= left_out.max(initial=0)
        shown = study["moments"][1]["layers"][layer]
        close(unpacked(shown["A"]), A[np.ix_(inputs, inputs)], 1e-6)
        close(unpacked(shown["G"]), G[np.ix_(units, units)], 1e-6)
        rows = (np.array(inputs)[:, None] * len(G) + units).ravel()
        ekfac = fisher.ekfac(signals).blocks[layer].to_dense()[np.ix_(rows, rows)]
        close(unpacked(shown["spectra"]["EKFAC"]), np.linalg.eigvalsh(ekfac)[::-1], 1e-6)


def test_a_convolutional_net_brings_its_blocks(tmp_path):
    data, net = datasets.digits().as_images(), tiny_convnet()
    theta, x, y = net.init(np.random.default_rng(0)), data.x_train[:20], data.y_train[:20]
    study = study_of(tmp_path, net, {"now": theta}, x, y, dampings=[0.1])
    assert study["chain"] is None and study["x"] is None
    F = fisher.exact(fisher.signals(net, theta, x))
    for layer, entry in enumerate(study["layers"]):
        inputs, units = entry["part"]
        rows = (np.array(inputs)[:, None] * net.shapes[layer][1] + units).ravel()
        block = F.blocks[layer].array[np.ix_(rows, rows)]
        close(
            unpacked(study["moments"][0]["layers"][layer]["block"]), block[np.tril_indices(len(rows))], 1e-6
        )


def test_a_net_with_an_activation_that_the_page_lacks_brings_its_blocks(tmp_path):
    _, _, x, y = small()
    net = mk.mlp([9, 5, 4], "gelu")
    theta = net.init(np.random.default_rng(0))
    study = study_of(tmp_path, net, {"now": theta}, x, y, dampings=[0.1])
    assert study["chain"] is None and "block" in study["moments"][0]["layers"][0]


def test_layers_of_a_larger_net(tmp_path):
    net, thetas, x, y = small()
    path = explorer.write(
        tmp_path / "a" / "b.html", net, thetas, x, y, layers=["dense1"], dampings=DAMPINGS, progress=False
    )
    study = data_of(path.read_text(encoding="utf-8"))["study"]
    assert [layer["name"] for layer in study["layers"]] == ["dense1"] and study["parameters"] == 24


@pytest.mark.parametrize(
    ("shape", "options", "image"),
    [
        ((3, 3), {}, [3, 3]),
        ((3, 3), {"layers": [1]}, None),  # its inputs are units
        ((3, 2), {}, None),
        ((3, 3, 1), {}, None),
        (None, {}, None),
    ],
)
def test_steps_are_pictures_where_the_first_layers_inputs_are_pixels(tmp_path, shape, options, image):
    net, thetas, x, y = small()
    options = options | {"image_shape": shape, "dampings": [0.1], "progress": False}
    path = explorer.write(tmp_path / "page.html", net, thetas, x, y, **options)
    assert data_of(path.read_text(encoding="utf-8"))["study"]["image"] == image


def normalized():
    return mk.Network(
        [layers.Dense(9, 5), layers.LayerNorm(5), layers.Tanh(), layers.Dense(5, 4)], outputs.Categorical()
    )


def test_scale_and_shift_are_left_out(tmp_path):
    _, _, x, y = small()
    net = normalized()
    theta = net.init(np.random.default_rng(0))
    study = study_of(tmp_path, net, {"now": theta}, x, y, dampings=[0.1])
    assert [layer["name"] for layer in study["layers"]] == ["dense0", "dense2"] and study["chain"] is None
    with pytest.raises(ValueError, match="expected dense layers or convolutions, got layernorm1"):
        study_of(tmp_path, net, {"now": theta}, x, y, layers=[1])


def test_what_is_refused(tmp_path, monkeypatch):
    net, thetas, x, y = small()
    path = tmp_path / "page.html"
    with pytest.raises(ValueError, match="theta of one or more moments, and dampings > 0, got 0 moments"):
        explorer.write(path, net, {}, x, y)
    with pytest.raises(ValueError, match=r"dampings > 0, got 2 moments and dampings \[0, 1\]"):
        explorer.write(path, net, thetas, x, y, dampings=[0, 1])
    monkeypatch.setattr(numbers, "LARGEST_NET", 60)
    with pytest.raises(ValueError, match="at most 60 parameters together, got 74; choose some by"):
        explorer.write(path, net, thetas, x, y)
    monkeypatch.setattr(page, "LIMIT", 1000)
    with pytest.raises(MemoryError, match=r"a page of at most 8 MB, got 0\.\d MB; give fewer moments"):
        explorer.write(path, net, thetas, x, y, layers=[1], dampings=[0.1], progress=False)
    assert not path.exists()


def test_the_page_is_one_file_and_loads_nothing(tmp_path):
    net, thetas, x, y = small()
    moments = {"</script><b>": thetas["before"]}
    path = explorer.write(
        tmp_path / "page.html", net, moments, x, y, dampings=[0.1], title="A & B", progress=False
    )
    text = path.read_text(encoding="utf-8")
    assert "<title>A &amp; B</title>" in text and "{{" not in text
    assert not re.findall(r"""(?:src|href)=["'](?!data:)|https?://|fetch\(|XMLHttpRequest|import\(""", text)
    assert text.count("<script") == text.count("</script>") == 2
    assert data_of(text)["study"]["moments"][0]["name"] == "</script><b>"


def test_template_style_and_scripts_are_in_the_wheel():
    files = {
        path.relative_to(ROOT).as_posix()
        for path in page.FOLDER.iterdir()
        if path.suffix in (".js", ".css", ".html")
    }
    assert len(files) == len(page.SCRIPTS) + 2
    assert files <= {file.distribution_path for file in WheelBuilder(str(ROOT)).recurse_included_files()}


def test_equivalent_nets_compute_the_same_function():
    net, theta, x, _ = equivalent.problem()
    for strength in (1.0, 10.0, 100.0):
        r = equivalent_net(net, strength)
        close(r.net.natural_parameters(r.push(theta), x), net.natural_parameters(theta, x), 1e-10)
        J = r.jacobian()
        assert np.allclose(J, np.eye(len(J)), atol=1e-12) == (strength == 1)


def test_the_command_refuses_other_endings(capsys):
    assert cli.run(["explore", "--out", "page.pdf"]) == 2
    assert "expected --out to end in .html, got page.pdf" in capsys.readouterr().err


@pytest.mark.slow
def test_the_command_writes_the_example(tmp_path, capsys):
    path = tmp_path / "page.html"
    assert cli.run(["explore", "--out", str(path)]) == 0
    assert path.as_uri() in capsys.readouterr().out
    study = data_of(path.read_text(encoding="utf-8"))["study"]
    assert path.stat().st_size <= 8 * 10**6 and study["parameters"] == 2298
    assert len(study["moments"]) >= 6 and study["moments"][3]["name"] == "after 200 steps"


def test_the_pages_snippet_runs(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    quick = tuple((0.1,) if value == explorer.DAMPINGS else value for value in explorer.write.__defaults__)
    monkeypatch.setattr(explorer.write, "__defaults__", quick)
    (snippet,) = snippets(ROOT / "docs" / "explorer.md")
    exec(compile(snippet, "explorer.md", "exec"), {})
    assert (tmp_path / "my-net.html").exists()
