"""Runs that differ only in numbers and in what they are fed, trained together by one compiled step, vmapped over them.

The members of a population are split over the devices. Each has its own seed, data, augmentation, dropout rate, decay,
smoothing and learning rate, and comes out as it does alone, up to the order of additions.
"""

import functools
import json
import logging
import os
import pathlib
import shutil
import sys
from collections.abc import Callable, Iterable, Sequence
from typing import Any, NamedTuple

import jax
import numpy as np
import optax
from jax.sharding import NamedSharding
from ml_collections import ConfigDict
from tqdm import tqdm

from rmtjax import checkpoints, data, models, results
from rmtjax import config as config_lib
from rmtjax.errors import InputError
from rmtjax.train import experiment, weights
from rmtjax.train import sharding as sharding_lib
from rmtjax.train import workdir as workdir_lib
from rmtjax.train.members import key, make_steps, numbers_of, over_members
from rmtjax.train.step import State, named_key

LOG = logging.getLogger(__name__)

_DONE = ("trained", "finished")


class Population(NamedTuple):
    """Trained members.

    Attributes:
      tasks: what each was.
      params, model_state: stacked [members and fillers, ...], over the devices; fillers repeat the first member.
      mesh: its devices.
      records: run.json of each.
      failures: why a member has no weights to speak of, by its number.
    """

    tasks: list[experiment.Task]
    params: Any
    model_state: Any
    mesh: jax.sharding.Mesh
    records: list[workdir_lib.RunFile]
    failures: dict[int, str]

    def member(self, i: int) -> experiment.Result:
        """One of them by itself, its weights in host memory."""
        params, model_state = jax.tree.map(lambda x: np.asarray(x[i]), (self.params, self.model_state))
        task, state = self.tasks[i], State(np.int32(self.tasks[i].total_steps), params, model_state, ())
        return experiment.Result(state, task.model, task.splits, task.train, self.mesh, self.records[i])


def run(
    configs: Sequence[ConfigDict],
    workdirs: Sequence[str | os.PathLike[str]],
    *,
    synthetic: Callable[[ConfigDict], data.Source] | None = None,
) -> Population:
    """Trains the members, each with the files that `experiment.run` leaves; `checkpoints` has the first and the last step.

    A population is not saved on the way: one that was stopped starts over, with the same result. Members that are finished
    are trained along, so that the others come out the same, and left as they are.

    Args:
      configs: of one `key`.
      synthetic: makes the synthetic examples of a config; asked only where `synthetic.share` is above 0.

    Raises:
      InputError: configs of several keys, several processes, or anything a config or folder has wrong.
    """
    keys = {key(config) for config in configs}
    if len(keys) != 1 or None in keys:
        raise InputError(f"{len(configs)} configs do not make one population: train them alone")
    if jax.process_count() > 1:
        raise InputError(f"a population is trained by one process, and there are {jax.process_count()}")
    folders = [pathlib.Path(folder) for folder in workdirs]
    records = [
        workdir_lib.RunFile(folder, workdir_lib.prepare(config, folder), workdir_lib.describe(config), len(configs))
        for config, folder in zip(configs, folders, strict=True)
    ]  # fmt: skip
    tasks = [
        experiment.prepare(config, functools.partial(synthetic, config) if synthetic else None)
        for config in configs
    ]
    lanes = [*range(len(tasks)), *[0] * (-len(tasks) % jax.device_count())]
    mesh = sharding_lib.make_mesh()
    if all(record.content.get("status") in _DONE for record in records):
        stored = [_stored(task, folder) for task, folder in zip(tasks, folders, strict=True)]
        params, model_state = _stacked([stored[i] for i in lanes], mesh)
        return Population(tasks, params, model_state, mesh, records, {})

    to_write = [i for i, record in enumerate(records) if record.content.get("status") != "finished"]
    first = [_initial(tasks[0].init, task) for task in tasks]
    for i in to_write:
        workdir_lib.claim(configs[i], folders[i])
        shutil.rmtree(folders[i] / results.CHECKPOINTS, ignore_errors=True)
        if not (folders[i] / results.SAMPLES).exists():
            experiment.write_samples(folders[i], tasks[i].train, tasks[i].batches(0))
        facts = {"members": len(tasks), "mesh": dict(mesh.shape), **tasks[i].facts()}
        records[i].update(status="running", step=0, **facts)
    writers = {i: workdir_lib.Metrics(folders[i], 0) for i in to_write}
    try:
        start = _stacked([first[i] for i in lanes], mesh)
        state, validation, failures = _fit([tasks[i] for i in lanes], start, mesh, writers)
    except BaseException:
        for i in to_write:
            records[i].update(status="failed")
        raise
    finally:
        for writer in writers.values():
            writer.close()
    last = jax.device_get(state)
    for i in to_write:
        if i in failures:
            records[i].update(status="diverged", reason=failures[i])
            continue
        _save(
            folders[i], configs[i], tasks[i], first[i], jax.tree.map(lambda x, i=i: x[i], last), validation[i]
        )
        records[i].update(status="trained", step=tasks[i].total_steps)
    return Population(tasks, state.params, state.model_state, mesh, records, failures)


