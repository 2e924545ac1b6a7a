"""Generators fitted to a training split, and the synthetic sets they make."""

from rmtjax.generate.synthetic_sets import SyntheticSet as SyntheticSet
from rmtjax.generate.synthetic_sets import ensure as ensure
from rmtjax.generate.synthetic_sets import source as source
from rmtjax.generate.synthetic_sets import summary as summary
from rmtjax.generate.synthetic_sets import write_run_files as write_run_files
