"""Size and power of every p in the table of spectra, on draws of which the truth is known.

A set of draws goes through the programs of the table in one pass. The size of a test is how often it rejects
a null that is true; .05 is meant. Its power is how often it rejects one realistic alternative.
"""

import functools
import time
from collections.abc import Callable, Iterator, Sequence
from typing import Any, NamedTuple

import jax
import numpy as np
import pandas as pd
import scipy.optimize
import scipy.stats
from jaxtyping import Bool, Float, Shaped

from rmtjax import spectra
from rmtjax.errors import InputError
from rmtjax.spectra import laws, neighbours, programs, rivals
from rmtjax.spectra.streaming import Spectrum, precision
from rmtjax.statistics.intervals import Interval, share_interval

LEVEL = 0.05
VALUES = 200  # independent values of one draw
N, M = 256, 128  # sides of one matrix
_TOGETHER = 500  # matrices that are drawn and analysed in one call

Columns = dict[str, np.ndarray]


def equally_far() -> float:
    """σ at which |normal| log values are as far from the best power law as from the best exponential law.

    With y = ln x the two mean log-likelihoods differ by ln(E[x - 1] / E[y]) - E[y].

    >>> round(equally_far(), 2)
    0.99
    """

    def difference(sigma: float) -> float:
        mean = sigma * np.sqrt(2 / np.pi)
        excess = 2 * np.exp(sigma**2 / 2) * scipy.stats.norm.cdf(sigma) - 1
        return float(np.log(excess / mean) - mean)

    return float(scipy.optimize.brentq(difference, 0.1, 3.0))


def _truncated(rng: np.random.Generator, draws: int) -> Float[np.ndarray, "draws VALUES"]:
    """By rejection: a Pareto variable x is kept with probability exp(-(x - 1) / 10), .88 on average."""
    wanted = draws * VALUES
    x = rng.pareto(1.5, 2 * wanted) + 1
    kept = x[rng.uniform(size=len(x)) < np.exp(-0.1 * (x - 1))]
    return kept[:wanted].reshape(draws, VALUES)


def _noise(rng: np.random.Generator, draws: int) -> Float[np.ndarray, "draws N M"]:
    return rng.standard_normal((draws, N, M), np.float32)


def _spiked(rng: np.random.Generator, draws: int) -> Float[np.ndarray, "draws N M"]:
    left, right = rng.standard_normal((draws, N, 1)), rng.standard_normal((draws, 1, M))
    theta = 1.3 * (M / N) ** 0.25 * np.sqrt(N)
    signal = theta * left * right / np.linalg.norm(left, axis=1, keepdims=True)
    return _noise(rng, draws) + signal / np.linalg.norm(right, axis=2, keepdims=True)


def _independent(rng: np.random.Generator, draws: int) -> Float[np.ndarray, "draws N M"]:
    """Matrices whose eigenvalues are independent draws from the Marchenko-Pastur law."""
    matrices = np.zeros((draws, N, M))
    values = N * laws.marchenko_pastur_quantile(rng.uniform(size=(draws, M)), M / N)
    matrices[:, np.arange(M), np.arange(M)] = np.sqrt(values)
    return matrices


# What is drawn: tails of values from 1 on, and matrices.
LAWS: dict[str, Callable[[np.random.Generator, int], np.ndarray]] = {
    "Pareto, α 2.5": lambda rng, draws: rng.pareto(1.5, (draws, VALUES)) + 1,
    "exponential": lambda rng, draws: rng.exponential(1, (draws, VALUES)) + 1,
    "lognormal, σ 1": lambda rng, draws: np.exp(np.abs(rng.standard_normal((draws, VALUES)))),
    "lognormal as far from both": lambda rng, draws: np.exp(
        equally_far() * np.abs(rng.standard_normal((draws, VALUES)))
    ),
    "Pareto, cut off at 10": _truncated,
    "noise": _noise,
    "Student's t, 3 degrees of freedom": lambda rng, draws: rng.standard_t(3, (draws, N, M)),
    "a spike of 1.3 thresholds": _spiked,
    "independent eigenvalues": _independent,
}


