"""The ledger's rows against matrices under each assumption, by loops."""

import functools
import math

import numpy as np
import pytest
import scipy.linalg

import minikfac as mk
from minikfac import fisher, layers, outputs, quality
from oracles import EXACT, SOLVE
from oracles.fisher import Case, factored, ladder_block, synthetic_factors
from oracles.quality import LAM, decrease, dense, gradient, oracle


def test_the_ledger_adds_one_assumption_a_row(case: Case):
    F, grad = oracle(case.output)[0], gradient(case)
    rows = quality.ledger(case.signals(), grad, LAM)
    damped = [F + LAM * np.eye(len(F))]
    damped += [dense(case, name, LAM)[1] for name in ("block-diagonal", "K-FAC", "factored")]
    exact_step = np.linalg.solve(damped[0], grad)
    assert [row["label"] for row in rows] == [
        "exact Fisher matrix",
        "no correlations between layers",
        "activations independent of derivatives",
        "factored damping",
    ]
    for row, M, above in zip(rows, damped, [damped[0], *damped], strict=False):
        step = np.linalg.solve(M, grad)
        expected = {
            "error": np.linalg.norm(M - damped[0]) / np.linalg.norm(F),
            "cost": np.linalg.norm(M - above) / np.linalg.norm(F),
            "c_star": (M * damped[0]).sum() / (M**2).sum(),
            "step_cosine": step @ exact_step / np.linalg.norm(step) / np.linalg.norm(exact_step),
            "step_length": np.linalg.norm(step) / np.linalg.norm(exact_step),
            "share": decrease(damped[0], grad, step) / decrease(damped[0], grad, exact_step),
        }
        assert {column: row[column] for column in expected} == pytest.approx(expected, rel=SOLVE, abs=EXACT)
    assert [row["above"] for row in rows] == [None, *(row["label"] for row in rows[:-1])]
    assert rows[0]["error"] == rows[0]["cost"] == 0
    assert min(row["cost"] for row in rows[1:]) > 1e-3
    assert quality.ledger(case.signals(), grad, LAM, fisher.exact(case.signals())) == rows


def test_the_ledger_takes_matrices_that_were_built_before():
    signals, grad = conv_case()
    rows = quality.ledger(signals, grad, LAM)
    names = ("block-diagonal", "K-FAC", "KFAC-reduce", "T x KFC")
    built = {name: quality.APPROXIMATIONS[name][0](signals) for name in names}
    errors = [row["error"] for row in quality.ledger(signals, grad, LAM, built=built)]
    assert errors == pytest.approx([row["error"] for row in rows], rel=EXACT)
    others = {"KFAC-reduce": built["T x KFC"], "T x KFC": built["KFAC-reduce"]}
    swapped = [row["error"] for row in quality.ledger(signals, grad, LAM, built=others)]
    assert swapped[7:9] == pytest.approx(errors[8:6:-1], rel=EXACT) and swapped[7] != swapped[8]


CONV_ROWS = {  # label: assumptions or kind, and the row it is compared with
    "exact Fisher matrix": ("exact", None),
    "no correlations between layers": ("blocks", "exact Fisher matrix"),
    "SUD: derivatives uncorrelated in space": ({"SUD"}, "no correlations between layers"),
    "IAD: activations independent of derivatives": ({"IAD"}, "no correlations between layers"),
    "IAD + SUD": ({"IAD", "SUD"}, "IAD: activations independent of derivatives"),
    "IAD + SH: derivatives homogeneous in space": (
        {"IAD", "SH"},
        "IAD: activations independent of derivatives",
    ),
    "IAD + SH + SUD: KFC": ({"IAD", "SH", "SUD"}, "IAD + SH: derivatives homogeneous in space"),
    "KFAC-reduce: derivatives alike at all distances": (
        "reduce",
        "IAD: activations independent of derivatives",
    ),
    "T x KFC: the same at all locations": ("T x KFC", "IAD: activations independent of derivatives"),
    "factored damping": ("factored", "IAD + SH + SUD: KFC"),
}


