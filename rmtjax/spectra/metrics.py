"""The one dict of spectral metrics: what each is, how it is computed, what noise shows, where it is shown.

The compiled programs, the table, the printed text, the observer of training, `--metrics`, the pages and the
study read it. Its order is that of the table's columns and of every list. To add a metric, add one entry:

    "peak": Metric(
        "scale", "peak", "Largest eigenvalue over the mean eigenvalue.",
        lambda batch: batch.eigenvalues[:, -1] * batch.count / batch.norms["norm"],
        shown=("text", "page", "study", "results"),
    ),
"""

import difflib
from collections.abc import Callable, Iterable
from typing import NamedTuple

import jax.numpy as jnp
from jaxtyping import Array

from rmtjax.spectra import neighbours, nulls, tails
from rmtjax.spectra.batch import Batch

# The groups of metrics. Those of DEFAULT need eigenvalues alone; the others are computed on request, and
# "alignment" needs two sides to compare. The group "scale" is always computed.
DEFAULT = ("scale", "tail", "bulk", "correlation")
GROUPS = (*DEFAULT, "local", "vectors", "bootstrap", "farms", "fingers", "shuffles", "nulls", "alignment")

# What each group is, and where it comes from; "update" is computed wherever two sides are compared.
ABOUT = {
    "scale": "norms, ranks and entropies of the spectrum (WeightWatcher; Martin and Mahoney, JMLR 22 (2021))",
    "tail": "power law of the tail and its rivals (Clauset, Shalizi and Newman, SIAM Review 51 (2009); Hill,"
    " Ann. Statist. 3 (1975))",
    "bulk": "noise and spikes (Marchenko and Pastur 1967; Tracy and Widom 1996; Baik, Ben Arous and Péché"
    " 2005; Gavish and Donoho, arXiv 1305.5870)",
    "correlation": "trace-log condition of SETOL (Martin and Hinrichs, arXiv 2507.17912)",
    "local": "distances of neighbouring eigenvalues (Thamm, Staats and Rosenow, Phys. Rev. E 106 (2022); Atas"
    " et al., Phys. Rev. Lett. 110 (2013))",
    "vectors": "entries of singular vectors (Thamm, Staats and Rosenow 2022; WeightWatcher)",
    "bootstrap": "goodness of fit of the power law (Clauset, Shalizi and Newman 2009, section 4.1)",
    "farms": "Hill's exponent over windows of a fixed shape (arXiv 2506.06280)",
    "fingers": "WeightWatcher's fit without outlying eigenvalues (fix_fingers)",
    "shuffles": "the same entries shuffled (WeightWatcher's randomize)",
    "nulls": "100 matrices of noise of each shape: median, 5 % and 95 % quantile of every metric that does"
    " not depend on the size of the entries, in <metric>_null, _null_low and _null_high",
    "update": "sizes of an update against the weights before",
    "alignment": "how an update is aligned with the weights (Shuttleworth et al., arXiv 2410.21228)",
}

# Groups that need the entries of a matrix, or compare it with independent entries: not defined for products.
OF_ENTRIES = frozenset({"bulk", "local", "vectors", "farms", "shuffles"})

# Where a metric may be shown.
PLACES = {
    "text": "the table that a command prints",
    "observe": "the scalars of the observer of training",
    "page": "the table of matrices on the page of one model",
    "compared": "the table of matrices on the page of two models and the update between them",
    "medians": "the medians by kind of layer on a page",
    "depth": "the charts over depth that are open on a page",
    "caption": "the sentence above a matrix's spectrum on a page",
    "summary": "the medians in the text about a run",
    "cards": "the cards at the top of a run's page",
    "results": "results.csv and summary.csv of a study",
    "overview": "the columns of the update in the overview of a study",
    "study": "study.csv, for the weights after training and for the update",
    "update": "study.csv, for the update alone",
}
# The main metrics have these places in common.
_MAIN = ("page", "medians", "depth", "summary", "results")

Compute = Callable[[Batch], Array]


