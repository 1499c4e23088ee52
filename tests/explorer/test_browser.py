"""The page in a real browser: controls move what they should, and numbers are the package's."""

from __future__ import annotations

import math
import re
import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from explorer.equivalent_nets import equivalent_net
from minikfac import datasets, explorer, fisher, optim, quality
from minikfac.explorer import equivalent
from minikfac.invariance.methods import Preconditioned
from minikfac.network.presets import tiny_convnet
from minikfac.tour.chapters import ascents, charts, gaussian, globe
from minikfac.training import example
from oracles import close

pytestmark = pytest.mark.browser

FLAGS = (
    "--no-sandbox --disable-gpu --disable-quic --no-first-run --disable-background-networking "
    "--disable-component-update --disable-sync"
).split()
APPROXIMATIONS = ("K-FAC", "K-FAC (factored damping)", "EKFAC", "nearest Kronecker", "diagonal")


STEPS, DAMPINGS = (0, 200, 2000), (1e-4, 1e-2, 1.0)


@dataclass(frozen=True)
class Moment:
    """What the package says of the example after some steps of training."""

    steps: int

    @property
    def signals(self) -> fisher.Signals:
        at = example(self.steps)
        return fisher.signals(at.net, at.theta, at.x)

    @property
    def gradient(self) -> np.ndarray:
        at = example(self.steps)
        return at.net.gradient(at.theta, at.x, at.y)


@cache
def exact(steps: int) -> fisher.DenseMatrix:
    return fisher.exact(Moment(steps).signals)


@cache
def comparison(steps: int, damping: float, *names: str) -> quality.Comparison:
    signals = Moment(steps).signals
    matrices = {name: quality.APPROXIMATIONS[name][0](signals) for name in names}
    methods = {name: "factored" for name in names if "factored" in name}
    columns = ["matrix", "step"]
    return quality.compare(exact(steps), matrices, Moment(steps).gradient, damping, methods, columns)


@pytest.fixture(scope="module")
def example_page(tmp_path_factory: pytest.TempPathFactory) -> Path:
    moments = {f"after {steps} steps" if steps else "before training": example(steps) for steps in STEPS}
    thetas = {name: moment.theta for name, moment in moments.items()}
    at = example()
    path = tmp_path_factory.mktemp("explorer") / "explorer.html"
    options = {"dampings": DAMPINGS, "image_shape": (8, 8), "progress": False}
    return explorer.write(path, at.net, thetas, at.x, at.y, **options)


@pytest.fixture(scope="module")
def chromium() -> Iterator[Any]:
    from playwright.sync_api import sync_playwright

    with sync_playwright() as play:
        browser = play.chromium.launch(executable_path=shutil.which("chromium"), headless=True, args=FLAGS)
        yield browser
        browser.close()


@pytest.fixture
def visit(chromium: Any) -> Iterator[Any]:
    """Open a page; afterwards it must have said nothing on the console and asked nothing of a network."""
    pages, said, requests = [], [], []

    def opened(path: Path, **options: Any) -> Any:
        options = {"viewport": {"width": 1280, "height": 900}, "device_scale_factor": 1} | options
        page = chromium.new_page(**options)
        page.on("console", lambda message: said.append(message.text))
        page.on("pageerror", lambda error: said.append(str(error)))
        page.on("request", lambda request: requests.append(request.url))
        page.goto(path.as_uri())
        pages.append(page)
        return page

    yield opened
    for page in pages:
        page.close()
    assert said == []
    assert [url for url in requests if not url.startswith(("file:", "data:"))] == []


@pytest.fixture
def page(visit: Any, example_page: Path) -> Any:
    return visit(example_page)


def slide(page: Any, slider: str, stop: int) -> None:
    """Move a slider to a stop by the keyboard."""
    page.focus(slider)
    page.keyboard.press("Home")
    for _ in range(stop - int(page.get_attribute(slider, "min"))):
        page.keyboard.press("ArrowRight")


RAISED = str.maketrans("⁻⁰¹²³⁴⁵⁶⁷⁸⁹", "-0123456789")


