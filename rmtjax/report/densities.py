"""The eigenvalues of one matrix in three charts: density beside the Marchenko-Pastur law, tail, alpha by xmin."""

import numpy as np

from rmtjax.report import chart
from rmtjax.report.tables import show

_SMALL_SAMPLE = 20  # below it the exponent is the unbiased one, as in the table
_LEAST_TAIL = 5  # shorter tails tell nothing, and their exponents run off the chart


def charts(values: np.ndarray, row: dict[str, float], colour: str, what: str) -> str:
    """The three charts of a matrix.

    Args:
      values: eigenvalues of W^T W, not divided by N, finite and positive ones, ascending; at least one.
      row: its numbers in the table; NaN or absent where unknown.
      colour: CSS variable of its stage.
      what: the matrix in plain text, for those who do not see the charts.
    """
    return (
        density(values, row, colour, what)
        + tail(values, row, colour, what)
        + alphas(values, row, colour, what)
    )


def marchenko_pastur(x: np.ndarray, N: float, M: float, noise_std: float) -> np.ndarray:
    """Density of the eigenvalues of W^T W for an N x M matrix (N >= M) of independent entries.

    Marchenko and Pastur (1967): eigenvalues of X = W^T W / N have density √((x₊ - x)(x - x₋)) / (2π c σ² x)
    with c = M / N and x± = σ² (1 ± √c)²; those of W^T W are N times as large.
    """
    c, variance = M / N, noise_std**2
    low, high = variance * (1 - np.sqrt(c)) ** 2, variance * (1 + np.sqrt(c)) ** 2
    scaled = np.asarray(x, float) / N
    inside = (scaled > low) & (scaled < high) & (scaled > 0)
    root = np.sqrt(np.where(inside, (high - scaled) * (scaled - low), 0.0))
    return np.where(inside, root / (2 * np.pi * c * variance * np.where(inside, scaled, 1.0)) / N, 0.0)


