"""What a study says: effects against seed noise, similarity of families, equivalence, doses, and the answers."""

from rmtjax.study.statistics.effects import effects as effects
from rmtjax.study.statistics.equivalence import equivalence as equivalence
from rmtjax.study.statistics.equivalence import tost_power as tost_power
from rmtjax.study.statistics.nulls import null_control as null_control
from rmtjax.study.statistics.nulls import null_similarity as null_similarity
from rmtjax.study.statistics.paper import PaperAggregation as PaperAggregation
from rmtjax.study.statistics.paper import paper_aggregation as paper_aggregation
from rmtjax.study.statistics.paper import pooled as pooled
from rmtjax.study.statistics.similarity import Similarity as Similarity
from rmtjax.study.statistics.similarity import similarity as similarity
