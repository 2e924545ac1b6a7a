"""What runs leave on disk: the one owner of a run's folder and of the one long table of all runs' numbers.

run_folder  the names of a run's files, and how each is read and written
layers      the groups of a model's layers (what counts as the head), and the mean over a group
long_table  every number of finished runs, one a row
views       results.csv, summary.csv, study.csv and the printed overview: parts of the long table
rows_file   the long table of finished runs in one file, which outlives their folders
densities   spectra.csv: how the eigenvalues of the updates lie
curvature   curvature.csv: trace and largest eigenvalue of the loss's Hessian along training
"""

from rmtjax.checkpoints.names import CHECKPOINTS as CHECKPOINTS
from rmtjax.checkpoints.names import DAMAGED as DAMAGED
from rmtjax.results.curvature import curvature_by_step as curvature_by_step
from rmtjax.results.densities import update_densities as update_densities
from rmtjax.results.layers import ACTIVATION as ACTIVATION
from rmtjax.results.layers import HEAD as HEAD
from rmtjax.results.layers import layer_groups as layer_groups
from rmtjax.results.long_table import collect as collect
from rmtjax.results.long_table import of_run as of_run
from rmtjax.results.rows_file import EMPTY as EMPTY
from rmtjax.results.rows_file import Made as Made
from rmtjax.results.rows_file import Rows as Rows
from rmtjax.results.rows_file import merged as merged
from rmtjax.results.rows_file import read_rows as read_rows
from rmtjax.results.rows_file import write_rows as write_rows
from rmtjax.results.run_folder import CONFIG as CONFIG
from rmtjax.results.run_folder import CURVATURE as CURVATURE
from rmtjax.results.run_folder import CURVES as CURVES
from rmtjax.results.run_folder import DIVERSITY as DIVERSITY
from rmtjax.results.run_folder import EIGENVALUES as EIGENVALUES
from rmtjax.results.run_folder import EVALUATION as EVALUATION
from rmtjax.results.run_folder import FIGURES as FIGURES
from rmtjax.results.run_folder import METRICS as METRICS
from rmtjax.results.run_folder import PAGE as PAGE
from rmtjax.results.run_folder import RECORD as RECORD
from rmtjax.results.run_folder import SAMPLES as SAMPLES
from rmtjax.results.run_folder import SPECTRA as SPECTRA
from rmtjax.results.run_folder import SYNTHETIC as SYNTHETIC
from rmtjax.results.run_folder import SYNTHETIC_BY_CLASS as SYNTHETIC_BY_CLASS
from rmtjax.results.run_folder import Run as Run
from rmtjax.results.run_folder import folder as folder
from rmtjax.results.run_folder import is_finished as is_finished
from rmtjax.results.run_folder import number as number
from rmtjax.results.run_folder import read as read
from rmtjax.results.run_folder import read_arrays as read_arrays
from rmtjax.results.run_folder import read_curvature as read_curvature
from rmtjax.results.run_folder import read_json as read_json
from rmtjax.results.run_folder import read_metrics as read_metrics
from rmtjax.results.run_folder import read_record as read_record
from rmtjax.results.run_folder import read_spectra as read_spectra
from rmtjax.results.run_folder import read_spectral_table as read_spectral_table
from rmtjax.results.run_folder import rows as rows
from rmtjax.results.run_folder import write as write
from rmtjax.results.views import TRAIN_SET as TRAIN_SET
from rmtjax.results.views import differences as differences
from rmtjax.results.views import overview as overview
from rmtjax.results.views import results_table as results_table
from rmtjax.results.views import study_table as study_table
from rmtjax.results.views import summary as summary
