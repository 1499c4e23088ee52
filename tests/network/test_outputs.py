"""Output distributions against SciPy, enumeration of all targets, and counts of samples."""

import itertools

import numpy as np
import pytest
from scipy import special, stats

from minikfac import outputs
from oracles import (
    FINITE_DIFFERENCE,
    OUTPUTS,
    all_targets,
    close,
    derivative,
    loop_kl,
    loop_mean,
    loop_nll,
    random_targets,
    unit_vector,
)

MAKE = outputs.OUTPUTS
SOFT = np.array([[0.7, 0.3, 0.0, 0.0], [0.1, 0.2, 0.3, 0.4], [0.0, 0.0, 1.0, 0.0]])
N, C = 6, 4
every_output = pytest.mark.parametrize("name", OUTPUTS)


def case(name: str, seed: int = 0) -> tuple[outputs.Output, np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    return MAKE[name](), 2 * rng.standard_normal((N, C)), random_targets(rng, name, N, C)


# loss, mean and derivatives --------------------------------------------------------------


def test_categorical_nll_is_logsumexp_minus_the_logit():
    output, z, y = case("categorical")
    close(output.nll(z, y), special.logsumexp(z, axis=1) - z[np.arange(N), y])


def test_soft_targets_are_means_over_labels():
    output, z, _ = case("categorical")
    z, u = z[:3], unit_vector(np.random.default_rng(1), 3, C)
    of_labels = [output.nll(z, np.full(3, c)) for c in range(C)]
    close(output.nll(z, SOFT), (SOFT * np.transpose(of_labels)).sum(1))
    of_labels = [output.gradient(z, np.full(3, c)) for c in range(C)]
    close(output.gradient(z, SOFT), np.einsum("nc,cnd->nd", SOFT, of_labels))
    along = derivative(lambda z: output.nll(z, SOFT), z, u)
    close((output.gradient(z, SOFT) * u).sum(1), along, FINITE_DIFFERENCE)
    output.check(SOFT.astype(np.float32), 3, C)
    close(output.nll(z, np.eye(C)[[3, 0, 2]]), output.nll(z, np.array([3, 0, 2])))


def test_soft_targets_as_frozen():
    """By torch.nn.functional.cross_entropy(z, q, reduction="none") of PyTorch 2.13, in float64."""
    z = np.array([[1.0, -2.0, 0.5, 3.0], [0.0, 0.0, 0.0, 0.0], [-1.0, 4.0, 2.0, 1.0]])
    close(outputs.Categorical().nll(z, SOFT), [3.1022534476793515, 1.3862943611198904, 2.1755153626167143])


def test_bernoulli_nll_is_that_of_scipy():
    output, z, y = case("bernoulli")
    close(output.nll(z, y), -stats.bernoulli(special.expit(z)).logpmf(y).sum(1))


def test_bernoulli_nll_takes_probabilities_as_targets():
    output, z, _ = case("bernoulli")
    y, p = np.random.default_rng(1).random((N, C)), special.expit(z)
    close(output.nll(z, y), -(y * np.log(p) + (1 - y) * np.log(1 - p)).sum(1))


def test_gaussian_nll_is_that_of_scipy():
    output, z, y = case("gaussian")
    constant = C / 2 * np.log(2 * np.pi)
    close(output.nll(z, y), -stats.norm(z).logpdf(y).sum(1) - constant)


@every_output
def test_nll_and_mean_are_their_definitions_example_by_example(name):
    output, z, y = case(name)
    close(output.nll(z, y), [loop_nll(name, z[n], y[n]) for n in range(N)])
    close(output.mean(z), [loop_mean(name, z[n]) for n in range(N)])


@every_output
def test_gradient_is_the_derivative_of_nll(name):
    output, z, y = case(name)
    u = unit_vector(np.random.default_rng(1), N, C)
    close((output.gradient(z, y) * u).sum(1), derivative(lambda z: output.nll(z, y), z, u), FINITE_DIFFERENCE)


@every_output
def test_hessian_product_is_the_derivative_of_the_gradient(name):
    output, z, y = case(name)
    u = unit_vector(np.random.default_rng(1), N, C)
    along = derivative(lambda z: output.gradient(z, y), z, u)
    close(output.hessian_product(z, y, u), along, FINITE_DIFFERENCE)


def test_encode_makes_labels_one_hot():
    close(outputs.Categorical().encode(np.array([2, 0]), np.zeros((2, 3))), [[0, 0, 1], [1, 0, 0]])


# Fisher matrix and divergence --------------------------------------------------------------


@every_output
def test_fisher_is_the_covariance_of_the_score(name):
    output, z, _ = case(name)
    F = output.fisher(z)
    for n in range(N):
        score, covariance = np.zeros(C), np.zeros((C, C))
        for probability, y in all_targets(name, z[n]):
            g = output.gradient(z[n : n + 1], np.asarray(y)[None])[0]
            score += probability * g
            covariance += probability * np.outer(g, g)
        close(score, 0)
        close(F[n], covariance)


@every_output
def test_the_columns_of_the_root_make_the_fisher_matrix(name):
    output, z, _ = case(name)
    b, F = output.fisher_root(z), output.fisher(z)
    assert b.shape == (C, N, C)
    for n in range(N):
        close(sum(np.outer(b[k, n], b[k, n]) for k in range(C)), F[n])


@every_output
def test_hessian_product_is_the_fisher_matrix_times_a_vector(name):
    output, z, y = case(name)
    u = np.random.default_rng(1).standard_normal((N, C))
    close(output.hessian_product(z, y, u), (output.fisher(z) @ u[:, :, None])[:, :, 0])


def test_categorical_root_is_the_weighted_gradient_of_each_class():
    output, z, _ = case("categorical")
    for k, b in enumerate(output.fisher_root(z)):
        gradient = output.gradient(z, np.full(N, k))
        close(b, special.softmax(z, axis=1)[:, [k]] ** 0.5 * gradient)


@every_output
def test_kl_is_its_definition_over_all_targets(name):
    output, z1, _ = case(name)
    z2 = case(name, seed=1)[1]
    close(output.kl(z1, z2), [loop_kl(name, z1[n], z2[n]) for n in range(N)])


@every_output
def test_kl_is_positive_and_0_at_equality(name):
    output = MAKE[name]()
    z1, z2 = 3 * np.random.default_rng(0).standard_normal((2, 200, C))
    assert (output.kl(z1, z2) > 0).all()
    close(output.kl(z1, z1), 0, 0)


@every_output
def test_kl_of_a_small_step_is_half_its_fisher_norm(name):
    output, z, _ = case(name)
    d = 1e-4 * unit_vector(np.random.default_rng(1), N, C)
    np.testing.assert_allclose(
        output.kl(z, z + d), 0.5 * np.einsum("nc,ncd,nd->n", d, output.fisher(z), d), rtol=1e-3
    )


@pytest.mark.parametrize(("dtype", "large"), [(np.float64, 1e4), (np.float32, 1e3)])
def test_kl_of_saturated_bernoulli_units_is_free_of_cancellation(dtype, large):
    z = np.linspace(0.9 * large, large, 50, dtype=dtype)[:, None]
    close(outputs.Bernoulli().kl(z, z[::-1]), 0, 0)


# samples --------------------------------------------------------------


@every_output
def test_samples_have_mean_and_covariance_of_the_model(name):
    output, z, _ = case(name)
    n_samples = 20_000
    noise = output.noise(np.random.default_rng(0), N, n_samples, C)
    drawn = output.encode(output.transform_noise(z, noise), z)  # (n_samples, N, C)
    error = drawn - output.mean(z)
    F = output.fisher(z)
    sigma = np.sqrt(np.diagonal(F, axis1=1, axis2=2))
    z_mean = error.mean(0) / (sigma / n_samples**0.5)
    products = error[:, :, :, None] * error[:, :, None, :]
    z_cov = (products.mean(0) - F) / (products.std(0) / n_samples**0.5)
    assert abs(z_mean).max() < 5
    assert abs(z_cov).max() < 5


@every_output
def test_samples_of_wrong_logits_are_told_apart(name):
    """The control: the judgement above has the power to fail."""
    output, z, _ = case(name)
    n_samples = 20_000
    noise = output.noise(np.random.default_rng(0), N, n_samples, C)
    drawn = output.encode(output.transform_noise(z + 0.2 * np.eye(C)[0], noise), z)
    sigma = np.sqrt(np.diagonal(output.fisher(z), axis1=1, axis2=2))
    assert abs((drawn - output.mean(z)).mean(0) / (sigma / n_samples**0.5)).max() > 5


@every_output
def test_targets_of_a_chunk_are_rows_of_all(name):
    output, z, _ = case(name)
    noise = output.noise(np.random.default_rng(3), N, 7, C)
    whole = output.transform_noise(z, noise)
    parts = [output.transform_noise(z[rows], noise[rows]) for rows in (slice(0, 1), slice(1, 4), slice(4, N))]
    close(np.concatenate(parts, axis=1), whole, 0)


@every_output
def test_noise_is_example_major(name):
    output = MAKE[name]()
    few, many = (output.noise(np.random.default_rng(3), n, 2, C) for n in (3, 9))
    close(many[:3], few, 0)


@every_output
def test_sample_draws_one_target_per_example_that_check_accepts(name):
    output, z, y = case(name)
    drawn = output.sample(z, np.random.default_rng(0))
    assert drawn.shape == y.shape
    output.check(drawn, N, C)
    again = output.sample(z, np.random.default_rng(0))
    close(again, drawn, 0)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_a_class_without_probability_is_never_drawn(dtype):
    z = np.tile(np.array([-1e3, 0, -1e3, 0, -1e3], dtype), (1000, 1))
    noise = np.random.default_rng(0).random((1000, 3, 1))
    noise[0], noise[1] = 0, np.nextafter(1, 0)  # the ends of the interval
    assert set(np.unique(outputs.Categorical().transform_noise(z, noise))) == {1, 3}


# precision and stability --------------------------------------------------------------


@every_output
@pytest.mark.parametrize("z_dtype", [np.float32, np.float64])
@pytest.mark.parametrize("y_dtype", [np.float32, np.float64, np.int64, np.uint8])
def test_outputs_keep_the_dtype_of_z(name, z_dtype, y_dtype):
    output, z, y = case(name)
    z = z.astype(z_dtype)
    y = abs(y).astype(np.int64 if name == "categorical" and y_dtype != np.uint8 else y_dtype)
    for array in (z, y):
        array.flags.writeable = False
    arrays = [
        output.nll(z, y),
        output.mean(z),
        output.encode(y, z),
        output.gradient(z, y),
        output.hessian_product(z, y, z),
        output.fisher_root(z),
        output.fisher(z),
        output.kl(z, z),
    ]
    if name != "categorical":
        arrays.append(output.sample(z, np.random.default_rng(0)))
    assert {array.dtype for array in arrays} == {np.dtype(z_dtype)}


@every_output
@pytest.mark.parametrize(("dtype", "far"), [(np.float64, 1e4), (np.float32, 1e3)])
def test_extreme_logits_give_finite_numbers_without_a_warning(name, dtype, far):
    output = MAKE[name]()
    z = np.array(list(itertools.product((-far, -1, 0, far), repeat=3)), dtype)
    rng = np.random.default_rng(0)
    y = random_targets(rng, name, len(z), 3)
    arrays = [
        output.nll(z, y),
        output.mean(z),
        output.gradient(z, y),
        output.hessian_product(z, y, np.ones_like(z)),
        output.fisher_root(z),
        output.kl(z, z[::-1]),
        output.kl(z, z),
        output.sample(z, rng),
    ]
    assert all(np.isfinite(array).all() for array in arrays)
    assert (output.kl(z, z[::-1]) >= 0).all()


def test_extreme_logits_cost_what_they_say():
    z = np.array([[1e4, 0.0]])
    close(outputs.Categorical().nll(z, np.array([1])), 1e4)
    close(outputs.Categorical().nll(z, np.array([0])), 0)
    close(outputs.Bernoulli().nll(z, np.array([[0.0, 1.0]])), 1e4 + np.log(2))
    close(outputs.Bernoulli().kl(z, -z), 1e4)


# what is refused --------------------------------------------------------------


@pytest.mark.parametrize(
    ("y", "message"),
    [
        (np.zeros(3), "expected whole-number labels of an integer dtype, got float64"),
        (np.zeros(3, bool), "expected whole-number labels of an integer dtype, got bool"),
        (np.zeros((3, 1), int), r"expected labels of shape \(3,\), got \(3, 1\)"),
        (np.zeros(2, int), r"expected labels of shape \(3,\), got \(2,\)"),
        (np.array([0, 4, 1]), r"expected labels in 0\.\.3, got values from 0 to 4"),
        (np.array([0, -1, 1]), r"expected labels in 0\.\.3, got values from -1 to 1"),
        (
            SOFT - 0.1,
            r"sum to 1, got 3 others among 3, the first with sum 0\.6 ",
        ),
        (
            SOFT * [[1], [1], [1.001]],
            "sum to 1, got 1 others among 3, the first with sum 1.001",
        ),
        (SOFT + [[0, 0, 0, 0], [-0.2, 0, 0.2, 0], [0] * 4], "sum 1 and least entry -0.1"),
        (SOFT * np.nan, "probabilities >= 0 that sum to 1, got 3 others among 3"),
        (SOFT[:2], r"expected labels of shape \(3,\), got \(2, 4\); probabilities have shape \(3, 4\)"),
    ],
)
def test_categorical_refuses_what_is_no_label(y, message):
    with pytest.raises(ValueError, match=message):
        outputs.Categorical().check(y, 3, 4)


@pytest.mark.parametrize("name", ["bernoulli", "gaussian"])
@pytest.mark.parametrize(
    ("y", "message"),
    [
        (np.zeros(3), r"expected {} targets of shape \(3, 4\), got \(3,\)"),
        (np.zeros((4, 3)), r"expected {} targets of shape \(3, 4\), got \(4, 3\)"),
        (np.full((3, 4), np.nan), "expected finite {} targets, got NaN or infinite values"),
        (np.full((3, 4), np.inf), "expected finite {} targets, got NaN or infinite values"),
        (np.zeros((3, 4), complex), "expected {} targets of a real dtype, got complex128"),
        (np.full((3, 4), "a"), "expected {} targets of a real dtype, got <U1"),
    ],
)
def test_vector_targets_are_checked(name, y, message):
    with pytest.raises(ValueError, match=message.format(name.capitalize())):
        MAKE[name]().check(y, 3, 4)


@pytest.mark.parametrize("bad", [-0.5, 1.5])
def test_bernoulli_refuses_targets_outside_of_0_to_1(bad):
    y = np.zeros((3, 4))
    y[1, 2] = bad
    came = f"from {min(bad, 0):g} to {max(bad, 0):g}"
    with pytest.raises(ValueError, match=rf"expected Bernoulli targets in \[0, 1\], got values {came}"):
        outputs.Bernoulli().check(y, 3, 4)


@every_output
def test_no_targets_at_all_are_refused(name):
    y = random_targets(np.random.default_rng(0), name, 0, 4)
    with pytest.raises(ValueError, match=r"expected .* of shape \(N,.*\), got \(0,"):
        MAKE[name]().check(y, 0, 4)


@every_output
def test_targets_must_be_an_array(name):
    with pytest.raises(TypeError, match=r"expected (labels|targets) to be a NumPy or CuPy array, got list"):
        MAKE[name]().check([0, 1, 2], 3, 4)


@every_output
def test_good_targets_are_accepted(name):
    MAKE[name]().check(random_targets(np.random.default_rng(0), name, 3, 4), 3, 4)
