"""The one dict of spectral metrics: what each is, how it is computed, what noise shows, and where it is shown.

Everything else reads it: the compiled programs, the table, the printed text, the observer, `--metrics`, the pages
and the study. Its order is the order of the table's columns and of every list. To add a metric, add one entry:

    "peak": Metric(
        "scale",
        "peak",
        "The largest eigenvalue over the mean one.",
        lambda s: s.eigenvalues[:, -1] * s.count / s.norms["norm"],
        shown=("text", "page", "study", "results"),
    ),
"""

import functools
from collections.abc import Callable, Iterable, Mapping
from typing import NamedTuple

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int

from rmtjax.spectra import bulk, correlation, measures, mp_fit, neighbours, rivals, tails

# Groups that `metrics=` and `--metrics` name. The default ones need the eigenvalues alone; the others come on
# request, and "alignment" needs two sides to compare. Metrics of scale are always computed.
DEFAULT = ("scale", "tail", "bulk", "correlation")
GROUPS = (*DEFAULT, "local", "vectors", "bootstrap", "farms", "fingers", "shuffles", "nulls", "alignment")

# Where a metric may be shown.
PLACES = {
    "text": "the table that the command prints",
    "observe": "scalars of a training run",
    "page": "the page's table of matrices",
    "compared": "the same table where two models are compared",
    "medians": "the page's medians by kind of layer",
    "depth": "charts over depth that are open from the start",
    "cards": "medians over all matrices, on top of a run's page and in its final table",
    "study": "study.csv, of the weights after training and of the update",
    "update": "study.csv, of the update alone",
    "results": "results.csv",
    "overview": "the table that a study prints, of the update",
}


class Spectra:
    """Spectra inside a compiled program, and what several metrics are made of, each made when it is first needed.

    Attributes:
      eigenvalues: of W^T W, of scaled weights, not divided by N; ascending, right-aligned, `[layers, size]`.
      count: how many there are in each row.
      constants: by row, of its shape: `bulk.shape_constants`, `rank_cut` and `resolution`.
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
        return self.norms["matrix_rank"].astype(jnp.int32)

    @functools.cached_property
    def num_unresolved(self) -> Float[Array, " layers"]:
        resolved = measures.nonzero_eigenvalues(self.eigenvalues, self.count, self.constants["resolution"])
        return (self.count - resolved).astype(self.eigenvalues.dtype)

    @functools.cached_property
    def tail(self) -> dict[str, Array]:
        return tails.power_law(self.eigenvalues, self.nonzero)

    @functools.cached_property
    def rivals(self) -> dict[str, Array]:
        tail = self.tail
        return rivals.against_rivals(self.eigenvalues, tail["num_pl_spikes"], tail["alpha"], tail["xmin"])

    @functools.cached_property
    def erg(self) -> dict[str, Array]:
        return correlation.erg(self.eigenvalues, self.count, self.tail["num_pl_spikes"])

    def hill(self, tail: Int[Array, " layers"]) -> Float[Array, " layers"]:
        return tails.hill(self.eigenvalues, tail)

    @functools.cached_property
    def noise(self) -> dict[str, Array]:
        nonzero = measures.nonzero_eigenvalues(self.eigenvalues, self.count, self.constants["rank_cut"])
        return bulk.noise_and_spikes(self.eigenvalues, self.count, nonzero, self.constants)

    @functools.cached_property
    def mp_fit(self) -> dict[str, Array]:
        N, c = self.constants["N"], self.constants["c"]
        return mp_fit.fit_density(self.eigenvalues, self.count, N, jnp.round(N * c))


class Noise(NamedTuple):
    """Shapes of matrices, `[rows]` each, and what noise of these shapes shows in closed form (`nulls.closed_forms`)."""

    slices: np.ndarray
    N: np.ndarray
    M: np.ndarray
    closed: dict[str, np.ndarray]


Compute = Callable[[Spectra], Array]
Null = Callable[[Noise, Mapping[str, np.ndarray]], np.ndarray]


class Metric(NamedTuple):
    """One metric.

    Attributes:
      group: of `--metrics`.
      title: as the head of a column.
      about: one sentence; λ are the eigenvalues of W^T W, not divided by N, pooled over the slices of a convolution;
        p = λ / Σλ; logarithms are to base 10.
      compute: spectra of scaled weights -> `[layers]`, inside a compiled program. None: made by the group's own code, or
        in `table.make` from others.
      scale: the power of the weights' scale that it grows with; None: it depends on it through a logarithm.
      null: `(noise, columns) -> [rows]`, its value for noise of the same shapes and, where it has a scale, of the
        same norms. None: not known in closed form (`--metrics=nulls` simulates it; that of alpha is tabulated).
      shown: places, of `PLACES`.
    """

    group: str
    title: str
    about: str
    compute: Compute | None = None
    scale: int | None = 0
    null: Null | None = None
    shown: tuple[str, ...] = ()


def shown(place: str) -> list[str]:
    """The metrics that are shown at a place, in their order."""
    return [name for name, metric in METRICS.items() if place in metric.shown]


def title(name: str) -> str:
    """A metric's title; of a column that is no metric its name, with spaces."""
    return METRICS[name].title if name in METRICS else name.replace("_", " ")


