"""Linear algebra beyond the table of samples: single matrices, singular ones, closed forms, errors; einsum."""

import itertools
import math
from fractions import Fraction

import numpy as np
import pytest

import tensorgrad as tg
from tensorgrad.ops.implicit import implicit

RNG = np.random.default_rng(0)


def normal(*shape):
    return RNG.normal(size=shape)


def regular(*shape):
    return normal(*shape) + 3 * np.eye(shape[-1])


def symmetric(*shape):
    a = normal(*shape)
    return a @ a.swapaxes(-1, -2) + np.eye(shape[-1])


# Solving


@pytest.mark.parametrize(
    ("a", "b"),
    [
        ((3, 3), (3,)),
        ((3, 3), (3, 2)),
        ((2, 3, 3), (3,)),
        ((4, 1, 3, 3), (5, 3, 2)),
        ((3, 3), (2, 3, 1)),
        ((0, 3, 3), (3, 2)),
        ((0, 0), (0, 2)),
    ],
)
def test_solve_is_numpys(a, b):
    a, b = regular(*a), normal(*b)
    y = tg.linalg.solve(a, b)
    np.testing.assert_allclose(y, np.linalg.solve(a, b), rtol=1e-14)
    if y.size:
        tg.check.check_grads(tg.linalg.solve, (tg.tensor(a), tg.tensor(b)))


def test_single_matrices_to_order_3():
    a, s = tg.tensor(regular(3, 3)), tg.tensor(symmetric(3, 3))
    tg.check.check_grads(tg.linalg.inv, (a,), order=3)
    tg.check.check_grads(tg.linalg.cholesky, (s,), order=3)
    tg.check.check_grads(lambda x: tg.linalg.slogdet(x).logabsdet, (a,), order=3)
    tg.check.check_grads(tg.linalg.det, (a,), order=3)


def test_gradients_in_closed_form():
    a, g = regular(4, 4), normal(4, 4)
    inverse = np.linalg.inv(a)
    pull_back = tg.vjp(tg.linalg.inv, tg.tensor(a))[1]
    np.testing.assert_allclose(pull_back(tg.tensor(g))[0], -inverse.T @ g @ inverse.T, rtol=1e-12)
    np.testing.assert_allclose(tg.grad(lambda x: tg.linalg.slogdet(x)[1])(tg.tensor(a)), inverse.T, rtol=1e-12)
    np.testing.assert_allclose(tg.grad(tg.linalg.det)(tg.tensor(a)), np.linalg.det(a) * inverse.T, rtol=1e-12)
    hessian = tg.hessian(lambda x: tg.linalg.slogdet(x)[1])(tg.tensor(a))  # -(a^-1)_jk (a^-1)_li at [i, j, k, l]
    np.testing.assert_allclose(hessian, -np.einsum("jk,li->ijkl", inverse, inverse), rtol=1e-11, atol=1e-13)


def test_solving_with_many_right_sides_for_the_log_density_of_a_gaussian_process():
    """A composition of cholesky, solve and slogdet against one of inv and det."""
    x, y = tg.tensor(np.linspace(0, 1, 6)), tg.tensor(normal(6))

    def covariance(scale):
        return tg.exp(-tg.square((tg.expand_dims(x, 1) - x) / scale)) + 0.1 * tg.eye(6, dtype=tg.float64)

    def one(scale):
        k = covariance(scale)
        factor = tg.linalg.cholesky(k)
        return 0.5 * tg.sum(tg.square(tg.linalg.solve(factor, y))) + tg.sum(tg.log(tg.diagonal(factor)))

    def other(scale):
        k = covariance(scale)
        return 0.5 * tg.vecdot(y, tg.linalg.inv(k) @ y) + 0.5 * tg.log(tg.linalg.det(k))

    scale = tg.tensor(np.array(0.4))
    np.testing.assert_allclose(one(scale), other(scale), rtol=1e-12)
    np.testing.assert_allclose(tg.grad(one)(scale), tg.grad(other)(scale), rtol=1e-10)
    np.testing.assert_allclose(tg.hessian(one)(scale), tg.hessian(other)(scale), rtol=1e-9)


