"""How good a trained model is: evaluation.json."""

import hashlib
import logging
import os
import pathlib
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import jax
import numpy as np
from ml_collections import ConfigDict

from rmtjax import data, files, results, train
from rmtjax import evaluation as evaluation_lib
from rmtjax.train import classification
from rmtjax.train.population import Population, make_predict

LOG = logging.getLogger(__name__)


def evaluation_of_run(config: ConfigDict, workdir: str | os.PathLike[str], result: train.Result) -> None:
    """evaluation.json: the test set, shifted tests and out-of-distribution sets, with intervals and nulls."""
    LOG.info("evaluation: test, %s", ", ".join((*config.evaluation.shifts, *config.evaluation.ood)))
    content = evaluate(config, result)
    if jax.process_index() == 0:
        files.write_json(pathlib.Path(workdir) / results.EVALUATION, content)


def evaluate(
    config: ConfigDict, result: train.Result, reference: evaluation_lib.Reference | None = None
) -> dict[str, Any]:
    """What evaluation.json holds. With several processes all must call this together.

    Args:
      reference: another model's errors under corruptions, for mCE.
    """
    predict = classification.make_predict(result.model, result.mesh)

    def logits(batches: Any) -> tuple[np.ndarray, np.ndarray]:
        out, _, label = predict(result.state.params, result.state.model_state, batches)
        return out, label

    validation = logits(_batches(config, result.splits.validation))
    sets = _predictions(config, result.splits, logits, reference)
    return _content(config, validation, sets, reference)


def evaluation_of_population(population: Population, workdirs: Mapping[int, str | os.PathLike[str]]) -> None:
    """evaluation.json of members, by their numbers; every set goes through all members at once."""
    LOG.info("evaluation of %d runs", len(workdirs))
    tasks = population.tasks
    config, splits = tasks[0].config, tasks[0].splits  # the test set and all others are the same for all
    predict = make_predict(tasks[0].model, population.mesh)
    weights = population.params, population.model_state
    sets = _predictions(config, splits, lambda batches: predict(*weights, batches))
    lanes = jax.tree.leaves(population.params)[0].shape[0]
    validation = [_batches(task.config, task.splits.validation) for task in tasks]
    fillers = [_batches(config, splits.validation) for _ in range(lanes - len(tasks))]
    of_validation = predict(*weights, validation + fillers, each=True)
    for i, folder in workdirs.items():
        content = _content(tasks[i].config, (of_validation[0][i], of_validation[1][i]), sets.of_member(i))
        files.write_json(pathlib.Path(folder) / results.EVALUATION, content)


class _Predictions(NamedTuple):
    """Logits `[n, k]` (of a population `[members, n, k]`) and labels of all sets but validation."""

    test: tuple[np.ndarray, np.ndarray]
    shifts: dict[str, Any]  # logits and labels; of "corrupted" logits [severities, n, k] by type
    ood: dict[str, np.ndarray]
    chosen: np.ndarray  # test examples that are corrupted
    images: evaluation_lib.Images | None

    def of_member(self, i: int) -> "_Predictions":
        shifts = {
            name: {kind: x[:, i] for kind, x in of.items()} if name == "corrupted" else (of[0][i], of[1])
            for name, of in self.shifts.items()
        }
        ood = {name: x[i] for name, x in self.ood.items()}
        return self._replace(test=(self.test[0][i], self.test[1]), shifts=shifts, ood=ood)


def _predictions(
    config: ConfigDict,
    splits: data.Splits,
    logits: Callable[[Any], tuple[np.ndarray, np.ndarray]],
    reference: evaluation_lib.Reference | None = None,
) -> _Predictions:
    """What a model, or a population, says of all sets. `logits(batches)` gives logits and labels."""
    test = logits(_batches(config, splits.test))
    shifts: dict[str, Any] = {}
    chosen, images = np.zeros(0, int), None
    for name in config.evaluation.shifts:
        if name == "corrupted":
            chosen = data.stratified(splits.test, config.evaluation.corrupted_examples)
            to_corrupt = data.take(splits.test.stored or splits.test, chosen).held()
            images = _images(to_corrupt)
            if reference is not None:
                evaluation_lib.check_same_images(reference, images)
            shifts[name] = {
                corruption: np.stack([
                    logits(map(_corrupted(corruption, s, config.data.image_size), _batches(config, to_corrupt)))[0]
                    for s in evaluation_lib.SEVERITIES
                ])
                for corruption in config.evaluation.corruptions
            }  # fmt: skip
        else:
            source = data.load_source(name, config.data.image_size, splits.test.modality, config.data.classes)
            shifts[name] = logits(_batches(config, source))
    ood = {
        name: logits(_batches(config, data.load_source(name, config.data.image_size, splits.test.modality)))[
            0
        ]
        for name in config.evaluation.ood
    }
    return _Predictions(test, shifts, ood, chosen, images)


def _content(
    config: ConfigDict,
    validation: tuple[np.ndarray, np.ndarray],
    sets: _Predictions,
    reference: evaluation_lib.Reference | None = None,
) -> dict[str, Any]:
    content: dict[str, Any] = {}
    options = {"resamples": config.evaluation.bootstrap_samples, "seed": config.seed}
    temperature = evaluation_lib.fit_temperature(*validation)
    binned = options | {"bins": config.evaluation.bins, "temperature": temperature}
    rows = evaluation_lib.classification_rows("test", "id", *sets.test, **binned)
    for name, of in sets.shifts.items():
        if name == "corrupted":
            of_chosen = [x[sets.chosen] for x in sets.test]
            rows += evaluation_lib.corrupted_rows(of, *of_chosen, reference=reference, **binned)
            content["corrupted"] = sets.images._asdict()
        else:
            rows += evaluation_lib.classification_rows(name, "shift", *of, **binned)
    for name, outside in sets.ood.items():
        rows += evaluation_lib.ood_rows(name, sets.test[0], outside, **options)
    return content | {"temperature": float(temperature), "rows": rows}


def _batches(config: ConfigDict, source: data.Source) -> Any:
    """Evaluation batches that the devices can share; of a set that is smaller than one, a batch that it fills."""
    devices = jax.device_count()
    size = -(-min(config.train.evaluation_batch_size, source.num_examples) // devices) * devices
    return data.evaluation_batches(
        source, batch_size=size, process_index=jax.process_index(), process_count=jax.process_count()
    )


def _corrupted(
    corruption: str, severity: int, image_size: int
) -> Callable[[dict[str, np.ndarray]], dict[str, Any]]:
    """A change of evaluation batches: corrupted as they come, then of the size that the model gets.

    The same for an example in batches of any size, on any number of processes, and in every run of whatever seed: a
    corrupted set belongs to the data.
    """
    key = train.named_key(0, f"corruption/{corruption}/{severity}")

    def change(batch: dict[str, np.ndarray]) -> dict[str, Any]:
        images = evaluation_lib.corrupt(batch["inputs"], corruption, severity, key, batch["index"])
        return batch | {"inputs": data.resize(np.asarray(images), image_size)}

    return change


def _images(source: data.Source) -> evaluation_lib.Images:
    """What tells whether two runs were evaluated on the same corrupted images."""
    digest = hashlib.sha256(source.labels.astype("<i4").tobytes()).hexdigest()
    return evaluation_lib.Images(source.num_examples, list(source.shape), digest[:16])