def chosen(metrics: str | Iterable[str]) -> frozenset[str]:
    """The groups that "default", "all" or names mean.

    Raises:
      ValueError: a name that is no group.
    """
    names = [part.strip() for part in metrics.split(",")] if isinstance(metrics, str) else list(metrics)
    groups: set[str] = set()
    for name in names:
        if name not in ("default", "all", *GROUPS):
            raise ValueError(
                f"metrics has {name!r}: it must be default, all, or of {', '.join(GROUPS)}, "
                "with commas between"
            )
        groups |= set(DEFAULT) if name == "default" else set(GROUPS) if name == "all" else {name}
    return frozenset(groups)


def _closed(name: str) -> Null:
    return lambda noise, columns: noise.closed[name]


def _one_slice(value: float) -> Null:
    """Of spacings, whose laws hold for the eigenvalues of one matrix alone."""
    return lambda noise, columns: np.where(noise.slices == 1, value, np.nan)


def _nuclear_norm_of_noise(noise: Noise, columns: Mapping[str, np.ndarray]) -> np.ndarray:
    share = noise.closed["nuclear_share"]
    return np.asarray(share * np.sqrt(noise.slices * noise.M) * np.sqrt(columns["norm"]))


def _log_spectral_norm_of_noise(noise: Noise, columns: Mapping[str, np.ndarray]) -> np.ndarray:
    return np.asarray(columns["log_norm"] - np.log10(noise.closed["stable_rank"]))