def number(text: str) -> float:
    """A number as the page writes it, as in "−1.2 × 10⁻⁵", "10⁻⁵" or "1,040"."""
    text = text.replace("−", "-").replace(",", "").strip()
    mantissa, power = re.fullmatch(r"(-?[\d.]+)?(?: × )?(?:-?10([⁻⁰¹²³⁴⁵⁶⁷⁸⁹]+))?", text).groups()
    return float(mantissa or 1) * 10 ** int((power or "0").translate(RAISED))


def assert_shown(text: str, value: float, digits: int = 3) -> None:
    """Whether the text is the value, rounded to the digits shown."""
    unit = 10.0 ** (math.floor(math.log10(abs(value))) + 1 - digits) if value else 1e-300
    assert abs(number(text) - value) <= 0.501 * unit, (text, value)


def test_numbers_are_read_as_the_page_writes_them(page):
    for value in (0.0323, -1.234e-5, 1e-7, 12345.6, 1.0, 0.00123456, -0.5, 999.96):
        assert_shown(page.evaluate("(value) => short(value)", value), value)
    assert page.evaluate("[short(NaN), short(0), short(0.01, 2)]") == ["–", "0", "0.010"]


# matrices --------------------------------------------------------------


@pytest.mark.parametrize("moment", range(len(STEPS)))
def test_the_table_is_the_packages_comparison(page, moment):
    slide(page, "#moment", moment)
    names = page.evaluate("names")
    assert set(APPROXIMATIONS) < set(names) and "no curvature" in names
    for place, damping in enumerate(DAMPINGS):
        slide(page, "#damping", place)
        table = comparison(STEPS[moment], damping, *names)
        rows = page.locator("#table tbody tr").all_inner_texts()
        for name, row in zip(names, rows, strict=True):
            *measures, floats = row.split("\t")[1:]
            columns = ("share", "step_cosine", "step_length", "error")
            for column, text in zip(columns, measures, strict=True):
                assert_shown(text, table[name][column])
            assert number(floats) == table[name]["floats"]
        text = page.inner_text("#goodness b:nth-of-type(1)"), page.inner_text("#goodness b:nth-of-type(2)")
        assert_shown(text[0].rstrip("%"), 100 * table["K-FAC"]["share"])
        assert_shown(text[1], table["K-FAC"]["step_cosine"])


@pytest.mark.parametrize("layer", [0, 3, 5])
def test_the_error_of_a_block_is_the_packages(page, layer):
    page.select_option("#layer", str(layer))
    slide(page, "#moment", 2)
    slide(page, "#damping", 1)
    rows = comparison(2000, 1e-2, *APPROXIMATIONS).layer(f"dense{layer}")
    for row in rows:
        page.select_option("#approximation", row["approximation"])
        assert_shown(page.inner_text("#block-error"), row["error"])


def test_blocks_are_the_packages(page):
    signals = Moment(200).signals
    F = exact(200).blocks[2].array
    close(np.reshape(page.evaluate("Array.from(exactBlock(2, 1))"), F.shape), F, 1e-6)
    for name in APPROXIMATIONS:
        matrix, damping = quality.APPROXIMATIONS[name][0](signals).blocks[2], DAMPINGS[1]
        block = matrix.to_dense()
        if "factored" in name:
            block = matrix.damped(damping, "factored").to_dense() - damping * np.eye(len(F))
        shown = page.evaluate("(name) => Array.from(approximateBlock(2, 1, 1, name))", name)
        close(np.reshape(shown, F.shape), block, 1e-6)


def click(page: Any, canvas: str, column: int, row: int, size: int) -> None:
    page.locator(canvas).scroll_into_view_if_needed()
    box = page.locator(canvas).bounding_box()
    page.mouse.click(
        box["x"] + (column + 0.5) * box["width"] / size, box["y"] + (row + 0.5) * box["height"] / size
    )


