"""A population: runs that differ only in numbers and data, trained together by one compiled step.

The members of a population are split over the devices. Each has its own seed, data, augmentation, dropout
rate, decay, label smoothing and learning rate. Its result is that of a single run, up to the order of
additions.

During training a population has checkpoints of all members stacked, in the folder `population-<digest>`
(a digest of the members) below the folder of the first member. They are deleted once every member has its
own checkpoints.
"""

import functools
import hashlib
import json
import logging
import os
import pathlib
import shutil
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any, NamedTuple

import jax
import numpy as np
from jax.sharding import NamedSharding
from ml_collections import ConfigDict

from rmtjax import checkpoints, data, results
from rmtjax import config as config_lib
from rmtjax.errors import InputError
from rmtjax.train import classification, experiment, loop, weights
from rmtjax.train import sharding as sharding_lib
from rmtjax.train import workdir as workdir_lib
from rmtjax.train.members import key, make_steps, numbers_of
from rmtjax.train.step import State, named_key

LOG = logging.getLogger(__name__)

_DONE = ("trained", "finished")
_OWN_CHECKPOINTS = "population-"  # name of the folder, before the digest


class Population(NamedTuple):
    """Trained members.

    Attributes:
      tasks: the task of each member.
      params, model_state: stacked [members and fillers, ...] and split over the devices; fillers, which make
        the number a multiple of that of the devices, repeat the first member.
      mesh: the devices.
      records: run.json of each member.
      failures: number of a diverged member -> the reason.
    """

    tasks: list[experiment.Task]
    params: Any
    model_state: Any
    mesh: jax.sharding.Mesh
    records: list[workdir_lib.RunFile]
    failures: dict[int, str]

    @property
    def unmeasured(self) -> list[int]:
        """The numbers of the members that are trained and not yet measured."""
        return [
            i
            for i, record in enumerate(self.records)
            if i not in self.failures and record.content["status"] != "finished"
        ]

    def member(self, i: int) -> experiment.Result:
        """One member as the result of a single run, with weights in host memory."""
        params, model_state = jax.tree.map(lambda x: np.asarray(x[i]), (self.params, self.model_state))
        task, state = self.tasks[i], State(np.int32(self.tasks[i].total_steps), params, model_state, ())
        return experiment.Result(state, task.model, task.splits, task.train, self.mesh, self.records[i])


def run(
    configs: Sequence[ConfigDict],
    workdirs: Sequence[str | os.PathLike[str]],
    *,
    synthetic: Callable[[ConfigDict], data.Source] | None = None,
) -> Population:
    """Trains the members, or continues from the last checkpoint of the population.

    Each member gets the files that `experiment.run` writes; its `checkpoints` hold the first and the last
    step. Finished members are trained again with the others, so that the program and its results stay the
    same, but their files are not changed.

    Args:
      configs: configs with one `key`.
      synthetic: makes the synthetic examples of a config; called only if `synthetic.share` is above 0.

    Raises:
      InputError: the configs have several keys, there are several processes, or a config or a folder has an
        error.
      loop.Stopped: SIGTERM came; the state is saved.
    """
    keys = {key(config) for config in configs}
    if len(keys) != 1 or None in keys:
        raise InputError(f"{len(configs)} configs do not make one population: train them alone")
    if jax.process_count() > 1:
        raise InputError(
            f"a population is trained by one process, but there are {jax.process_count()}: "
            "start a single process, or train the configs alone"
        )
    mesh = sharding_lib.make_mesh()
    members = [
        experiment.open_member(
            config,
            folder,
            functools.partial(
                experiment.prepare, config, functools.partial(synthetic, config) if synthetic else None
            ),
            together=len(configs),
        )
        for config, folder in zip(configs, workdirs, strict=True)
    ]
    tasks, records = [member.task for member in members], [member.record for member in members]
    lanes = [*range(len(members)), *[0] * (-len(members) % jax.device_count())]
    if all(record.content.get("status") in _DONE for record in records):
        stored = [_stored(member) for member in members]
        params, model_state = _on_devices(_stacked(stored[i] for i in lanes), mesh)
        _remove_own_checkpoints(members)
        return Population(tasks, params, model_state, mesh, records, {})

    to_write = {
        i: member for i, member in enumerate(members) if member.record.content.get("status") != "finished"
    }
    first = [_initial(tasks[0].init, task) for task in tasks]
    facts = {"members": len(members), "mesh": dict(mesh.shape)}
    for member in to_write.values():
        shutil.rmtree(member.folder / results.CHECKPOINTS, ignore_errors=True)
    with experiment.Recorder(to_write, facts) as recorder:
        state, measured = _fit(
            recorder, [tasks[i] for i in lanes], [first[i] for i in lanes], mesh, _root(members, lanes)
        )
        last = jax.device_get(state)
        for i, member in to_write.items():
            if i not in recorder.failures:
                own = {name: float(values[i]) for name, values in measured.items()}
                _save(member, first[i], jax.tree.map(lambda x, i=i: x[i], last), own)
                member.record.update(status="trained", step=member.task.total_steps)
    _remove_own_checkpoints(members)
    return Population(tasks, state.params, state.model_state, mesh, records, recorder.failures)


