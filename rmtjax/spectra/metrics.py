"""Every metric of a spectrum, in one dict: adding one is adding one entry.

The table, the printed text, the observer of training, the pages and the study read `METRICS`. An entry's `compute`
takes a `batch.Rows`: many spectra at once, inside a compiled program, with everything that metrics share
(counts, the power law of the tail, the fit of the noise) found when it is first asked for. In the formulas λ are the
eigenvalues of W^T W, not divided by N, pooled over the slices of a convolution; p = λ / Σλ; logarithms named log_ are
to base 10. The order of the dict is the order in which metrics are shown, and in which the study adds numbers up; the
columns of spectra.parquet have an order of their own, by groups (`table.column_order`).
"""

from collections.abc import Callable
from typing import Any, NamedTuple

# Where a metric is shown.
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


class Metric(NamedTuple):
    """One column of the table.

    Attributes:
      group: the name under which `metrics=` and `--metrics` ask for it. "update" is not asked for: it comes with every
        comparison of two models.
      title: the head of a column, as the field writes it.
      about: one sentence.
      scale: the power of the weights' scale that the metric has. 0: it has none, and is compared with noise of any
        scale. None: it has one that is not a power (a logarithm).
      null: how its value for noise of the same shape is had. "closed form" (`nulls.closed_forms`), "limit" (a constant
        of large matrices), "simulated" (a stored table of simulations), "uniform vectors" and "random update" (what
        vectors or updates without direction show); None: only by the group "nulls", if at all.
      compute: from the rows of a call to one value a row; None where the code of its group makes it.
      shown: of PLACES.
    """

    group: str
    title: str
    about: str
    scale: int | None = 0
    null: str | None = None
    compute: Callable[[Any], Any] | None = None
    shown: tuple[str, ...] = ()


def shown(place: str) -> list[str]:
    """The metrics of one of PLACES, in the order of METRICS.

    Raises:
      KeyError: no such place.
    """
    if place not in PLACES:
        raise KeyError(f"{place!r} is no place where metrics are shown: they are {', '.join(PLACES)}")
    return [name for name, metric in METRICS.items() if place in metric.shown]


