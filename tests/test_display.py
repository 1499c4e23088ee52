"""Objects show themselves: on a screen, without arrays or addresses, and as a table in a notebook."""

import re
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import cache, partial
from html.parser import HTMLParser
from typing import Any

import matplotlib.pyplot as plt
import numpy as np
import pytest

import minikfac as mk
from minikfac import fisher, layers, optim, outputs, quality, races, reparam, training
from minikfac.display import WIDTH, Display, Shown, beside, in_words, shortened, stacked
from minikfac.fisher.targets import Targets
from minikfac.quality import Reference
from minikfac.races.contenders import contender
from minikfac.training.loop import History

LINES = 25


@cache
def chain(depth: int = 3) -> tuple[mk.Network, Any, Any, Any]:
    """A net, its parameters, 12 inputs and their labels."""
    net = mk.mlp([4, *[3] * (depth - 1), 2])
    rng = np.random.default_rng(0)
    return net, net.init(rng), rng.standard_normal((12, 4)), rng.integers(0, 2, 12)


def signals(depth: int = 3, **options: Any) -> fisher.Signals:
    net, theta, x, _ = chain(depth)
    return fisher.signals(net, theta, x, **options)


def compared(depth: int = 3, names: Sequence[str] = ("K-FAC", "diagonal")) -> quality.Comparison:
    net, theta, x, y = chain(depth)
    matrices = {name: fisher.kfac(signals(depth)) for name in names}
    return quality.compare(fisher.exact(signals(depth)), matrices, net.gradient(theta, x, y), 0.1)


def trained(steps: int) -> History:
    example = training.example()
    opt = optim.KFAC(example.net)
    terms: dict[str, Any] = {"steps": steps, "measure_every": 1, "progress": False}
    return training.train(example.net, example.theta0, opt, example.data.subset(100, 20), **terms)


def images(residual: bool = False) -> mk.Network:
    inner: list[layers.Layer] = [layers.Conv2d(1, 2, 3, padding=1), layers.BatchNorm(2), layers.ReLU()]
    first: list[layers.Layer] = [layers.Residual(inner)] if residual else inner
    return mk.Network([*first, layers.Flatten(), layers.Dense(128, 3)], outputs.Categorical())


def gradient(depth: int = 3) -> Any:
    net, theta, x, y = chain(depth)
    return net.gradient(theta, x, y)


OBJECTS: dict[str, Callable[[], Any]] = {
    "net": lambda: chain()[0],
    "deep net": lambda: chain(60)[0],
    "net of images": images,
    "net of branches": partial(images, True),
    "preset": mk.presets.tiny_convnet,
    "tape": lambda: chain()[0].forward(*chain()[1:3]),
    "signals": signals,
    "signals of a deep net": lambda: signals(60),
    "signals in chunks": lambda: signals(batch_size=5),
    "signals of a layer": lambda: signals()[0],
    "targets": lambda: Targets.of(*chain()[:3], None, "model", 1, None),
    "exact": lambda: fisher.exact(signals()),
    "exact of a deep net": lambda: fisher.exact(signals(60)),
    "ladder": lambda: fisher.ladder(signals(), {"IAD"}).blocks[0],
    "block-diagonal": lambda: fisher.block_diagonal(signals()),
    "K-FAC of a deep net": lambda: fisher.kfac(signals(60)),
    "mixed": lambda: fisher.mixed(signals(), {0: "exact", 1: "diagonal"}),
    "block-tridiagonal": lambda: fisher.block_tridiagonal(signals()),
    "EKFAC": lambda: fisher.ekfac(signals()),
    "low rank": lambda: fisher.low_rank(signals(), 3),
    "diagonal": lambda: fisher.diagonal(signals()),
    "matrix-free": lambda: fisher.product(*chain()[:3]),
    "matrix-free inverse": lambda: fisher.product(*chain()[:3]).inverse(0.1),
    "one block": lambda: fisher.kfac(signals()).blocks[0],
    "inverse of exact": lambda: fisher.exact(signals()).inverse(0.1),
    "inverse of K-FAC": lambda: fisher.kfac(signals()).inverse(0.1),
    "factored inverse": lambda: fisher.kfac(signals(60)).inverse(0.1, "factored"),
    "inverse of block-tridiagonal": lambda: fisher.block_tridiagonal(signals()).inverse(0.1),
    "inverse of low rank": lambda: fisher.low_rank(signals(), 3).inverse(0.1),
    "comparison": compared,
    "comparison of many": lambda: compared(names=[f"approximation number {k}" for k in range(40)]),
    "comparison over seeds": lambda: quality.over_seeds(lambda seed: compared(), [0, 1]),
    "reference": lambda: Reference.of(fisher.exact(signals()), gradient(), 0.1),
    "history": lambda: trained(3),
    "long history": lambda: trained(60),
    "empty history": History,
    "reparameterization": lambda: reparam.random(chain()[0], np.random.default_rng(0)),
    "deep reparameterization": lambda: reparam.random(chain(60)[0], np.random.default_rng(0)),
    "net with fixed maps": lambda: reparam.random(chain(60)[0], np.random.default_rng(0)).net,
    "map of a layer": lambda: reparam.random(chain()[0], np.random.default_rng(0)).maps[0],
    "example": training.example,
    "data": lambda: training.example().data,
    "images": lambda: training.example().data.as_images(),
    "problem": lambda: races.problem("digits"),
    "race": lambda: races.Race({"SGD": [trained(1)]}),
    "contender": lambda: contender("kfac"),
}
every_object = pytest.mark.parametrize("name", OBJECTS)