def test_cholesky_takes_the_symmetric_part_so_gradients_are_symmetric():
    s, skew = symmetric(3, 3), normal(3, 3)
    y = tg.linalg.cholesky(s + skew - skew.T)
    np.testing.assert_allclose(y, np.linalg.cholesky(s), rtol=1e-12)
    gradient = tg.grad(lambda x: tg.sum(tg.linalg.cholesky(x) * skew))(tg.tensor(s)).numpy()
    np.testing.assert_allclose(gradient, gradient.T, rtol=1e-12)
    np.testing.assert_allclose(tg.linalg.cholesky(s, upper=True), np.linalg.cholesky(s).T, rtol=1e-12)


def test_an_equation_of_ones_own():
    """Kepler's equation E - e sin E = M by Newton's method, differentiated through the equation, not the iteration."""

    @implicit(
        lambda y, mean, eccentricity: y - eccentricity * tg.sin(y) - mean,
        lambda r, y, mean, eccentricity, transposed: r / (1 - eccentricity * tg.cos(y)),
    )
    def anomaly(mean, eccentricity):
        """E - e sin E = M."""
        y = np.array(mean)
        for _ in range(20):
            y = y - (y - eccentricity * np.sin(y) - mean) / (1 - eccentricity * np.cos(y))
        return y

    mean, eccentricity = tg.tensor(np.array([0.3, 1.0, 2.5])), tg.tensor(np.array([0.1, 0.5, 0.7]))
    tg.check.check_grads(anomaly, (mean, eccentricity), order=3)
    slope = tg.grad(lambda m: tg.sum(anomaly(m, eccentricity)))(mean)
    np.testing.assert_allclose(slope, 1 / (1 - eccentricity.numpy() * np.cos(anomaly(mean, eccentricity).numpy())), rtol=1e-13)


# Determinants


def leibniz(a):
    """det by its definition, the sum over all permutations."""
    n = a.shape[-1]
    return sum(
        np.linalg.det(np.eye(n)[list(p)]).round() * tg.prod(tg.stack([a[i, j] for i, j in enumerate(p)]))
        for p in itertools.permutations(range(n))
    )


SINGULAR = {
    "rank 2": np.diag([1.0, 2, 0]),
    "rank 1": np.ones((3, 3)),
    "rank 0": np.zeros((3, 3)),
    "a zero first": np.array([[0.0, 1, 1], [0, 2, 1], [0, 1, 1]]),
    "nearly": np.array([[1.0, 2, 3], [4, 5, 6], [7, 8, 9 + 1e-9]]),
}


@pytest.mark.parametrize("a", SINGULAR.values(), ids=SINGULAR)
def test_det_is_a_polynomial_at_singular_matrices_too(a):
    a = tg.tensor(a)
    np.testing.assert_allclose(tg.grad(tg.linalg.det)(a), tg.grad(leibniz)(a), atol=1e-13)
    np.testing.assert_allclose(tg.hessian(tg.linalg.det)(a), tg.hessian(leibniz)(a), atol=1e-12)
    third, wanted = (tg.jacfwd(tg.hessian(f))(a) for f in (tg.linalg.det, leibniz))
    np.testing.assert_allclose(third, wanted, atol=1e-12)
    tg.check.check_grads(tg.linalg.det, (a,), order=2)


def test_det_of_a_stack_of_regular_and_singular_matrices():
    stack = tg.tensor(np.stack([*SINGULAR.values(), regular(3, 3)]))
    gradient = tg.grad(lambda x: tg.sum(tg.linalg.det(x)))(stack)
    for x, g in zip(stack, gradient, strict=True):
        np.testing.assert_allclose(g, tg.grad(leibniz)(x), atol=1e-12)