class Metric(NamedTuple):
    """One metric.

    Attributes:
      group: one of `GROUPS`, or "update": computed wherever two models are compared.
      title: head of a column.
      about: one sentence. In it λ are the eigenvalues of W^T W, not divided by N, pooled over the slices of a
        convolution; p = λ / Σλ; log is to base 10.
      compute: `batch -> [layers]`, inside a compiled program, for weights scaled by a power of two; or the
        name of an attribute of `Batch`, a dict that holds the metric under its own name. None: the group's
        own code computes it, or `table.make` does from other metrics.
      scale: s, if the metric grows as the s-th power of the weights; None if it depends on the logarithm of
        their scale.
      null: `(noise, columns) -> [rows]`, the metric for noise of the same shape and, if `scale` is not 0, of
        the same norm; or the name of an attribute of `nulls.Noise`, a dict that holds it under the metric's
        name.
        None: no closed form is known (`--metrics=nulls` simulates it; for alpha it is tabulated).
      shown: names of `PLACES`.
    """

    group: str
    title: str
    about: str
    compute: Compute | str | None = None
    scale: int | None = 0
    null: nulls.Null | str | None = None
    shown: tuple[str, ...] = ()


def _of_singular_vectors(side: str) -> dict[str, Metric]:
    """The metrics of singular vectors of length N or M."""
    entries = {
        f"num_non_porter_thomas_{side}": Metric(
            "vectors",
            f"vectors that are not normal, {side}",
            f"Number of singular vectors of length {side} whose entries are not normally distributed.",
        )
    }
    for name, words in (
        ("ipr", "inverse participation ratio"),
        ("vector_entropy", "entropy of the squared entries"),
    ):
        for part, values in (("bulk", "bulk"), ("leading", "10 largest singular values")):
            entries[f"{name}_{part}_{side}"] = Metric(
                "vectors",
                f"{words}, {part}, {side}",
                f"Mean {words} of the singular vectors of length {side} of the {values}.",
            )
    return entries


