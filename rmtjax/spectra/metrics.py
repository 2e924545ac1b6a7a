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
    "text": "the table that a command prints",
    "observe": "the scalars that the observer of training gives",
    "page": "the table of matrices on the page of one model",
    "compared": "the table of matrices on the page of two models and the update between them",
    "medians": "the medians by kind of layer on a page",
    "depth": "the charts over depth that are open on a page",
    "caption": "the sentence above a matrix's spectrum on a page",
    "summary": "the medians in the words about a run",
    "cards": "the cards at the head of a run's page",
    "results": "results.csv and summary.csv of a study",
    "overview": "the update's columns in the overview of a study",
    "study": "study.csv, of the weights after training and of the update",
    "update": "study.csv, of the update alone",
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
    "alpha": Metric(
        "tail",
        "α",
        "Exponent of the power law λ^-α that is fitted to the tail by maximum likelihood.",
        lambda s: s.tail["alpha"],
        shown=(
            "text",
            "observe",
            "page",
            "compared",
            "medians",
            "depth",
            "summary",
            "cards",
            "results",
            "overview",
            "study",
        ),
    ),
    "alpha_se": Metric(
        "tail",
        "standard error of α",
        "(α - 1) / √n, with n eigenvalues in the tail.",
        lambda s: s.tail["alpha_se"],
    ),
    "alpha_null_p": Metric(
        "tail",
        "p in noise",
        "How often noise of that shape has so small an α; 0.0025 stands for less than 0.005.",
        shown=("text", "page", "compared", "medians", "caption"),
    ),
    "gof_p": Metric(
        "bootstrap",
        "p of fit",
        "How often a true power law is as far from its fit as the tail is, by bootstrap.",
        shown=("page", "compared", "medians", "caption"),
    ),
    "gof_p_se": Metric(
        "bootstrap", "error of p of fit", "Standard error of gof_p, from the number of replicates."
    ),
    "D": Metric(
        "tail",
        "D",
        "Kolmogorov-Smirnov distance of the tail from its power law.",
        lambda s: s.tail["D"],
        shown=("text", "page", "caption"),
    ),
    "sigma": Metric("tail", "σ of α", "The standard error of α under WeightWatcher's name."),
    "xmin": Metric(
        "tail", "xmin", "The eigenvalue at which the tail starts.", lambda s: s.tail["xmin"], scale=2
    ),
    "num_pl_spikes": Metric(
        "tail",
        "tail size",
        "Number of eigenvalues in the tail.",
        lambda s: s.tail["num_pl_spikes"],
        shown=("page", "caption"),
    ),
    "alpha_weighted": Metric(
        "tail", "α log λ max", "α times the logarithm of the largest eigenvalue.", scale=None
    ),
    "log_alpha_norm": Metric(
        "tail",
        "log Σ λ^α",
        "Logarithm of the sum of λ^α.",
        lambda s: tails.log_power_sum(s.eigenvalues, s.tail["alpha"]),
        scale=None,
    ),
    "alpha_hill": Metric(
        "tail",
        "Hill α",
        "Hill's exponent of the upper half of the spectrum.",
        lambda s: s.hill(s.nonzero // 2),
        null=_closed("alpha_hill"),
        shown=("study",),
    ),
    "alpha_hill_10": Metric(
        "tail",
        "Hill α, upper tenth",
        "Hill's exponent of the upper tenth of the spectrum.",
        lambda s: s.hill(s.nonzero // 10),
    ),
    "alpha_hill_sqrt": Metric(
        "tail",
        "Hill α, √n largest",
        "Hill's exponent of the √n largest eigenvalues.",
        lambda s: s.hill(jnp.sqrt(s.nonzero).astype(jnp.int32)),
    ),
    "R_exponential": Metric(
        "tail",
        "R, exponential",
        "Likelihood ratio of the power law against an exponential law: above 0 it speaks for the power law.",
        lambda s: s.rivals["R_exponential"],
    ),
    "p_exponential": Metric(
        "tail",
        "p, exponential",
        "How often rivals equally far from the truth differ as much.",
        lambda s: s.rivals["p_exponential"],
    ),
    "R_lognormal": Metric(
        "tail",
        "R, lognormal",
        "Likelihood ratio of the power law against a lognormal law, of which it is a limit: never above 0.",
        lambda s: s.rivals["R_lognormal"],
    ),
    "p_lognormal": Metric(
        "tail",
        "p, lognormal",
        "How often rivals equally far from the truth differ as much.",
        lambda s: s.rivals["p_lognormal"],
    ),
    "R_tpl": Metric(
        "tail",
        "R, truncated power law",
        "Logarithm of the likelihood ratio of the power law against a truncated one, which contains it.",
        lambda s: s.rivals["R_tpl"],
    ),
    "p_tpl": Metric(
        "tail",
        "p, truncated power law",
        "How often a true power law gains as much by truncation.",
        lambda s: s.rivals["p_tpl"],
    ),
    "alpha_tpl": Metric(
        "tail",
        "α, truncated",
        "Exponent of the truncated power law λ^-α exp(-Λ λ).",
        lambda s: s.rivals["alpha_tpl"],
    ),
    "Lambda": Metric(
        "tail",
        "Λ",
        "Rate of the cut-off of the truncated power law λ^-α exp(-Λ λ).",
        lambda s: s.rivals["Lambda"],
        scale=-2,
    ),
    "alpha_clipped": Metric(
        "fingers",
        "α, clipped",
        "α without the few largest eigenvalues, where leaving them out lowers it by more than 1.",
    ),
    "num_fingers": Metric("fingers", "fingers", "How many eigenvalues were left out for the clipped α."),
    "alpha_farms": Metric(
        "farms", "FARMS α", "Hill's exponent of the upper half of the spectrum of square windows of one size."
    ),
    "stable_rank": Metric(
        "scale",
        "stable rank",
        "Σλ / λ_max.",
        lambda s: s.norms["stable_rank"],
        null=_closed("stable_rank"),
        shown=(
            "text",
            "observe",
            "page",
            "compared",
            "medians",
            "depth",
            "summary",
            "results",
            "overview",
            "study",
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
        "exp(-Σ p ln p) with p = √λ / Σ√λ (Roy and Vetterli 2007).",
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
        "-Σ p ln p / ln(rank), between 0 and 1.",
        lambda s: s.norms["entropy"],
        null=_closed("entropy"),
        shown=("text", "page", "compared", "medians", "depth", "summary", "results", "study"),
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
        "unresolved",
        "Eigenvalues below the resolution of the computation's precision.",
        lambda s: s.num_unresolved,
    ),
    "norm": Metric("scale", "‖W‖²", "Σλ, the squared Frobenius norm.", lambda s: s.norms["norm"], scale=2),
    "log_norm": Metric(
        "scale",
        "log norm",
        "Logarithm of the squared Frobenius norm.",
        scale=None,
        shown=("text", "observe", "page", "depth", "results", "study"),
    ),
    "spectral_norm": Metric(
        "scale",
        "λ max",
        "Largest eigenvalue, the square of the largest singular value.",
        lambda s: s.norms["spectral_norm"],
        scale=2,
    ),
    "log_spectral_norm": Metric(
        "scale",
        "log λ max",
        "Logarithm of the largest eigenvalue.",
        scale=None,
        null=_log_spectral_norm_of_noise,
        shown=("page", "depth", "results", "study"),
    ),
    "nuclear_norm": Metric(
        "scale",
        "nuclear norm",
        "Σ √λ.",
        lambda s: s.norms["nuclear_norm"],
        scale=1,
        null=_nuclear_norm_of_noise,
    ),
    "sv_max": Metric("scale", "largest singular value", "√λ_max.", lambda s: s.norms["sv_max"], scale=1),
    "sv_min": Metric("scale", "smallest singular value", "√λ_min.", lambda s: s.norms["sv_min"], scale=1),
    "noise_std": Metric(
        "bulk",
        "noise σ",
        "Standard deviation of the entries' noise, by the quantiles of the bulk.",
        scale=1,
        shown=("caption",),
    ),
    "noise_std_median": Metric(
        "bulk",
        "noise σ by median",
        "Standard deviation of the entries' noise, by the median eigenvalue.",
        scale=1,
    ),
    "noise_std_frobenius": Metric(
        "bulk", "noise σ by norm", "Standard deviation of the entries, as if all of them were noise.", scale=1
    ),
    "bulk_min": Metric(
        "bulk",
        "lower edge",
        "Lower edge of the Marchenko-Pastur bulk of that noise.",
        lambda s: s.noise["bulk_min"],
        scale=2,
    ),
    "bulk_max": Metric(
        "bulk",
        "upper edge",
        "Upper edge of the Marchenko-Pastur bulk of that noise.",
        lambda s: s.noise["bulk_max"],
        scale=2,
    ),
    "mp_softrank": Metric(
        "bulk",
        "MP soft rank",
        "Upper edge of the bulk over the largest eigenvalue.",
        lambda s: s.noise["mp_softrank"],
        null=_closed("mp_softrank"),
        shown=("text", "page", "medians", "depth", "summary", "results", "study"),
    ),
    "num_spikes": Metric(
        "bulk",
        "spikes",
        "Number of eigenvalues beyond the 99 % quantile of the largest eigenvalue of that noise.",
        lambda s: s.noise["num_spikes"],
        shown=("text", "observe", "page", "compared", "medians", "depth", "caption", "study"),
    ),
    "tw_statistic": Metric(
        "bulk",
        "Tracy-Widom statistic",
        "The largest eigenvalue on the scale of Tracy and Widom.",
        lambda s: s.noise["tw_statistic"],
    ),
    "tw_p": Metric(
        "bulk",
        "Tracy-Widom p",
        "How often noise has as large a largest eigenvalue.",
        shown=("page", "caption"),
    ),
    "ks_mp": Metric(
        "bulk",
        "KS to MP",
        "Kolmogorov-Smirnov distance of the spectrum without its spikes from the Marchenko-Pastur law.",
        lambda s: s.noise["ks_mp"],
        null=_closed("ks_mp"),
        shown=("page", "compared", "medians", "depth", "caption", "study"),
    ),
    "bbp_theta": Metric(
        "bulk",
        "strength of the largest spike",
        "Strength of the largest spike before noise was added, in units of σ √N.",
        lambda s: s.noise["bbp_theta"],
    ),
    "bbp_overlap_N": Metric(
        "bulk",
        "overlap of the largest spike, N",
        "Predicted squared cosine of its singular vector of length N with the true one.",
        lambda s: s.noise["bbp_overlap_N"],
    ),
    "bbp_overlap_M": Metric(
        "bulk",
        "overlap of the largest spike, M",
        "Predicted squared cosine of its singular vector of length M with the true one.",
        lambda s: s.noise["bbp_overlap_M"],
    ),
    "gavish_donoho_rank": Metric(
        "bulk",
        "Gavish-Donoho rank",
        "Number of eigenvalues above the optimal threshold of Gavish and Donoho for unknown noise.",
        lambda s: s.noise["gavish_donoho_rank"],
    ),
    "W_scale": Metric(
        "bulk",
        "W scale",
        "The factor that brings the mean eigenvalue to 1, of the singular values.",
        scale=-1,
    ),
    "sigma_mp": Metric(
        "bulk", "σ MP", "WeightWatcher's σ, in units of the scaled spectrum.", lambda s: s.mp_fit["sigma_mp"]
    ),
    "num_spikes_mp_fit": Metric(
        "bulk",
        "spikes, density fit",
        "Spikes above the bulk of WeightWatcher's fit.",
        lambda s: s.mp_fit["num_spikes_mp_fit"],
    ),
    "mp_softrank_mp_fit": Metric(
        "bulk",
        "MP soft rank, density fit",
        "Soft rank of WeightWatcher's fit.",
        lambda s: s.mp_fit["mp_softrank_mp_fit"],
    ),
    "bulk_min_mp_fit": Metric(
        "bulk",
        "lower edge, density fit",
        "Lower edge of WeightWatcher's fit.",
        lambda s: s.mp_fit["bulk_min_mp_fit"],
        scale=2,
    ),
    "bulk_max_mp_fit": Metric(
        "bulk",
        "upper edge, density fit",
        "Upper edge of WeightWatcher's fit.",
        lambda s: s.mp_fit["bulk_max_mp_fit"],
        scale=2,
    ),
    "num_ERG_spikes": Metric(
        "correlation",
        "ERG tail size",
        "Number of eigenvalues in the tail whose rescaled eigenvalues multiply to one.",
        lambda s: s.erg["num_ERG_spikes"],
        null=_closed("num_ERG_spikes"),
    ),
    "ERG_gap": Metric(
        "correlation",
        "ERG gap",
        "Size of the ERG tail less the size of the power-law tail.",
        lambda s: s.erg["ERG_gap"],
    ),
    "detX_val": Metric(
        "correlation",
        "start of the ERG tail",
        "The eigenvalue at which the ERG tail starts.",
        lambda s: s.erg["detX_val"],
        scale=2,
    ),
    "max_rand_eval": Metric(
        "shuffles", "λ max, shuffled", "Largest eigenvalue of the same entries in random order.", scale=2
    ),
    "ww_softrank": Metric(
        "shuffles", "soft rank, shuffled", "Largest eigenvalue after the shuffle over that before."
    ),
    "ww_maxdist": Metric(
        "shuffles", "λ max less shuffled", "Largest eigenvalue before the shuffle less that after.", scale=2
    ),
    "rand_distance": Metric(
        "shuffles",
        "distance from shuffled",
        "√ of the Jensen-Shannon divergence of the sorted eigenvalues before and after the shuffle.",
    ),
    "num_traps": Metric(
        "shuffles", "traps", "Spikes of the shuffled entries: they come from single large entries."
    ),
    "rand_num_spikes": Metric(
        "shuffles", "spikes, shuffled", "Spikes above WeightWatcher's fit of the shuffled entries."
    ),
    "rand_sigma_mp": Metric(
        "shuffles", "σ MP, shuffled", "σ of WeightWatcher's fit of the shuffled entries."
    ),
    "rand_mp_softrank": Metric(
        "shuffles", "MP soft rank, shuffled", "Soft rank of WeightWatcher's fit of the shuffled entries."
    ),
    "rand_bulk_min": Metric(
        "shuffles",
        "lower edge, shuffled",
        "Lower edge of WeightWatcher's fit of the shuffled entries.",
        scale=2,
    ),
    "rand_bulk_max": Metric(
        "shuffles",
        "upper edge, shuffled",
        "Upper edge of WeightWatcher's fit of the shuffled entries.",
        scale=2,
    ),
    "spacing_ratio": Metric(
        "local",
        "spacing ratio",
        "Mean of the smaller over the larger of two neighbouring spacings.",
        null=_one_slice(neighbours.SPACING_RATIO_GOE),
    ),
    "spacing_ratio_se": Metric("local", "error of the spacing ratio", "Standard error of the spacing ratio."),
    "brody": Metric(
        "local",
        "Brody exponent",
        "Exponent of level repulsion: 1 for random matrices, 0 for independent points.",
        null=_one_slice(1.0),
    ),
    "number_variance_1": Metric(
        "local",
        "number variance, 1",
        "Variance of the number of eigenvalues in windows that hold 1 in the mean.",
        null=_one_slice(neighbours.number_variance_goe(1)),
    ),
    "number_variance_2": Metric(
        "local",
        "number variance, 2",
        "Variance of the number of eigenvalues in windows that hold 2 in the mean.",
        null=_one_slice(neighbours.number_variance_goe(2)),
    ),
    "number_variance_5": Metric(
        "local",
        "number variance, 5",
        "Variance of the number of eigenvalues in windows that hold 5 in the mean.",
        null=_one_slice(neighbours.number_variance_goe(5)),
    ),
    "number_variance_10": Metric(
        "local",
        "number variance, 10",
        "Variance of the number of eigenvalues in windows that hold 10 in the mean.",
        null=_one_slice(neighbours.number_variance_goe(10)),
    ),
    "bulk_mean_vec_entropy": Metric(
        "vectors",
        "mean histogram entropy, bulk",
        "Mean of the histogram entropy of the singular vectors of the bulk.",
    ),
    "bulk_mean_loc_ratio": Metric(
        "vectors",
        "mean localisation ratio, bulk",
        "Mean of the localisation ratio of the singular vectors of the bulk.",
    ),
    "bulk_mean_part_ratio": Metric(
        "vectors",
        "mean participation ratio, bulk",
        "Mean of the participation ratio of the singular vectors of the bulk.",
    ),
    "bulk_var_vec_entropy": Metric(
        "vectors",
        "var histogram entropy, bulk",
        "Variance of the histogram entropy of the singular vectors of the bulk.",
    ),
    "bulk_var_loc_ratio": Metric(
        "vectors",
        "var localisation ratio, bulk",
        "Variance of the localisation ratio of the singular vectors of the bulk.",
    ),
    "bulk_var_part_ratio": Metric(
        "vectors",
        "var participation ratio, bulk",
        "Variance of the participation ratio of the singular vectors of the bulk.",
    ),
    "tail_mean_vec_entropy": Metric(
        "vectors",
        "mean histogram entropy, tail",
        "Mean of the histogram entropy of the singular vectors of the tail.",
    ),
    "tail_mean_loc_ratio": Metric(
        "vectors",
        "mean localisation ratio, tail",
        "Mean of the localisation ratio of the singular vectors of the tail.",
    ),
    "tail_mean_part_ratio": Metric(
        "vectors",
        "mean participation ratio, tail",
        "Mean of the participation ratio of the singular vectors of the tail.",
    ),
    "tail_var_vec_entropy": Metric(
        "vectors",
        "var histogram entropy, tail",
        "Variance of the histogram entropy of the singular vectors of the tail.",
    ),
    "tail_var_loc_ratio": Metric(
        "vectors",
        "var localisation ratio, tail",
        "Variance of the localisation ratio of the singular vectors of the tail.",
    ),
    "tail_var_part_ratio": Metric(
        "vectors",
        "var participation ratio, tail",
        "Variance of the participation ratio of the singular vectors of the tail.",
    ),
    "num_non_porter_thomas_N": Metric(
        "vectors",
        "vectors that are not normal, N",
        "Number of singular vectors of length N that differ from the normal law of noise.",
    ),
    "ipr_bulk_N": Metric(
        "vectors",
        "inverse participation ratio, bulk, N",
        "Mean inverse participation ratio of the singular vectors of length N of the bulk.",
    ),
    "ipr_leading_N": Metric(
        "vectors",
        "inverse participation ratio, leading, N",
        "Mean inverse participation ratio of the singular vectors of length N of the 10 largest "
        "singular values.",
    ),
    "vector_entropy_bulk_N": Metric(
        "vectors",
        "entropy of the squared entries, bulk, N",
        "Mean entropy of the squared entries of the singular vectors of length N of the bulk.",
    ),
    "vector_entropy_leading_N": Metric(
        "vectors",
        "entropy of the squared entries, leading, N",
        "Mean entropy of the squared entries of the singular vectors of length N of the 10 "
        "largest singular values.",
    ),
    "num_non_porter_thomas_M": Metric(
        "vectors",
        "vectors that are not normal, M",
        "Number of singular vectors of length M that differ from the normal law of noise.",
    ),
    "ipr_bulk_M": Metric(
        "vectors",
        "inverse participation ratio, bulk, M",
        "Mean inverse participation ratio of the singular vectors of length M of the bulk.",
    ),
    "ipr_leading_M": Metric(
        "vectors",
        "inverse participation ratio, leading, M",
        "Mean inverse participation ratio of the singular vectors of length M of the 10 largest "
        "singular values.",
    ),
    "vector_entropy_bulk_M": Metric(
        "vectors",
        "entropy of the squared entries, bulk, M",
        "Mean entropy of the squared entries of the singular vectors of length M of the bulk.",
    ),
    "vector_entropy_leading_M": Metric(
        "vectors",
        "entropy of the squared entries, leading, M",
        "Mean entropy of the squared entries of the singular vectors of length M of the 10 "
        "largest singular values.",
    ),
    "norm_ratio": Metric(
        "update",
        "size of update",
        "Frobenius norm of the update over that of the weights before.",
        shown=(
            "text",
            "page",
            "compared",
            "medians",
            "depth",
            "summary",
            "cards",
            "results",
            "overview",
            "update",
        ),
    ),
    "spectral_ratio": Metric(
        "update",
        "spectral size of update",
        "Largest singular value of the update over that of the weights before.",
        shown=("update",),
    ),
    "cosine": Metric(
        "update",
        "cosine",
        "Cosine of the angle between the weights before and after.",
        shown=("page", "compared", "update"),
    ),
    "cosine_other": Metric(
        "update",
        "cosine to the other update",
        "Cosine of the angle between this update and that of another run from the same weights.",
    ),
    "update_energy_top": Metric(
        "alignment",
        "energy in leading vectors",
        "Share of the update in the leading singular vectors of the weights before.",
        shown=("update",),
    ),
    "update_energy_bulk": Metric(
        "alignment",
        "energy in middle vectors",
        "Share of the update in the singular vectors between the leading and the trailing ones.",
    ),
    "update_energy_bottom": Metric(
        "alignment",
        "energy in trailing vectors",
        "Share of the update in the trailing singular vectors of the weights before.",
        shown=("update",),
    ),
    "overlap_left": Metric(
        "alignment",
        "overlap, left",
        "Mean squared cosine between the leading left singular subspaces before and after.",
        shown=("update",),
    ),
    "overlap_right": Metric(
        "alignment",
        "overlap, right",
        "Mean squared cosine between the leading right singular subspaces before and after.",
        shown=("update",),
    ),
    "angle_left": Metric(
        "alignment",
        "largest angle, left",
        "Largest principal angle between the leading left singular subspaces, in degrees.",
    ),
    "angle_right": Metric(
        "alignment",
        "largest angle, right",
        "Largest principal angle between the leading right singular subspaces, in degrees.",
    ),
    "intruders_left": Metric(
        "alignment",
        "intruders, left",
        "Number of leading left singular vectors after training that are far from all of those before.",
        shown=("update",),
    ),
    "intruders_right": Metric(
        "alignment",
        "intruders, right",
        "Number of leading right singular vectors after training that are far from all of those before.",
        shown=("update",),
    ),
    "shift_top": Metric("alignment", "shift, largest", "Relative change of the largest singular value."),
    "shift_leading": Metric(
        "alignment", "shift, leading", "Mean change of the leading singular values, over the largest before."
    ),
    "shift_bulk": Metric(
        "alignment",
        "shift, middle",
        "Mean change of the singular values between the leading and the trailing ones, over the "
        "largest before.",
    ),
    "shift_trailing": Metric(
        "alignment",
        "shift, trailing",
        "Mean change of the trailing singular values, over the largest before.",
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
