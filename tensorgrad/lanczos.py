"""Eigenvalues of a symmetric operator known by its products only: Lanczos's iteration, fully reorthogonalised.

(Golub and Van Loan 2013, sections 10.1 and 10.3.)
"""

from __future__ import annotations

import numpy as np

from .flat import Product, Vector


class Lanczos:
    """Orthonormal rows Q, each new one from a product with the last, in which the operator is tridiagonal: T = Q H Q^T.

    The first is random.  All are orthogonal to the rows of `avoid`.
    """

    def __init__(self, product: Product, avoid: np.ndarray, rng: np.random.Generator):
        self.product, self.rng = product, rng
        self.skip, n = avoid.shape
        self.rows = np.empty((self.skip + 8, n))
        self.rows[: self.skip] = avoid
        self.alpha: list[float] = []  # the diagonal of T
        self.beta: list[float] = []  # beside it; the last couples to the row that comes next
        self.next = self._random()

    @property
    def size(self) -> int:
        """How many rows there are."""
        return len(self.alpha)

    @property
    def closed(self) -> bool:
        """Whether the rows so far span an invariant subspace, so that T's eigenvalues are exact."""
        return bool(self.beta) and self.beta[-1] == 0

    def basis(self) -> np.ndarray:
        """(size, n): Q."""
        return self.rows[self.skip : self.skip + self.size]

    def advance(self) -> None:
        """One more row, by one product."""
        q = self.next
        if self.skip + self.size == len(self.rows):
            self.rows = np.concatenate([self.rows, np.empty_like(self.rows)])
        self.rows[self.skip + self.size] = q
        w = self.product(q)
        if not np.all(np.isfinite(w)):
            raise ValueError("a Hessian-vector product is not finite, so the eigenvalues are not defined")
        self.alpha.append(float(q @ w))
        length = float(np.linalg.norm(w))
        w = self._orthogonal(w)
        beta = float(np.linalg.norm(w))
        closed = beta <= 1e-12 * max(length, *map(abs, self.alpha))
        self.beta.append(0.0 if closed else beta)
        self.next = self._random() if closed else w / beta

    def ritz(self) -> tuple[np.ndarray, np.ndarray]:
        """Eigenvalues of T, ascending, and its eigenvectors as columns."""
        beside = self.beta[:-1]
        return np.linalg.eigh(np.diag(self.alpha) + np.diag(beside, 1) + np.diag(beside, -1))

    def _orthogonal(self, w: Vector) -> Vector:
        q = self.rows[: self.skip + self.size]
        for _ in range(2):  # rounding needs a second time, and no third (Parlett 1998, section 6.9)
            w = w - q.T @ (q @ w)
        return w

    def _random(self) -> Vector:
        w = self._orthogonal(self.rng.standard_normal(self.rows.shape[1]))
        length = np.linalg.norm(w)
        return w / length if length else w


def ends(product: Product, n: int, low: int, high: int, tol: float, max_products: int, rng: np.random.Generator) -> np.ndarray:
    """The `low` smallest and `high` largest eigenvalues, ascending; all of the n, if there are no more.

    One Krylov space holds one vector of each eigenspace; so repeated eigenvalues are looked for in what is orthogonal
    to the eigenvectors found so far, until nothing there lies as far out.
    """
    values, vectors, chosen = np.empty(0), np.empty((0, n)), np.empty(0)
    wanted = low, high
    while True:
        new, new_vectors, products = _converged(product, vectors, *wanted, tol, max_products, rng)
        max_products -= products
        values, vectors = np.concatenate([values, new]), np.concatenate([vectors, new_vectors])
        before, chosen = chosen, _outermost(values, low, high)
        unmoved = len(before) == len(chosen) and np.all(np.abs(chosen - before) <= 2 * tol * np.max(np.abs(values)))
        if unmoved or len(values) == n:
            return chosen
        wanted = min(low, 1), min(high, 1)


def _outermost(values: np.ndarray, low: int, high: int) -> np.ndarray:
    values = np.sort(values)
    return values if low + high >= len(values) else np.concatenate([values[:low], values[len(values) - high :]])


def _converged(
    product: Product, avoid: np.ndarray, low: int, high: int, tol: float, max_products: int, rng: np.random.Generator
) -> tuple[np.ndarray, np.ndarray, int]:
    """Eigenvalues at the ends of the spectrum orthogonal to `avoid`, their vectors as rows, the products it took."""
    space, room, check = Lanczos(product, avoid, rng), avoid.shape[1] - len(avoid), low + high + 2
    while True:
        if space.size >= max_products:
            raise RuntimeError(
                f"the eigenvalues are not known to {tol} with the Hessian-vector products allowed: raise max_products"
            )
        space.advance()
        if space.size not in (check, room):
            continue
        check += 4 + check // 10  # the small eigenproblem is not free
        values, vectors = space.ritz()
        pick = np.unique([*range(min(low, space.size)), *range(max(space.size - high, 0), space.size)])
        errors = np.abs(space.beta[-1] * vectors[-1, pick])
        if space.size == room or np.all(errors <= tol * np.max(np.abs(values))):
            return values[pick], vectors[:, pick].T @ space.basis(), space.size
