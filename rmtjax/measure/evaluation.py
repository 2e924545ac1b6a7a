"""Writes evaluation.json: the accuracy, calibration and robustness of trained models."""

import hashlib
import logging
import os
import pathlib
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import jax
import numpy as np
from ml_collections import ConfigDict

from rmtjax import data, files, results, train
from rmtjax import evaluation as evaluation_lib
from rmtjax.train import classification
from rmtjax.train.population import Population, together

LOG = logging.getLogger(__name__)

_TRAINING_EXAMPLES = 1000  # the most that the loss on the training set is taken of


def evaluation_of_runs(
    configs: Sequence[ConfigDict],
    workdirs: Sequence[str | os.PathLike[str]],
    trained: train.Result | Population,
) -> None:
    """Writes evaluation.json of runs: test set, shifted and out-of-distribution sets, intervals and nulls.

    Of the real training examples, as they are before augmentation and with the labels that the run was given,
    accuracy and NLL are there too (a fixed, stratified part of 1,000 where there are more).

    Args:
      configs, workdirs: those of the one run, or of all members of a population. Members that have diverged
        or are finished are skipped.
    """
    config = configs[0]
    LOG.info("evaluation: test, %s", ", ".join((*config.evaluation.shifts, *config.evaluation.ood)))
    wanted = trained.unmeasured if isinstance(trained, Population) else [0]
    contents = _contents(configs, trained, wanted)
    if jax.process_index() == 0:
        for i, content in contents.items():
            files.write_json(pathlib.Path(workdirs[i]) / results.EVALUATION, content)


def evaluate(
    config: ConfigDict, result: train.Result, reference: evaluation_lib.Reference | None = None
) -> dict[str, Any]:
    """The content of evaluation.json. If there are several processes, all must call this together.

    Args:
      reference: errors of another model under corruptions, for mCE.
    """
    return _contents([config], result, [0], reference)[0]


def _contents(
    configs: Sequence[ConfigDict],
    trained: train.Result | Population,
    wanted: Sequence[int],
    reference: evaluation_lib.Reference | None = None,
) -> dict[int, dict[str, Any]]:
    """The contents of evaluation.json by number of the member; all members get each set at once."""
    config = configs[0]  # the test set and all others but validation are the same for all
    logits = _logits(trained)
    every = [task.splits for task in trained.tasks] if isinstance(trained, Population) else [trained.splits]
    validation = _own(config, trained, logits, [splits.validation for splits in every])
    learnt = _own(config, trained, logits, [_some(splits.train, _TRAINING_EXAMPLES) for splits in every])
    sets = _predictions(config, every[0], logits, reference)
    return {i: _content(configs[i], validation[i], learnt[i], sets.of_member(i), reference) for i in wanted}


def _some(source: data.Source, most: int) -> data.Source:
    """At most so many examples, stratified."""
    if source.num_examples <= most:
        return source
    return data.take(source, data.stratified(source, most)).held()


def _own(
    config: ConfigDict,
    trained: train.Result | Population,
    logits: Callable[..., tuple[np.ndarray, np.ndarray]],
    sources: Sequence[data.Source],
) -> list[tuple[np.ndarray, np.ndarray]]:
    """Logits `[n, k]` and labels of each member for a set of its own; the sets may differ in size."""
    if not isinstance(trained, Population):
        of_one, label = logits(_batches(config, sources[0]))
        return [(of_one[0], label)]
    longest = max(source.num_examples for source in sources)
    # All members are evaluated together: a smaller set is filled up with its first examples.
    filled = [data.take(source, np.arange(longest) % source.num_examples) for source in sources]
    lanes = jax.tree.leaves(trained.params)[0].shape[0]
    filled += [filled[0]] * (lanes - len(filled))
    each, label = logits(together(_batches(config, source) for source in filled), each=True)
    sizes = [source.num_examples for source in sources]
    return [(each[i, :size], label[i, :size]) for i, size in enumerate(sizes)]