@functools.cache
def conv_case() -> tuple[fisher.Signals, np.ndarray]:
    """Signals and gradient of convolutions with a normalization between and a dense layer above."""
    rng = np.random.default_rng(0)
    net = mk.Network(
        [
            layers.Conv2d(1, 2, 2, padding=(0, 1)),
            layers.GroupNorm(1, 2),
            layers.Tanh(),
            layers.Conv2d(2, 2, 2, bias=False),
            layers.Tanh(),
            layers.Flatten(),
            layers.Dense(6, 3),
        ],
        outputs.Categorical(),
    )
    theta = net.init(rng) + 0.3 * rng.standard_normal(net.n_params)
    x, y = rng.standard_normal((20, 3, 3, 1)), rng.integers(0, 3, 20)
    return fisher.signals(net, theta, x), net.gradient(theta, x, y)


def conv_blocks(kind: str | set[str]) -> list[np.ndarray]:
    """Undamped blocks of a row in :data:`CONV_ROWS`, by loops."""
    blocks = []
    for layer in next(iter(conv_case()[0])):
        rows = layer.gradients().reshape(-1, layer.weight_shape[0] * layer.weight_shape[1])
        whole = rows.T @ rows / len(layer.abar)
        T = layer.abar.shape[1]
        if layer.scale_and_shift or kind == "blocks":
            blocks.append(whole)
        elif isinstance(kind, set):
            blocks.append(ladder_block(layer, kind))
        elif kind == "factored":
            A, G = factored(*synthetic_factors(layer), LAM)
            blocks.append(np.kron(A, G) - LAM * np.eye(len(whole)))
        else:
            scale = T if kind == "T x KFC" else 1
            blocks.append(scale * np.kron(*synthetic_factors(layer, reduce=kind == "reduce")))
    return blocks


def ledger_row(M: np.ndarray, above: np.ndarray, F: np.ndarray, grad: np.ndarray) -> dict[str, float]:
    """A row of the ledger by its definition, from undamped matrices."""
    M_lam, F_lam = (matrix + LAM * np.eye(len(F)) for matrix in (M, F))
    step, exact_step = np.linalg.solve(M_lam, grad), np.linalg.solve(F_lam, grad)
    values = np.linalg.eigvalsh(M)
    row = {
        "error": np.linalg.norm(M - F) / np.linalg.norm(F),
        "cost": np.linalg.norm(M - above) / np.linalg.norm(F),
        "c_star": (M_lam * F_lam).sum() / (M_lam**2).sum(),
        "step_cosine": step @ exact_step / np.linalg.norm(step) / np.linalg.norm(exact_step),
        "step_length": np.linalg.norm(step) / np.linalg.norm(exact_step),
        "share": decrease(F_lam, grad, step) / decrease(F_lam, grad, exact_step),
        "lowest_eigenvalue": values[0] / abs(values).max(),
    }
    if values[0] < -LAM:
        row |= dict.fromkeys(("step_cosine", "step_length", "share"), math.nan)
    return row


def check_rows(
    rows: list[dict], matrices: dict[str, np.ndarray], F: np.ndarray, grad: np.ndarray, chain: dict
):
    assert [row["label"] for row in rows] == list(matrices)
    for row in rows:
        above = chain[row["label"]]
        assert row["above"] == above
        expected = ledger_row(matrices[row["label"]], matrices[above or row["label"]], F, grad)
        measured = {column: row[column] for column in expected if column in row}
        expected = {column: expected[column] for column in measured}
        assert measured == pytest.approx(expected, rel=SOLVE, abs=EXACT, nan_ok=True), row["label"]


def test_convolutions_have_a_row_for_every_set_of_assumptions():
    signals, grad = conv_case()
    F = synthetic_whole(signals)
    matrices = {
        label: F if kind == "exact" else scipy.linalg.block_diag(*conv_blocks(kind))
        for label, (kind, _) in CONV_ROWS.items()
    }
    rows = quality.ledger(signals, grad, LAM)
    check_rows(rows, matrices, F, grad, {label: above for label, (_, above) in CONV_ROWS.items()})
    assert min(row["cost"] for row in rows[1:]) > 1e-3


