"""Many runs: arms, seeds, and the tables they give.

arms       arms and functions of a user's Python file
families   arms that designs have in common: placebos, diversity by itself
design     what the arms of a study stand for, and their seeds
planning   the runs, their configs checked, and which of them are trained together
execution  runs what is not finished, in processes of its own
over       answers over the studies of several models
rows       the numbers of finished runs in files that outlive the folders
tables     results.csv, summary.csv, study.csv, answers.csv and the like
"""

from rmtjax.study.arms import load_arms as load_arms
from rmtjax.study.design import Design as Design
from rmtjax.study.design import fewer_seeds as fewer_seeds
from rmtjax.study.design import load_design as load_design
from rmtjax.study.design import seeds_of as seeds_of
from rmtjax.study.execution import execute as execute
from rmtjax.study.over import answer_over_models as answer_over_models
from rmtjax.study.over import names_of as names_of
from rmtjax.study.planning import PlannedRun as PlannedRun
from rmtjax.study.planning import expected_seconds as expected_seconds
from rmtjax.study.planning import listing as listing
from rmtjax.study.planning import plan as plan
from rmtjax.study.planning import units as units
from rmtjax.study.rows import KeptRows as KeptRows
from rmtjax.study.tables import answer as answer
from rmtjax.study.tables import write_tables as write_tables
