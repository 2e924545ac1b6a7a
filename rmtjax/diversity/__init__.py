"""Measures how diverse a set of examples is, from its features [n, d] alone.

diversity.vendi_interval(features)         # effective number of different examples, with its interval
diversity.coverage(reference, candidates)  # share of the reference that the candidates reach
diversity.diversity_rows({"real": x, "synthetic": y}, test, space="pixel")

`python -m rmtjax.diversity SET` measures a set on disk.
"""

from rmtjax.diversity.classes import class_rows as class_rows
from rmtjax.diversity.classes import rarefaction as rarefaction
from rmtjax.diversity.compare import DEFAULT as DEFAULT
from rmtjax.diversity.compare import METRICS as METRICS
from rmtjax.diversity.compare import TEXT_METRICS as TEXT_METRICS
from rmtjax.diversity.compare import at_equal_n as at_equal_n
from rmtjax.diversity.compare import diversity_rows as diversity_rows
from rmtjax.diversity.compare import text_rows as text_rows
from rmtjax.diversity.distances import frechet_distance as frechet_distance
from rmtjax.diversity.distances import kernel_distance as kernel_distance
from rmtjax.diversity.gradients import gradient_features as gradient_features
from rmtjax.diversity.kernels import fkea as fkea
from rmtjax.diversity.kernels import gaussian as gaussian
from rmtjax.diversity.kernels import gaussian_vendi as gaussian_vendi
from rmtjax.diversity.kernels import median_distance as median_distance
from rmtjax.diversity.kernels import rke as rke
from rmtjax.diversity.manifolds import Manifolds as Manifolds
from rmtjax.diversity.manifolds import coverage as coverage
from rmtjax.diversity.manifolds import expected_coverage as expected_coverage
from rmtjax.diversity.manifolds import manifold_intervals as manifold_intervals
from rmtjax.diversity.manifolds import manifold_scores as manifold_scores
from rmtjax.diversity.neighbours import nearest_distances as nearest_distances
from rmtjax.diversity.selection import select as select
from rmtjax.diversity.spectrum import Estimate as Estimate
from rmtjax.diversity.texts import distinct_n as distinct_n
from rmtjax.diversity.texts import ngram_vendi as ngram_vendi
from rmtjax.diversity.vendi import effective_rank as effective_rank
from rmtjax.diversity.vendi import effective_rank_of_isotropic as effective_rank_of_isotropic
from rmtjax.diversity.vendi import vendi_interval as vendi_interval
from rmtjax.diversity.vendi import vendi_of_isotropic as vendi_of_isotropic
from rmtjax.diversity.vendi import vendi_score as vendi_score
from rmtjax.diversity.weighted import Weighted as Weighted
from rmtjax.diversity.weighted import weighted_vendi as weighted_vendi
from rmtjax.diversity.weighted import weighted_vendi_unpaired as weighted_vendi_unpaired