def test_the_entry_under_the_cursor_is_named_and_is_the_packages(page):
    F, A, G = exact(200).blocks[1].array, *fisher_factors(200, 1)
    row, column = 16 * 4 + 3, 16 * 16 + 7
    for canvas in ("#block-exact", "#block-product", "#block-difference"):
        click(page, canvas, 1, 1, 272)  # somewhere else first
        click(page, canvas, column, row, 272)
        text = page.inner_text("#readout")
        assert "Row: weight from unit 5 of layer 1 to unit 4. Column: weight from the bias to unit 8." in text
        product = A[4, 16] * G[3, 7]
        assert_shown(page.inner_text("#entry-exact"), F[row, column])
        assert_shown(page.inner_text("#entry-product"), product)
        assert_shown(page.inner_text("#entry-difference"), F[row, column] - product)
    page.keyboard.press("ArrowRight")
    page.keyboard.press("Shift+ArrowDown")
    assert "from unit 5 of layer 1 to unit 14. Column: weight from the bias to unit 9." in page.inner_text(
        "#readout"
    )
    click(page, "#block-A", 2, 9, 17)
    click(page, "#block-G", 15, 0, 16)
    text = page.inner_text("#readout")
    assert (
        "Row: weight from unit 10 of layer 1 to unit 1. Column: weight from unit 3 of layer 1 to unit 16."
        in text
    )
    assert_shown(page.inner_text("#entry-exact"), F[9 * 16, 2 * 16 + 15])
    page.keyboard.press("ArrowDown")
    assert "Row: weight from unit 10 of layer 1 to unit 2." in page.inner_text("#readout")


def fisher_factors(steps: int, layer: int) -> tuple[np.ndarray, np.ndarray]:
    block = fisher.kfac(Moment(steps).signals).blocks[layer]
    return block.A, block.G


def test_pixels_have_their_names(page):
    page.select_option("#layer", "0")
    page.evaluate("moveCursor(16 * (8 * 2 + 5) + 3, 16 * 64 + 15)")
    assert "from pixel (3, 6) to unit 4. Column: weight from the bias to unit 16." in page.inner_text(
        "#readout"
    )


def pixels(page: Any, *canvases: str) -> list[str]:
    return [page.evaluate("(id) => document.querySelector(id).toDataURL()", canvas) for canvas in canvases]


BLOCKS = ("#block-exact", "#block-A", "#block-G", "#block-product", "#block-difference")
STEP_PICTURES, STEP = "#steps figure:nth-child({}) canvas", ("#steps figure:nth-child(1) canvas",)
WHOLE = ("#chart-storage", "#chart-damping", "#chart-training")
EVERY = (*BLOCKS, *STEP, *WHOLE, "#chart-spectrum")


@pytest.mark.parametrize(
    ("act", "moved"),
    [
        (lambda page: page.select_option("#layer", "2"), (*BLOCKS, "#chart-spectrum")),
        (lambda page: slide(page, "#moment", 2), EVERY),
        (lambda page: slide(page, "#damping", 2), (*STEP, *WHOLE, "#chart-spectrum")),
        (
            lambda page: page.select_option("#approximation", "diagonal"),
            (*BLOCKS[3:], *WHOLE, "#chart-spectrum"),
        ),
        (lambda page: slide(page, "#unit", 5), STEP),
        (lambda page: page.select_option("#measure", "error"), WHOLE),
        (lambda page: page.click("#shown button:has-text('EKFAC')"), WHOLE),
    ],
    ids=["layer", "moment", "damping", "approximation", "unit", "measure", "approximations drawn"],
)
def test_a_control_moves_what_it_should_and_nothing_else(page, act, moved):
    before = dict(zip(EVERY, pixels(page, *EVERY), strict=True))
    act(page)
    after = dict(zip(EVERY, pixels(page, *EVERY), strict=True))
    assert {canvas for canvas in EVERY if before[canvas] != after[canvas]} == set(moved)


def test_factored_damping_moves_the_product(page):
    page.select_option("#approximation", "K-FAC (factored damping)")
    before = pixels(page, *BLOCKS)
    slide(page, "#damping", 0)
    changed = [a != b for a, b in zip(before, pixels(page, *BLOCKS), strict=True)]
    assert changed == [False, True, True, True, True]


