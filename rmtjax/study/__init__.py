"""Many runs: arms, seeds, and the tables they give."""

from rmtjax.study.answering import answer as answer
from rmtjax.study.design import Design as Design
from rmtjax.study.design import fewer_seeds as fewer_seeds
from rmtjax.study.design import load_design as load_design
from rmtjax.study.design import seeds_of as seeds_of
from rmtjax.study.runner import differences as differences
from rmtjax.study.runner import execute as execute
from rmtjax.study.runner import expected_seconds as expected_seconds
from rmtjax.study.runner import listing as listing
from rmtjax.study.runner import load_arms as load_arms
from rmtjax.study.runner import overview as overview
from rmtjax.study.runner import plan as plan
from rmtjax.study.runner import summary as summary
from rmtjax.study.runner import table as table
from rmtjax.study.runner import units as units
from rmtjax.study.runner import write_tables as write_tables
