"""Tables, figures and pages, drawn from the files of a workdir alone: no device, no training code."""

from rmtjax.report.curves import knobs_figure
from rmtjax.report.diversity import diversity_table, rarefaction_figure
from rmtjax.report.images import samples, synthetic
from rmtjax.report.page import run_page
from rmtjax.report.seeds import mean_interval, seeds_figure
from rmtjax.report.study import study_page
from rmtjax.report.weights import spectra_page
from rmtjax.report.words import evaluation_table, final_table

__all__ = [
    "diversity_table",
    "evaluation_table",
    "final_table",
    "knobs_figure",
    "mean_interval",
    "rarefaction_figure",
    "run_page",
    "samples",
    "seeds_figure",
    "spectra_page",
    "study_page",
    "synthetic",
]
