"""After training: how good the model is, what its weights look like, what it was fed. One file each."""

import functools
import hashlib
import itertools
import logging
import os
import pathlib
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import jax
import numpy as np
from ml_collections import ConfigDict

from rmtjax import checkpoints, data, diversity, files, models, spectra, train
from rmtjax import evaluation as evaluation_lib
from rmtjax.train import classification, features
from rmtjax.train import sharding as sharding_lib
from rmtjax.train.population import Population, make_predict

LOG = logging.getLogger(__name__)
_MOST = 2000  # examples of each set whose diversity is measured
_SIDE = 32  # pixels; larger images are shrunk to it for that


def evaluation(config: ConfigDict, workdir: str | os.PathLike[str], result: train.Result) -> None:
    """evaluation.json: the test set, shifted tests and out-of-distribution sets, with intervals and nulls."""
    LOG.info("evaluation: test, %s", ", ".join((*config.evaluation.shifts, *config.evaluation.ood)))
    content = evaluate(config, result)
    if jax.process_index() == 0:
        files.write_json(pathlib.Path(workdir) / "evaluation.json", content)


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
        files.write_json(pathlib.Path(folder) / "evaluation.json", content)


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
            source = data.load_source(name, config.data.image_size, splits.test.text, config.data.classes)
            shifts[name] = logits(_batches(config, source))
    ood = {
        name: logits(_batches(config, data.load_source(name, config.data.image_size, splits.test.text)))[0]
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
    return evaluation_lib.Images(source.num_examples, list(source.image_shape), digest[:16])


def spectra_of_population(population: Population, workdirs: Mapping[int, str | os.PathLike[str]]) -> None:
    """`spectra_of_run` of members, by their numbers, in one pass."""
    LOG.info("spectra of %d runs: before, after and update", len(workdirs))
    config = population.tasks[0].config
    pairs = {
        str(i): (checkpoints.load_params(pathlib.Path(folder) / "checkpoints" / "0"), checkpoints.load_params(folder))
        for i, folder in workdirs.items()
    }  # fmt: skip
    found = spectra.compare_many(pairs, conv=config.spectra.conv, lora_scale=models.lora_scale(config))
    for i, folder in workdirs.items():
        found[str(i)].save(folder)


def spectra_of_run(config: ConfigDict, workdir: str | os.PathLike[str]) -> None:
    """spectra.parquet and spectra.npz: every layer before and after training, and of the update."""
    folder = pathlib.Path(workdir)
    LOG.info("spectra: before, after and update")
    before = checkpoints.load_params(folder / "checkpoints" / "0")
    after = checkpoints.load_params(folder)
    scale = models.lora_scale(config)
    spectra.compare(before, after, conv=config.spectra.conv, lora_scale=scale).save(folder)


def diversity_of_run(config: ConfigDict, workdir: str | os.PathLike[str], result: train.Result) -> None:
    """diversity.json: what the model was fed, as it is and in the features of one fixed model.

    The sets "real", "augmented", "synthetic" and "mixed" at equal n, that of the smallest. And "fed": an epoch as it is trained on, synthetic
    and augmented as the recipe has it, at the size of the real training split and weighted by its likeness to that split. That
    size is the same whatever the recipe, so that "fed" is what runs are compared by.

    At most 2,000 examples of each set are measured, drawn by the run's seed, and images larger than 32 x 32 at that size.
    """
    train_set, split = result.train, result.splits.train
    real, made = (np.flatnonzero(train_set.origin == kind) for kind in (0, 1))
    real = _some(real, config.seed)
    everything = _some(np.arange(train_set.num_examples), config.seed)
    sets = (
        {"real": _examples(train_set, real)} if len(real) else {}
    )  # none is left at share 1 of mode replace
    augment = data.augmentation(config.augment, train_set)
    if augment is not None and len(real):
        sets["augmented"] = _augmented(data.take(train_set, real), config.seed, augment)
    if len(made):
        sets["synthetic"] = _examples(train_set, _some(made, config.seed))
    if len(made) and len(real):
        sets["mixed"] = _examples(train_set, everything)
    at_equal_n = tuple(sets)
    as_fed, base = ("augmented" if augment is not None else "real"), "real"
    if len(made):
        as_fed, base = ("fed" if augment is not None else "mixed" if len(real) else "synthetic"), "split"
        sets["split"] = _examples(split, _some(np.arange(split.num_examples), config.seed))
        if augment is not None:
            sets["fed"] = _augmented(data.take(train_set, everything), config.seed, augment)
    test = result.splits.test
    sets["test"] = _examples(test, _some(np.arange(test.num_examples), config.seed))
    if train_set.text is None:
        LOG.info("diversity: pixels, and features of the shipped letters model")
        feature_model = features.LETTERS
        spaces = {"pixel": sets}
        if sets["test"].shape[1:] == features.LETTERS_SHAPE:
            spaces["feature"] = {name: features.letters_features(images) for name, images in sets.items()}
    else:
        LOG.info("diversity: counts of tokens, and features of the model before training")
        feature_model = "the model before training, pooled features before the head"
        before = checkpoints.load_params(pathlib.Path(workdir) / "checkpoints" / "0")
        spaces = {
            "unigram": unigrams(sets),
            "feature": {name: _text_features(config, result.model, before, t) for name, t in sets.items()},
        }
    rows = []
    for space, examples in spaces.items():
        measured = functools.partial(
            diversity.diversity_rows,
            reference=examples["test"],
            space=space,
            k=config.diversity.neighbours,
            seed=config.seed,
        )
        rows += measured({name: examples[name] for name in at_equal_n}, paired={"augmented": "real"})
        fed = measured(
            {"fed": examples[as_fed], "split": examples[base]},
            n=min(_MOST, split.num_examples, train_set.num_examples),
            metrics=(*diversity.DEFAULT, "weighted_vendi_unpaired"),
            paired={} if len(made) else {"fed": "split"},
            base="split",
        )
        rows += [row for row in fed if row["set"] == "fed"]
    content = {"feature_model": feature_model, "rows": rows}
    files.write_json(pathlib.Path(workdir) / "diversity.json", content)


def _some(numbers: np.ndarray, seed: int) -> np.ndarray:
    """All of a set's examples, or as many as are enough; of sets of one length the same places."""
    return numbers[np.sort(np.random.default_rng(seed).permutation(len(numbers))[:_MOST])]


def _examples(source: data.Source, numbers: np.ndarray) -> np.ndarray:
    return _shrunk(source.images(numbers))


def _augmented(source: data.Source, seed: int, augment: data.Augmentation) -> np.ndarray:
    """Every example once, augmented as in an epoch of training, in the source's order."""
    n = source.num_examples
    batches = data.train_batches(source, batch_size=min(n, 64), seed=seed, augment=augment)
    index, inputs = zip(
        *((b["index"], _shrunk(b["inputs"])) for b in itertools.islice(batches, -(-n // 64))), strict=True
    )
    epoch = slice(n)  # the last batch begins the next one
    return np.concatenate(inputs)[epoch][np.argsort(np.concatenate(index)[epoch])]


def _shrunk(inputs: np.ndarray) -> np.ndarray:
    return data.resize(inputs, _SIDE) if inputs.ndim == 4 and inputs.shape[1] > _SIDE else inputs


def unigrams(sets: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    """How often each token is in each text, `[n, tokens]`; of the tokens that some but not all texts have."""
    together = np.concatenate(list(sets.values()))
    present, column = np.unique(together, return_inverse=True)
    counts = np.zeros((len(together), len(present)), np.float32)
    np.add.at(counts, (np.arange(len(together))[:, None], column.reshape(together.shape)), 1)
    words = (present != 0) & ~np.all(counts > 0, axis=0)  # not padding, and not what stands around every text
    ends = np.cumsum([len(tokens) for tokens in sets.values()])[:-1]
    return dict(zip(sets, np.split(counts[:, words], ends), strict=True))


def _text_features(config: ConfigDict, model: Any, params: Any, tokens: np.ndarray) -> np.ndarray:
    """Pooled features of texts, given as the tokens that the model gets."""
    zeros = np.zeros(len(tokens), np.int32)
    source = data.Source("texts", zeros, ("any",), tokens.shape[1:], zeros.astype(np.int8), pixels=tokens)
    batches = data.evaluation_batches(source, batch_size=config.train.evaluation_batch_size)
    return classification.make_predict(model, sharding_lib.local_mesh())(params, {}, batches)[1]