def test_det_of_an_ill_conditioned_matrix():
    """Cofactors of the Hilbert matrix of order 8, of condition 1.5e10, against exact fractions."""
    n = 8
    hilbert = 1 / (np.arange(n)[:, None] + np.arange(n) + 1.0)
    exact = np.array([[cofactor(hilbert, i, j) for j in range(n)] for i in range(n)])
    given = tg.grad(tg.linalg.det)(tg.tensor(hilbert)).numpy()
    assert np.abs(given - exact).max() < 1e-8 * np.abs(exact).max()


def cofactor(a, i, j):
    """By elimination in exact arithmetic."""
    rows = [[Fraction(x) for k, x in enumerate(row) if k != j] for m, row in enumerate(a.tolist()) if m != i]
    d = Fraction((-1) ** (i + j))
    for k in range(len(rows)):
        d *= rows[k][k]
        for m in range(k + 1, len(rows)):
            factor = rows[m][k] / rows[k][k]
            rows[m] = [x - factor * y for x, y in zip(rows[m], rows[k], strict=True)]
    return float(d)


def test_slogdet():
    a = regular(2, 3, 3)
    result = tg.linalg.slogdet(tg.tensor(a, requires_grad=True))
    wanted = np.linalg.slogdet(a)
    np.testing.assert_allclose(result.logabsdet.numpy(), wanted.logabsdet, rtol=1e-14)
    assert result.sign.tolist() == wanted.sign.tolist() and not result.sign.requires_grad
    huge = tg.linalg.slogdet(1e200 * np.eye(5))
    np.testing.assert_allclose(huge.logabsdet, 1000 * math.log(10), rtol=1e-14)
    singular = tg.linalg.slogdet(np.ones((2, 2)))
    assert singular.sign.item() == 0 and singular.logabsdet.item() == -math.inf
    with pytest.raises(np.linalg.LinAlgError, match="inv: the matrix of shape"):
        tg.grad(lambda x: tg.linalg.slogdet(x)[1])(np.ones((2, 2)))


def test_no_entries():
    assert tg.linalg.det(np.zeros((0, 0))).item() == 1
    assert tg.linalg.inv(np.zeros((0, 3, 3))).shape == (0, 3, 3)
    assert tg.grad(lambda x: tg.sum(tg.linalg.det(x)))(np.zeros((2, 0, 0))).shape == (2, 0, 0)
    assert tg.grad(lambda x: tg.sum(tg.linalg.inv(x)))(np.zeros((0, 2, 2))).shape == (0, 2, 2)


def test_dtypes():
    for dtype in (np.float16, np.float32, np.float64):
        x = tg.tensor(np.diag([2.0, 4.0]).astype(dtype), requires_grad=True)
        for y in (tg.linalg.inv(x), tg.linalg.solve(x, x), tg.linalg.cholesky(x), tg.linalg.det(x), *tg.linalg.slogdet(x)):
            assert y.dtype == dtype
        tg.linalg.det(x).backward()
        assert x.grad.dtype == dtype
        np.testing.assert_allclose(x.grad, [[4, 0], [0, 2]], rtol=1e-6)
    assert tg.linalg.inv([[2, 0], [0, 4]]).dtype == np.float32
    assert tg.linalg.solve(np.eye(2, dtype=np.float32), np.ones(2)).dtype == np.float64


