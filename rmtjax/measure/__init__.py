"""After training: how good the model is, what its weights look like, what it was fed. One file each."""

from rmtjax.measure.diversity import diversity_of_run as diversity_of_run
from rmtjax.measure.diversity import unigrams as unigrams
from rmtjax.measure.evaluation import evaluate as evaluate
from rmtjax.measure.evaluation import evaluation_of_runs as evaluation_of_runs
from rmtjax.measure.spectra import spectra_of_runs as spectra_of_runs
