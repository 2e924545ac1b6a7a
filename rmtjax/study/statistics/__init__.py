"""What a study says: effects against seed noise, similarity of families, equivalence, doses, and the answers.

    table = statistics.collect("runs/study", {"none": Arm("none", 0, "none"), "dropout_0.3": Arm("dropout", 0.3, "none"), ...})
    statistics.answers(table, Roles("augmentation", "dropout", "decay", synthetic=["replace"]))

All functions take that one table (`samples.samples` says its columns); the seed is the unit of replication in every one but
`paper_aggregation`, which is there for contrast.
"""

from rmtjax.study.statistics.answers import Answer as Answer
from rmtjax.study.statistics.answers import Roles as Roles
from rmtjax.study.statistics.answers import answers as answers
from rmtjax.study.statistics.collecting import Arm as Arm
from rmtjax.study.statistics.collecting import collect as collect
from rmtjax.study.statistics.collecting import of_run as of_run
from rmtjax.study.statistics.collecting import spectra_by_arm as spectra_by_arm
from rmtjax.study.statistics.doses import dose_response as dose_response
from rmtjax.study.statistics.doses import matched as matched
from rmtjax.study.statistics.effects import effects as effects
from rmtjax.study.statistics.equivalence import equivalence as equivalence
from rmtjax.study.statistics.equivalence import tost_power as tost_power
from rmtjax.study.statistics.geometry import between_updates as between_updates
from rmtjax.study.statistics.mixed import mixed_effects as mixed_effects
from rmtjax.study.statistics.nulls import null_control as null_control
from rmtjax.study.statistics.nulls import null_similarity as null_similarity
from rmtjax.study.statistics.outcomes import Optimum as Optimum
from rmtjax.study.statistics.outcomes import interior_optimum as interior_optimum
from rmtjax.study.statistics.outcomes import rank_agreement as rank_agreement
from rmtjax.study.statistics.paper import PaperAggregation as PaperAggregation
from rmtjax.study.statistics.paper import paper_aggregation as paper_aggregation
from rmtjax.study.statistics.paper import pooled as pooled
from rmtjax.study.statistics.samples import samples as samples
from rmtjax.study.statistics.similarity import Similarity as Similarity
from rmtjax.study.statistics.similarity import similarity as similarity
