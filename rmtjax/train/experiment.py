"""One training run, from a config to the files of its folder."""

import json
import logging
import os
import pathlib
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import jax
import numpy as np
from ml_collections import ConfigDict

from rmtjax import checkpoints, data, files, models, results, spectra
from rmtjax import config as config_lib
from rmtjax.errors import InputError
from rmtjax.spectra.metrics import chosen
from rmtjax.train import classification, curvature, loop, optim, selection, weights
from rmtjax.train import sharding as sharding_lib
from rmtjax.train import workdir as workdir_lib
from rmtjax.train.step import State, make_step

LOG = logging.getLogger(__name__)


class Result(NamedTuple):
    """A trained model and the data it was trained on."""

    state: State
    model: models.Model
    splits: data.Splits
    train: data.Source  # the training split, mixed with synthetic examples if there are any
    mesh: jax.sharding.Mesh
    record: workdir_lib.RunFile | None  # run.json; None for a model that was only restored


class Task(NamedTuple):
    """The data, model and durations of a config, checked and ready to be trained."""

    config: ConfigDict
    splits: data.Splits
    train: data.Source  # the training split, mixed with synthetic examples if there are any
    augment: Any
    model: models.Model
    init: Callable[[jax.Array], tuple[Any, Any]]
    load: Callable[[Any, Any], tuple[Any, Any]] | None
    shapes: tuple[Any, Any]  # those of the parameters and of the model state
    total_steps: int
    warmup_steps: int

    def batches(self, start_step: int) -> Any:
        return data.train_batches(
            self.train, batch_size=self.config.train.batch_size, seed=self.config.seed, start_step=start_step,
            augment=self.augment, process_index=jax.process_index(), process_count=jax.process_count(),
        )  # fmt: skip

    def validation(self) -> Any:
        return data.evaluation_batches(
            self.splits.validation, batch_size=self.config.train.evaluation_batch_size,
            process_index=jax.process_index(), process_count=jax.process_count(),
        )  # fmt: skip

    def facts(self) -> dict[str, Any]:
        """What run.json records about the task."""
        origin = self.train.origin
        return {
            "total_steps": self.total_steps,
            "classes": list(self.train.classes),
            "parameters": sum(leaf.size for leaf in jax.tree.leaves(self.shapes[0])),
            "examples": {
                "train": int((origin == 0).sum()),
                "synthetic": int((origin == 1).sum()),
                "validation": self.splits.validation.num_examples,
                "test": self.splits.test.num_examples,
            },
        }


def prepare(
    config: ConfigDict,
    synthetic: Callable[[], data.Source] | None = None,
    model: models.Model | None = None,
    augment: Any = None,
) -> Task:
    """Loads the data and builds the model of a config. For arguments and errors see `run`."""
    splits = selection.load(config)
    _check_evaluation_sets(config, splits)
    _check_metrics(config.spectra.metrics)
    train = splits.train
    if config.synthetic.share > 0:
        if synthetic is None:
            raise InputError(
                f"synthetic.share={config.synthetic.share} needs synthetic examples: pass synthetic= to "
                f"train.run"
            )
        train = data.mix(train, synthetic(), config.synthetic.mode, config.synthetic.share, config.seed)
    augment = augment if augment is not None else data.augmentation(config.augment, train)
    total_steps = config_lib.duration(config, "train.total", train.num_examples)
    warmup_steps = config_lib.duration(config, "optim.warmup", train.num_examples)
    if warmup_steps >= total_steps:
        LOG.warning(
            "the warm-up of %d steps is as long as the run of %d steps: the learning rate never falls",
            warmup_steps,
            total_steps,
        )
    model = model or models.build(config, len(train.classes), train.vocabulary_size)
    init = classification.make_init(
        model,
        train.input_shape,
        train.input_dtype,
        config.model.init_scale,
        head=config.optim.head,
        head_seed=config.model.head_seed,
    )
    load = weights.of_config(config)
    shapes = jax.eval_shape(init, jax.random.key(0))
    if load is not None:
        load(*shapes)  # raises now if the weights do not fit
    return Task(config, splits, train, augment, model, init, load, shapes, total_steps, warmup_steps)


