"""Tables, figures and pages, made from the files of a workdir alone, without a device or training code."""

from rmtjax.report.diversity import diversity_table, rarefaction_figure
from rmtjax.report.images import samples, synthetic
from rmtjax.report.knobs import knobs_figure
from rmtjax.report.page_of_models import models_page
from rmtjax.report.page_of_run import run_page
from rmtjax.report.page_of_spectra import spectra_page
from rmtjax.report.page_of_study import study_page
from rmtjax.report.seeds import seeds_figure
from rmtjax.report.words import evaluation_table, final_table

__all__ = [
    "diversity_table",
    "evaluation_table",
    "final_table",
    "knobs_figure",
    "models_page",
    "rarefaction_figure",
    "run_page",
    "samples",
    "seeds_figure",
    "spectra_page",
    "study_page",
    "synthetic",
]