@pytest.mark.parametrize(
    ("call", "error", "words"),
    [
        (lambda la: la.inv(np.ones((2, 2))), np.linalg.LinAlgError, "inv: the matrix of shape (2, 2) is singular"),
        (
            lambda la: la.inv([np.eye(2), np.ones((2, 2))]),
            np.linalg.LinAlgError,
            "inv: matrix (1,) of the stack of shape (2, 2) is singular",
        ),
        (
            lambda la: la.solve(np.zeros((2, 2)), np.ones(2)),
            np.linalg.LinAlgError,
            "solve: the matrix of shape (2, 2) is singular",
        ),
        (
            lambda la: la.cholesky(-np.eye(2)),
            np.linalg.LinAlgError,
            "cholesky: the matrix of shape (2, 2) is not positive definite",
        ),
        (lambda la: la.inv(np.ones((2, 3))), ValueError, "inv needs square matrices (.., n, n), got shape (2, 3)"),
        (lambda la: la.det(np.ones(3)), ValueError, "det needs square matrices (.., n, n), got shape (3,)"),
        (
            lambda la: la.solve(np.eye(3), np.ones((2, 2))),
            ValueError,
            "solve: shapes (3, 3) and (2, 2) do not fit: the matrices have 3 rows",
        ),
        (
            lambda la: la.solve(np.ones((2, 3, 3)), np.ones((4, 3, 1))),
            ValueError,
            "solve: shapes (2, 3, 3) and (4, 3, 1) do not broadcast (axis -3: 2 and 4)",
        ),
        (lambda la: la.norm(np.eye(2), 2), ValueError, "matrix_norm: ord must be 'fro', 1, -1, inf or -inf, got 2"),
        (lambda la: la.norm(np.eye(2), axis=(0, 1, 2)), ValueError, "axis 2 is out of range for a tensor with 2 dimensions"),
        (
            lambda la: la.norm(np.ones((2, 2, 2)), 1),
            ValueError,
            "norm: axis must name one axis (vectors) or two (matrices), got None",
        ),
        (lambda la: la.norm(np.ones(3), "fro"), ValueError, "norm: ord 'fro' is for matrices"),
        (lambda la: la.cross(np.ones(2), np.ones(3)), ValueError, "cross: shapes (2,) and (3,) must have length 3 along axis -1"),
        (
            lambda la: la.matrix_power(np.ones((2, 3)), 2),
            ValueError,
            "matrix_power needs square matrices (.., n, n), got shape (2, 3)",
        ),
    ],
)
def test_case_83_errors_say_what_does_not_fit(call, error, words):
    with pytest.raises(error) as caught:
        call(tg.linalg)
    assert words in str(caught.value)


# Norms


@pytest.mark.parametrize("ord", [None, "fro", 1, -1, math.inf, -math.inf])
@pytest.mark.parametrize("axis", [None, (0, 1), (1, 0), (-1, 0)])
def test_matrix_norms_are_numpys(ord, axis):
    x = normal(3, 4)
    for keepdims in (False, True):
        given, wanted = (f(x, ord, axis, keepdims) for f in (tg.linalg.norm, np.linalg.norm))
        assert given.shape == wanted.shape
        np.testing.assert_allclose(given, wanted, rtol=1e-14)


@pytest.mark.parametrize("ord", [None, 1, 2, 3, 0.5, 0, -2, math.inf, -math.inf])
def test_vector_norms_are_numpys(ord):
    x = normal(3, 4)
    np.testing.assert_allclose(tg.linalg.norm(x, ord, 1), np.linalg.norm(x, ord, 1), rtol=1e-14)
    np.testing.assert_allclose(tg.linalg.norm(x[0], ord), np.linalg.norm(x[0], ord), rtol=1e-14)


SPELLINGS = {
    "tg.norm": tg.norm,
    "x.norm()": lambda x: x.norm(),
    "linalg.norm": tg.linalg.norm,
    "linalg.norm fro": lambda x: tg.linalg.norm(x, "fro"),
    "linalg.vector_norm": tg.linalg.vector_norm,
    "linalg.matrix_norm": tg.linalg.matrix_norm,
    "np.linalg.norm": np.linalg.norm,
    "np.linalg.matrix_norm": np.linalg.matrix_norm,
}


@pytest.mark.parametrize("norm", SPELLINGS.values(), ids=SPELLINGS)
def test_case_87_the_norm_of_zero_has_gradient_zero_in_every_spelling(norm):
    assert tg.grad(norm)(tg.tensor(np.zeros((2, 3)))).tolist() == [[0, 0, 0], [0, 0, 0]]


