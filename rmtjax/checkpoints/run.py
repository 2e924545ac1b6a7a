"""A training run's checkpoints: saved while training goes on, verified before they are trusted."""

import contextlib
import errno
import os
import pathlib
import re
import shutil
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import numpy as np
import orbax.checkpoint as ocp
from absl import logging
from jax.experimental import multihost_utils
from orbax.checkpoint import checkpoint_managers

from rmtjax.checkpoints import steps
from rmtjax.checkpoints.digests import digest_tree, named_leaves
from rmtjax.checkpoints.merging import describe_mismatch
from rmtjax.errors import InputError


class Restored(NamedTuple):
    """What `Run.restore` found."""

    state: Any
    step: int


def open_run(
    workdir: str | os.PathLike[str],
    best: str = "validation/accuracy",
    say: Callable[[str], None] = logging.warning,
) -> "Run":
    """Opens (and makes, if need be) the checkpoints of a run, under `<workdir>/checkpoints`.

    Clears what an interrupted save left. With several processes all must call this, and every method of the
    result, together.

    Args:
        workdir: the run's directory, shared by all processes.
        best: the metric, higher being better, whose best checkpoint is kept.
        say: gets one sentence for every damaged checkpoint (in process 0).

    Raises:
        InputError: the directory cannot be made.
    """
    root = pathlib.Path(os.path.abspath(workdir)) / "checkpoints"
    try:
        root.mkdir(parents=True, exist_ok=True)
    except (FileExistsError, NotADirectoryError, PermissionError) as error:
        raise InputError(f"cannot make the directory {str(root)!r}: {error.strerror}") from error
    return Run(root, best, say)