METRICS: dict[str, Metric] = {
    "alpha": Metric(
        "tail",
        "α",
        "Exponent of the power law λ^-α that is fitted to the tail by maximum likelihood.",
        "power_law",
        shown=("text", *_MAIN, "observe", "compared", "cards", "overview", "study"),
    ),
    "alpha_se": Metric(
        "tail", "standard error of α", "(α - 1) / √n for a tail of n eigenvalues.", "power_law"
    ),
    "alpha_null_p": Metric(
        "tail",
        "p in noise",
        "Probability of an α this small or smaller in noise of this shape; 0.0025 stands for below 0.005.",
        shown=("text", "page", "compared", "medians", "caption"),
    ),
    "gof_p": Metric(
        "bootstrap",
        "p of fit",
        "Bootstrap probability that a true power law lies at least as far from its fit as the tail.",
        shown=("page", "compared", "medians", "caption"),
    ),
    "gof_p_se": Metric(
        "bootstrap", "error of p of fit", "Standard error of gof_p, from the number of replicates."
    ),
    "D": Metric(
        "tail",
        "D",
        "Kolmogorov-Smirnov distance between the tail and the fitted power law.",
        "power_law",
        shown=("page", "caption"),
    ),
    "sigma": Metric("tail", "σ of α", "The standard error of α under WeightWatcher's name."),
    "xmin": Metric("tail", "xmin", "The eigenvalue at which the tail starts.", "power_law", scale=2),
    "num_pl_spikes": Metric(
        "tail", "tail size", "Number of eigenvalues in the tail.", "power_law", shown=("page", "caption")
    ),
    "alpha_weighted": Metric(
        "tail", "α log λ max", "α times the logarithm of the largest eigenvalue.", scale=None
    ),
    "log_alpha_norm": Metric(
        "tail",
        "log Σ λ^α",
        "Logarithm of the sum of λ^α.",
        lambda batch: tails.log_power_sum(batch.eigenvalues, batch.power_law["alpha"]),
        scale=None,
    ),
    "alpha_hill": Metric(
        "tail",
        "Hill α",
        "Hill's exponent of the upper half of the spectrum.",
        lambda batch: batch.hill(batch.nonzero // 2),
        null="closed_forms",
        shown=("study",),
    ),
    "alpha_hill_10": Metric(
        "tail",
        "Hill α, upper tenth",
        "Hill's exponent of the upper tenth of the spectrum.",
        lambda batch: batch.hill(batch.nonzero // 10),
    ),
    "alpha_hill_sqrt": Metric(
        "tail",
        "Hill α, √n largest",
        "Hill's exponent of the √n largest eigenvalues.",
        lambda batch: batch.hill(jnp.sqrt(batch.nonzero).astype(jnp.int32)),
    ),
    "R_exponential": Metric(
        "tail",
        "R, exponential",
        "Normalised log-likelihood ratio of the power law to an exponential law; above 0 it fits better.",
        "rivals",
    ),
    "p_exponential": Metric(
        "tail",
        "p, exponential",
        "Probability of an R at least as far from 0 if both laws are equally far from the truth.",
        "rivals",
    ),
    "R_lognormal": Metric(
        "tail",
        "R, lognormal",
        "Normalised log-likelihood ratio of the power law to a lognormal law, whose limit it is; at most 0.",
        "rivals",
    ),
    "p_lognormal": Metric(
        "tail",
        "p, lognormal",
        "Probability that a true power law gains as much by the lognormal law, which contains it.",
        "rivals",
    ),
    "R_tpl": Metric(
        "tail",
        "R, truncated power law",
        "Log-likelihood ratio of the power law to the truncated power law, which contains it; at most 0.",
        "rivals",
    ),
    "p_tpl": Metric(
        "tail",
        "p, truncated power law",
        "Probability that truncation raises the likelihood of a true power law as much.",
        "rivals",
    ),
    "alpha_tpl": Metric(
        "tail", "α, truncated", "Exponent of the truncated power law λ^-α exp(-Λ λ).", "rivals"
    ),
    "Lambda": Metric(
        "tail",
        "Λ",
        "Rate of the exponential cut-off of the truncated power law λ^-α exp(-Λ λ).",
        "rivals",
        scale=-2,
    ),
    "alpha_clipped": Metric(
        "fingers",
        "α, clipped",
        "α without the few largest eigenvalues, where leaving them out lowers it by more than 1.",
    ),
    "num_fingers": Metric(
        "fingers", "fingers", "Number of eigenvalues that were left out for the clipped α."
    ),
    "alpha_farms": Metric(
        "farms",
        "FARMS α",
        "Hill's exponent of the upper half of the pooled spectrum of square submatrices of one size.",
    ),
    "stable_rank": Metric(
        "scale",
        "stable rank",
        "Σλ / λ_max.",
        "norms",
        null="closed_forms",
        shown=("text", *_MAIN, "observe", "compared", "overview", "study"),
    ),
    "effective_rank": Metric(
        "scale", "effective rank", "exp(-Σ p ln p).", "norms", null="closed_forms", shown=("study",)
    ),
    "effective_rank_sv": Metric(
        "scale",
        "effective rank of singular values",
        "exp(-Σ p ln p) with p = √λ / Σ√λ (Roy and Vetterli 2007).",
        "norms",
        null="closed_forms",
    ),
    "participation_ratio": Metric(
        "scale", "participation ratio", "(Σλ)² / Σλ².", "norms", null="closed_forms"
    ),
    "entropy": Metric(
        "scale",
        "entropy",
        "-Σ p ln p / ln(rank), between 0 and 1.",
        "norms",
        null="closed_forms",
        shown=(*_MAIN, "compared", "study"),
    ),
    "renyi_entropy_2": Metric(
        "scale", "Rényi entropy of order 2", "-ln Σ p² / ln(rank).", "norms", null="closed_forms"
    ),
    "renyi_entropy_inf": Metric(
        "scale", "Rényi entropy of order ∞", "-ln max p / ln(rank).", "norms", null="closed_forms"
    ),
    "matrix_rank": Metric(
        "scale", "rank", "Number of eigenvalues above rounding error.", "norms", shown=("page",)
    ),
    "rank_loss": Metric(
        "scale", "rank loss", "Number of eigenvalues that are zero to within rounding error.", "norms"
    ),
    "condition_number": Metric(
        "scale", "condition number", "Largest singular value over the smallest.", "norms", null="closed_forms"
    ),
    "num_unresolved": Metric(
        "scale",
        "unresolved",
        "Number of eigenvalues below the resolution of the computation's precision.",
        lambda batch: batch.num_unresolved,
    ),
    "norm": Metric("scale", "‖W‖²", "Σλ, the squared Frobenius norm.", "norms", scale=2),
    "log_norm": Metric(
        "scale",
        "log norm",
        "Logarithm of the squared Frobenius norm.",
        scale=None,
        shown=("text", "observe", "page", "depth", "results", "study"),
    ),
    "spectral_norm": Metric(
        "scale", "λ max", "Largest eigenvalue, the square of the largest singular value.", "norms", scale=2
    ),
    "log_spectral_norm": Metric(
        "scale",
        "log λ max",
        "Logarithm of the largest eigenvalue.",
        scale=None,
        null=nulls.log_spectral_norm,
        shown=("page", "depth", "results", "study"),
    ),
    "nuclear_norm": Metric("scale", "nuclear norm", "Σ √λ.", "norms", scale=1, null=nulls.nuclear_norm),
    "log_det": Metric(
        "scale",
        "log det",
        "Σ ln λ over the eigenvalues above rounding error.",
        "norms",
        scale=None,
        null=nulls.log_det,
    ),
    "sv_max": Metric("scale", "largest singular value", "√λ_max.", "norms", scale=1),
    "sv_min": Metric("scale", "smallest singular value", "√λ_min.", "norms", scale=1),
    "noise_std": Metric(
        "bulk",
        "noise σ",
        "Standard deviation of the noise in the entries, from the quantiles of the bulk.",
        scale=1,
        shown=("caption",),
    ),
    "noise_std_median": Metric(
        "bulk",
        "noise σ by median",
        "Standard deviation of the noise in the entries, from the median eigenvalue.",
        scale=1,
    ),
    "noise_std_frobenius": Metric(
        "bulk", "noise σ by norm", "Standard deviation of the entries, as if all of them were noise.", scale=1
    ),
    "num_removed": Metric(
        "bulk",
        "spikes left out",
        "Number of spikes without which the noise was fitted again; 0 where the first fit stands.",
        "noise",
    ),
    "bulk_min": Metric(
        "bulk", "lower edge", "Lower edge of the Marchenko-Pastur bulk of that noise.", "noise", scale=2
    ),
    "bulk_max": Metric(
        "bulk", "upper edge", "Upper edge of the Marchenko-Pastur bulk of that noise.", "noise", scale=2
    ),
    "mp_softrank": Metric(
        "bulk",
        "MP soft rank",
        "Upper edge of the bulk over the largest eigenvalue.",
        "noise",
        null="closed_forms",
        shown=(*_MAIN, "study"),
    ),
    "num_spikes": Metric(
        "bulk",
        "spikes",
        "Number of eigenvalues above the 99 % quantile of the largest eigenvalue of that noise.",
        "noise",
        shown=("text", "observe", "page", "compared", "medians", "depth", "caption", "study"),
    ),
    "tw_statistic": Metric(
        "bulk",
        "Tracy-Widom statistic",
        "The largest eigenvalue, centred and scaled as the Tracy-Widom law requires.",
        "noise",
    ),
    "tw_p": Metric(
        "bulk",
        "Tracy-Widom p",
        "Probability that the largest eigenvalue of noise is at least as large.",
        shown=("page", "caption"),
    ),
    "ks_mp": Metric(
        "bulk",
        "KS to MP",
        "Kolmogorov-Smirnov distance of the spectrum without its spikes from the Marchenko-Pastur law.",
        "noise",
        null=nulls.ks_mp,
        shown=("page", "compared", "medians", "depth", "caption", "study"),
    ),
    "bbp_theta": Metric(
        "bulk",
        "strength of the largest spike",
        "Strength of the largest spike before the noise was added, in units of σ √N.",
        "noise",
    ),
    **{
        f"bbp_overlap_{side}": Metric(
            "bulk",
            f"overlap of the largest spike, {side}",
            f"Predicted squared cosine between its singular vector of length {side} and the true one.",
            "noise",
        )
        for side in ("N", "M")
    },
    "gavish_donoho_rank": Metric(
        "bulk",
        "Gavish-Donoho rank",
        "Number of eigenvalues above the optimal threshold of Gavish and Donoho for an unknown noise level.",
        "noise",
    ),
    "W_scale": Metric(
        "bulk", "W scale", "Factor on the singular values that brings the mean eigenvalue to 1.", scale=-1
    ),
    "sigma_mp": Metric(
        "bulk", "σ MP", "σ of WeightWatcher's Marchenko-Pastur fit, for eigenvalues of mean 1.", "mp_fit"
    ),
    "num_spikes_mp_fit": Metric(
        "bulk",
        "spikes, density fit",
        "Number of eigenvalues above the bulk of WeightWatcher's fit.",
        "mp_fit",
    ),
    "mp_softrank_mp_fit": Metric(
        "bulk", "MP soft rank, density fit", "Soft rank of WeightWatcher's fit.", "mp_fit"
    ),
    "bulk_min_mp_fit": Metric(
        "bulk", "lower edge, density fit", "Lower edge of WeightWatcher's fit.", "mp_fit", scale=2
    ),
    "bulk_max_mp_fit": Metric(
        "bulk", "upper edge, density fit", "Upper edge of WeightWatcher's fit.", "mp_fit", scale=2
    ),
    "num_ERG_spikes": Metric(
        "correlation",
        "ERG tail size",
        "Number of eigenvalues in the tail whose rescaled eigenvalues multiply to one.",
        "erg",
        null="closed_forms",
    ),
    "ERG_gap": Metric(
        "correlation",
        "ERG gap",
        "Size of the ERG tail minus the size of the power-law tail.",
        "erg",
        null="closed_forms",
    ),
    "detX_val": Metric(
        "correlation", "start of the ERG tail", "The eigenvalue at which the ERG tail starts.", "erg", scale=2
    ),
    "max_rand_eval": Metric(
        "shuffles", "λ max, shuffled", "Largest eigenvalue of the matrix with its entries shuffled.", scale=2
    ),
    "ww_softrank": Metric(
        "shuffles", "soft rank, shuffled", "Largest eigenvalue after the shuffle over the one before."
    ),
    "ww_maxdist": Metric(
        "shuffles",
        "λ max minus shuffled",
        "Largest eigenvalue before the shuffle minus the one after.",
        scale=2,
    ),
    "rand_distance": Metric(
        "shuffles",
        "distance from shuffled",
        "√ of the Jensen-Shannon divergence of the sorted eigenvalues before and after the shuffle.",
    ),
    "num_traps": Metric(
        "shuffles", "traps", "Number of spikes of the shuffled matrix, which come from single large entries."
    ),
    "rand_num_spikes": Metric(
        "shuffles",
        "spikes, shuffled",
        "Number of eigenvalues above the bulk of WeightWatcher's fit of the shuffled matrix.",
    ),
    "rand_sigma_mp": Metric("shuffles", "σ MP, shuffled", "σ of WeightWatcher's fit of the shuffled matrix."),
    "rand_mp_softrank": Metric(
        "shuffles", "MP soft rank, shuffled", "Soft rank of WeightWatcher's fit of the shuffled matrix."
    ),
    "rand_bulk_min": Metric(
        "shuffles",
        "lower edge, shuffled",
        "Lower edge of WeightWatcher's fit of the shuffled matrix.",
        scale=2,
    ),
    "rand_bulk_max": Metric(
        "shuffles",
        "upper edge, shuffled",
        "Upper edge of WeightWatcher's fit of the shuffled matrix.",
        scale=2,
    ),
    "spacing_ratio": Metric(
        "local",
        "spacing ratio",
        "Mean ratio of the smaller to the larger of two neighbouring spacings.",
        null=nulls.of_one_slice(neighbours.SPACING_RATIO_GOE),
    ),
    "spacing_ratio_se": Metric("local", "error of the spacing ratio", "Standard error of the spacing ratio."),
    "brody": Metric(
        "local",
        "Brody exponent",
        "Exponent of level repulsion: 1 for random matrices, 0 for independent points.",
        null="closed_forms",
    ),
    **{
        f"number_variance_{length}": Metric(
            "local",
            f"number variance, {length}",
            f"Variance of the number of eigenvalues in windows that hold {length} on average.",
            null=nulls.of_one_slice(neighbours.number_variance_goe(length)),
        )
        for length in neighbours.LENGTHS
    },
    **{
        f"{part}_{short}_{name}": Metric(
            "vectors",
            f"{short} {words}, {part}",
            f"{moment} of the {words} of the singular vectors of the {part}.",
        )
        for part in ("bulk", "tail")
        for short, moment in (("mean", "Mean"), ("var", "Variance"))
        for name, words in (
            ("vec_entropy", "histogram entropy"),
            ("loc_ratio", "localisation ratio"),
            ("part_ratio", "participation ratio"),
        )
    },
    **_of_singular_vectors("N"),
    **_of_singular_vectors("M"),
    "norm_ratio": Metric(
        "update",
        "size of update",
        "Frobenius norm of the update over that of the weights before.",
        shown=("text", *_MAIN, "compared", "cards", "overview", "update"),
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
        shown=("text", "update"),
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
    **{
        f"overlap_{side}": Metric(
            "alignment",
            f"overlap, {side}",
            f"Mean squared cosine between the leading {side} singular subspaces before and after.",
            shown=("update",),
        )
        for side in ("left", "right")
    },
    **{
        f"angle_{side}": Metric(
            "alignment",
            f"largest angle, {side}",
            f"Largest principal angle between the leading {side} singular subspaces, in degrees.",
        )
        for side in ("left", "right")
    },
    **{
        f"intruders_{side}": Metric(
            "alignment",
            f"intruders, {side}",
            f"Number of leading {side} singular vectors after training that are far from all those before.",
            shown=("text", "update"),
        )
        for side in ("left", "right")
    },
    "shift_top": Metric("alignment", "shift, largest", "Relative change of the largest singular value."),
    **{
        f"shift_{part}": Metric(
            "alignment",
            f"shift, {words}",
            f"Mean change of the {values}, relative to the largest singular value before.",
        )
        for part, words, values in (
            ("leading", "leading", "leading singular values"),
            ("bulk", "middle", "singular values between the leading and the trailing ones"),
            ("trailing", "trailing", "trailing singular values"),
        )
    },
}

# What the compiled programs compute besides: `table.make` turns it into metrics.
INTERMEDIATE: dict[str, Metric] = {
    "noise_variance": Metric("bulk", "noise variance", "Square of noise_std.", "noise"),
    "noise_variance_median": Metric(
        "bulk", "noise variance by median", "Square of noise_std_median.", "noise"
    ),
}


def shown(place: str) -> list[str]:
    """Names of the metrics that are shown at a place, in their order.

    >>> shown("cards")
    ['alpha', 'norm_ratio']
    """
    return [name for name, metric in METRICS.items() if place in metric.shown]


def title(name: str) -> str:
    """Title of a metric; for a column that is not a metric its name, with spaces.

    >>> title("sv_max"), title("num_evals")
    ('largest singular value', 'num evals')
    """
    return METRICS[name].title if name in METRICS else name.replace("_", " ")


def chosen(metrics: str | Iterable[str]) -> frozenset[str]:
    """The groups that "default", "all", names of groups or names of metrics stand for.

    >>> sorted(chosen("tail, brody"))
    ['local', 'tail']

    Raises:
      ValueError: a name that is neither.
    """
    groups: set[str] = set()
    for name in metrics.split(",") if isinstance(metrics, str) else metrics:
        groups |= _groups_of(name.strip())
    return frozenset(groups)


def _groups_of(name: str) -> set[str]:
    if name == "default":
        return set(DEFAULT)
    if name == "all":
        return set(GROUPS)
    if name in GROUPS:
        return {name}
    if name in METRICS:
        return {METRICS[name].group} & set(GROUPS)
    near = difflib.get_close_matches(name, METRICS, 3, 0.75)
    raise ValueError(
        f"metrics has {name!r}: it must be default, all, a group ({', '.join(GROUPS)}) or a metric"
        + (f" (such as {', '.join(near)})" if near else "")
        + ", with commas between"
    )


def computed(groups: Iterable[str]) -> dict[str, str]:
    """Name -> group of what the compiled programs compute for these groups and for the group "scale"."""
    wanted = {"scale", *groups}
    return {
        name: metric.group
        for name, metric in (METRICS | INTERMEDIATE).items()
        if metric.compute is not None and metric.group in wanted
    }


def compute(name: str, batch: Batch) -> Array:
    """One metric, or one of INTERMEDIATE, of a batch: `[layers]`."""
    how = (METRICS | INTERMEDIATE)[name].compute
    if isinstance(how, str):
        found: dict[str, Array] = getattr(batch, how)
        return found[name]
    assert how is not None, f"no compiled program computes {name}"
    return how(batch)
