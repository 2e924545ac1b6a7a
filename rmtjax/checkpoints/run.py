"""The checkpoints of a training run: saved while training continues, verified before they are used."""

import contextlib
import errno
import os
import pathlib
import re
import shutil
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import jax
import numpy as np
import orbax.checkpoint as ocp
from absl import logging
from jax.experimental import multihost_utils
from orbax.checkpoint import checkpoint_managers

from rmtjax.checkpoints import (
    quiet,  # noqa: F401
    steps,
)
from rmtjax.checkpoints.digests import Entry, digest_tree, named_leaves
from rmtjax.checkpoints.merging import describe_mismatch
from rmtjax.checkpoints.names import CHECKPOINTS, DAMAGED
from rmtjax.errors import InputError

UNFINISHED = ".orbax-checkpoint-tmp"  # suffix that Orbax gives a checkpoint until it is complete
SPARE_BYTES = 2**20  # for what is stored beside the arrays: config, checksums, Orbax's own files


class Restored(NamedTuple):
    """What `Run.restore` found."""

    state: Any
    step: int


def open_run(
    workdir: str | os.PathLike[str],
    best: str = "validation/accuracy",
    say: Callable[[str], None] = logging.warning,
) -> "Run":
    """Opens the checkpoints of a run under `<workdir>/checkpoints`; makes the folder if it is missing.

    It removes what an interrupted save left behind. If there are several processes, all of them must call
    this function, and every method of its result, together.

    Args:
        workdir: the run's directory, shared by all processes.
        best: the validation metric whose best (highest) checkpoint is kept.
        say: called in process 0 with one sentence for every damaged checkpoint.

    Raises:
        InputError: the directory cannot be made.
    """
    root = pathlib.Path(os.path.abspath(workdir)) / CHECKPOINTS
    try:
        root.mkdir(parents=True, exist_ok=True)
    except (FileExistsError, NotADirectoryError, PermissionError) as error:
        raise InputError(f"cannot make the directory {str(root)!r}: {error.strerror}") from error
    return Run(root, best, say)


class Run:
    """The checkpoints of one run. It keeps step 0, the last two, and the best by validation."""

    def __init__(self, root: pathlib.Path, best: str, say: Callable[[str], None]) -> None:
        self.directory = root
        self._best = best
        self._say = say if jax.process_index() == 0 else lambda sentence: None
        self._damaged = False
        self._saving: tuple[int, dict[str, Entry]] | None = None
        self._set_aside_unreadable()
        self._manager = _manager(root, best, self._add_checksums)

    def save(
        self, step: int, state: Any, config: dict[str, Any], metrics: dict[str, float] | None = None
    ) -> None:
        """Copies a state to the host, then returns; the files are written while training continues.

        The state may be donated to the next step as soon as this returns. A step that was saved before is
        not saved again.

        Args:
            step: the number of training steps done.
            state: a pytree of arrays.
            config: plain data, stored with the state as JSON.
            metrics: validation metrics of this state, if it was validated; floats, since they are stored
                as JSON.

        Raises:
            OSError: the disk is full (ENOSPC), for this save or for an earlier one that was still writing.
            RuntimeError: Orbax refused to save, for instance because a newer step exists.
        """
        if step == self.latest_step():
            return
        if metrics is not None and self._best not in metrics:
            raise ValueError(f"metrics of checkpoint {step} lack {self._best!r}: {sorted(metrics)}")
        arrays = digest_tree(state)
        items = ocp.args.Composite(state=ocp.args.StandardSave(state), config=ocp.args.JsonSave(config))
        with self._full_disk():
            self._manager.wait_until_finished()  # the save before this one, which deletes old steps
            self._check_free_space(state)
            self._saving = step, arrays
            saved = self._manager.save(step, args=items, metrics=metrics)
        if not saved:
            raise RuntimeError(
                f"Orbax did not save checkpoint {step} in {str(self.directory)!r} "
                f"(newest there: {self.latest_step()})"
            )

    def restore(self, abstract_state: Any) -> Restored | None:
        """Restores the newest good checkpoint, or returns None if there is none.

        Call it before the loop starts. A damaged checkpoint (a truncated or missing file, a changed byte)
        is moved to `<workdir>/damaged/<step>`, `say` is called, and the checkpoint before it is tried.

        Args:
            abstract_state: a pytree of `jax.ShapeDtypeStruct` with shardings; the devices may be others
                than those of the run that saved.

        Raises:
            InputError: a good checkpoint holds other arrays than `abstract_state`; the message lists them.
        """
        for step in sorted(self._manager.all_steps(), reverse=True):
            try:
                state = self._restore_step(step, abstract_state)
            except steps.DamagedError as error:
                self._damaged = True
                if jax.process_index() == 0:
                    self._set_aside(step, str(error))
                _barrier(f"rmtjax_checkpoint_{step}_set_aside")
                self._manager.reload()
                continue
            if self._damaged:
                self._say(f"continuing from checkpoint {step}")
            return Restored(state, step)
        if self._damaged:
            self._say(f"no good checkpoint is left in {str(self.directory)!r}: starting from step 0")
        return None

    def latest_step(self) -> int | None:
        """The step of the newest checkpoint, which may still be in writing; None if there is none."""
        return self._manager.latest_step()

    def wait(self) -> None:
        """Waits until all saves are on disk. Raises OSError (ENOSPC) if the disk is full."""
        with self._full_disk():
            self._manager.wait_until_finished()

    def close(self) -> None:
        """Waits as `wait` does, then ends the threads of Orbax."""
        with self._full_disk():
            self._manager.close()

    def __enter__(self) -> "Run":
        return self

    def __exit__(self, kind: Any, error: Any, trace: Any) -> None:
        if error is None:
            self.close()
        else:  # show the first error, not one that it causes here
            with contextlib.suppress(Exception):
                self.close()

    def _restore_step(self, step: int, abstract_state: Any) -> Any:
        step_dir = self.directory / str(step)
        problem = ""
        try:
            saved = steps.read_checksums(step_dir)
            _check_same_arrays(step_dir, abstract_state, saved.arrays)
            if jax.process_index() == 0:
                steps.check_files(step_dir, saved.files)
            assemble = steps.read_shards(step_dir / steps.STATE, abstract_state)
        except steps.DamagedError as error:
            problem = str(error)
        if _any_process(bool(problem)):
            raise steps.DamagedError(problem or "another process could not read its part")
        state = assemble()
        steps.verify(saved.arrays, digest_tree(state))
        return state

    def _set_aside_unreadable(self) -> None:
        """Moves checkpoints away that Orbax could not even list; `restore` verifies all others."""
        if jax.process_index() == 0:
            for step in steps.committed(self.directory):
                step_dir = self.directory / str(step)
                try:
                    files = steps.read_checksums(step_dir).files
                    small = {name: entry for name, entry in files.items() if name.startswith("metrics/")}
                    steps.check_files(step_dir, small)
                except steps.DamagedError as error:
                    self._damaged = True
                    self._set_aside(step, str(error))
        _barrier("rmtjax_checkpoints_checked")

    def _set_aside(self, step: int, problem: str) -> None:
        folder = self.directory.parent / DAMAGED
        folder.mkdir(exist_ok=True)
        target, n = folder / str(step), 0
        while target.exists():
            n += 1
            target = folder / f"{step}-{n}"
        os.rename(self.directory / str(step), target)
        self._say(f"checkpoint {step} is damaged ({problem}) and was moved to {str(target)!r}")

    def _add_checksums(self) -> None:
        """Orbax calls this in its thread once all is written, before it renames the checkpoint into place."""
        if jax.process_index() == 0 and self._saving is not None:
            step, arrays = self._saving
            unfinished = self.directory.glob(f"{step}{UNFINISHED}*")
            steps.write_checksums(next(unfinished, self.directory / str(step)), arrays)

    def _check_free_space(self, state: Any) -> None:
        """Raises OSError before anything is written.

        If the disk fills up during a save, half a checkpoint and tracebacks of TensorStore's threads remain.
        """
        needed = sum(leaf.nbytes for leaf in jax.tree.leaves(state)) + SPARE_BYTES
        if _any_process(shutil.disk_usage(self.directory).free < needed):
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(self.directory))

    @contextlib.contextmanager
    def _full_disk(self) -> Iterator[None]:
        """Reports a full disk as OSError, whatever Orbax wraps it in, and removes half-written folders."""
        try:
            yield
        except Exception as error:
            for number in (errno.ENOSPC, errno.EDQUOT):
                if _mentions(error, number):
                    for path in self.directory.glob(f"*{UNFINISHED}*"):
                        shutil.rmtree(path, ignore_errors=True)
                    raise OSError(number, os.strerror(number), str(self.directory)) from error
            raise