# fmt: off
METRICS: dict[str, Metric] = {
    # The tail.
    "alpha": Metric("tail", "α", "Exponent of the power law λ^-α that is fitted to the tail by maximum likelihood.",
        0, "simulated", lambda rows: rows.tail["alpha"],
        ("text", "observe", "page", "compared", "medians", "depth", "summary", "cards", "results", "overview", "study")),
    "alpha_se": Metric("tail", "standard error of α", "(α - 1) / √n, with n eigenvalues in the tail.",
        compute=lambda rows: rows.tail["alpha_se"]),
    "alpha_null_p": Metric("tail", "p in noise",
        "How often noise of that shape has so small an α; 0.0025 stands for less than 0.005.",
        shown=("text", "page", "compared", "medians", "caption")),
    "gof_p": Metric("bootstrap", "p of fit",
        "How often a true power law is as far from its fit as the tail is, by bootstrap.",
        compute=lambda rows: rows.goodness["gof_p"], shown=("page", "compared", "medians", "caption")),
    "gof_p_se": Metric("bootstrap", "error of p of fit", "Standard error of gof_p, from the number of replicates.",
        compute=lambda rows: rows.goodness["gof_p_se"]),
    "D": Metric("tail", "D", "Kolmogorov-Smirnov distance of the tail from its power law.",
        compute=lambda rows: rows.tail["D"], shown=("text", "page", "caption")),
    "sigma": Metric("tail", "σ of α", "The standard error of α under WeightWatcher's name."),
    "xmin": Metric("tail", "xmin", "The eigenvalue at which the tail starts.", 2,
        compute=lambda rows: rows.tail["xmin"]),
    "num_pl_spikes": Metric("tail", "tail size", "Number of eigenvalues in the tail.",
        compute=lambda rows: rows.tail["num_pl_spikes"], shown=("page", "caption")),
    "alpha_weighted": Metric("tail", "α log λ max", "α times the logarithm of the largest eigenvalue.", None),
    "log_alpha_norm": Metric("tail", "log Σ λ^α", "Logarithm of the sum of λ^α.", None,
        compute=lambda rows: rows.log_alpha_norm),
    "alpha_hill": Metric("tail", "Hill α", "Hill's exponent of the upper half of the spectrum.",
        0, "closed form", lambda rows: rows.hill(rows.nonzero // 2), ("study",)),
    "alpha_hill_10": Metric("tail", "Hill α, upper tenth", "Hill's exponent of the upper tenth of the spectrum.",
        compute=lambda rows: rows.hill(rows.nonzero // 10)),
    "alpha_hill_sqrt": Metric("tail", "Hill α, √n largest", "Hill's exponent of the √n largest eigenvalues.",
        compute=lambda rows: rows.hill(rows.root_of_nonzero)),
    "R_exponential": Metric("tail", "R, exponential",
        "Likelihood ratio of the power law against an exponential law: above 0 it speaks for the power law.",
        compute=lambda rows: rows.rivals["R_exponential"]),
    "p_exponential": Metric("tail", "p, exponential", "How often rivals equally far from the truth differ as much.",
        compute=lambda rows: rows.rivals["p_exponential"]),
    "R_lognormal": Metric("tail", "R, lognormal",
        "Likelihood ratio of the power law against a lognormal law, of which it is a limit: never above 0.",
        compute=lambda rows: rows.rivals["R_lognormal"]),
    "p_lognormal": Metric("tail", "p, lognormal", "How often rivals equally far from the truth differ as much.",
        compute=lambda rows: rows.rivals["p_lognormal"]),
    "R_tpl": Metric("tail", "R, truncated power law",
        "Logarithm of the likelihood ratio of the power law against a truncated one, which contains it.",
        compute=lambda rows: rows.rivals["R_tpl"]),
    "p_tpl": Metric("tail", "p, truncated power law", "How often a true power law gains as much by truncation.",
        compute=lambda rows: rows.rivals["p_tpl"]),
    "alpha_tpl": Metric("tail", "α, truncated", "Exponent of the truncated power law λ^-α exp(-Λ λ).",
        compute=lambda rows: rows.rivals["alpha_tpl"]),
    "Lambda": Metric("tail", "Λ", "Rate of the cut-off of the truncated power law λ^-α exp(-Λ λ).", -2,
        compute=lambda rows: rows.rivals["Lambda"]),
    "alpha_clipped": Metric("fingers", "α, clipped",
        "α without the few largest eigenvalues, where leaving them out lowers it by more than 1.",
        compute=lambda rows: rows.fingers["alpha_clipped"]),
    "num_fingers": Metric("fingers", "fingers", "How many eigenvalues were left out for the clipped α.",
        compute=lambda rows: rows.fingers["num_fingers"]),
    "alpha_farms": Metric("farms", "FARMS α",
        "Hill's exponent of the upper half of the spectrum of square windows of one size.", 0, "closed form"),

    # Scale: ranks and entropies, then norms.
    "stable_rank": Metric("scale", "stable rank", "Σλ / λ_max.",
        0, "closed form", lambda rows: rows.measures["stable_rank"],
        ("text", "observe", "page", "compared", "medians", "depth", "summary", "results", "overview", "study")),
    "effective_rank": Metric("scale", "effective rank", "exp(-Σ p ln p).",
        0, "closed form", lambda rows: rows.measures["effective_rank"], ("study",)),
    "effective_rank_sv": Metric("scale", "effective rank of singular values",
        "exp(-Σ p ln p) with p = √λ / Σ√λ (Roy and Vetterli 2007).",
        0, "closed form", lambda rows: rows.measures["effective_rank_sv"]),
    "participation_ratio": Metric("scale", "participation ratio", "(Σλ)² / Σλ².",
        0, "closed form", lambda rows: rows.measures["participation_ratio"]),
    "entropy": Metric("scale", "entropy", "-Σ p ln p / ln(rank), between 0 and 1.",
        0, "closed form", lambda rows: rows.measures["entropy"],
        ("text", "page", "compared", "medians", "depth", "summary", "results", "study")),
    "renyi_entropy_2": Metric("scale", "Rényi entropy of order 2", "-ln Σ p² / ln(rank).",
        0, "closed form", lambda rows: rows.measures["renyi_entropy_2"]),
    "renyi_entropy_inf": Metric("scale", "Rényi entropy of order ∞", "-ln max p / ln(rank).",
        0, "closed form", lambda rows: rows.measures["renyi_entropy_inf"]),
    "matrix_rank": Metric("scale", "rank", "Number of eigenvalues that are not zero to rounding.",
        compute=lambda rows: rows.measures["matrix_rank"], shown=("page",)),
    "rank_loss": Metric("scale", "rank loss", "Number of eigenvalues that are zero to rounding.",
        compute=lambda rows: rows.measures["rank_loss"]),
    "condition_number": Metric("scale", "condition number", "Largest over smallest singular value.",
        0, "closed form", lambda rows: rows.measures["condition_number"]),
    "num_unresolved": Metric("scale", "unresolved", "Eigenvalues below the resolution of the computation's precision.",
        compute=lambda rows: rows.num_unresolved),
    "norm": Metric("scale", "‖W‖²", "Σλ, the squared Frobenius norm.", 2,
        compute=lambda rows: rows.measures["norm"]),
    "log_norm": Metric("scale", "log norm", "Logarithm of the squared Frobenius norm.", None,
        shown=("text", "observe", "page", "depth", "results", "study")),
    "spectral_norm": Metric("scale", "λ max", "Largest eigenvalue, the square of the largest singular value.", 2,
        compute=lambda rows: rows.measures["spectral_norm"]),
    "log_spectral_norm": Metric("scale", "log λ max", "Logarithm of the largest eigenvalue.", None, "closed form",
        shown=("page", "depth", "results", "study")),
    "nuclear_norm": Metric("scale", "nuclear norm", "Σ √λ.", 1, "closed form",
        lambda rows: rows.measures["nuclear_norm"]),
    "sv_max": Metric("scale", "largest singular value", "√λ_max.", 1,
        compute=lambda rows: rows.measures["sv_max"]),
    "sv_min": Metric("scale", "smallest singular value", "√λ_min.", 1,
        compute=lambda rows: rows.measures["sv_min"]),

    # The bulk.
    "noise_std": Metric("bulk", "noise σ", "Standard deviation of the entries' noise, by the quantiles of the bulk.", 1,
        shown=("caption",)),
    "noise_std_median": Metric("bulk", "noise σ by median",
        "Standard deviation of the entries' noise, by the median eigenvalue.", 1),
    "noise_std_frobenius": Metric("bulk", "noise σ by norm",
        "Standard deviation of the entries, as if all of them were noise.", 1),
    "bulk_min": Metric("bulk", "lower edge", "Lower edge of the Marchenko-Pastur bulk of that noise.", 2,
        compute=lambda rows: rows.noise["bulk_min"]),
    "bulk_max": Metric("bulk", "upper edge", "Upper edge of the Marchenko-Pastur bulk of that noise.", 2,
        compute=lambda rows: rows.noise["bulk_max"]),
    "mp_softrank": Metric("bulk", "MP soft rank", "Upper edge of the bulk over the largest eigenvalue.",
        0, "closed form", lambda rows: rows.noise["mp_softrank"],
        ("text", "page", "medians", "depth", "summary", "results", "study")),
    "num_spikes": Metric("bulk", "spikes",
        "Number of eigenvalues beyond the 99 % quantile of the largest eigenvalue of that noise.",
        compute=lambda rows: rows.noise["num_spikes"],
        shown=("text", "observe", "page", "compared", "medians", "depth", "caption", "study")),
    "tw_statistic": Metric("bulk", "Tracy-Widom statistic", "The largest eigenvalue on the scale of Tracy and Widom.",
        compute=lambda rows: rows.noise["tw_statistic"]),
    "tw_p": Metric("bulk", "Tracy-Widom p", "How often noise has as large a largest eigenvalue.",
        shown=("page", "caption")),
    "ks_mp": Metric("bulk", "KS to MP",
        "Kolmogorov-Smirnov distance of the spectrum without its spikes from the Marchenko-Pastur law.",
        0, "closed form", lambda rows: rows.noise["ks_mp"],
        ("page", "compared", "medians", "depth", "caption", "study")),
    "bbp_theta": Metric("bulk", "strength of the largest spike",
        "Strength of the largest spike before noise was added, in units of σ √N.",
        compute=lambda rows: rows.noise["bbp_theta"]),
    "bbp_overlap_N": Metric("bulk", "overlap of the largest spike, N",
        "Predicted squared cosine of its singular vector of length N with the true one.",
        compute=lambda rows: rows.noise["bbp_overlap_N"]),
    "bbp_overlap_M": Metric("bulk", "overlap of the largest spike, M",
        "Predicted squared cosine of its singular vector of length M with the true one.",
        compute=lambda rows: rows.noise["bbp_overlap_M"]),
    "gavish_donoho_rank": Metric("bulk", "Gavish-Donoho rank",
        "Number of eigenvalues above the optimal threshold of Gavish and Donoho for unknown noise.",
        compute=lambda rows: rows.noise["gavish_donoho_rank"]),
    "W_scale": Metric("bulk", "W scale", "The factor that brings the mean eigenvalue to 1, of the singular values.", -1),
    "sigma_mp": Metric("bulk", "σ MP", "WeightWatcher's σ, in units of the scaled spectrum.",
        compute=lambda rows: rows.density_fit["sigma_mp"]),
    "num_spikes_mp_fit": Metric("bulk", "spikes, density fit", "Spikes above the bulk of WeightWatcher's fit.",
        compute=lambda rows: rows.density_fit["num_spikes_mp_fit"]),
    "mp_softrank_mp_fit": Metric("bulk", "MP soft rank, density fit", "Soft rank of WeightWatcher's fit.",
        compute=lambda rows: rows.density_fit["mp_softrank_mp_fit"]),
    "bulk_min_mp_fit": Metric("bulk", "lower edge, density fit", "Lower edge of WeightWatcher's fit.", 2,
        compute=lambda rows: rows.density_fit["bulk_min_mp_fit"]),
    "bulk_max_mp_fit": Metric("bulk", "upper edge, density fit", "Upper edge of WeightWatcher's fit.", 2,
        compute=lambda rows: rows.density_fit["bulk_max_mp_fit"]),

    # Correlation.
    "num_ERG_spikes": Metric("correlation", "ERG tail size",
        "Number of eigenvalues in the tail whose rescaled eigenvalues multiply to one.",
        0, "closed form", lambda rows: rows.erg["num_ERG_spikes"]),
    "ERG_gap": Metric("correlation", "ERG gap", "Size of the ERG tail less the size of the power-law tail.",
        compute=lambda rows: rows.erg["ERG_gap"]),
    "detX_val": Metric("correlation", "start of the ERG tail", "The eigenvalue at which the ERG tail starts.", 2,
        compute=lambda rows: rows.erg["detX_val"]),

    # The same entries in random order.
    "max_rand_eval": Metric("shuffles", "λ max, shuffled", "Largest eigenvalue of the same entries in random order.", 2,
        compute=lambda rows: rows.against_shuffled["max_rand_eval"]),
    "ww_softrank": Metric("shuffles", "soft rank, shuffled", "Largest eigenvalue after the shuffle over that before.",
        compute=lambda rows: rows.against_shuffled["ww_softrank"]),
    "ww_maxdist": Metric("shuffles", "λ max less shuffled", "Largest eigenvalue before the shuffle less that after.", 2,
        compute=lambda rows: rows.against_shuffled["ww_maxdist"]),
    "rand_distance": Metric("shuffles", "distance from shuffled",
        "√ of the Jensen-Shannon divergence of the sorted eigenvalues before and after the shuffle.",
        compute=lambda rows: rows.against_shuffled["rand_distance"]),
    "num_traps": Metric("shuffles", "traps", "Spikes of the shuffled entries: they come from single large entries."),
    "rand_num_spikes": Metric("shuffles", "spikes, shuffled", "Spikes above WeightWatcher's fit of the shuffled entries."),
    "rand_sigma_mp": Metric("shuffles", "σ MP, shuffled", "σ of WeightWatcher's fit of the shuffled entries."),
    "rand_mp_softrank": Metric("shuffles", "MP soft rank, shuffled",
        "Soft rank of WeightWatcher's fit of the shuffled entries."),
    "rand_bulk_min": Metric("shuffles", "lower edge, shuffled",
        "Lower edge of WeightWatcher's fit of the shuffled entries.", 2),
    "rand_bulk_max": Metric("shuffles", "upper edge, shuffled",
        "Upper edge of WeightWatcher's fit of the shuffled entries.", 2),

    # Neighbours in the bulk.
    "spacing_ratio": Metric("local", "spacing ratio", "Mean of the smaller over the larger of two neighbouring spacings.",
        0, "limit", lambda rows: rows.neighbours["spacing_ratio"]),
    "spacing_ratio_se": Metric("local", "error of the spacing ratio", "Standard error of the spacing ratio.",
        compute=lambda rows: rows.neighbours["spacing_ratio_se"]),
    "brody": Metric("local", "Brody exponent",
        "Exponent of level repulsion: 1 for random matrices, 0 for independent points.",
        0, "limit", lambda rows: rows.neighbours["brody"]),
    "number_variance_1": Metric("local", "number variance, 1",
        "Variance of the number of eigenvalues in windows that hold 1 in the mean.",
        0, "limit", lambda rows: rows.neighbours["number_variance_1"]),
    "number_variance_2": Metric("local", "number variance, 2",
        "Variance of the number of eigenvalues in windows that hold 2 in the mean.",
        0, "limit", lambda rows: rows.neighbours["number_variance_2"]),
    "number_variance_5": Metric("local", "number variance, 5",
        "Variance of the number of eigenvalues in windows that hold 5 in the mean.",
        0, "limit", lambda rows: rows.neighbours["number_variance_5"]),
    "number_variance_10": Metric("local", "number variance, 10",
        "Variance of the number of eigenvalues in windows that hold 10 in the mean.",
        0, "limit", lambda rows: rows.neighbours["number_variance_10"]),

    # Singular vectors.
    **{f"{part}_{word}_{name}": Metric("vectors", f"{word} {said}, {part}",
        f"{'Mean' if word == 'mean' else 'Variance'} of the {said} of the singular vectors of the {part}.",
        0, "uniform vectors" if word == "mean" and name != "vec_entropy" else None)
       for part in ("bulk", "tail") for word in ("mean", "var")
       for name, said in (("vec_entropy", "histogram entropy"), ("loc_ratio", "localisation ratio"),
                          ("part_ratio", "participation ratio"))},
    **{name: metric for side in "NM" for name, metric in {
        f"num_non_porter_thomas_{side}": Metric("vectors", f"vectors that are not normal, {side}",
            f"Number of singular vectors of length {side} that differ from the normal law of noise.", 0, "uniform vectors"),
        **{f"{name}_{part}_{side}": Metric("vectors", f"{said}, {part}, {side}",
            f"Mean {said} of the singular vectors of length {side} of the "
            f"{'bulk' if part == 'bulk' else '10 largest singular values'}.", 0, "uniform vectors")
           for name, said in (("ipr", "inverse participation ratio"), ("vector_entropy", "entropy of the squared entries"))
           for part in ("bulk", "leading")},
    }.items()},

    # The update between two models.
    "norm_ratio": Metric("update", "size of update", "Frobenius norm of the update over that of the weights before.",
        shown=("text", "page", "compared", "medians", "depth", "summary", "cards", "results", "overview", "update")),
    "spectral_ratio": Metric("update", "spectral size of update",
        "Largest singular value of the update over that of the weights before.", shown=("update",)),
    "cosine": Metric("update", "cosine", "Cosine of the angle between the weights before and after.",
        shown=("page", "compared", "update")),
    "cosine_other": Metric("update", "cosine to the other update",
        "Cosine of the angle between this update and that of another run from the same weights.", 0, "random update"),
    "update_energy_top": Metric("alignment", "energy in leading vectors",
        "Share of the update in the leading singular vectors of the weights before.", 0, "random update",
        shown=("update",)),
    "update_energy_bulk": Metric("alignment", "energy in middle vectors",
        "Share of the update in the singular vectors between the leading and the trailing ones.", 0, "random update"),
    "update_energy_bottom": Metric("alignment", "energy in trailing vectors",
        "Share of the update in the trailing singular vectors of the weights before.", 0, "random update",
        shown=("update",)),
    "overlap_left": Metric("alignment", "overlap, left",
        "Mean squared cosine between the leading left singular subspaces before and after.", 0, "random update",
        shown=("update",)),
    "overlap_right": Metric("alignment", "overlap, right",
        "Mean squared cosine between the leading right singular subspaces before and after.", 0, "random update",
        shown=("update",)),
    "angle_left": Metric("alignment", "largest angle, left",
        "Largest principal angle between the leading left singular subspaces, in degrees.", 0, "random update"),
    "angle_right": Metric("alignment", "largest angle, right",
        "Largest principal angle between the leading right singular subspaces, in degrees.", 0, "random update"),
    "intruders_left": Metric("alignment", "intruders, left",
        "Number of leading left singular vectors after training that are far from all of those before.",
        shown=("update",)),
    "intruders_right": Metric("alignment", "intruders, right",
        "Number of leading right singular vectors after training that are far from all of those before.",
        shown=("update",)),
    "shift_top": Metric("alignment", "shift, largest", "Relative change of the largest singular value."),
    "shift_leading": Metric("alignment", "shift, leading",
        "Mean change of the leading singular values, over the largest before."),
    "shift_bulk": Metric("alignment", "shift, middle",
        "Mean change of the singular values between the leading and the trailing ones, over the largest before."),
    "shift_trailing": Metric("alignment", "shift, trailing",
        "Mean change of the trailing singular values, over the largest before."),
}
# fmt: on