def known_xmin(values: Float[np.ndarray, "draws n"]) -> Columns:
    """The tests against rivals where all values are the tail and xmin is 1."""
    draws, n = values.shape
    with precision(np.float64):
        found = jax.jit(rivals.against_rivals)(
            values, np.full(draws, float(n)), 1 + 1 / np.log(values).mean(1), np.ones(draws)
        )
        return dict(jax.device_get(found))


def fitted_xmin(values: Float[np.ndarray, "draws n"]) -> Columns:
    """What the table shows of a spectrum of these values."""
    return _measured(values, "tail")


def bootstrap(values: Float[np.ndarray, "draws n"]) -> Columns:
    """The same for the goodness of fit."""
    return _measured(values, "bootstrap")


def _measured(values: Float[np.ndarray, "draws n"], group: str) -> Columns:
    draws, n = values.shape
    drawn = [Spectrum(row, 0, 0) for row in np.sort(values)]
    return programs.measure(drawn, [(1, n, n)] * draws, frozenset({group}), np.float64, seeds=range(draws))


def table(matrices: Shaped[np.ndarray, "draws N M"]) -> Columns:
    """The columns of the table of these matrices."""
    return _analysed(matrices, "tail,bulk,local")


def table_with_simulated_nulls(matrices: Shaped[np.ndarray, "draws N M"]) -> Columns:
    return _analysed(matrices, "local,nulls")


def _analysed(matrices: Shaped[np.ndarray, "draws N M"], metrics: str) -> Columns:
    tables = []
    for start in range(0, len(matrices), _TOGETHER):
        tree = {str(i): {"kernel": one} for i, one in enumerate(matrices[start : start + _TOGETHER])}
        tables.append(spectra.analyze(tree, metrics=metrics).table)
    return {name: column.to_numpy() for name, column in pd.concat(tables).items()}


class Test(NamedTuple):
    """A test at level .05.

    Attributes:
      name: of its p, or of its statistic with the rule that rejects.
      columns: the program that computes it.
      rejects: from the columns, `[draws]`.
      null, alternative: names of LAWS.
    """

    name: str
    columns: Callable[[np.ndarray], Columns]
    rejects: Callable[[Columns], Bool[np.ndarray, " draws"]]
    null: str
    alternative: str


def _below(name: str, columns: Columns) -> Bool[np.ndarray, " draws"]:
    return columns[name] < LEVEL


def _of_p(
    name: str, columns: Callable[[np.ndarray], Columns], null: str, alternative: str, words: str = ""
) -> Test:
    return Test(f"`{name}`{words}", columns, functools.partial(_below, name), null, alternative)


def _far_from_goe(columns: Columns) -> Bool[np.ndarray, " draws"]:
    distance = np.abs(columns["spacing_ratio"] - neighbours.SPACING_RATIO_GOE)
    return distance > 1.96 * columns["spacing_ratio_se"]