def test_steps_are_the_packages(page):
    slide(page, "#damping", 0)
    signals, gradient = Moment(200).signals, Moment(200).gradient
    steps = {"exact": exact(200).solve(gradient, DAMPINGS[0])}
    for name in APPROXIMATIONS:
        build, method = quality.APPROXIMATIONS[name]
        steps[name] = build(signals).solve(gradient, DAMPINGS[0], method)
    part = exact(200).slices[0]
    for name, step in steps.items():
        shown = np.array(page.evaluate("(name) => Array.from(step(name, 0))", name))
        of_layer = step[part] / np.abs(step[part]).max()
        assert np.abs(shown - of_layer).max() <= 0.5001 / 127  # eight bits
        if name != "exact":
            row = next(
                row
                for row in comparison(200, DAMPINGS[0], *APPROXIMATIONS).layer("dense0")
                if row["approximation"] == name
            )
            assert_shown(page.inner_text(f'[data-cosine="{name}"]'), row["step_cosine"])


def test_the_spectrum_is_the_packages(page):
    values = np.linalg.eigvalsh(exact(200).blocks[1].array)
    assert int(page.inner_text("#caption-spectrum b")) == (values < DAMPINGS[1]).sum()
    shown = page.evaluate("Array.from(array('moments', 1, 'layers', 1, 'spectra', 'exact'))")
    close(shown, values[::-1], 1e-6)


# two nets --------------------------------------------------------------

MAKERS = {
    "SGD": lambda net: optim.SGD(net, equivalent.RATES["SGD"]),
    "Adam": lambda net: optim.Adam(net, equivalent.RATES["Adam"]),
}
MATRICES = {"K-FAC": fisher.kfac, "natural gradient": fisher.exact}


def gap(method: str, strength: float, damping: float, steps: int) -> float:
    """By the package's optimizers on the package's equivalent net."""
    net, theta, x, y = equivalent.problem()
    grid, r = np.linspace(-2.5, 2.5, 101)[:, None], equivalent_net(net, strength)
    curves = []
    for each, start in ((net, theta), (r.net, r.push(theta))):
        make = MAKERS.get(method)
        rate = equivalent.RATES[method]
        opt = make(each) if make else Preconditioned(each, MATRICES[method], rate, damping=damping)
        state = opt.init(start)
        for _ in range(steps):
            start, state, _ = opt.step(start, state, (x, y), None)
        curves.append(each.natural_parameters(start, grid))
    before = net.natural_parameters(theta, grid)
    return float(np.linalg.norm(curves[0] - curves[1]) / np.linalg.norm(curves[0] - before))


@pytest.mark.parametrize(("strength", "damping", "steps"), [(20, 5, 1), (40, 13, 1), (7, 17, 3), (20, 10, 5)])
def test_gaps_are_the_packages(page, strength, damping, steps):
    page.click("#tab-equivalent")
    slide(page, "#strength", strength)
    slide(page, "#lambda", damping)
    slide(page, "#count", steps)
    for method in equivalent.RATES:
        expected = gap(method, 10 ** (strength / 20), 10 ** ((damping - 17) / 2), steps)
        assert_shown(page.inner_text(f'[data-gap="{method}"]'), expected, digits=2)


def test_without_damping_only_sgd_and_adam_tell_the_nets_apart(page):
    page.click("#tab-equivalent")
    slide(page, "#strength", 20)
    slide(page, "#lambda", 0)
    gaps = {method: number(page.inner_text(f'[data-gap="{method}"]')) for method in equivalent.RATES}
    assert gaps["K-FAC"] < 1e-9 and gaps["natural gradient"] < 1e-9
    assert gaps["SGD"] > 1 and gaps["Adam"] > 1
    slide(page, "#strength", 0)
    for method in equivalent.RATES:
        assert number(page.inner_text(f'[data-gap="{method}"]')) < 1e-12


@pytest.mark.parametrize("slider", ["#strength", "#lambda", "#count"])
def test_sliders_move_the_curves(page, slider):
    page.click("#tab-equivalent")
    canvases = [f"#net-{k} canvas" for k in range(4)]
    before = pixels(page, *canvases)
    slide(page, slider, int(page.get_attribute(slider, "max")))
    changed = [a != b for a, b in zip(before, pixels(page, *canvases), strict=True)]
    assert changed == [slider != "#lambda", slider != "#lambda", True, True]