class Member(NamedTuple):
    """A run in training: a single one, or one of a population."""

    task: Task
    folder: pathlib.Path
    record: workdir_lib.RunFile


def open_member(
    config: ConfigDict,
    workdir: str | os.PathLike[str],
    make_task: Callable[[], Task],
    together: int = 1,
) -> Member:
    """Checks the folder and the config; writes nothing except the folder itself."""
    folder = pathlib.Path(workdir)
    earlier = workdir_lib.prepare(config, folder)
    record = workdir_lib.RunFile(folder, earlier, workdir_lib.describe(config), together)
    return Member(make_task(), folder, record)


class Recorder:
    """Writes the files of runs that train together: config, samples, status and metrics.

    A context manager: it claims the folders, and after an exception records in run.json how the runs ended.

    Args:
      members: the members by their numbers in the population; a single run is number 0.
      facts: what run.json records about the training besides `Task.facts`.
    """

    def __init__(self, members: dict[int, Member], facts: dict[str, Any]):
        self.members, self.facts = members, facts
        self.failures: dict[int, str] = {}
        self._metrics: dict[int, workdir_lib.Metrics] = {}
        self._main = jax.process_index() == 0

    def __enter__(self) -> "Recorder":
        for member in self.members.values():
            workdir_lib.claim(member.task.config, member.folder)
            if self._main and not (member.folder / results.SAMPLES).exists():
                write_samples(member.folder, member.task.train, member.task.batches(0))
        return self

    def start(self, step: int, state: State) -> None:
        for i, member in self.members.items():
            record = member.record
            if step and record.content.get("status") == "diverged":
                self.failures[i] = record.content["reason"]
                continue
            record.update(status="running", step=step, **self.facts, **member.task.facts())
            if self._main:
                self._metrics[i] = workdir_lib.Metrics(member.folder, step)

    def write(self, step: int, scalars: dict[str, Any]) -> None:
        for i, metrics in self._metrics.items():
            metrics.write(step, {name: float(x[i] if np.ndim(x) else x) for name, x in scalars.items()})

    def diverged(self, i: int, reason: str) -> None:
        """Marks a member of a population as diverged, and writes no more metrics for it."""
        if i in self.members and i not in self.failures:
            self.failures[i] = reason
            self.members[i].record.update(status="diverged", reason=reason)
            self._metrics.pop(i).close()

    def update(self, **facts: Any) -> None:
        """Updates run.json of all members that have not diverged."""
        for i, member in self.members.items():
            if i not in self.failures:
                member.record.update(**facts)

    def __exit__(self, kind: Any, error: BaseException | None, trace: Any) -> None:
        for metrics in self._metrics.values():
            metrics.close()
        if isinstance(error, loop.Stopped):
            self.update(status="stopped", step=error.step)
        elif error is not None:
            for member in self.members.values():
                if member.record.content.get("status") == "running":
                    member.record.update(status="failed")


def fit_and_record(
    recorder: Recorder,
    task: Task,
    step_fn: loop.StepFn,
    start: loop.Start,
    batches: Callable[[int], Any],
    measure: Callable[[State], dict[str, Any]],
    *,
    root: pathlib.Path,
    stored: dict[str, Any],
    observers: Sequence[loop.Observer] = (),
    on_start: Callable[[int, State], None] | None = None,
    description: str,
) -> loop.Fitted:
    """Runs the training loop with the settings of a config, for a single run or a population.

    Args:
      task: the task of any member.
      root: the folder of the checkpoints.
      stored: plain data that is saved with every checkpoint.
    """
    settings = task.config.train

    def started(step: int, state: State) -> None:
        if on_start:
            on_start(step, state)
        recorder.start(step, state)

    profile = settings.profile_steps and loop.Profile(
        next(iter(recorder.members.values())).folder / results.PROFILE, settings.profile_steps
    )
    with checkpoints.open_run(root, say=LOG.warning) as manager:
        return loop.fit(
            step_fn=step_fn,
            start=start,
            batches=batches,
            total_steps=task.total_steps,
            checkpoints=loop.Saving(manager, settings.checkpoint_steps, stored),
            validation=loop.Validation(settings.evaluation_steps, measure),
            observers=observers,
            profile=profile,
            on_start=started,
            on_diverged=recorder.diverged,
            write=recorder.write,
            description=description,
        )


