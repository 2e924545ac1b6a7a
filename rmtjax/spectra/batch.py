"""A batch of spectra inside a compiled program, and the results that several metrics share."""

import functools

import jax.numpy as jnp
from jaxtyping import Array, Float, Int

from rmtjax.spectra import bulk, correlation, measures, mp_fit, rivals, tails


class Batch:
    """Spectra of scaled weights, one a row. Each shared result is computed when a metric first asks for it.

    Attributes:
      eigenvalues: of W^T W, not divided by N; ascending, right-aligned, `[layers, size]`.
      count: number of eigenvalues in each row.
      constants: what depends on the shape of each row's matrix: `bulk.shape_constants`, and `rank_cut` and
        `resolution` of `programs`.
    """

    def __init__(
        self,
        eigenvalues: Float[Array, "layers size"],
        count: Int[Array, " layers"],
        constants: dict[str, Array],
    ) -> None:
        self.eigenvalues, self.count, self.constants = eigenvalues, count, constants

    @functools.cached_property
    def norms(self) -> dict[str, Array]:
        return measures.norms_and_ranks(self.eigenvalues, self.count, self.constants["rank_cut"])

    @functools.cached_property
    def nonzero(self) -> Int[Array, " layers"]:
        return measures.nonzero_eigenvalues(self.eigenvalues, self.count, self.constants["rank_cut"])

    @functools.cached_property
    def num_unresolved(self) -> Float[Array, " layers"]:
        resolved = measures.nonzero_eigenvalues(self.eigenvalues, self.count, self.constants["resolution"])
        return (self.count - resolved).astype(self.eigenvalues.dtype)

    @functools.cached_property
    def power_law(self) -> dict[str, Array]:
        return tails.power_law(self.eigenvalues, self.nonzero)

    @functools.cached_property
    def rivals(self) -> dict[str, Array]:
        fit = self.power_law
        return rivals.against_rivals(self.eigenvalues, fit["num_pl_spikes"], fit["alpha"], fit["xmin"])

    @functools.cached_property
    def erg(self) -> dict[str, Array]:
        return correlation.erg(self.eigenvalues, self.count, self.power_law["num_pl_spikes"])

    def hill(self, tail: Int[Array, " layers"]) -> Float[Array, " layers"]:
        return tails.hill(self.eigenvalues, tail)

    @functools.cached_property
    def noise(self) -> dict[str, Array]:
        return bulk.noise_and_spikes(self.eigenvalues, self.count, self.nonzero, self.constants)

    @functools.cached_property
    def mp_fit(self) -> dict[str, Array]:
        N, c = self.constants["N"], self.constants["c"]
        return mp_fit.fit_density(self.eigenvalues, self.count, N, jnp.round(N * c))
