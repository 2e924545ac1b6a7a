"""Measurements after training: evaluation of the model, spectra of its weights, diversity of its data."""

from rmtjax.measure.diversity import diversity_of_run as diversity_of_run
from rmtjax.measure.evaluation import evaluate as evaluate
from rmtjax.measure.evaluation import evaluation_of_runs as evaluation_of_runs
from rmtjax.measure.spectra import spectra_of_runs as spectra_of_runs