def _manager(root: pathlib.Path, best: str, before_commit: Callable[[], None]) -> ocp.CheckpointManager:
    def score(metrics: dict[str, float]) -> float:
        return -np.inf if np.isnan(metrics[best]) else metrics[best]

    keep = checkpoint_managers.AnyPreservationPolicy(
        [
            checkpoint_managers.CustomSteps([0]),  # weights before training, which spectra compare with
            checkpoint_managers.LatestN(2),
            checkpoint_managers.BestN(get_metric_fn=score, n=1, keep_checkpoints_without_metrics=False),
        ]
    )
    options = ocp.CheckpointManagerOptions(
        preservation_policy=keep,
        best_fn=score,  # the policy does not need it, but without it Orbax writes no metrics to disk
        cleanup_tmp_directories=True,
        async_options=ocp.options.AsyncOptions(post_finalization_callback=before_commit),
    )
    return ocp.CheckpointManager(root, options=options)


def _check_same_arrays(step_dir: pathlib.Path, abstract_state: Any, saved: dict[str, Any]) -> None:
    wanted = {
        name: (str(np.dtype(x.dtype)), tuple(x.shape)) for name, x in named_leaves(abstract_state).items()
    }
    report = describe_mismatch(
        [name for name in wanted if name not in saved],
        [name for name in saved if name not in wanted],
        [
            f"{name}: {kind} in the run, {saved[name][:2]} in the file"
            for name, kind in wanted.items()
            if name in saved and saved[name][:2] != kind
        ],
    )
    if report:
        raise InputError(f"the checkpoint {str(step_dir)!r} is of another model or optimiser: {report}")


def _any_process(value: bool) -> bool:
    if jax.process_count() == 1:
        return value
    return bool(multihost_utils.process_allgather(np.array(value)).any())


def _barrier(name: str) -> None:
    if jax.process_count() > 1:
        multihost_utils.sync_global_devices(name)


def _mentions(error: BaseException | None, number: int) -> bool:
    while error is not None:
        if isinstance(error, OSError) and error.errno == number:
            return True
        if re.search(rf"{errno.errorcode[number]}|{re.escape(os.strerror(number))}", str(error)):
            return True
        error = error.__cause__ or error.__context__
    return False