def alpha_by_xmin(values: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """For each candidate xmin: xmin, alpha = 1 + n / Σ ln(x / xmin) over the n values from it on, and n.

    `values` ascending and positive. With fewer than 20 values n - 1 stands for n in alpha. Clauset, Shalizi and
    Newman (2009), equation 3.1. Tails of fewer than 5 or of equal values are left out.
    """
    logs = np.log(values)
    n = np.arange(len(values), 0, -1)
    spread = np.cumsum(logs[::-1])[::-1] - n * logs
    kept = (n >= _LEAST_TAIL) & (spread > 1e-6 * n)
    alpha = 1 + (n[kept] - (len(values) < _SMALL_SAMPLE)) / spread[kept]
    return values[kept], alpha, n[kept]


def density(values: np.ndarray, row: dict[str, float], colour: str, what: str) -> str:
    """Histogram on linear axes, with the Marchenko-Pastur law of the noise and the spikes above it."""
    edge, top = row.get("edge", np.nan), float(values[-1])
    # The bulk gets the room; how far the spikes reach is said in words.
    high = min(top, 2 * edge) if np.isfinite(edge) else top
    high = max(high, 1.15 * edge) if np.isfinite(edge) else 1.02 * high
    shown = values[values <= high]
    bins = int(np.clip(2 * np.sqrt(len(shown)), 8, 50))
    heights, edges = np.histogram(shown, bins, (0.0, high))
    heights = heights / (len(values) * high / bins)
    law_x, law = _law(values, row, np.linspace(0, min(high, 1.01 * edge), 140)[1:]) if np.isfinite(edge) else (np.zeros(0), np.zeros(0))  # fmt: skip
    # The law of a square matrix has no bound at zero: the histogram sets the axis.
    ceiling = max(heights.max(), min(float(law.max(initial=0)), 1.3 * heights.max()))
    x, y = chart.scales((0.0, high), (0.0, 1.08 * ceiling or 1.0))
    spikes = _spikes(values, row)
    beyond = spikes[spikes > high]
    words = f"{len(spikes)} spike{'s' if len(spikes) != 1 else ''}" if np.isfinite(edge) else ""
    marks = [
        chart.bars(x(edges), y(heights), y.start, colour),
        chart.line(x(law_x), y(law), "ink"),
        chart.upright(x, y, edge, "ink", "dot"),
        chart.ticks(x(spikes[spikes <= high]), y.start, "second", 10),
        chart.note(x, y, words),
        chart.note(x, y, f"{len(beyond)} beyond, up to {show(top)}" if len(beyond) else "", 1),
    ]
    return chart.chart(x, y, marks, f"Density of the eigenvalues of {what}, with the Marchenko-Pastur law", "density", "λ")  # fmt: skip


def tail(values: np.ndarray, row: dict[str, float], colour: str, what: str) -> str:
    """Histogram in logarithmic bins on logarithmic axes, with the power law of the tail from xmin on."""
    top = float(values[-1])
    bottom = max(float(values[0]), 1e-5 * top)
    edges = np.geomspace(bottom * 0.999, top * 1.001, int(np.clip(2 * np.sqrt(len(values)), 8, 40)) + 1)
    counts, _ = np.histogram(values, edges)
    heights = counts / (len(values) * np.diff(edges))
    floor, ceiling = heights[counts > 0].min() / 2, heights.max() * 2
    alpha, xmin = row.get("alpha", np.nan), row.get("xmin", np.nan)
    x, y = chart.scales((edges[0] / 1.1, edges[-1] * 1.3), (floor, ceiling), "xy")
    marks = [chart.bars(x(edges), y(np.where(counts > 0, heights, floor)), y.start, colour)]
    law_x, law = _law(values, row, np.geomspace(x.low, x.high, 160))
    marks.append(chart.line(x(law_x), np.where(law > floor, y(law), np.nan), "ink", "thin"))
    if np.isfinite([alpha, xmin]).all() and 0 < xmin < top:
        line = np.geomspace(xmin, x.high, 30)
        power = np.mean(values >= xmin * (1 - 1e-6)) * (alpha - 1) / xmin * (line / xmin) ** -alpha
        marks.append(chart.line(x(line), np.where(power > floor, y(power), np.nan), "fit", "strong"))
        marks.append(chart.upright(x, y, xmin, "fit"))
    marks += [
        chart.upright(x, y, row.get("edge", np.nan), "ink", "dot"),
        chart.upright(x, y, row.get("detX_val", np.nan), "null", "dash"),
        chart.ticks(x(_spikes(values, row)), y.start, "second", 10),
        chart.note(x, y, f"α {show(alpha)}"),
    ]
    return chart.chart(x, y, marks, f"The same on logarithmic axes, with the power law of {what}", "density, log-log", "λ")  # fmt: skip


def alphas(values: np.ndarray, row: dict[str, float], colour: str, what: str) -> str:
    """The exponent for every start of the tail, its standard error, the chosen one, and that of noise."""
    rank = row.get("matrix_rank", np.nan)
    used = values[-int(rank) :] if np.isfinite(rank) and rank >= 1 else values
    starts, found, n = alpha_by_xmin(used)
    if not len(starts):
        return ""
    alpha, xmin = row.get("alpha", np.nan), row.get("xmin", np.nan)
    low, high = row.get("alpha_null_low", np.nan), row.get("alpha_null_high", np.nan)
    keep = np.unique(np.linspace(0, len(starts) - 1, min(len(starts), 160)).round().astype(int))
    starts, found, error = starts[keep], found[keep], (found[keep] - 1) / np.sqrt(n[keep])
    inside = starts >= max(starts[-1] * 1e-4, starts[0])
    most = np.nanmax([np.quantile(found[inside], 0.9), alpha * 1.4, 3.0])
    x, y = chart.scales((starts[inside][0] / 1.1, used[-1] * 1.1), (1.0, float(min(most, 30))), "x")
    noise = [chart.band(np.array([x.start, x.end]), *(np.full(2, float(y(v))) for v in (low, high)), "null")] if np.isfinite(low + high) else []  # fmt: skip
    shown = found <= y.high
    curve = np.where(shown & inside, y(found), np.nan)
    marks = [
        *noise,
        chart.band(x(starts[inside]), y(found - error)[inside], y(found + error)[inside], colour),
        chart.line(x(starts), curve, colour),
    ]
    if np.isfinite([alpha, xmin]).all():
        marks.append(chart.upright(x, y, xmin, "fit"))
        marks.append(chart.dot(float(x(xmin)), float(y(alpha)), "fit", radius=4))
    return chart.chart(x, y, marks, f"Exponent of {what} against the start of its tail", "α for each xmin", "xmin")  # fmt: skip


def shifts(before: np.ndarray, after: np.ndarray, what: str) -> str:
    """How far training moved each singular value, largest first, in units of the largest one before.

    Args:
      before, after: eigenvalues of W^T W, ascending, the same number of each; slices of a convolution pooled.
    """
    old, new = np.sqrt(before[::-1]), np.sqrt(after[::-1])
    moved = (new - old) / old[0]
    rank = np.arange(1, len(moved) + 1)
    x, y = chart.scales((1, len(moved) * 1.02), (min(0.0, moved.min()), max(0.0, moved.max())), "x")
    keep = np.unique(np.geomspace(1, len(moved), min(len(moved), 240)).round().astype(int)) - 1
    zero = chart.line(np.array([x.start, x.end]), np.full(2, float(y(0.0))), "muted", "dash")
    marks = [zero, chart.line(x(rank[keep]), y(moved[keep]), "after"), chart.dot(float(x(1.0)), float(y(moved[:1])[0]), "after")]  # fmt: skip
    return chart.chart(x, y, marks, f"Shift of each singular value of {what}", "shift of each singular value, in parts of the largest", "rank, largest first")  # fmt: skip


def _law(values: np.ndarray, row: dict[str, float], at: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The noise's density, of the share of eigenvalues that are not spikes; empty where it is unknown."""
    known = [row.get(name, np.nan) for name in ("N", "M", "noise_std")]
    if not np.isfinite(known).all() or known[2] <= 0:
        return np.zeros(0), np.zeros(0)
    share = 1 - len(_spikes(values, row)) / len(values)
    return at, share * marchenko_pastur(at, *known)


def _spikes(values: np.ndarray, row: dict[str, float]) -> np.ndarray:
    """Eigenvalues beyond the bulk: as many as `num_spikes` says, else those above the edge."""
    count = row.get("num_spikes", np.nan)
    if np.isfinite(count):
        return values[len(values) - int(count) :]
    return values[values > row.get("edge", np.inf)]
