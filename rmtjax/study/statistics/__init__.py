"""What a study says: effects against seed noise, similarity of families, equivalence, doses, and the answers."""

from rmtjax.study.statistics.paper import PaperAggregation as PaperAggregation
from rmtjax.study.statistics.paper import paper_aggregation as paper_aggregation
from rmtjax.study.statistics.paper import pooled as pooled