def _fit(
    recorder: experiment.Recorder,
    lanes: list[experiment.Task],
    first: list[tuple[Any, Any]],
    mesh: jax.sharding.Mesh,
    root: pathlib.Path,
) -> tuple[State, dict[str, np.ndarray]]:
    """Trains; returns the last state, stacked over the lanes, and its validation."""
    task, each = lanes[0], (True, True, True)
    sizes = len(task.train.classes), task.train.vocabulary_size
    begin, step = make_steps(task.config, task.shapes[0], sizes, task.total_steps, task.warmup_steps)
    numbers = numbers_of([lane.config for lane in lanes])
    placement = NamedSharding(mesh, sharding_lib.BATCH)
    begin_all = jax.jit(sharding_lib.over_members(begin, mesh, each))
    stacked = _stacked(first)
    shapes = jax.eval_shape(begin_all, *stacked, numbers)
    abstract = jax.tree.map(lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=placement), shapes)
    start = loop.Start(abstract, lambda: begin_all(*_on_devices((*stacked, numbers), mesh)), mesh)
    predict = classification.make_predict(task.model, mesh, members=True)

    def batches(start_step: int) -> Iterator[dict[str, Any]]:
        for batch in together(lane.batches(start_step) for lane in lanes):
            yield batch | {"numbers": numbers}

    def measure(state: State) -> dict[str, np.ndarray]:
        validation = together(lane.validation() for lane in lanes)
        logits, _, label = predict(state.params, state.model_state, validation, each=True)
        return classification.validation_scalars(logits, label)

    fitted = experiment.fit_and_record(
        recorder,
        task,
        sharding_lib.over_members(step, mesh, each[:2]),
        start,
        batches,
        measure,
        root=root,
        stored={"members": [json.loads(config_lib.to_json(lane.config)) for lane in lanes]},
        description=f"{len(recorder.members)} runs",
    )
    return fitted.state, fitted.validation or measure(fitted.state)


def _root(members: list[experiment.Member], lanes: list[int]) -> pathlib.Path:
    """The folder of the population's checkpoints; it differs for other members or numbers of devices."""
    what = [
        [str(len(lanes))],
        *([member.folder.name, config_lib.to_json(member.task.config)] for member in members),
    ]
    digest = hashlib.sha256(json.dumps(what).encode()).hexdigest()[:16]
    return members[0].folder / f"{_OWN_CHECKPOINTS}{digest}"


def _remove_own_checkpoints(members: list[experiment.Member]) -> None:
    for member in members:
        for folder in member.folder.glob(f"{_OWN_CHECKPOINTS}*"):
            shutil.rmtree(folder, ignore_errors=True)


def _initial(init: Callable[[jax.Array], Any], task: experiment.Task) -> tuple[Any, Any]:
    """Parameters and model state of a member before training, as numpy arrays."""
    start = jax.device_get(_jitted(init)(named_key(task.config.seed, "init")))
    return jax.device_get(task.load(*start)) if task.load else start


@functools.lru_cache(maxsize=1)
def _jitted(init: Callable[[jax.Array], Any]) -> Callable[[jax.Array], Any]:
    return jax.jit(init)


def _stored(member: experiment.Member) -> tuple[Any, Any]:
    """Parameters and model state of a trained member, from its folder."""
    alpha = member.task.config.model.lora.alpha
    return jax.device_get(weights.load(str(member.folder), *member.task.shapes, alpha=alpha))


def _stacked(trees: Iterable[Any]) -> Any:
    return jax.tree.map(lambda *leaves: np.stack(leaves), *trees)


def together(streams: Iterable[Any]) -> Iterator[dict[str, np.ndarray]]:
    """Stacks the batches of several streams, one stream for each member."""
    return map(_stacked, zip(*map(iter, streams), strict=True))


def _on_devices(stacked: Any, mesh: jax.sharding.Mesh) -> Any:
    return jax.device_put(stacked, NamedSharding(mesh, sharding_lib.BATCH))


def _save(
    member: experiment.Member, first: tuple[Any, Any], last: State, validation: dict[str, float]
) -> None:
    """Saves checkpoints of the first and the last step; the optimiser's state of the first is set to zero."""
    placement = sharding_lib.replicated(sharding_lib.local_mesh())
    plain = json.loads(config_lib.to_json(member.task.config))
    with checkpoints.open_run(member.folder, say=LOG.warning) as manager:
        fresh = State(np.int32(0), *first, jax.tree.map(np.zeros_like, last.opt_state))
        manager.save(0, jax.device_put(fresh, placement), plain)
        manager.save(member.task.total_steps, jax.device_put(last, placement), plain, validation)