@every_object
@pytest.mark.parametrize("form", [repr, str])
def test_it_fits_a_screen_and_holds_no_arrays_addresses_or_lambdas(name: str, form: Any) -> None:
    text = form(OBJECTS[name]())
    if name.startswith("comparison") and form is str:  # all columns, for those who print it
        return
    lines = text.splitlines()
    assert 1 <= len(lines) <= LINES and max(map(len, lines)) <= WIDTH, text
    assert not re.search(r"0x[0-9a-f]{6}|<lambda>|<function|array\(|\{'", text), text


@every_object
def test_matrices_and_nets_are_one_line_inside_of_others(name: str) -> None:
    shown = OBJECTS[name]()
    if isinstance(shown, fisher.Operator | mk.Network | reparam.Reparameterization):
        size = shown.shape[0] if isinstance(shown, fisher.Operator) else chain_size(shown)
        assert len(repr(shown).splitlines()) == 1 and f"{size:,}" in repr(shown)


def chain_size(shown: Any) -> int:
    """P of a net or of a reparameterization."""
    return getattr(shown, "source", shown).n_params


class Page(HTMLParser):
    """Whether tags are balanced, and the cells of the table."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.cells: list[list[str]] = []
        self.styles: list[str] = []
        self.feed(text)
        self.close()

    def handle_starttag(self, tag: str, attrs: Any) -> None:
        self.styles.append(dict(attrs).get("style", ""))
        if tag == "tr":
            self.cells.append([])
        if tag in ("td", "th"):
            self.cells[-1].append("")
        self.open += [tag] * (tag != "img")

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        if self.open and self.open[-1] in ("td", "th"):
            self.cells[-1][-1] += data


@every_object
def test_in_a_notebook_it_is_a_balanced_table_without_colours(name: str) -> None:
    page = Page(OBJECTS[name]()._repr_html_())
    assert not page.open and len({len(row) for row in page.cells}) <= 1
    assert not any("color" in style or "background" in style for style in page.styles)
    assert len(page.cells) <= 18


def test_names_are_escaped() -> None:
    evil = "<script>alert('x')</script> & co"
    array = np.eye(2)
    matrix = fisher.DenseMatrix(array, [evil], [slice(0, 2)], evil)
    table = compared(names=[evil])
    for html in (matrix._repr_html_(), table._repr_html_(), Display(evil, [evil], [[evil]], evil).html()):
        assert "<script" not in html and "&lt;script&gt;" in html
    assert Page(table._repr_html_()).cells[1][0] == evil


def test_the_table_of_a_net_holds_its_layers() -> None:
    page = Page(mk.presets.tiny_convnet()._repr_html_())
    assert page.cells[0] == ["layer", "weights", "parameters"]
    assert page.cells[1] == ["Conv2d(1, 4, 3, padding=1)", "conv0", "40"]
    assert page.cells[-1] == ["Dense(32, 10)", "dense2", "330"]
    shown = images(residual=True)._repr_html_()
    assert "conv0, batchnorm1" in shown


def test_the_table_of_a_matrix_holds_its_blocks() -> None:
    cells = Page(fisher.kfac(signals())._repr_html_()).cells
    assert cells[1] == ["dense0", "KroneckerBlock", "15 x 15", "A 5 x 5, G 3 x 3"]
    assert [row[0] for row in Page(fisher.exact(signals())._repr_html_()).cells[1:]] == list(chain()[0].names)
    assert "one KroneckerBlock or DenseMatrix per layer" in repr(fisher.mixed(signals(), {2: "exact"}))


def test_signals_in_chunks_show_themselves_without_a_pass(monkeypatch: pytest.MonkeyPatch) -> None:
    recipe = signals(batch_size=5)
    monkeypatch.setattr(mk.Network, "forward", None)
    assert "in 3 chunks" in str(recipe)


def test_of_long_tables_the_first_and_the_last_rows_are_shown() -> None:
    text = Display("t", ["row"], [[f"row {k}"] for k in range(100)]).text()
    assert "row 0\n" in text and "row 99" in text and "… 84 more …" in text and "row 50" not in text


def test_no_cell_of_a_table_is_cut_at_any_width() -> None:
    rng = np.random.default_rng(0)
    header = ["what", *(f"column number {k}" for k in range(9))]
    cells = [[f"a long name of row {n}", *(f"{x:.{n + 1}e}" for x in rng.random(9))] for n in range(5)]
    cells[2][4] = "words that go on and on and on and on and on and on, and on"
    for width in (20, 40, 80, 100, 120, 400):
        lines = stacked(header, cells, width)
        text = " ".join(lines)
        for cell in (cell for row in cells for cell in row[1:] if cell != cells[2][4]):
            assert cell in text
        assert all(word in text for word in cells[2][4].split())
        assert width < 60 or max(map(len, lines)) <= width
    assert beside(header, cells, 400) == 9
    assert len(stacked(header, cells, 400, most=3)) > 2 * len(stacked(header, cells, 400))
    assert stacked(header, cells, 400, most=8) == stacked(header, cells, 400)  # the ninth is not left alone


def test_numbers_stand_to_the_right_and_headers_at_the_bottom() -> None:
    assert stacked(["name", "best of all", "kind"], [["a", "1.5", "x"], ["b", "12.25", "yy"]], 80) == [
        "       best",
        "         of",
        "name    all  kind",
        "────  ─────  ────",
        "a       1.5  x",
        "b     12.25  yy",
    ]


def test_values_in_words() -> None:
    assert in_words(np.zeros((3, 1000))) == "float64 array 3 x 1,000"
    assert in_words(object()) == "object" and in_words(lambda: 0) == "function"
    assert in_words(0.123456) == "0.1235" and in_words("text") == "text"
    assert shortened("abcdefgh", 5) == "ab…gh"


# pictures -------------------------------------------------------------------------------------------------


def test_a_matrix_draws_itself_alone_and_beside_approximations() -> None:
    F, K = fisher.exact(signals()), fisher.kfac(signals())
    (alone,) = F.plot()
    picture = np.asarray(alone.images[0].get_array())
    assert np.allclose(picture, abs(F.to_dense())) and alone.get_title() == "the exact Fisher matrix"
    assert [label.get_text() for label in alone.get_xticklabels()] == list(chain()[0].names)
    _, middle, right = F.plot({"K-FAC": K})
    assert np.allclose(np.asarray(middle.images[0].get_array()), abs(K.to_dense()))
    error = np.linalg.norm(F.to_dense() - K.to_dense()) / np.linalg.norm(F.to_dense())
    assert f"{error:.2f}" in right.get_title()
    (blocks,) = K.plot()
    assert np.allclose(np.asarray(blocks.images[0].get_array()), abs(K.to_dense()))
    plt.close("all")


def test_a_picture_that_does_not_fit_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    K = fisher.kfac(signals())
    monkeypatch.setattr("minikfac.backend.available_memory", lambda xp: 1000)
    with pytest.raises(MemoryError, match=r"the picture of one KroneckerBlock per layer.*use one of its"):
        K.plot()


def test_signals_draw_the_factors_of_kfac() -> None:
    axes = signals().plot("dense1")
    block = fisher.kfac(signals()).blocks[1]
    shown = [np.asarray(ax.images[0].get_array()) for ax in axes[:4]]
    assert np.allclose(shown[1], abs(block.A)) and np.allclose(shown[2], abs(block.G))
    assert np.allclose(shown[3], abs(block.to_dense()))
    assert np.allclose(shown[0], abs(fisher.block_diagonal(signals()).blocks[1].to_dense()))
    net = images()
    theta, x = net.init(np.random.default_rng(0)), np.random.default_rng(1).random((4, 8, 8, 1))
    conv = fisher.signals(net, theta, x)
    G = np.asarray(conv.plot(0)[2].images[0].get_array())
    assert np.allclose(G, abs(fisher.kfac(conv).blocks[0].G))
    with pytest.raises(ValueError, match="expected a layer with factors A and G, got scale and shift"):
        conv.plot(1)
    plt.close("all")


def test_tables_and_histories_draw_their_columns() -> None:
    table = compared()
    progress, _ = table.plot()
    points = [line for line in progress.lines if line.get_marker() != "None"]
    drawn = [(line.get_xdata()[0], line.get_ydata()[0]) for line in points]
    assert drawn[0] == (table.whole()[0]["floats"], table.whole()[0]["share"])
    assert drawn[-1] == (table.exact, 1) and table.exact == fisher.exact(signals()).array.size
    bars = table.plot(["error", "step_cosine"])
    widths = [bar.get_width() for bar in bars[1].patches]
    assert np.allclose(widths, [row["step_cosine"] for row in table.whole()])
    spread = replace(table, spread=table.rows)
    assert len(spread.plot()) == 4 and all(ax.patches for ax in spread.plot())
    history = trained(3)
    line = history.plot("test_loss").lines[0]
    assert np.allclose(line.get_ydata(), history["test_loss"])
    assert np.allclose(line.get_xdata(), [0, 1, 2, 3])
    with pytest.raises(ValueError, match="nothing"):
        history.plot("nothing")
    plt.close("all")


def subclasses(base: type) -> set[type]:
    return {base, *(each for child in base.__subclasses__() for each in subclasses(child))}


def test_no_dataclass_that_shows_itself_has_the_generated_repr() -> None:
    assert mk.explore and mk.tour.Tour and mk.invariance.methods and mk.scaling.Scaling  # all are imported
    parameters = {each: getattr(each, "__dataclass_params__", None) for each in subclasses(Shown)}
    dataclasses = [each for each, of in parameters.items() if of is not None]
    assert len(dataclasses) > 30
    assert [each for each in dataclasses if parameters[each].repr] == []