def synthetic_whole(signals: fisher.Signals) -> np.ndarray:
    (chunk,) = signals
    rows = np.concatenate([layer.gradients() for layer in chunk], axis=2)
    rows = rows.reshape(-1, rows.shape[2])
    return rows.T @ rows / signals.n


def test_the_ledger_of_a_layer_is_that_of_its_block():
    signals, grad = conv_case()
    chain = {
        label: "exact Fisher matrix" if above == "no correlations between layers" else above
        for label, (_, above) in CONV_ROWS.items()
    }
    for position in (0, 2):
        part = signals.slices[position]
        F = conv_blocks("blocks")[position]
        matrices = {
            label: F if kind == "exact" else conv_blocks(kind)[position]
            for label, (kind, _) in CONV_ROWS.items()
            if kind != "blocks"
        }
        for layer in (position, signals.names[position]):
            rows = quality.layer_ledger(signals, layer, grad, LAM)
            assert all("lowest_eigenvalue" in row for row in rows)
            check_rows(rows, matrices, F, grad[part], chain)


def test_ledgers_of_a_dense_layer_and_a_normalization():
    signals, grad = conv_case()
    rows = quality.layer_ledger(signals, "dense3", grad, LAM)
    assert [row["label"] for row in rows] == [
        "exact Fisher matrix",
        "activations independent of derivatives",
        "factored damping",
    ]
    assert [row["above"] for row in rows] == [None, *(row["label"] for row in rows[:-1])]
    F, K = (conv_blocks(kind)[3] for kind in ("blocks", {"IAD"}))
    expected = ledger_row(K, F, F, grad[signals.slices[3]])
    assert {column: rows[1][column] for column in expected} == pytest.approx(expected, rel=SOLVE, abs=EXACT)
    assert len(quality.layer_ledger(signals, "groupnorm1", grad, LAM)) == 1


def test_an_indefinite_row_has_no_step():
    """Signals at two opposite corners of a grid: SH takes a mean over nine pairs beside that over one."""
    rng = np.random.default_rng(0)
    abar, g = 0.2 * rng.standard_normal((4, 9, 3)), np.zeros((2, 4, 9, 2))
    abar[:, 0] = abar[:, 8] = rng.standard_normal((4, 3))
    g[:, :, 0] = rng.standard_normal((2, 4, 2))
    g[:, :, 8] = -0.9 * g[:, :, 0]
    signals = fisher.Signals.from_layers([fisher.LayerSignals(abar, g, (3, 3))])
    rows = {row["label"]: row for row in quality.layer_ledger(signals, 0, np.ones(6), LAM)}
    indefinite = rows.pop("IAD + SH: derivatives homogeneous in space")
    for column in ("step_cosine", "step_length", "share"):
        assert math.isnan(indefinite[column])
        assert all(math.isfinite(row[column]) for row in rows.values())
    assert indefinite["lowest_eigenvalue"] < -0.1
    assert all(row["lowest_eigenvalue"] > -EXACT for row in list(rows.values())[:-1])
    assert math.isfinite(indefinite["error"])
    whole = quality.ledger(signals, np.ones(6), LAM)
    assert [row["label"] for row in whole if math.isnan(row["step_cosine"])] == [indefinite["label"]]


def test_a_layer_ledger_wants_the_whole_gradient():
    signals, grad = conv_case()
    with pytest.raises(ValueError, match=r"expected a gradient of shape \(51,\), got \(10,\)"):
        quality.layer_ledger(signals, 0, grad[:10], LAM)


def test_the_ledger_refuses_what_a_comparison_refuses(case: Case):
    with pytest.raises(ValueError, match="expected a gradient of shape"):
        quality.ledger(case.signals(), gradient(case)[1:], LAM)