# einsum

PRODUCTS = [
    ("ij,jk->ik", (2, 3), (3, 4)),
    ("ij,jk", (2, 3), (3, 4)),
    ("ba", (2, 3)),
    ("ii", (3, 3)),
    ("ii->i", (3, 3)),
    ("iiii->i", (2, 2, 2, 2)),
    ("iij,jkk->ik", (2, 2, 3), (3, 4, 4)),
    ("abcd->bd", (2, 3, 4, 5)),
    ("...ij,...jk", (2, 1, 3, 4), (5, 4, 2)),
    ("a...b,b...c->...ac", (2, 5, 3), (3, 5, 4)),
    ("...", (2, 3)),
    ("...i->...", (2, 3)),
    ("bhqd,bhkd->bhqk", (2, 3, 4, 5), (2, 3, 6, 5)),
    ("i,j,k->", (2,), (3,), (4,)),
    ("ij,jk,kl,lm->im", (2, 3), (3, 4), (4, 5), (5, 2)),
    ("ij,jk,ki->", (2, 3), (3, 4), (4, 2)),
    ("i,i,i->i", (3,), (3,), (3,)),
    ("ij,ij->ij", (3, 1), (3, 4)),
    (" ij , j -> i ", (2, 3), (3,)),
    (",ij", (), (2, 3)),
    ("ij,k->", (0, 2), (3,)),
    ("aB,Bc->ac", (2, 3), (3, 2)),
]


@pytest.mark.parametrize("subscripts, shapes", [(s, shapes) for s, *shapes in PRODUCTS], ids=[p[0] for p in PRODUCTS])
def test_case_78_einsum_is_numpys(subscripts, shapes):
    xs = [normal(*shape) for shape in shapes]
    given, wanted = tg.einsum(subscripts, *xs), np.einsum(subscripts, *xs)
    assert given.shape == wanted.shape
    np.testing.assert_allclose(given, wanted, rtol=1e-12, atol=1e-13)
    tg.check.check_grads(lambda *ts: tg.einsum(subscripts, *ts), tuple(map(tg.tensor, xs)))


def test_case_78_one_operand_twice():
    x = tg.tensor(normal(3, 3))
    tg.check.check_grads(lambda x: tg.einsum("ij,jk,ki->i", x, x, x), (x,), order=3)


@pytest.mark.parametrize(
    ("subscripts", "shapes", "words"),
    [
        ("ij,jk", [(2, 3)], "'ij,jk' is for 2 operands, got 1"),
        ("ij", [(2, 3, 4)], "'ij' in 'ij' has 2 indices for an operand of shape (2, 3, 4)"),
        ("...ijk", [(2, 3)], "'...ijk' in '...ijk' has 3 indices for an operand of shape (2, 3)"),
        ("ij,jk", [(2, 3), (4, 5)], "index 'j' in 'ij,jk' has lengths 3 and 4 (shapes (2, 3), (4, 5))"),
        ("...i,...i", [(2, 3), (4, 3)], "axis -1 of '...' in '...i,...i' has lengths 2 and 4"),
        ("ij->iij", [(2, 3)], "output index 'i' of 'ij->iij' occurs twice"),
        ("ij->k", [(2, 3)], "output index 'k' of 'ij->k' occurs in no operand"),
        ("i1", [(2, 3)], "'i1' in 'i1' may hold letters and one '...' only"),
        ("...i->i", [(2, 3)], "'...i->i' has '...' on the left, so it must have it on the right"),
    ],
)
def test_einsum_errors(subscripts, shapes, words):
    with pytest.raises(ValueError) as caught:
        tg.einsum(subscripts, *[np.ones(shape) for shape in shapes])
    assert str(caught.value).startswith("einsum: ") and words in str(caught.value)


def test_einsum_wants_a_string():
    with pytest.raises(TypeError, match="einsum: the subscripts must be a string such as 'ij,jk->ik', got int"):
        tg.einsum(3, np.ones(2))
