"""Linear algebra by the implicit function theorem: an answer is differentiated through the equation it satisfies.

Where y is defined by F(y, x1, .., xn) = 0, however it was found, dy = -(dF/dy)^-1 (dF/dx) dx.  So an op of the kind `implicit`
gives F and the way to solve with dF/dy, in Tensor ops, and both modes of every order follow.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import numpy as np

from ..autodiff import pull, push, stop_gradient, variable
from ..graph import Tensor, as_tensor, setting, state
from .elementwise import multiply
from .kinds import _Primitive, astype, disagreement
from .linalg import _matmul, matmul
from .reduce import _floating, sum
from .shape import _reshape, _undiagonal, diagonal, matrix_transpose, tril, triu


class Implicit(_Primitive):
    """y with residual(y, x1, .., xn) = 0; solve(r, y, x1, .., xn, transposed=) is (dF/dy)^-1 r, or its transpose applied to r."""

    def __init__(self, body: Callable, residual: Callable, solve: Callable):
        super().__init__(body)
        self.residual, self.solve = residual, solve

    def _at(self, out: Tensor, wanted: Sequence[bool]) -> tuple[Tensor, list[Tensor]]:
        """F recorded at y and the xs: at fresh variables, or at constants where nobody will ask for a derivative."""
        fixed = variable if state.recording else stop_gradient
        ts = [fixed(out), *[variable(x) if want else fixed(x) for x, want in zip(out.inputs, wanted, strict=True)]]
        with setting(recording=True):
            return self.residual(*ts, **out.params), ts

    def vjp(self, out: Tensor, g: Tensor, wanted: Sequence[bool]) -> list[Tensor | None]:
        v = -self.solve(g, out, *out.inputs, **out.params, transposed=True)
        r, ts = self._at(out, wanted)
        variables = [t for t in ts if t.requires_grad]
        gs = dict(zip(map(id, variables), pull([r], [v], variables, differentiable=state.recording), strict=True))
        return [gs.get(id(x)) if want else None for x, want in zip(ts[1:], wanted, strict=True)]

    def jvp(self, out: Tensor, tangents: Sequence[Tensor | None]) -> Tensor | None:
        r, ts = self._at(out, [t is not None for t in tangents])
        moved = push([r], ts, [None, *tangents], differentiable=state.recording)[0]
        return None if moved is None else -self.solve(moved, out, *out.inputs, **out.params, transposed=False)


class Potential(_Primitive):
    """y = f(X), one number for each matrix of a stack; gradient(y, X) is dy/dX."""

    def __init__(self, body: Callable, gradient: Callable):
        super().__init__(body)
        self.gradient = gradient

    def vjp(self, out: Tensor, g: Tensor, wanted: Sequence[bool]) -> list[Tensor | None]:
        return [_reshape(g, shape=(*g.shape, 1, 1)) * self.gradient(out, *out.inputs)]

    def jvp(self, out: Tensor, tangents: Sequence[Tensor | None]) -> Tensor | None:
        return None if tangents[0] is None else sum(tangents[0] * self.gradient(out, *out.inputs), (-2, -1))


def implicit(residual: Callable, solve: Callable) -> Callable[[Callable], Implicit]:
    """Make an op of an array function by the equation its result satisfies, and how to solve with that equation's Jacobian."""
    return lambda body: Implicit(body, residual, solve)


def potential(gradient: Callable) -> Callable[[Callable], Potential]:
    """Make an op of an array function from matrices to numbers by its gradient, a function (y, x) of Tensors."""
    return lambda body: Potential(body, gradient)


# Arguments


def _square(name: str, x: Any) -> Tensor:
    """x as a stack of square matrices."""
    x = _floating(x)
    if x.ndim < 2 or x.shape[-1] != x.shape[-2]:
        raise ValueError(f"{name} needs square matrices (.., n, n), got shape {x.shape}")
    return x


def _computed(op: Callable, *xs: Tensor) -> Tensor:
    """op(*xs) in the dtype of all; in float32 if that is float16, a storage format that LAPACK does not know."""
    dtype = np.result_type(*[x.dtype for x in xs])
    wide = np.result_type(dtype, np.float32)
    y = op(*[x if x.dtype == wide else astype(x, dtype=wide) for x in xs])
    return y if y.dtype == dtype else astype(y, dtype=dtype)


