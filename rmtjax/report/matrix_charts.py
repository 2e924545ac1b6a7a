"""Charts of the spectrum of one matrix, from the curves of `spectra.curves`."""

from collections.abc import Mapping, Sequence

import numpy as np

from rmtjax.report.chart import Axis, Band, Bars, Chart, Dots, Key, Line, Mark, Note, Rug, Rule, fitted
from rmtjax.report.numbers import show

Curves = Mapping[str, np.ndarray]  # of one matrix, by curve

KEYS = (
    Key("ink", "line", "Marchenko-Pastur law of the noise; dotted: its upper edge"),
    Key("second", "bar", "spikes: eigenvalues beyond noise"),
    Key("fit", "line", "power law above xmin; the chosen xmin"),
    Key("null", "line", "start of the ERG tail; 90 % range of α for noise"),
)


def charts(curves: Curves, row: Mapping[str, float], colour: str, what: str) -> list[Chart]:
    """Charts of the density, of the density on logarithmic axes, and of alpha by xmin.

    Args:
      curves: the curves of the matrix, at least `density` and `log_density`.
      row: its numbers in the table; unknown ones are absent or NaN.
      colour: the colour of its stage.
      what: the name of the matrix, for descriptions of the charts in words.
    """
    drawn = [_density(curves, row, colour, what), _log_density(curves, row, colour, what)]
    if "exponents" in curves:
        drawn.append(_exponents(curves["exponents"], row, colour, what))
    return drawn


def _density(curves: Curves, row: Mapping[str, float], colour: str, what: str) -> Chart:
    edges, heights = curves["density"]
    edge, law, spikes = row.get("edge", np.nan), curves.get("law"), curves.get("spikes", np.zeros(0))
    high, ceiling = float(edges[-1]), float(heights.max())
    marks: list[Mark] = [Bars(edges, heights[:-1], colour)]
    if law is not None:
        # The law of a square matrix has no bound at zero: the histogram sets the axis.
        ceiling = max(ceiling, min(float(law[1].max()), 1.3 * ceiling))
        marks.append(Line(*law, "ink"))
    beyond = spikes[spikes > high]
    said = f"{len(spikes)} spike{'s' if len(spikes) != 1 else ''}" if np.isfinite(edge) else ""
    far = f"{len(beyond)} beyond, up to {show(float(beyond[-1]))}" if len(beyond) else ""
    marks += [Rule(edge, "ink", "dot"), Rug(spikes[spikes <= high], "second"), Note(said), Note(far, 1)]
    alt = f"Density of the eigenvalues of {what}, with the Marchenko-Pastur law"
    return Chart(Axis(0, high, label="λ"), Axis(0, 1.08 * ceiling or 1.0), tuple(marks), alt, "density")


def _log_density(curves: Curves, row: Mapping[str, float], colour: str, what: str) -> Chart:
    edges, heights = curves["log_density"]
    floor, ceiling = float(heights[heights > 0].min()) / 2, float(heights.max()) * 2
    x = Axis(float(edges[0]) / 1.1, float(edges[-1]) * 1.3, log=True, label="λ")
    marks: list[Mark] = [Bars(edges, np.maximum(heights[:-1], floor), colour)]
    if "law" in curves:
        at, law = curves["law"]
        inside = (law > floor) & (at >= x.low) & (at <= x.high)
        marks.append(Line(at, np.where(inside, law, np.nan), "ink", "thin"))
    if "fit" in curves:
        at, power, _ = curves["fit"]
        marks += [_straight(at, power, floor), Rule(float(at[0]), "fit")]
    marks += [
        Rule(row.get("edge", np.nan), "ink", "dot"),
        Rule(row.get("detX_val", np.nan), "null"),
        Rug(curves.get("spikes", np.zeros(0)), "second"),
        Note(f"α {show(row.get('alpha', np.nan))}"),
    ]
    alt = f"The same on logarithmic axes, with the power law of {what}"
    return Chart(x, Axis(floor, ceiling, log=True), tuple(marks), alt, "density, log-log")