def _logits(trained: train.Result | Population) -> Callable[..., tuple[np.ndarray, np.ndarray]]:
    """Returns `logits(batches) -> logits [members, n, k], label`; a single run is one member."""
    if isinstance(trained, Population):
        predict = classification.make_predict(trained.tasks[0].model, trained.mesh, members=True)

        def of_members(batches: Any, each: bool = False) -> tuple[np.ndarray, np.ndarray]:
            out, _, label = predict(trained.params, trained.model_state, batches, each)
            return out, label

        return of_members
    predict = classification.make_predict(trained.model, trained.mesh)

    def of_one(batches: Any) -> tuple[np.ndarray, np.ndarray]:
        out, _, label = predict(trained.state.params, trained.state.model_state, batches)
        return out[None], label

    return of_one


class _Predictions(NamedTuple):
    """Logits `[members, n, k]` (or `[n, k]` of one member) and labels of all sets except validation."""

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
    """The logits of all members for all sets except validation."""
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
            size = config.data.image_size
            shifts[name] = {
                corruption: np.stack([
                    logits(map(_corrupted(corruption, severity, size), _batches(config, to_corrupt)))[0]
                    for severity in config.evaluation.severities
                ])
                for corruption in config.evaluation.corruptions
            }  # fmt: skip
        else:
            source = data.load_source(name, config.data.image_size, splits.test.modality, config.data.classes)
            shifts[name] = logits(_batches(config, source))
    ood = {}
    for name in config.evaluation.ood:
        source = data.load_source(name, config.data.image_size, splits.test.modality)
        most = config.evaluation.ood_examples
        ood[name] = logits(_batches(config, _some(source, most or source.num_examples)))[0]
    return _Predictions(test, shifts, ood, chosen, images)


def _content(
    config: ConfigDict,
    validation: tuple[np.ndarray, np.ndarray],
    learnt: tuple[np.ndarray, np.ndarray],
    sets: _Predictions,
    reference: evaluation_lib.Reference | None = None,
) -> dict[str, Any]:
    content: dict[str, Any] = {}
    options = {"resamples": config.evaluation.bootstrap_samples, "seed": config.seed}
    temperature = evaluation_lib.fit_temperature(*validation)
    binned = options | {"bins": config.evaluation.bins, "temperature": temperature}
    rows = evaluation_lib.classification_rows("test", "id", *sets.test, **binned)
    of_training = evaluation_lib.classification_rows(results.TRAIN_SET, "id", *learnt, **binned)
    rows += [row for row in of_training if row["metric"] in ("accuracy", "nll")]
    for name, of in sets.shifts.items():
        if name == "corrupted":
            of_chosen = [x[sets.chosen] for x in sets.test]
            rows += evaluation_lib.corrupted_rows(
                of, *of_chosen, severities=config.evaluation.severities, reference=reference, **binned
            )
            content["corrupted"] = sets.images._asdict()
        else:
            rows += evaluation_lib.classification_rows(name, "shift", *of, **binned)
    for name, outside in sets.ood.items():
        rows += evaluation_lib.ood_rows(name, sets.test[0], outside, **options)
    return content | {"temperature": float(temperature), "rows": rows}


def _batches(config: ConfigDict, source: data.Source) -> Any:
    """Evaluation batches that the devices can share; the batch of a small set is only as large as needed."""
    devices = jax.device_count()
    size = -(-min(config.train.evaluation_batch_size, source.num_examples) // devices) * devices
    return data.evaluation_batches(
        source, batch_size=size, process_index=jax.process_index(), process_count=jax.process_count()
    )


def _corrupted(
    corruption: str, severity: int, image_size: int
) -> Callable[[dict[str, np.ndarray]], dict[str, Any]]:
    """A function that corrupts evaluation batches, then resizes them for the model.

    An example is corrupted in the same way in batches of any size, with any number of processes and any seed
    of the run, since the corrupted set belongs to the data.
    """
    key = train.named_key(0, f"corruption/{corruption}/{severity}")

    def change(batch: dict[str, np.ndarray]) -> dict[str, Any]:
        images = evaluation_lib.corrupt(batch["inputs"], corruption, severity, key, batch["index"])
        return batch | {"inputs": data.resize(np.asarray(images), image_size)}

    return change


def _images(source: data.Source) -> evaluation_lib.Images:
    """Identifies the corrupted images, to compare those of two runs."""
    digest = hashlib.sha256(source.labels.astype("<i4").tobytes()).hexdigest()
    return evaluation_lib.Images(source.num_examples, list(source.shape), digest[:16])