def make_predict(
    model: models.Model, mesh: jax.sharding.Mesh
) -> Callable[..., tuple[np.ndarray, np.ndarray]]:
    """`predict(params, model_state, batches) -> logits [members, n, K], label [n]`, numpy, of stacked weights.

    `batches` are evaluation batches that all members see or, with `each=True`, one iterator for each member, and then label is
    [members, n] as well.
    """

    def one(params: Any, model_state: Any, inputs: Any) -> Any:
        return model.apply({"params": params} | model_state, inputs, train=False)[0]

    forward = {
        each: jax.jit(over_members(one, mesh, (True, True, each)), out_shardings=sharding_lib.replicated(mesh))
        for each in (False, True)
    }  # fmt: skip

    def predict(params: Any, model_state: Any, batches: Any, each: bool = False) -> Any:
        logits, labels = [], []
        placement = NamedSharding(mesh, sharding_lib.BATCH) if each else sharding_lib.replicated(mesh)
        for batch in map(_together, zip(*batches, strict=True)) if each else batches:
            out = forward[each](params, model_state, jax.device_put(batch["inputs"], placement))
            here = batch["mask"][0] if each else batch["mask"]
            logits.append(jax.device_get(out)[:, here])
            labels.append(batch["label"][..., here])
        return np.concatenate(logits, 1), np.concatenate(labels, -1)

    return predict


def _fit(
    members: list[experiment.Task], start: tuple[Any, Any], mesh: jax.sharding.Mesh, writers: dict[int, Any]
) -> tuple[State, list[dict[str, float]], dict[int, str]]:
    """The last state, stacked; the last validation of each member; why some failed."""
    task, along = members[0], NamedSharding(mesh, sharding_lib.BATCH)
    config, total = task.config, task.total_steps
    sizes = len(task.train.classes), task.train.vocabulary_size
    begin, step = make_steps(config, task.shapes[0], sizes, total, task.warmup_steps)
    numbers = jax.device_put(numbers_of([member.config for member in members]), along)
    state = jax.jit(over_members(begin, mesh, (True, True, True)))(*start, numbers)
    step_fn = jax.jit(over_members(step, mesh, (True, True, True)), donate_argnums=0)
    predict = make_predict(task.model, mesh)
    validation: list[dict[str, float]] = [{} for _ in members]
    failures: dict[int, str] = {}
    pending: tuple[int, Any, list[dict[str, float]]] | None = None
    bar = tqdm(
        total=total, desc=f"{len(writers)} runs", unit="step", dynamic_ncols=True,
        mininterval=0.2 if sys.stderr.isatty() else 10.0,
    )  # fmt: skip

    def flush() -> None:
        """Writes the scalars of the step before, which also keeps one step in flight at most."""
        if pending is None:
            return
        number, on_device, extra = pending
        scalars = {name: values.tolist() for name, values in jax.device_get(on_device).items()}
        for i, writer in writers.items():
            own = {name: values[i] for name, values in scalars.items()}
            bad = next((name for name in ("loss", "grad_norm") if not np.isfinite(own[name])), None)
            if bad and i not in failures:
                failures[i] = (
                    f"the {bad.replace('_', ' ')} is {own[bad]} at step {number}: lower optim.learning_rate or set optim.clip_norm"
                )
            if i not in failures:
                writer.write(number, own | extra[i])
        bar.update()

    iterators = [iter(member.batches(0)) for member in members]
    with bar:
        for number in range(1, total + 1):
            batch = jax.device_put(_together(map(next, iterators)), along)
            state, scalars = step_fn(state, batch, numbers)
            flush()
            extra: list[dict[str, float]] = [{} for _ in members]
            every = (config.train.evaluation_steps, config.train.checkpoint_steps)
            if number == total or not all(number % steps for steps in every):
                logits, label = predict(
                    state.params, state.model_state, [m.validation() for m in members], each=True
                )
                loss = optax.softmax_cross_entropy_with_integer_labels(logits, label).mean(-1)
                right = (logits.argmax(-1) == label).mean(-1)
                extra = [
                    {"validation/loss": float(a), "validation/accuracy": float(b)}
                    for a, b in zip(loss, right, strict=True)
                ]
                validation = extra
            pending = (number, scalars, extra)
        flush()
    return state, validation, failures


def _initial(init: Callable[[jax.Array], Any], task: experiment.Task) -> tuple[Any, Any]:
    """Parameters and model state of a member before training, in host memory."""
    start = jax.device_get(_jitted(init)(named_key(task.config.seed, "init")))
    return jax.device_get(task.load(*start)) if task.load else start


@functools.lru_cache(maxsize=1)
def _jitted(init: Callable[[jax.Array], Any]) -> Callable[[jax.Array], Any]:
    return jax.jit(init)


def _stored(task: experiment.Task, folder: pathlib.Path) -> tuple[Any, Any]:
    """Parameters and model state of a member that was trained."""
    return jax.device_get(weights.load(str(folder), *task.shapes, alpha=task.config.model.lora.alpha))


def _stacked(trees: Sequence[Any], mesh: jax.sharding.Mesh) -> Any:
    stacked = jax.tree.map(lambda *leaves: np.stack(leaves), *trees)
    return jax.device_put(stacked, NamedSharding(mesh, sharding_lib.BATCH))


def _together(batches: Iterable[dict[str, np.ndarray]]) -> dict[str, np.ndarray]:
    return jax.tree.map(lambda *arrays: np.stack(arrays), *batches)


def _save(
    folder: pathlib.Path, config: ConfigDict, task: experiment.Task, first: tuple[Any, Any], last: State,
    validation: dict[str, float],
) -> None:  # fmt: skip
    """Checkpoints of the first and the last step, as a run alone leaves them, but for the optimiser's state of the first."""
    placement = sharding_lib.replicated(sharding_lib.local_mesh())
    plain = json.loads(config_lib.to_json(config))
    with checkpoints.open_run(folder, say=LOG.warning) as manager:
        fresh = State(np.int32(0), *first, jax.tree.map(np.zeros_like, last.opt_state))
        manager.save(0, jax.device_put(fresh, placement), plain)
        manager.save(task.total_steps, jax.device_put(last, placement), plain, validation)