def _straight(x: np.ndarray, y: np.ndarray, floor: float) -> Line:
    """A straight line between two points on logarithmic axes, cut off where it falls below `floor`."""
    if y[1] < floor < y[0]:
        share = np.log(floor / y[0]) / np.log(y[1] / y[0])
        x, y = np.array([x[0], x[0] * (x[1] / x[0]) ** share]), np.array([y[0], floor])
    return Line(x, y, "fit", "strong")


def _exponents(exponents: np.ndarray, row: Mapping[str, float], colour: str, what: str) -> Chart:
    starts, found, error = exponents
    alpha, xmin, low, high = (
        row.get(name, np.nan) for name in ("alpha", "xmin", "alpha_null_low", "alpha_null_high")
    )
    most = min(float(np.nanmax([np.quantile(found, 0.9), alpha * 1.4, 3.0])), 30.0)
    x = fitted([starts, [xmin if xmin >= starts[0] else np.nan]], log=True, label="xmin")
    marks: list[Mark] = []
    if np.isfinite(low + high):
        marks.append(Band([x.low, x.high], [low, low], [high, high], "null"))
    marks.append(Band(starts, found - error, found + error, colour))
    marks.append(Line(starts, np.where(found <= most, found, np.nan), colour))
    if np.isfinite([alpha, xmin]).all():
        marks += [Rule(xmin, "fit"), Dots([xmin], [alpha], "fit", radius=4)]
    alt = f"Exponent of {what} against the start of its tail"
    return Chart(x, Axis(1.0, most), tuple(marks), alt, "α for each xmin")


def shift(moved: np.ndarray, what: str) -> Chart:
    """The shift of each singular value by training, largest first, in units of the largest one before."""
    rank, by = moved
    y = fitted([by, [0.0]], log=False)
    x = Axis(1.0, max(float(rank[-1]), 1.5) * 1.02, log=True, label="rank, largest first")
    marks = (Rule(0.0, "muted", level=True), Line(rank, by, "after"), Dots(rank[:1], by[:1], "after"))
    alt = f"Shift of each singular value of {what}"
    return Chart(x, y, marks, alt, "shift of each singular value / the largest")


def survival(curves: Mapping[str, Curves], rows: Mapping[str, Mapping[str, float]], name: str) -> Chart:
    """The share of eigenvalues ≥ λ, before and after training, on logarithmic axes, with fits and edges.

    Nothing is binned. A power law with density λ^-α is a straight line of slope 1 - α above xmin.
    """
    known = [one["survival"] for one in curves.values()]
    edges = [rows[which].get("edge", np.nan) for which in curves]
    top = max(float(one[0, -1]) for one in known)
    # The smallest eigenvalues of a square matrix span decades and show little: leave room for the tail.
    bottom = max(min(float(one[0, 0]) for one in known), 1e-4 * top)
    bottom = float(np.nanmin([bottom, *(np.array(edges) / 1.5)]))
    lowest = min(float(one[1, -1]) for one in known)
    marks: list[Mark] = []
    for place, (which, one) in enumerate(curves.items()):
        values, share = one["survival"]
        values = np.where(values >= bottom / 1.2, values, np.nan)
        marks += [Line(values, share, which, "thin" if which == "before" else "solid")]
        marks.append(Dots(values[-6:], share[-6:], which, hollow=which == "before", radius=2))
        if "fit" in one:
            marks.append(Line(one["fit"][0], one["fit"][2], which, "dash"))
        marks.append(Rule(edges[place], which, "dot"))
        said = f"{which}, α {show(rows[which].get('alpha', np.nan))}"
        marks.append(Note(said, len(curves) - 1 - place, which, "lower left"))
    x = Axis(bottom / 1.2, 1.45 * float(np.nanmax([top, *edges])), log=True, label="λ")
    alt = f"Share of eigenvalues of at least λ of {name}"
    return Chart(x, Axis(lowest / 1.8, 1.4, log=True), tuple(marks), alt, name, (290, 230))


def overview(names: Sequence[str], most: int = 8) -> list[str]:
    """Picks at most `most` of the names, spread evenly."""
    places = np.linspace(0, len(names) - 1, min(most, len(names))).round().astype(int)
    return [names[k] for k in np.unique(places)]
