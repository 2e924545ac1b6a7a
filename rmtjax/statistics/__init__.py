"""Statistics of a study: effects against seed noise, similarity, equivalence, doses, and the answers.

    table = results.study_table(results.collect("runs/study", arms), arms)  # or any table with its columns
    statistics.answers(table, Roles("augmentation", "dropout", "decay", synthetic=["replace"]))

All functions take that one table (`study_table` says its columns). The seed is the unit of replication in all
of them but `paper_aggregation`, which is there for contrast.

    study_table        the table, its seeds as arrays, and the noise that effects are measured in
    intervals          means over seeds with t intervals, shares with Wilson's
    corrections        p-values corrected for the number of tests
    contrasts          each arm against its baseline
    mixed              the same by a mixed model
    tost               equivalence of two arms
    products           inner products of effects, free of noise and of a common baseline
    directions         T1: which direction a family moves the weights in, against placebos
    alone              T5: whether diversity by itself moves the weights, and in whose direction
    fit                T6: how much of an effect is that on the fit
    separation         T7: which single number tells families apart
    meta               one verdict over the studies of several models
    distance           T2: how far two arms lie apart, over all numbers at once
    effect_similarity  cosine and rank correlation of the effects of families
    doses              dose-response, and families at matched doses
    outcomes           the best share of synthetic data, and measures that rank families
    one_run            from which arms one run may have come
    questions          the questions and their answers in sentences
    geometry           angles between the updates of runs
    simulate           whole studies of which the truth is known, and the rates of verdicts in them
    simulate_further   the same for T5 to T7 and for verdicts over models
    nulls              how often the tests find something where there is nothing
    paper              the aggregation of Ba et al.
"""

from rmtjax.statistics.contrasts import effects as effects
from rmtjax.statistics.directions import Likeness as Likeness
from rmtjax.statistics.doses import dose_response as dose_response
from rmtjax.statistics.doses import matched as matched
from rmtjax.statistics.effect_similarity import Similarity as Similarity
from rmtjax.statistics.effect_similarity import similarity as similarity
from rmtjax.statistics.fit import fit_rows as fit_rows
from rmtjax.statistics.geometry import between_updates as between_updates
from rmtjax.statistics.intervals import mean_interval as mean_interval
from rmtjax.statistics.intervals import share_interval as share_interval
from rmtjax.statistics.meta import OverModels as OverModels
from rmtjax.statistics.meta import over_models as over_models
from rmtjax.statistics.mixed import mixed_effects as mixed_effects
from rmtjax.statistics.nulls import null_control as null_control
from rmtjax.statistics.nulls import null_similarity as null_similarity
from rmtjax.statistics.one_run import membership as membership
from rmtjax.statistics.outcomes import Optimum as Optimum
from rmtjax.statistics.outcomes import interior_optimum as interior_optimum
from rmtjax.statistics.outcomes import rank_agreement as rank_agreement
from rmtjax.statistics.paper import PaperAggregation as PaperAggregation
from rmtjax.statistics.paper import paper_aggregation as paper_aggregation
from rmtjax.statistics.paper import pooled as pooled
from rmtjax.statistics.questions import QUESTIONS as QUESTIONS
from rmtjax.statistics.questions import Answer as Answer
from rmtjax.statistics.questions import Roles as Roles
from rmtjax.statistics.questions import answers as answers
from rmtjax.statistics.questions import likeness as likeness
from rmtjax.statistics.questions import separations as separations
from rmtjax.statistics.study_table import COLUMNS as COLUMNS
from rmtjax.statistics.study_table import Arm as Arm
from rmtjax.statistics.study_table import samples as samples
from rmtjax.statistics.tost import equivalence as equivalence
from rmtjax.statistics.tost import tost_power as tost_power
