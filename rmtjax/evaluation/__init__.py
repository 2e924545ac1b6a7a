"""Measures a classifier, in and out of distribution, from its logits and the labels alone.

    rows = evaluation.classification_rows("test", "id", logits, labels, temperature=t)

Single metrics are in `classification`, `calibration` and `ood`, intervals in `resampling`, corrupted inputs
in `corruptions`, mCE and effective robustness in `robustness`.
"""

from rmtjax.evaluation.calibration import adaptive_calibration_error as adaptive_calibration_error
from rmtjax.evaluation.calibration import calibration_null as calibration_null
from rmtjax.evaluation.calibration import expected_calibration_error as expected_calibration_error
from rmtjax.evaluation.calibration import fit_temperature as fit_temperature
from rmtjax.evaluation.calibration import top_label as top_label
from rmtjax.evaluation.classification import accuracy as accuracy
from rmtjax.evaluation.classification import brier_score as brier_score
from rmtjax.evaluation.classification import nll as nll
from rmtjax.evaluation.classification import no_merit as no_merit
from rmtjax.evaluation.corruptions import CORRUPTIONS as CORRUPTIONS
from rmtjax.evaluation.corruptions import SEVERITIES as SEVERITIES
from rmtjax.evaluation.corruptions import corrupt as corrupt
from rmtjax.evaluation.ood import auroc as auroc
from rmtjax.evaluation.ood import energy as energy
from rmtjax.evaluation.ood import fpr_at_tpr as fpr_at_tpr
from rmtjax.evaluation.ood import max_log_odds as max_log_odds
from rmtjax.evaluation.ood import max_softmax as max_softmax
from rmtjax.evaluation.resampling import Interval as Interval
from rmtjax.evaluation.resampling import bootstrap as bootstrap
from rmtjax.evaluation.resampling import percentile_interval as percentile_interval
from rmtjax.evaluation.robustness import Images as Images
from rmtjax.evaluation.robustness import Reference as Reference
from rmtjax.evaluation.robustness import check_same_images as check_same_images
from rmtjax.evaluation.robustness import effective_robustness as effective_robustness
from rmtjax.evaluation.robustness import effective_robustness_rows as effective_robustness_rows
from rmtjax.evaluation.robustness import mean_corruption_error as mean_corruption_error
from rmtjax.evaluation.robustness import reference_of as reference_of
from rmtjax.evaluation.robustness import relative_mean_corruption_error as relative_mean_corruption_error
from rmtjax.evaluation.rows import classification_rows as classification_rows
from rmtjax.evaluation.rows import corrupted_rows as corrupted_rows
from rmtjax.evaluation.rows import ood_rows as ood_rows