def run(
    config: ConfigDict,
    workdir: str | os.PathLike[str],
    *,
    synthetic: Callable[[], data.Source] | None = None,
    model: models.Model | None = None,
    augment: Any = None,
    observers: Sequence[loop.Observer] = (),
) -> Result:
    """Trains what the config describes in `workdir`, or continues from the checkpoints there.

    Args:
      synthetic: makes the synthetic examples; called only if `synthetic.share` is above 0.
      model: a module of your own, `(inputs, train=) -> (logits, features)`, in place of the config's.
      augment: an augmentation of your own, `(image [H, W, C] tensor, seed [2]) -> image`, in place of the
        config's.
      observers: functions `(step, state) -> scalars or None`, called after every step; their scalars are
        written to the line of that step.

    Raises:
      InputError: the config or the folder has an error; raised before training starts.
      loop.Diverged: the loss or the gradient is not finite.
      loop.Stopped: SIGTERM came; the state is saved.
    """
    _check_batch(config)
    mesh = sharding_lib.make_mesh(config.train.mesh.data, config.train.mesh.fsdp)
    member = open_member(config, workdir, lambda: prepare(config, synthetic, model, augment))
    task = member.task
    optimizer, schedule = optim.make_optimizer(config, task.shapes[0], task.total_steps, task.warmup_steps)
    step_fn = make_step(
        classification.make_loss(task.model, config.regularization.label_smoothing),
        optimizer,
        seed=config.seed,
        accumulate=config.train.accumulate,
        schedule=schedule,
    )
    start = loop.fresh_start(task.init, optimizer, config.seed, mesh, config.train.sharding, task.load)
    predict = classification.make_predict(task.model, mesh)

    def measure(state: State) -> dict[str, Any]:
        logits, _, label = predict(state.params, state.model_state, task.validation())
        return classification.validation_scalars(logits, label)

    if config.spectra.every_steps is not None:
        watch = spectra.observe.every(
            config.spectra.every_steps,
            member.folder,
            metrics=config.spectra.metrics,
            conv=config.spectra.conv,
            lora_scale=models.lora_scale(config),
        )
        observers = (watch, *observers)
    if config.spectra.curvature_every_steps is not None:
        watch_loss = curvature.every(
            config.spectra.curvature_every_steps,
            member.folder,
            task.model,
            task.splits.train,
            examples=config.spectra.curvature_examples,
            batch_size=config.train.batch_size,
            mesh=mesh,
            seed=config.seed,
        )
        observers = (watch_loss, *observers)
    with Recorder({0: member}, {"mesh": dict(mesh.shape)}) as recorder:
        fitted = fit_and_record(
            recorder,
            task,
            step_fn,
            start,
            task.batches,
            measure,
            root=member.folder,
            stored=json.loads(config_lib.to_json(config)),
            observers=observers,
            on_start=lambda step, state: loop.log_start(step, state, mesh, config.train.batch_size),
            description=member.folder.name,
        )
    recorder.update(status="trained", step=task.total_steps)
    return Result(fitted.state, task.model, task.splits, task.train, mesh, member.record)


def restore(config: ConfigDict, path: str | os.PathLike[str], model: models.Model | None = None) -> Result:
    """Loads a trained model, to evaluate it.

    Args:
      config: describes the model and the data.
      path: the weights, in any form that `model.init_from` takes; the head must fit too.

    Raises:
      InputError: there are no weights, or they are those of another model.
    """
    mesh = sharding_lib.make_mesh(config.train.mesh.data, config.train.mesh.fsdp)
    splits = selection.load(config)
    model = model or models.build(config, len(splits.train.classes), splits.train.vocabulary_size)
    init = classification.make_init(model, splits.train.input_shape, splits.train.input_dtype)
    shapes = jax.eval_shape(init, jax.random.key(0))
    names, alpha = config.model.init_names, config.model.lora.alpha
    merged = weights.load(os.fspath(path), *shapes, names=names, alpha=alpha)
    params, model_state = sharding_lib.put(
        merged, sharding_lib.shardings(merged, config.train.sharding, mesh)
    )
    state = State(np.int32(0), params, model_state, ())
    return Result(state, model, splits, splits.train, mesh, None)


