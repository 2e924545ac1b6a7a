"""What weights look like: eigenvalues of W^T W of every layer, and what random matrix theory says of them.

A library of its own, for any pytree of arrays:

    analysis = spectra.analyze(params)            # a table, a row per matrix; eigenvalues; what was left out
    spectra.compare(before, after).save(folder)   # before, after and the update

Conventions: W is `N x M` with N >= M, eigenvalues are of W^T W and not divided by N, Q = N / M; column names
are WeightWatcher's where the metric is the same.
"""

from rmtjax.spectra import observe as observe
from rmtjax.spectra.analysis import Analysis as Analysis
from rmtjax.spectra.analysis import analyze as analyze
from rmtjax.spectra.analysis import compare as compare
from rmtjax.spectra.analysis import compare_many as compare_many
from rmtjax.spectra.analysis import eigenvalues as eigenvalues
from rmtjax.spectra.layouts import grouped as grouped
from rmtjax.spectra.layouts import left_out as left_out
from rmtjax.spectra.layouts import scanned as scanned
from rmtjax.spectra.matrices import Matrix as Matrix
from rmtjax.spectra.matrices import weight_matrices as weight_matrices
from rmtjax.spectra.rules import Rule as Rule
from rmtjax.spectra.rules import default_rules as default_rules
from rmtjax.spectra.rules import torch_rules as torch_rules
from rmtjax.spectra.spread import alpha_spread as alpha_spread
from rmtjax.spectra.tails import hill_curve as hill_curve