class Run:
    """The checkpoints of one run. Kept: step 0, the last two and the best by validation."""

    def __init__(self, root: pathlib.Path, best: str, say: Callable[[str], None]) -> None:
        self._root = root
        self._best = best
        self._say = say
        self._set_aside_unreadable()
        self._manager = _manager(root, best)

    def save(
        self, step: int, state: Any, config: dict[str, Any], metrics: dict[str, float] | None = None
    ) -> None:
        """Saves a state; returns once it is copied to the host and writes it while training goes on.

        The state may be donated to the next step as soon as this returns. A step that is saved already is
        left as it is.

        Args:
            step: the number of steps done.
            state: a pytree of arrays.
            config: plain data, stored with the state as JSON.
            metrics: validation metrics of this very state, if there are any.

        Raises:
            OSError: the disk is full (ENOSPC); also raised for a save begun earlier.
            RuntimeError: Orbax refused to save, for instance a step below the newest one.
        """
        if step == self.latest_step():
            return
        if metrics is not None and self._best not in metrics:
            raise ValueError(f"metrics of checkpoint {step} lack {self._best!r}: {sorted(metrics)}")
        table = steps.checksums(digest_tree(state), config)
        items = ocp.args.Composite(
            state=ocp.args.StandardSave(state),
            config=ocp.args.JsonSave(config),
            checksums=ocp.args.JsonSave(table),
        )
        with _disk_full_as_oserror(self._root):
            saved = self._manager.save(step, args=items, metrics=metrics)
        if not saved:
            raise RuntimeError(
                f"Orbax did not save checkpoint {step} in {str(self._root)!r} (newest there: {self.latest_step()})"
            )

    def restore(self, abstract_state: Any) -> Restored | None:
        """Restores the newest good checkpoint, or returns None if there is none.

        Call it before the loop starts. A damaged checkpoint (truncated, a flipped byte, a missing file) is
        moved to `<workdir>/damaged/<step>`, `say` is told so, and the one before it is used.

        Args:
            abstract_state: a pytree of `jax.ShapeDtypeStruct` with shardings, on any topology.

        Raises:
            InputError: a good checkpoint holds other arrays than `abstract_state`; the message lists both.
        """
        for step in sorted(self._manager.all_steps(), reverse=True):
            try:
                return Restored(self._restore_step(step, abstract_state), step)
            except steps.DamagedError as error:
                self._set_aside(step, str(error))
                self._manager.reload()
        return None

    def latest_step(self) -> int | None:
        """The newest checkpoint, which may still be being written."""
        return self._manager.latest_step()

    def wait(self) -> None:
        """Waits until what was saved is on disk. Raises OSError (ENOSPC) if the disk is full."""
        with _disk_full_as_oserror(self._root):
            self._manager.wait_until_finished()

    def close(self) -> None:
        """Waits as `wait` does, and ends Orbax's threads."""
        with _disk_full_as_oserror(self._root):
            self._manager.close()

    def __enter__(self) -> "Run":
        return self

    def __exit__(self, kind: Any, error: Any, trace: Any) -> None:
        if error is None:
            self.close()
        else:  # the first error is the one to show
            with contextlib.suppress(Exception):
                self.close()

    def _restore_step(self, step: int, abstract_state: Any) -> Any:
        step_dir = self._root / str(step)
        saved = steps.read_checksums(step_dir)
        _check_same_arrays(step_dir, abstract_state, saved)
        if jax.process_count() > 1:
            # An error while Orbax restores would leave the other processes waiting at its barrier: each
            # process first reads its share alone, and all agree.
            self._agree(step_dir, list(saved))
        targets = ocp.args.Composite(state=ocp.args.StandardRestore(abstract_state))
        try:
            state = self._manager.restore(step, args=targets).state
        except Exception as error:  # whatever Orbax and TensorStore make of damaged files
            raise steps.DamagedError(f"it cannot be read: {steps.first_line(error)}") from error
        steps.verify(saved, digest_tree(state))
        return state

    def _agree(self, step_dir: pathlib.Path, names: list[str]) -> None:
        share = set(names[jax.process_index() :: jax.process_count()])
        problem = ""
        try:
            steps.read_verified(step_dir, share.__contains__)
        except steps.DamagedError as error:
            problem = str(error)
        if multihost_utils.process_allgather(np.array(bool(problem))).any():
            raise steps.DamagedError(problem or "another process cannot read it, or found a wrong checksum")

    def _set_aside_unreadable(self) -> None:
        """Checks the small files of every checkpoint, which Orbax reads at once; the arrays wait for `restore`."""
        if jax.process_index() == 0:
            for step in steps.committed(self._root):
                try:
                    steps.read_checksums(self._root / str(step))
                except steps.DamagedError as error:
                    self._move(step, str(error))
        _barrier("rmtjax_checkpoints_checked")

    def _set_aside(self, step: int, problem: str) -> None:
        if jax.process_index() == 0:
            self._move(step, problem)
        _barrier(f"rmtjax_checkpoint_{step}_moved")

    def _move(self, step: int, problem: str) -> None:
        damaged = self._root.parent / "damaged"
        damaged.mkdir(exist_ok=True)
        target, n = damaged / str(step), 0
        while target.exists():
            n += 1
            target = damaged / f"{step}-{n}"
        shutil.move(self._root / str(step), target)
        self._say(
            f"checkpoint {step} is damaged ({problem}): moved to {str(target)!r}, the one before it is used"
        )


def _manager(root: pathlib.Path, best: str) -> ocp.CheckpointManager:
    def score(metrics: dict[str, float]) -> float:
        return -np.inf if np.isnan(metrics[best]) else metrics[best]

    keep = checkpoint_managers.AnyPreservationPolicy(
        [
            checkpoint_managers.CustomSteps([0]),  # the weights before training: spectra compare with them
            checkpoint_managers.LatestN(2),
            checkpoint_managers.BestN(get_metric_fn=score, n=1, keep_checkpoints_without_metrics=False),
        ]
    )
    options = ocp.CheckpointManagerOptions(
        preservation_policy=keep,
        best_fn=score,  # the policy alone would rank them, but Orbax writes metrics to disk only with this set
        cleanup_tmp_directories=True,
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


def _barrier(name: str) -> None:
    if jax.process_count() > 1:
        multihost_utils.sync_global_devices(name)


@contextlib.contextmanager
def _disk_full_as_oserror(root: pathlib.Path) -> Any:
    """Orbax and TensorStore wrap a full disk in errors of other types; raises it as what it is."""
    try:
        yield
    except Exception as error:
        for number in (errno.ENOSPC, errno.EDQUOT):
            if _mentions(error, number):
                raise OSError(number, os.strerror(number), str(root)) from error
        raise


def _mentions(error: BaseException | None, number: int) -> bool:
    while error is not None:
        if isinstance(error, OSError) and error.errno == number:
            return True
        if re.search(rf"{errno.errorcode[number]}|{re.escape(os.strerror(number))}", str(error)):
            return True
        error = error.__cause__ or error.__context__
    return False