# maps --------------------------------------------------------------


def apart_on_maps(p: np.ndarray, h: float) -> list[float]:
    fields = [ascents.fields(one, ascents.HILLS) for one in globe.PROJECTIONS[:3]]
    distances = []
    for method in charts.METHODS:
        paths = [
            globe.on_sphere(one.inverse(charts.walk(field[method], one.forward(p), h, round(6 / h))))
            for one, field in zip(globe.PROJECTIONS, fields, strict=False)
        ]
        distances.append(charts.apart(paths, ascents.great_circle))
    return distances


def apart_in_charts(q: np.ndarray, h: float) -> list[float]:
    distances = []
    for method in charts.METHODS:
        paths = [
            chart.pull(charts.walk(gaussian.fields(chart, 1, 1)[method], chart.push(q), h, round(6 / h)))
            for chart in gaussian.CHARTS
        ]
        distances.append(charts.apart(paths, gaussian.fisher_distance))
    return distances


def assert_apart(page: Any, family: str, expected: list[float]) -> None:
    for field, value in zip(("gradient", "natural"), expected, strict=True):
        assert_shown(page.inner_text(f'[data-apart="{family}-{field}"]'), value)


@pytest.mark.parametrize(("family", "apart"), [("globe", apart_on_maps), ("gaussian", apart_in_charts)])
def test_paths_are_the_packages(page, family, apart):
    page.click("#tab-charts")
    steps = page.evaluate(f"FAMILIES.{family}.steps")

    def start():
        return np.array(page.evaluate(f"FAMILIES.{family}.start"))

    assert_apart(page, family, apart(start(), steps[-1]))
    slide(page, f"#{family}-step", 1)
    assert_apart(page, family, apart(start(), steps[1]))
    canvases = [f"#{family}-{k}" for k in range(4)]
    for place in range(4):
        before, old = start(), pixels(page, *canvases)
        click(page, f"#{family}-{place}", 45 + 3 * place, 38, 100)
        assert (start() != before).any()
        assert all(
            a != b for a, b in zip(old, pixels(page, *(f"#{family}-{k}" for k in range(4))), strict=True)
        )
        assert_apart(page, family, apart(start(), steps[1]))
    before = start()
    page.focus(f"#{family}-0")
    page.keyboard.press("ArrowLeft")
    assert start()[0] < before[0]
    close(start()[1], before[1])


# any page --------------------------------------------------------------


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("tab", ["matrices", "equivalent", "charts"])
def test_a_phone_needs_no_scrolling_sideways(visit, example_page, tab, scheme):
    viewport = {"width": 390, "height": 844}
    page = visit(example_page, viewport=viewport, color_scheme=scheme, has_touch=True, is_mobile=True)
    page.tap(f"#tab-{tab}")
    assert page.evaluate("document.documentElement.scrollWidth") <= 390
    assert page.evaluate(
        "[...document.querySelectorAll('.scroll')].every((box) => box.scrollWidth <= box.clientWidth)"
    )
    assert page.evaluate("innerWidth") == 390
    ground = page.evaluate("getComputedStyle(document.documentElement).backgroundColor")
    assert ground == ("rgb(21, 24, 30)" if scheme == "dark" else "rgb(255, 255, 255)")
    if tab == "matrices":
        before = page.inner_text("#readout")
        page.tap("#block-exact")
        assert page.inner_text("#readout") != before


def test_tabs_by_the_keyboard_and_labels_for_everything(page):
    page.focus("#tab-matrices")
    for tab in ("equivalent", "charts", "matrices"):
        page.keyboard.press("ArrowRight")
        assert page.locator("[role=tabpanel]:visible").get_attribute("id") == tab
        unlabelled = page.evaluate(
            "[...document.querySelectorAll('canvas, input, select')].filter((one) => one.offsetParent && "
            "!one.ariaLabel && !one.labels?.length && !one.closest('[aria-hidden]')).map((one) => one.id)"
        )
        assert unlabelled == []
    assert page.locator(".try li:visible").count() == 3