def _lapack(name: str, fault: str, find: Callable, a: np.ndarray, *more: np.ndarray) -> np.ndarray:
    """find(a, ..), where LAPACK's refusal of some matrix of the stack `a` becomes a sentence that says which."""
    try:
        return find(a, *more)
    except np.linalg.LinAlgError:
        raise np.linalg.LinAlgError(f"{name}: {_first_refused(find, a, more)} of shape {a.shape[-2:]} {fault}") from None


def _first_refused(find: Callable, a: np.ndarray, more: Sequence[np.ndarray]) -> str:
    few = [m[(0,) * (m.ndim - 2)] for m in more]
    for place in np.ndindex(a.shape[:-2]):
        try:
            find(a[place], *few)
        except np.linalg.LinAlgError:
            return f"matrix {place} of the stack" if place else "the matrix"
    return "a matrix"


# Solving


@implicit(lambda y, a, b: _matmul(a, y) - b, lambda r, y, a, b, transposed: _solve(matrix_transpose(a) if transposed else a, r))
def _solve(a, b):
    """(.., n, n), (.., n, k) -> (.., n, k);  a y = b."""
    return _lapack("solve", "is singular", np.linalg.solve, a, b)


def solve(a: Any, b: Any) -> Tensor:
    """(.., n, n), (.., n, k) -> (.., n, k), or (.., n, n), (n,) -> (.., n);  the y with a y = b.

    Raises LinAlgError when a matrix is singular, ValueError naming both shapes when they do not fit.
    """
    a = _square("solve", as_tensor(a, [b]))
    b = _floating(as_tensor(b, [a]))
    if b.ndim == 0 or b.shape[-2 if b.ndim > 1 else 0] != a.shape[-1]:
        raise ValueError(f"solve: shapes {a.shape} and {b.shape} do not fit: the matrices have {a.shape[-1]} rows")
    if b.ndim > 1 and (fault := disagreement("solve", a.shape, b.shape, last=-3)):
        raise ValueError(fault)
    if b.ndim > 1:
        return _computed(_solve, a, b)
    y = _computed(_solve, a, _reshape(b, shape=(*b.shape, 1)))
    return _reshape(y, shape=y.shape[:-1])


@implicit(lambda y, a: _matmul(a, y), lambda r, y, a, transposed: _matmul(matrix_transpose(y) if transposed else y, r))
def _inv(a):
    """(.., n, n) -> (.., n, n);  a y - 1 = 0, of which the residual leaves out the constant."""
    return _lapack("inv", "is singular", np.linalg.inv, a)


def inv(x: Any) -> Tensor:
    """(.., n, n) -> (.., n, n);  y = x^-1.  Raises LinAlgError when a matrix is singular."""
    return _computed(_inv, _square("inv", x))


# Cholesky


def _half(x: Tensor) -> Tensor:
    """The lower triangle, with half the diagonal: the L with L + L^T = x for a symmetric x."""
    return (tril(x) + tril(x, -1)) * 0.5


def _cholesky_solve(r: Tensor, y: Tensor, a: Tensor, transposed: bool) -> Tensor:
    """The lower triangular u with u y^T + y u^T = r, or the adjoint of this map applied to r."""
    if transposed:
        inner, outer = _half(_matmul(matrix_transpose(y), r)), matrix_transpose(y)
        return _solve(outer, matrix_transpose(_solve(outer, matrix_transpose(inner))))
    inner = _solve(y, matrix_transpose(_solve(y, matrix_transpose(r))))
    return _matmul(y, _half(inner))


@implicit(lambda y, a: _matmul(y, matrix_transpose(y)) - (a + matrix_transpose(a)) * 0.5, _cholesky_solve)
def _cholesky(a):
    """(.., n, n) -> (.., n, n);  y y^T = (a + a^T)/2 with y lower triangular."""
    return _lapack("cholesky", "is not positive definite", np.linalg.cholesky, (a + np.swapaxes(a, -1, -2)) * 0.5)