METRICS: dict[str, Metric] = {
    # The power-law tail.
    "alpha": Metric(
        "tail",
        "α",
        "Exponent of the power law λ^-α fitted to the tail above xmin by maximum likelihood.",
        lambda s: s.tail["alpha"],
        shown=(
            "text",
            "observe",
            "page",
            "compared",
            "medians",
            "depth",
            "cards",
            "study",
            "results",
            "overview",
        ),
    ),
    "alpha_se": Metric(
        "tail",
        "standard error of α",
        "(α - 1) / √(eigenvalues in the tail); a scale, since eigenvalues repel each other and xmin"
        " is chosen.",
        lambda s: s.tail["alpha_se"],
    ),
    "alpha_null_p": Metric(
        "tail",
        "p in noise",
        "How often noise of this shape has so small an α; 0.0025 stands for less than 0.005.",
        shown=("text", "page", "compared", "medians"),
    ),
    "gof_p": Metric(
        "bootstrap",
        "p of the fit",
        "How often draws from the fitted power law lie further from their own fit; small: the tail "
        "is no power law.",
        shown=("page", "compared", "medians"),
    ),
    "gof_p_se": Metric(
        "bootstrap", "standard error of p of the fit", "Standard error of gof_p, from the number of draws."
    ),
    "D": Metric(
        "tail",
        "D",
        "Kolmogorov-Smirnov distance of the tail from its fit.",
        lambda s: s.tail["D"],
        shown=("text", "page"),
    ),
    "sigma": Metric("tail", "σ of α", "The standard error of α under the name that WeightWatcher gives it."),
    "xmin": Metric(
        "tail", "xmin", "The eigenvalue at which the tail starts.", lambda s: s.tail["xmin"], scale=2
    ),
    "num_pl_spikes": Metric(
        "tail",
        "tail size",
        "Number of eigenvalues in the tail.",
        lambda s: s.tail["num_pl_spikes"],
        shown=("page",),
    ),
    "alpha_hill": Metric(
        "tail",
        "Hill α, upper half",
        "Hill estimate of the exponent from the upper half of the spectrum.",
        lambda s: s.hill(s.nonzero // 2),
        null=_closed("alpha_hill"),
        shown=("study",),
    ),
    "alpha_hill_10": Metric(
        "tail",
        "Hill α, upper tenth",
        "Hill estimate from the upper tenth of the spectrum.",
        lambda s: s.hill(s.nonzero // 10),
    ),
    "alpha_hill_sqrt": Metric(
        "tail",
        "Hill α, √n largest",
        "Hill estimate from the √n largest eigenvalues.",
        lambda s: s.hill(jnp.sqrt(s.nonzero).astype(jnp.int32)),
    ),
    "alpha_farms": Metric(
        "farms",
        "Hill α of square windows",
        "Median of Hill estimates over square windows of one size (FARMS).",
    ),
    "alpha_clipped": Metric(
        "fingers", "α without fingers", "α after the largest eigenvalues that stand apart are clipped."
    ),
    "num_fingers": Metric(
        "fingers", "fingers", "Number of eigenvalues clipped, less one, as WeightWatcher reports it."
    ),
    "alpha_weighted": Metric(
        "tail", "α log λmax", "α times the logarithm of the largest eigenvalue.", scale=None
    ),
    "log_alpha_norm": Metric(
        "tail",
        "log Σ λ^α",
        "Logarithm of the sum of λ^α.",
        lambda s: tails.log_power_sum(s.eigenvalues, s.tail["alpha"]),
        scale=None,
    ),
    "R_exponential": Metric(
        "tail",
        "R against the exponential",
        "Normalised log-likelihood ratio of the power law against the exponential distribution; "
        "above 0: the power law fits better.",
        lambda s: s.rivals["R_exponential"],
    ),
    "p_exponential": Metric(
        "tail",
        "p of R against the exponential",
        "Two-sided p of R_exponential by Vuong's test.",
        lambda s: s.rivals["p_exponential"],
    ),
    "R_lognormal": Metric(
        "tail",
        "R against the lognormal",
        "Normalised log-likelihood ratio of the power law against the lognormal distribution; above"
        " 0: the power law fits better.",
        lambda s: s.rivals["R_lognormal"],
    ),
    "p_lognormal": Metric(
        "tail",
        "p of R against the lognormal",
        "Two-sided p of R_lognormal by Vuong's test.",
        lambda s: s.rivals["p_lognormal"],
    ),
    "R_tpl": Metric(
        "tail",
        "R against the truncated power law",
        "Log-likelihood ratio against the truncated power law, of which the power law is a limit; "
        "never above 0.",
        lambda s: s.rivals["R_tpl"],
    ),
    "p_tpl": Metric(
        "tail",
        "p of R against the truncated power law",
        "p of R_tpl by the half chi-square law of nested models.",
        lambda s: s.rivals["p_tpl"],
    ),
    "alpha_tpl": Metric(
        "tail",
        "α of the truncated power law",
        "Exponent of the truncated power law λ^-α exp(-Λ λ).",
        lambda s: s.rivals["alpha_tpl"],
    ),
    "Lambda": Metric(
        "tail",
        "Λ of the truncated power law",
        "Rate of the truncated power law λ^-α exp(-Λ λ).",
        lambda s: s.rivals["Lambda"],
        scale=-2,
    ),
    # Norms, ranks and entropies.
    "stable_rank": Metric(
        "scale",
        "stable rank",
        "Σλ / λmax.",
        lambda s: s.norms["stable_rank"],
        null=_closed("stable_rank"),
        shown=(
            "text",
            "observe",
            "page",
            "compared",
            "medians",
            "depth",
            "cards",
            "study",
            "results",
            "overview",
        ),
    ),
    "effective_rank": Metric(
        "scale",
        "effective rank",
        "exp(-Σ p ln p).",
        lambda s: s.norms["effective_rank"],
        null=_closed("effective_rank"),
        shown=("study",),
    ),
    "effective_rank_sv": Metric(
        "scale",
        "effective rank of singular values",
        "The same with p = √λ / Σ√λ (Roy and Vetterli 2007).",
        lambda s: s.norms["effective_rank_sv"],
        null=_closed("effective_rank_sv"),
    ),
    "participation_ratio": Metric(
        "scale",
        "participation ratio",
        "(Σλ)² / Σλ².",
        lambda s: s.norms["participation_ratio"],
        null=_closed("participation_ratio"),
    ),
    "entropy": Metric(
        "scale",
        "entropy",
        "-Σ p ln p / ln(rank), in [0, 1].",
        lambda s: s.norms["entropy"],
        null=_closed("entropy"),
        shown=("text", "page", "compared", "medians", "depth", "cards", "study", "results"),
    ),
    "renyi_entropy_2": Metric(
        "scale",
        "Rényi entropy of order 2",
        "-ln Σ p² / ln(rank).",
        lambda s: s.norms["renyi_entropy_2"],
        null=_closed("renyi_entropy_2"),
    ),
    "renyi_entropy_inf": Metric(
        "scale",
        "Rényi entropy of order ∞",
        "-ln max p / ln(rank).",
        lambda s: s.norms["renyi_entropy_inf"],
        null=_closed("renyi_entropy_inf"),
    ),
    "log_norm": Metric(
        "scale",
        "log norm",
        "log Σλ = log ||W||², Frobenius and squared, as in WeightWatcher.",
        scale=None,
        shown=("text", "observe", "page", "depth", "study", "results"),
    ),
    "log_spectral_norm": Metric(
        "scale",
        "log λmax",
        "Logarithm of the largest eigenvalue, the square of the largest singular value.",
        scale=None,
        null=_log_spectral_norm_of_noise,
        shown=("page", "depth", "study", "results"),
    ),
    "norm": Metric(
        "scale",
        "norm",
        "Σλ = ||W||², Frobenius and squared, as in WeightWatcher.",
        lambda s: s.norms["norm"],
        scale=2,
    ),
    "spectral_norm": Metric(
        "scale",
        "λmax",
        "The largest eigenvalue, the square of the largest singular value.",
        lambda s: s.norms["spectral_norm"],
        scale=2,
    ),
    "nuclear_norm": Metric(
        "scale",
        "nuclear norm",
        "Σ √λ.",
        lambda s: s.norms["nuclear_norm"],
        scale=1,
        null=_nuclear_norm_of_noise,
    ),
    "sv_max": Metric("scale", "largest singular value", "√λmax.", lambda s: s.norms["sv_max"], scale=1),
    "sv_min": Metric("scale", "smallest singular value", "√λmin.", lambda s: s.norms["sv_min"], scale=1),
    "matrix_rank": Metric(
        "scale",
        "rank",
        "Number of eigenvalues that are not zero to rounding.",
        lambda s: s.norms["matrix_rank"],
        shown=("page",),
    ),
    "rank_loss": Metric(
        "scale",
        "rank loss",
        "Number of eigenvalues that are zero to rounding.",
        lambda s: s.norms["rank_loss"],
    ),
    "condition_number": Metric(
        "scale",
        "condition number",
        "Largest over smallest singular value.",
        lambda s: s.norms["condition_number"],
        null=_closed("condition_number"),
    ),
    "num_unresolved": Metric(
        "scale",
        "unresolved eigenvalues",
        "Number of eigenvalues below the resolution of the precision.",
        lambda s: s.num_unresolved,
    ),
    # The noise in the bulk, and the spikes.
    "mp_softrank": Metric(
        "bulk",
        "MP soft rank",
        "Upper edge of the Marchenko-Pastur bulk over λmax; about 1 for noise.",
        lambda s: s.noise["mp_softrank"],
        null=_closed("mp_softrank"),
        shown=("text", "page", "medians", "depth", "cards", "study", "results"),
    ),
    "num_spikes": Metric(
        "bulk",
        "spikes",
        "Number of eigenvalues beyond the 99 % quantile of the largest one of noise of that level.",
        lambda s: s.noise["num_spikes"],
        shown=("text", "observe", "page", "compared", "medians", "depth", "study"),
    ),
    "ks_mp": Metric(
        "bulk",
        "KS to MP",
        "Kolmogorov-Smirnov distance of the spectrum without its spikes from the Marchenko-Pastur "
        "law (null: 95 % quantile).",
        lambda s: s.noise["ks_mp"],
        null=_closed("ks_mp"),
        shown=("page", "compared", "medians", "depth", "study"),
    ),
    "tw_statistic": Metric(
        "bulk",
        "Tracy-Widom statistic",
        "The largest eigenvalue on the scale of the Tracy-Widom law.",
        lambda s: s.noise["tw_statistic"],
    ),
    "tw_p": Metric(
        "bulk", "Tracy-Widom p", "How often noise of that level has so large an eigenvalue.", shown=("page",)
    ),
    "noise_std": Metric(
        "bulk",
        "σ of the noise",
        "Standard deviation of the entries of the noise, by the quantiles of the bulk.",
        scale=1,
    ),
    "noise_std_median": Metric("bulk", "σ by the median", "The same by the median eigenvalue.", scale=1),
    "noise_std_frobenius": Metric(
        "bulk", "σ by the norm", "The same by the Frobenius norm, as if all were noise.", scale=1
    ),
    "bulk_min": Metric(
        "bulk",
        "lower bulk edge",
        "Lower edge of the Marchenko-Pastur bulk of that noise.",
        lambda s: s.noise["bulk_min"],
        scale=2,
    ),
    "bulk_max": Metric(
        "bulk",
        "upper bulk edge",
        "Upper edge of the Marchenko-Pastur bulk of that noise.",
        lambda s: s.noise["bulk_max"],
        scale=2,
    ),
    "bbp_theta": Metric(
        "bulk",
        "strength of the largest spike",
        "Strength before noise was added, in units of σ √N (Baik, Ben Arous and Péché).",
        lambda s: s.noise["bbp_theta"],
    ),
    "bbp_overlap_N": Metric(
        "bulk",
        "overlap of its longer vector",
        "Predicted squared cosine of the spike's singular vector of length N with the true one.",
        lambda s: s.noise["bbp_overlap_N"],
    ),
    "bbp_overlap_M": Metric(
        "bulk",
        "overlap of its shorter vector",
        "Predicted squared cosine of the spike's singular vector of length M with the true one.",
        lambda s: s.noise["bbp_overlap_M"],
    ),
    "gavish_donoho_rank": Metric(
        "bulk",
        "Gavish-Donoho rank",
        "Number of eigenvalues above the optimal threshold for unknown noise.",
        lambda s: s.noise["gavish_donoho_rank"],
    ),
    "W_scale": Metric(
        "bulk",
        "scale of WeightWatcher's fit",
        "√(number of eigenvalues / Σλ), by which WeightWatcher scales the weights.",
        scale=-1,
    ),
    "sigma_mp": Metric(
        "bulk",
        "σ of WeightWatcher's fit",
        "σ of WeightWatcher's fit of the Marchenko-Pastur law, for weights scaled by W_scale.",
        lambda s: s.mp_fit["sigma_mp"],
    ),
    "num_spikes_mp_fit": Metric(
        "bulk",
        "spikes of WeightWatcher's fit",
        "Number of eigenvalues above the edge of that fit.",
        lambda s: s.mp_fit["num_spikes_mp_fit"],
    ),
    "mp_softrank_mp_fit": Metric(
        "bulk",
        "MP soft rank of WeightWatcher's fit",
        "Upper edge of that fit over λmax.",
        lambda s: s.mp_fit["mp_softrank_mp_fit"],
    ),
    "bulk_min_mp_fit": Metric(
        "bulk",
        "lower edge of WeightWatcher's fit",
        "Lower edge of that fit.",
        lambda s: s.mp_fit["bulk_min_mp_fit"],
        scale=2,
    ),
    "bulk_max_mp_fit": Metric(
        "bulk",
        "upper edge of WeightWatcher's fit",
        "Upper edge of that fit.",
        lambda s: s.mp_fit["bulk_max_mp_fit"],
        scale=2,
    ),
    # The trace-log condition.
    "num_ERG_spikes": Metric(
        "correlation",
        "ERG tail",
        "Size of the tail whose rescaled eigenvalues multiply to one.",
        lambda s: s.erg["num_ERG_spikes"],
        null=_closed("num_ERG_spikes"),
    ),
    "ERG_gap": Metric(
        "correlation", "ERG gap", "ERG tail minus the tail of the power law.", lambda s: s.erg["ERG_gap"]
    ),
    "detX_val": Metric(
        "correlation",
        "start of the ERG tail",
        "The eigenvalue at which the ERG tail starts.",
        lambda s: s.erg["detX_val"],
        scale=2,
    ),
    # The same entries in random order.
    "max_rand_eval": Metric(
        "shuffles", "λmax, shuffled", "The largest eigenvalue after the entries are shuffled.", scale=2
    ),
    "ww_softrank": Metric(
        "shuffles",
        "shuffled λmax / λmax",
        "The largest eigenvalue after the shuffle over the largest before.",
    ),
    "ww_maxdist": Metric("shuffles", "λmax - shuffled λmax", "The difference of the two.", scale=2),
    "rand_distance": Metric(
        "shuffles",
        "distance to shuffled",
        "Square root of the Jensen-Shannon divergence between the sorted eigenvalues before and after.",
    ),
    "num_traps": Metric(
        "shuffles", "traps", "Number of spikes after the shuffle, which single large entries make."
    ),
    "rand_num_spikes": Metric(
        "shuffles",
        "spikes of WeightWatcher's fit, shuffled",
        "WeightWatcher's fit of the shuffled spectrum: spikes.",
    ),
    "rand_sigma_mp": Metric(
        "shuffles", "σ of WeightWatcher's fit, shuffled", "WeightWatcher's fit of the shuffled spectrum: σ."
    ),
    "rand_mp_softrank": Metric(
        "shuffles",
        "MP soft rank of WeightWatcher's fit, shuffled",
        "WeightWatcher's fit of the shuffled spectrum: upper edge over λmax.",
    ),
    "rand_bulk_min": Metric(
        "shuffles",
        "lower edge of WeightWatcher's fit, shuffled",
        "WeightWatcher's fit of the shuffled spectrum: lower edge.",
        scale=2,
    ),
    "rand_bulk_max": Metric(
        "shuffles",
        "upper edge of WeightWatcher's fit, shuffled",
        "WeightWatcher's fit of the shuffled spectrum: upper edge.",
        scale=2,
    ),
    # Spacings.
    "spacing_ratio": Metric(
        "local",
        "spacing ratio",
        "Mean of min(s, s') / max(s, s') over neighbouring spacings of the bulk.",
        null=_one_slice(neighbours.SPACING_RATIO_GOE),
    ),
    "spacing_ratio_se": Metric("local", "standard error of the spacing ratio", "Its standard error."),
    "brody": Metric(
        "local",
        "Brody parameter",
        "Exponent of Brody's law of spacings: 0 for independent eigenvalues, 1 for those that repel"
        " each other.",
        null=_one_slice(1.0),
    ),
    "number_variance_1": Metric(
        "local",
        "number variance, 1",
        "Variance of the number of eigenvalues in windows that hold 1 on average.",
        null=_one_slice(neighbours.number_variance_goe(1)),
    ),
    "number_variance_2": Metric(
        "local",
        "number variance, 2",
        "Variance of the number of eigenvalues in windows that hold 2 on average.",
        null=_one_slice(neighbours.number_variance_goe(2)),
    ),
    "number_variance_5": Metric(
        "local",
        "number variance, 5",
        "Variance of the number of eigenvalues in windows that hold 5 on average.",
        null=_one_slice(neighbours.number_variance_goe(5)),
    ),
    "number_variance_10": Metric(
        "local",
        "number variance, 10",
        "Variance of the number of eigenvalues in windows that hold 10 on average.",
        null=_one_slice(neighbours.number_variance_goe(10)),
    ),
    # Singular vectors.
    "bulk_mean_vec_entropy": Metric(
        "vectors",
        "mean vector entropy, bulk",
        "Mean over the bulk of the entropy of a histogram of |u| in 100 bins of singular vectors of"
        " length M, as in WeightWatcher.",
    ),
    "bulk_mean_loc_ratio": Metric(
        "vectors",
        "mean localisation ratio, bulk",
        "Mean over the bulk of ||u||_1 / ||u||_inf of singular vectors of length M, as in WeightWatcher.",
    ),
    "bulk_mean_part_ratio": Metric(
        "vectors",
        "mean participation ratio, bulk",
        "Mean over the bulk of ||u||_2 / ||u||_4 of singular vectors of length M, as in WeightWatcher.",
    ),
    "bulk_var_vec_entropy": Metric(
        "vectors",
        "variance vector entropy, bulk",
        "Variance over the bulk of the entropy of a histogram of |u| in 100 bins of singular "
        "vectors of length M, as in WeightWatcher.",
    ),
    "bulk_var_loc_ratio": Metric(
        "vectors",
        "variance localisation ratio, bulk",
        "Variance over the bulk of ||u||_1 / ||u||_inf of singular vectors of length M, as in WeightWatcher.",
    ),
    "bulk_var_part_ratio": Metric(
        "vectors",
        "variance participation ratio, bulk",
        "Variance over the bulk of ||u||_2 / ||u||_4 of singular vectors of length M, as in WeightWatcher.",
    ),
    "tail_mean_vec_entropy": Metric(
        "vectors",
        "mean vector entropy, tail",
        "Mean over the tail of the entropy of a histogram of |u| in 100 bins of singular vectors of"
        " length M, as in WeightWatcher.",
    ),
    "tail_mean_loc_ratio": Metric(
        "vectors",
        "mean localisation ratio, tail",
        "Mean over the tail of ||u||_1 / ||u||_inf of singular vectors of length M, as in WeightWatcher.",
    ),
    "tail_mean_part_ratio": Metric(
        "vectors",
        "mean participation ratio, tail",
        "Mean over the tail of ||u||_2 / ||u||_4 of singular vectors of length M, as in WeightWatcher.",
    ),
    "tail_var_vec_entropy": Metric(
        "vectors",
        "variance vector entropy, tail",
        "Variance over the tail of the entropy of a histogram of |u| in 100 bins of singular "
        "vectors of length M, as in WeightWatcher.",
    ),
    "tail_var_loc_ratio": Metric(
        "vectors",
        "variance localisation ratio, tail",
        "Variance over the tail of ||u||_1 / ||u||_inf of singular vectors of length M, as in WeightWatcher.",
    ),
    "tail_var_part_ratio": Metric(
        "vectors",
        "variance participation ratio, tail",
        "Variance over the tail of ||u||_2 / ||u||_4 of singular vectors of length M, as in WeightWatcher.",
    ),
    "num_non_porter_thomas_N": Metric(
        "vectors",
        "vectors that are not normal, length N",
        "Number of singular vectors of length N that are not normal, at a false discovery rate of 5 %.",
    ),
    "ipr_bulk_N": Metric(
        "vectors",
        "inverse participation ratio, bulk, length N",
        "Mean of Σ u⁴ over the bulk of the singular vectors of length N.",
    ),
    "ipr_leading_N": Metric(
        "vectors",
        "inverse participation ratio, leading, length N",
        "Mean of Σ u⁴ over the leading 10 of the singular vectors of length N.",
    ),
    "vector_entropy_bulk_N": Metric(
        "vectors",
        "vector entropy, bulk, length N",
        "Mean of -Σ u² ln u² over the bulk of the singular vectors of length N.",
    ),
    "vector_entropy_leading_N": Metric(
        "vectors",
        "vector entropy, leading, length N",
        "Mean of -Σ u² ln u² over the leading 10 of the singular vectors of length N.",
    ),
    "num_non_porter_thomas_M": Metric(
        "vectors",
        "vectors that are not normal, length M",
        "Number of singular vectors of length M that are not normal, at a false discovery rate of 5 %.",
    ),
    "ipr_bulk_M": Metric(
        "vectors",
        "inverse participation ratio, bulk, length M",
        "Mean of Σ u⁴ over the bulk of the singular vectors of length M.",
    ),
    "ipr_leading_M": Metric(
        "vectors",
        "inverse participation ratio, leading, length M",
        "Mean of Σ u⁴ over the leading 10 of the singular vectors of length M.",
    ),
    "vector_entropy_bulk_M": Metric(
        "vectors",
        "vector entropy, bulk, length M",
        "Mean of -Σ u² ln u² over the bulk of the singular vectors of length M.",
    ),
    "vector_entropy_leading_M": Metric(
        "vectors",
        "vector entropy, leading, length M",
        "Mean of -Σ u² ln u² over the leading 10 of the singular vectors of length M.",
    ),
    # The update, of two sides.
    "norm_ratio": Metric(
        "update",
        "‖update‖ / ‖before‖",
        "Frobenius norm of the update over that of the weights before.",
        shown=("text", "page", "compared", "medians", "depth", "cards", "update", "results", "overview"),
    ),
    "spectral_ratio": Metric(
        "update", "‖update‖₂ / ‖before‖₂", "The same of largest singular values.", shown=("update",)
    ),
    "cosine": Metric(
        "update",
        "cosine of before and after",
        "Cosine of the angle between the weights before and after, as vectors.",
        shown=("page", "compared", "update"),
    ),
    "cosine_other": Metric(
        "update",
        "cosine with the other update",
        "Cosine of the angle between this update and that of another run.",
    ),
    "update_energy_top": Metric(
        "alignment",
        "energy of the update, top",
        "Share of the update's squared norm in the subspaces of the leading 10 singular vectors of before.",
        shown=("update",),
    ),
    "update_energy_bottom": Metric(
        "alignment",
        "energy of the update, bottom",
        "Share of the update's squared norm in the subspaces of the trailing 10.",
        shown=("update",),
    ),
    "update_energy_bulk": Metric(
        "alignment",
        "energy of the update, bulk",
        "Share of the update's squared norm in the subspaces between.",
    ),
    "overlap_left": Metric(
        "alignment",
        "overlap of leading subspaces, left",
        "Mean squared cosine of the principal angles between the leading left subspaces before and after.",
        shown=("update",),
    ),
    "overlap_right": Metric(
        "alignment",
        "overlap of leading subspaces, right",
        "Mean squared cosine of the principal angles between the leading right subspaces before and after.",
        shown=("update",),
    ),
    "angle_left": Metric("alignment", "largest angle, left", "The largest of these angles, in degrees."),
    "angle_right": Metric("alignment", "largest angle, right", "The largest of these angles, in degrees."),
    "intruders_left": Metric(
        "alignment",
        "intruders, left",
        "Number of leading left singular vectors of after with |cos| below 0.5 with every one of before.",
        shown=("update",),
    ),
    "intruders_right": Metric(
        "alignment",
        "intruders, right",
        "Number of leading right singular vectors of after with |cos| below 0.5 with every one of before.",
        shown=("update",),
    ),
    "shift_top": Metric("alignment", "change of λmax", "Relative change of the largest singular value."),
    "shift_leading": Metric(
        "alignment",
        "change, leading",
        "Mean change of the leading 10, rank by rank, in units of the largest before.",
    ),
    "shift_bulk": Metric(
        "alignment",
        "change, bulk",
        "Mean change of the singular values between, rank by rank, in units of the largest before.",
    ),
    "shift_trailing": Metric(
        "alignment",
        "change, trailing",
        "Mean change of the trailing 10, rank by rank, in units of the largest before.",
    ),
}


# What the compiled programs give besides, for `table.make`: group and computation.
INTERMEDIATE: dict[str, tuple[str, Compute]] = {
    "noise_variance": ("bulk", lambda s: s.noise["noise_variance"]),
    "noise_variance_median": ("bulk", lambda s: s.noise["noise_variance_median"]),
}


def computed(groups: Iterable[str]) -> dict[str, tuple[str, Compute]]:
    """Group and computation of what the compiled programs make for these groups; those of scale always."""
    wanted = {"scale", *groups}
    made = {name: (metric.group, metric.compute) for name, metric in METRICS.items()}
    return {
        name: (group, compute)
        for name, (group, compute) in (made | INTERMEDIATE).items()
        if compute is not None and group in wanted
    }