def reading(page: Any, canvas: str) -> str:
    return page.text_content(f"figure:has({canvas}) .reading")


def test_charts_name_the_value_under_the_pointer_and_the_arrow_keys(page):
    row = comparison(200, 0.01, "K-FAC")["K-FAC"]
    page.focus("#chart-damping")
    page.keyboard.press("ArrowDown")
    assert reading(page, "#chart-damping").startswith("K-FAC: share of progress")
    page.keyboard.press("ArrowRight")
    shown = re.fullmatch(r"K-FAC: share of progress (.*), damping λ (.*)", reading(page, "#chart-damping"))
    assert_shown(shown[1], row["share"])
    assert_shown(shown[2], 0.01)
    page.keyboard.press("Shift+ArrowRight")
    assert reading(page, "#chart-damping").endswith("damping λ 1")
    page.focus("#chart-storage")
    assert reading(page, "#chart-damping") == ""  # one at a time
    box = page.locator("#chart-storage").bounding_box()
    page.mouse.move(box["x"] + box["width"] - 60, box["y"] + 15)
    assert reading(page, "#chart-storage") == "exact: share of progress 1.00, numbers stored 5,280,804"
    page.focus("#chart-spectrum")
    eigenvalues = np.linalg.eigvalsh(exact(200).blocks[1].to_dense())
    assert_shown(reading(page, "#chart-spectrum").split()[2].rstrip(","), eigenvalues[-1])
    page.click("#tab-equivalent")
    page.hover("#net-2 canvas", position={"x": 200, "y": 100})
    assert re.match(r"(first|second) net after|both nets before|data", page.text_content("#net-2 .reading"))


def test_a_finger_reads_a_chart(visit, example_page):
    phone = visit(example_page, viewport={"width": 390, "height": 844}, has_touch=True)
    phone.tap("#chart-training", position={"x": 150, "y": 100})
    assert re.match(
        r".*: share of progress .*, steps of training (0|200|2,000)$", reading(phone, "#chart-training")
    )


def test_the_first_suggestion_has_this_nets_numbers(page):
    text = page.inner_text("#try-matrices")
    values = [comparison(200, damping, "K-FAC")["K-FAC"]["step_cosine"] for damping in (1e-2, 1e-4)]
    shown = re.search(r"goes from ([\d.]+) to ([\d.]+)\.", text).groups()
    for each, value in zip(shown, values, strict=True):
        assert_shown(each, value, digits=2)


def test_a_convolutional_net_of_one_moment(visit, tmp_path):
    data, net = datasets.digits().as_images(), tiny_convnet()
    theta, x, y = net.init(np.random.default_rng(0)), data.x_train[:50], data.y_train[:50]
    page = visit(
        explorer.write(tmp_path / "conv.html", net, {"now": theta}, x, y, dampings=[0.01], progress=False)
    )
    assert not page.is_visible("#moment") and not page.is_visible("#chart-training")
    F, K = (build(fisher.signals(net, theta, x)) for build in (fisher.exact, fisher.kfac))
    for layer in range(len(net.names)):
        page.select_option("#layer", str(layer))
        part = page.evaluate(f"study.layers[{layer}].part")
        rows = (np.array(part[0])[:, None] * len(K.blocks[layer].G) + np.array(part[1])).ravel()
        block, approximate = (M.blocks[layer].to_dense()[np.ix_(rows, rows)] for M in (F, K))
        error = np.linalg.norm(block - approximate) / np.linalg.norm(block)
        assert_shown(page.inner_text("#block-error"), error)
        page.evaluate("moveCursor(3, 5)")
        assert_shown(page.inner_text("#entry-exact"), block[3, 5])
        if len(rows) < K.blocks[layer].shape[0]:
            assert f"the {len(part[0])} most active inputs" in page.inner_text("#block-about")


def test_the_example_is_written_as_readme_and_tutorials_have_it():
    assert example().net.n_params == 2298 and 200 in explorer.MOMENTS and len(explorer.MOMENTS) >= 6
