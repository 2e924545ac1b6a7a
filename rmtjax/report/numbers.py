"""Numbers, names of metrics, and tables as text for readers."""

import math
from collections.abc import Sequence

_NAMES = {
    "nll": "NLL",
    "brier": "Brier",
    "ece": "ECE",
    "adaptive_ece": "adaptive ECE",
    "nll_ts": "NLL, scaled",
    "brier_ts": "Brier, scaled",
    "ece_ts": "ECE, scaled",
    "adaptive_ece_ts": "adaptive ECE, scaled",
    "corruption_error": "mean corruption error",
    "mce": "mCE",
    "relative_mce": "relative mCE",
    "auroc_max_softmax": "AUROC, max softmax",
    "auroc_energy": "AUROC, energy",
    "fpr95_max_softmax": "FPR95, max softmax",
    "fpr95_energy": "FPR95, energy",
    "vendi_score": "Vendi score",
    "weighted_vendi": "weighted Vendi",
    "weighted_vendi_unpaired": "weighted Vendi, unpaired",
    "rke": "RKE",
    "truncated_vendi": "Vendi score, truncated",
    "gaussian_vendi": "Vendi score, Gaussian kernel",
    "ngram_vendi": "Vendi score of n-grams",
    "within_classes": "Vendi score within classes",
    "between_classes": "effective number of classes",
    "between_share": "share between classes",
}
_SPACES = ("pixel", "feature", "unigram")
# p of an alpha below all simulated quantiles, the smallest of which is 0.005.
_RAREST_IN_NOISE = 0.0025


def show(value: float, digits: int = 3) -> str:
    """A number as text: about `digits` significant digits, an en dash for NaN, no long tail."""
    if math.isnan(value):
        return "–"
    if math.isinf(value):
        return "∞" if value > 0 else "−∞"
    size = abs(value)
    if value == int(value) and size < 1e6:
        text = f"{value:.0f}"
    elif size < 10 ** (-digits - 1) or size >= 1e6:
        text = f"{value:.{digits - 1}e}"
    elif size < 1:
        text = f"{value:.{digits}f}" if size >= 10 ** (1 - digits) else f"{value:.{digits - 1}g}"
    else:
        text = f"{value:.{max(digits - 1 - math.floor(math.log10(size)), 0)}f}"
    return text.replace("-", "−")


LEAST_P = 1e-6  # no smaller p is told apart


def show_metric(metric: str, value: float) -> str:
    """A number of the table of spectra: as `show`, with a lower bound for probabilities too small to know."""
    if metric == "alpha_null_p" and value <= _RAREST_IN_NOISE:
        return "< 0.005"
    if is_probability(metric) and value <= LEAST_P:
        return "< 1e−6"
    return show(value)


def is_probability(metric: str) -> bool:
    """Whether a metric of the spectra is a p-value."""
    return metric.endswith("_p") or metric.startswith("p_")


def fraction(value: float) -> str:
    """A share, a loss or a calibration error as text: three decimals below 10, so that columns line up."""
    return f"{value:.3f}".replace("-", "−") if abs(value) < 10 else show(value)


def interval(low: float, high: float) -> str:
    """[low, high] as text; empty if there is no interval."""
    return "" if math.isnan(low) or math.isnan(high) else f"[{fraction(low)}, {fraction(high)}]"


def metric_name(metric: str, space: str = "") -> str:
    """The usual name of a metric of evaluation or diversity, followed by its space."""
    name = _NAMES.get(metric, metric.replace("_", " "))
    return f"{name}, {space}s" if space in _SPACES else f"{name} {space}".strip()


def ending(text: str, most: int = 40) -> str:
    """The text, or its end if it is longer than `most`, since names differ at their ends."""
    return text if len(text) <= most else "…" + text[1 - most :]


def shortened(text: str, most: int) -> str:
    """The text, or its beginning if it is longer than `most`."""
    return text if len(text) <= most else text[: most - 1] + "…"


def aligned(heads: Sequence[str], rows: Sequence[Sequence[str]], left: int = 2) -> str:
    """A table in plain text: the first `left` columns are aligned left, the others right."""
    widths = [max(len(line[k]) for line in [heads, *rows]) for k in range(len(heads))]

    def line(cells: Sequence[str]) -> str:
        parts = [
            c.ljust(w) if k < left else c.rjust(w) for k, (c, w) in enumerate(zip(cells, widths, strict=True))
        ]
        return "  ".join(parts).rstrip()

    return "\n".join([line(heads), "  ".join("-" * w for w in widths), *map(line, rows)])