_PARETO, _LOGNORMAL, _CUT = "Pareto, α 2.5", "lognormal, σ 1", "Pareto, cut off at 10"
_KNOWN, _FITTED = ", xmin known", ", xmin fitted"
TESTS = (
    _of_p("p_lognormal", known_xmin, _PARETO, _LOGNORMAL, _KNOWN),
    _of_p("p_lognormal", fitted_xmin, _PARETO, _LOGNORMAL, _FITTED),
    _of_p("p_tpl", known_xmin, _PARETO, _CUT, _KNOWN),
    _of_p("p_tpl", fitted_xmin, _PARETO, _CUT, _FITTED),
    _of_p("p_exponential", known_xmin, "lognormal as far from both", "exponential", _KNOWN),
    Test(
        "`p_exponential` and R < 0, xmin fitted",
        fitted_xmin,
        lambda columns: _below("p_exponential", columns) & (columns["R_exponential"] < 0),
        _PARETO,
        "exponential",
    ),
    _of_p("gof_p", bootstrap, _PARETO, "exponential"),
    _of_p("gof_p", bootstrap, _PARETO, _LOGNORMAL),
    _of_p("alpha_null_p", table, "noise", "Student's t, 3 degrees of freedom"),
    _of_p("tw_p", table, "noise", "a spike of 1.3 thresholds"),
    Test(
        "`ks_mp` above its null",
        table,
        lambda columns: columns["ks_mp"] > columns["ks_mp_null"],
        "noise",
        "Student's t, 3 degrees of freedom",
    ),
    Test("`spacing_ratio` 1.96 errors from .5307", table, _far_from_goe, "noise", "independent eigenvalues"),
    Test(
        "`brody` below its simulated 5 %",
        table_with_simulated_nulls,
        lambda columns: columns["brody"] < columns["brody_null_low"],
        "noise",
        "independent eigenvalues",
    ),
)


class Row(NamedTuple):
    """How often a test rejects its null and its alternative; n says how large one draw is."""

    test: Test
    n: str
    size: Interval
    power: Interval


class Draws:
    """Columns of each law by each program: drawn and computed once.

    Attributes:
      seconds: by the name of the program and of the law.
      shapes: of one draw, by the name of the law.
    """

    def __init__(self, draws: int, seed: int = 0) -> None:
        self.draws, self.seed = draws, seed
        self.seconds: dict[tuple[str, str], float] = {}
        self.shapes: dict[str, tuple[int, ...]] = {}
        self._columns: dict[tuple[str, str], Columns] = {}

    def columns(self, program: Callable[[np.ndarray], Columns], law: str) -> Columns:
        key = program.__name__, law
        if key not in self._columns:
            drawn = LAWS[law](np.random.default_rng([self.seed, list(LAWS).index(law)]), self.draws)
            self.shapes[law] = drawn.shape[1:]
            start = time.perf_counter()
            self._columns[key] = program(drawn)
            self.seconds[key] = time.perf_counter() - start
        return self._columns[key]


def compare(draws: Draws, tests: Sequence[Test] = TESTS) -> Iterator[Row]:
    """A row per test."""
    for test in tests:
        size, power = (
            share_interval(int(test.rejects(draws.columns(test.columns, law)).sum()), draws.draws)
            for law in (test.null, test.alternative)
        )
        yield Row(test, " x ".join(map(str, draws.shapes[test.null])), size, power)


def main(arguments: Any, overrides: list[str]) -> None:
    if arguments.draws < 1:
        raise InputError(f"--draws={arguments.draws} is out of range: it must be 1 or more")
    draws = Draws(arguments.draws)
    print(f"{arguments.draws:,} draws of each null and alternative; rates with Wilson's 95 % interval")
    print("| p, or when it rejects | null | n | p < .05 | alternative | power |\n|---|---|---|---|---|---|")
    for row in compare(draws):
        size, power = (f"{mean:.3f} [{low:.3f}, {high:.3f}]" for mean, low, high in (row.size, row.power))
        print(
            f"| {row.test.name} | {row.test.null} | {row.n} | {size} | {row.test.alternative} | {power} |",
            flush=True,
        )
    of_noise = draws.columns(table_with_simulated_nulls, "noise")
    low, middle, high = np.quantile(of_noise["brody"], (0.05, 0.5, 0.95))
    null = float(of_noise["brody_null"][0])
    print(
        f"brody of noise: median {middle:.2f}, 5 % to 95 % {low:.2f} to {high:.2f}; simulated null {null:.2f}"
    )
    for (program, law), seconds in draws.seconds.items():
        print(f"{program}, {law}: {seconds:.1f} s")