def cholesky(x: Any, upper: bool = False) -> Tensor:
    """(.., n, n) -> (.., n, n);  the lower triangular y with y y^T = x, or y^T if `upper`.

    Of an x that is not symmetric, the symmetric part is taken, so gradients are symmetric.  Raises LinAlgError when a matrix
    is not positive definite.
    """
    y = _computed(_cholesky, _square("cholesky", x))
    return matrix_transpose(y) if upper else y


# Determinants


@potential(lambda y, a: matrix_transpose(_inv(a)))
def _logabsdet(a):
    """(.., n, n) -> (..);  y = ln |det a|."""
    return np.asarray(np.linalg.slogdet(a)[1])


def _sign_of_det(a: Tensor) -> Tensor:
    return Tensor(np.asarray(np.linalg.slogdet(a._array)[0]))


class SlogdetResult(NamedTuple):
    """det x = sign exp(logabsdet)."""

    sign: Tensor
    logabsdet: Tensor


def slogdet(x: Any) -> SlogdetResult:
    """(.., n, n) -> (sign, logabsdet), each (..), with det x = sign exp(logabsdet);  d logabsdet / dx = x^-T.

    The sign is a constant for every derivative.  A singular matrix gives (0, -inf); its derivative raises LinAlgError.
    """
    x = _square("slogdet", x)
    return SlogdetResult(_computed(_sign_of_det, x), _computed(_logabsdet, x))


@potential(lambda y, a: _cofactors(y, a))
def _det(a):
    """(.., n, n) -> (..);  y = det a."""
    return np.asarray(np.linalg.det(a))


def det(x: Any) -> Tensor:
    """(.., n, n) -> (..);  dy/dx is the matrix of cofactors, which is y x^-T where x is regular, and exists where it is not."""
    return _computed(_det, _square("det", x))


def _deficiency(a: np.ndarray) -> int:
    """How many singular values of a matrix are too small to divide by twice, as second derivatives do; the most in the stack."""
    limit = float(np.finfo(a.dtype).eps) ** -0.25
    if a.size == 0 or np.all(np.linalg.cond(a, 1) <= limit):
        return 0
    sizes = np.linalg.svd(a, compute_uv=False)
    return int(np.max(np.sum(sizes * limit <= sizes[..., :1], -1)))


def _cofactors(y: Tensor, a: Tensor) -> Tensor:
    m = _deficiency(a._array)
    if m == 0:
        return _reshape(y, shape=(*y.shape, 1, 1)) * matrix_transpose(_inv(a))
    v = variable(a)
    with setting(recording=True):
        d = _split_det(v, a.shape[-1] - m)
    return pull([d], [Tensor(np.ones(d.shape, d.dtype))], [v], differentiable=state.recording)[0]  # type: ignore[return-value]


def _split_det(a: Tensor, k: int) -> Tensor:
    """det a where all but k singular values may be zero, without dividing by any of those.

    In the bases of its singular vectors, a is [[p, q], [r, s]] with a well-conditioned p, (k, k), and a small s:
    det a = +-det p det(s - r p^-1 q), the second a polynomial.
    """
    u, _, v = np.linalg.svd(a._array)
    sign = Tensor(np.round(np.linalg.det(u) * np.linalg.det(v)).astype(a.dtype))
    b = _matmul(_matmul(Tensor(np.swapaxes(u, -1, -2)), a), Tensor(np.swapaxes(v, -1, -2)))
    if k == 0:
        return multiply(sign, _polynomial_det(b))
    p, q, r, s = b[..., :k, :k], b[..., :k, k:], b[..., k:, :k], b[..., k:, k:]
    return sign * _det(p) * _polynomial_det(s - _matmul(r, _solve(p, q)))


def _polynomial_det(a: Tensor) -> Tensor:
    """(.., n, n) -> (..), n > 0, by products and sums only (Bird 2011, section 1)."""
    n = a.shape[-1]
    below = Tensor(-np.tri(n, k=-1, dtype=a.dtype))
    f = a
    for _ in range(n - 1):
        f = _matmul(triu(f, 1) + _undiagonal(matmul(diagonal(f), below), offset=0, shape=(n, n)), a)
    return f[..., 0, 0] * (-1.0) ** (n - 1)
