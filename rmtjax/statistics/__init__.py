"""What a study says: effects against seed noise, similarity of families, equivalence, doses, and the answers.

    table = statistics.collect("runs/study", {"none": Arm("none", 0, "none"), "dropout_0.3": Arm("dropout", 0.3, "none"), ...})
    statistics.answers(table, Roles("augmentation", "dropout", "decay", synthetic=["replace"]))

All functions take that one table (`samples.samples` says its columns); the seed is the unit of replication in every one but
`paper_aggregation`, which is there for contrast.
"""

from rmtjax.statistics.answers import Answer as Answer
from rmtjax.statistics.answers import Roles as Roles
from rmtjax.statistics.answers import answers as answers
from rmtjax.statistics.collecting import Arm as Arm
from rmtjax.statistics.collecting import collect as collect
from rmtjax.statistics.collecting import of_run as of_run
from rmtjax.statistics.collecting import spectra_by_arm as spectra_by_arm
from rmtjax.statistics.doses import dose_response as dose_response
from rmtjax.statistics.doses import matched as matched
from rmtjax.statistics.effects import effects as effects
from rmtjax.statistics.equivalence import equivalence as equivalence
from rmtjax.statistics.equivalence import tost_power as tost_power
from rmtjax.statistics.geometry import between_updates as between_updates
from rmtjax.statistics.mixed import mixed_effects as mixed_effects
from rmtjax.statistics.nulls import null_control as null_control
from rmtjax.statistics.nulls import null_similarity as null_similarity
from rmtjax.statistics.outcomes import Optimum as Optimum
from rmtjax.statistics.outcomes import interior_optimum as interior_optimum
from rmtjax.statistics.outcomes import rank_agreement as rank_agreement
from rmtjax.statistics.paper import PaperAggregation as PaperAggregation
from rmtjax.statistics.paper import paper_aggregation as paper_aggregation
from rmtjax.statistics.paper import pooled as pooled
from rmtjax.statistics.samples import samples as samples
from rmtjax.statistics.similarity import Similarity as Similarity
from rmtjax.statistics.similarity import similarity as similarity