def write_samples(workdir: pathlib.Path, train: data.Source, batches: Any, most: int = 16) -> None:
    """Writes samples.npz: examples of the first batches, and the real ones also before augmentation.

    Images are stored as arrays, texts as strings.
    """
    images: dict[str, list[np.ndarray]] = {"augmented": [], "synthetic": [], "real": []}
    labels: dict[str, list[int]] = {name: [] for name in images}
    wanted = {0: "augmented", 1: "synthetic"}
    present = {wanted[int(origin)] for origin in np.unique(train.origin)}
    for _ in range(50):  # a small share may be missing from the first batches
        batch = next(batches)
        for image, label, origin, index in zip(
            batch["inputs"], batch["label"], batch["origin"], batch["index"], strict=True
        ):
            name = wanted[int(origin)]
            if len(images[name]) < most:
                images[name].append(image)
                labels[name].append(int(label))
                if name == "augmented":
                    images["real"].append(train.inputs(np.asarray([index]))[0])
                    labels["real"].append(int(label))
        if all(len(images[name]) >= most for name in present):
            break
    if images["real"] and np.array_equal(np.stack(images["real"]), np.stack(images["augmented"])):
        del images["augmented"]  # nothing is augmented: one row is enough
    arrays = {name: train.modality.shown(np.stack(rows)) for name, rows in images.items() if rows}
    arrays |= {f"{name}_label": np.asarray(labels[name], np.int32) for name in list(arrays)}
    with files.atomic(workdir / results.SAMPLES) as temporary:
        np.savez_compressed(temporary, **arrays)


def _check_metrics(names: str) -> None:
    """Checks the spectra's metrics before training; the tables are made during and after it."""
    try:
        chosen(names)
    except ValueError as error:
        raise InputError(f"spectra.{error}") from error


def _check_evaluation_sets(config: ConfigDict, splits: data.Splits) -> None:
    """Checks before training that evaluation sets have the shape, and shifted ones the classes, of the test
    set.
    """
    if not config.evaluation.enabled:
        return
    for field, names in (("shifts", config.evaluation.shifts), ("ood", config.evaluation.ood)):
        for name in names:
            if field == "shifts" and name == "corrupted":
                continue
            classes = config.data.classes if field == "shifts" else ()
            source = data.load_source(name, config.data.image_size, splits.test.modality, classes)
            what = ""
            if source.modality.kind != splits.test.modality.kind:
                what = f"{source.modality.kind}, not {splits.test.modality.kind}"
            elif source.shape != splits.test.shape:
                what = f"images of shape {list(source.shape)}, not {list(splits.test.shape)}"
            elif field == "shifts" and source.classes != splits.test.classes:
                what = _other_classes(source.classes, splits.test.classes)
            if what:
                raise InputError(
                    f"evaluation.{field} names {name!r}, which has {what} as "
                    f"data.source={config.data.source!r} has: leave it out, with "
                    f"--config.evaluation.shifts={splits.test.modality.shifts} --config.evaluation.ood=()"
                )


def _other_classes(these: tuple[str, ...], those: tuple[str, ...]) -> str:
    more, fewer = ([name for name in a if name not in b] for a, b in ((these, those), (those, these)))
    named = [f"{names[0]!r} and {len(names) - 1} more {what}" if len(names) > 1 else f"{names[0]!r} {what}"
             for names, what in ((more, "too many"), (fewer, "missing")) if names]  # fmt: skip
    return f"not the same classes ({', '.join(named) or 'another order'})"


def _check_batch(config: ConfigDict) -> None:
    devices = jax.device_count()
    for name, size in (("batch_size", config.train.batch_size // config.train.accumulate),
                       ("evaluation_batch_size", config.train.evaluation_batch_size)):  # fmt: skip
        if size % devices:
            part = " / train.accumulate" if name == "batch_size" and config.train.accumulate > 1 else ""
            raise InputError(
                f"train.{name}={config.train[name]}{part} cannot be split over {devices} devices: use a "
                f"multiple of {devices}, or fewer devices"
            )
