"""Generators fitted to a training split, and the synthetic sets they make."""

from rmtjax.generate.sets import SyntheticSet as SyntheticSet
from rmtjax.generate.sets import ensure as ensure
from rmtjax.generate.sets import source as source
from rmtjax.generate.sets import summary as summary
from rmtjax.generate.sets import write_run_files as write_run_files
