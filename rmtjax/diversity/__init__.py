"""How diverse a set of examples is, from features [n, d] alone; a library of its own.

diversity.vendi_interval(features)         # effective number of different examples, with its interval
diversity.coverage(reference, candidates)  # share of the reference that the candidates reach
diversity.diversity_rows({"real": x, "synthetic": y}, test, space="pixel")
"""

from rmtjax.diversity.compare import at_equal_n as at_equal_n
from rmtjax.diversity.compare import diversity_rows as diversity_rows
from rmtjax.diversity.coverage import Manifolds as Manifolds
from rmtjax.diversity.coverage import coverage as coverage
from rmtjax.diversity.coverage import expected_coverage as expected_coverage
from rmtjax.diversity.coverage import manifold_scores as manifold_scores
from rmtjax.diversity.neighbours import nearest_distances as nearest_distances
from rmtjax.diversity.spectrum import Estimate as Estimate
from rmtjax.diversity.vendi import effective_rank as effective_rank
from rmtjax.diversity.vendi import vendi_interval as vendi_interval
from rmtjax.diversity.vendi import vendi_of_isotropic as vendi_of_isotropic
from rmtjax.diversity.vendi import vendi_score as vendi_score
