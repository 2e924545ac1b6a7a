"""The training loop, for any task: it takes a step, a start and batches, and returns a state."""

import contextlib
import functools
import logging
import os
import pathlib
import signal
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax.experimental import multihost_utils
from tqdm import tqdm

from rmtjax.checkpoints import Run
from rmtjax.errors import InputError, is_heard
from rmtjax.train import sharding as sharding_lib
from rmtjax.train.step import State, named_key

LOG = logging.getLogger(__name__)

Observer = Callable[[int, State], dict[str, float] | None]
"""`(finished steps, state) -> scalars or None`, called after every step. It must not keep the state, since
the next step reuses its buffers."""

StepFn = Callable[[State, Any], tuple[State, dict[str, Any]]]
"""`(state, batch) -> state, scalars`, traceable. The scalars include `loss` and `grad_norm`. For a population
each has one axis, over the members."""


class Diverged(InputError):
    """The loss or the gradient is not finite."""


class Stopped(Exception):
    """SIGTERM or Ctrl-C came; the state is saved if there are checkpoints.

    Attributes:
      step: the last finished step.
      signal: the number of the signal.
    """

    def __init__(self, step: int, number: int):
        super().__init__(f"stopped by {signal.Signals(number).name} after step {step}")
        self.step, self.signal = step, number


class Start(NamedTuple):
    """The state that training starts from.

    Attributes:
      abstract: its `ShapeDtypeStruct`s with shardings, which all later states keep.
      make: makes the state on its devices; not called if there is a checkpoint.
      mesh: the mesh of the shardings.
    """

    abstract: State
    make: Callable[[], State]
    mesh: jax.sharding.Mesh


class Saving(NamedTuple):
    """Where and when the state is saved.

    Attributes:
      run: the checkpoints of the run.
      every: steps between two checkpoints; None saves only step 0 and the last step.
      config: plain data that is stored with every checkpoint.
    """

    run: Run
    every: int | None = None
    config: dict[str, Any] = {}  # noqa: RUF012


class Validation(NamedTuple):
    """How the state is validated: at regular steps, at every regular checkpoint and at the end.

    Attributes:
      every: steps between two validations.
      measure: `state -> scalars` with names `validation/...`.
    """

    every: int
    measure: Callable[[State], dict[str, Any]]


class Profile(NamedTuple):
    """Which steps `jax.profiler` traces.

    Attributes:
      folder: where the trace is written.
      steps: the first and the last step; or a number of steps, counted from the second step of this start,
        since the first one compiles.
    """

    folder: pathlib.Path
    steps: tuple[int, int] | int


class Fitted(NamedTuple):
    """What `fit` returns."""

    state: State
    start_step: int  # 0, or the step of the checkpoint that training continued from
    validation: dict[str, Any] | None = None  # scalars of the last state; None if no step was left to do


def fresh_start(
    init: Callable[[jax.Array], tuple[Any, Any]],
    optimizer: optax.GradientTransformation,
    seed: int,
    mesh: jax.sharding.Mesh,
    rules: Sequence[tuple[str, str]] = ((r".*", "fsdp"),),
    load: Callable[[Any, Any], tuple[Any, Any]] | None = None,
) -> Start:
    """The start of a single model, whose state is made on its devices.

    Args:
      init: `key -> params, model_state`, traceable.
      rules: how the state is sharded over the mesh; see `sharding.shardings`.
      load: `params, model_state -> params, model_state`, on the host; it loads pre-trained weights.
    """

    def of_key(key: jax.Array) -> State:
        params, model_state = init(key)
        return State(jnp.int32(0), params, model_state, optimizer.init(params))

    shapes = jax.eval_shape(of_key, jax.random.key(0))
    placement = sharding_lib.shardings(shapes, rules, mesh)
    abstract = jax.tree.map(
        lambda x, s: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=s), shapes, placement
    )

    def make() -> State:
        at_birth = (placement.params, placement.model_state)
        params, model_state = jax.jit(init, out_shardings=at_birth)(named_key(seed, "init"))
        if load is not None:
            params, model_state = sharding_lib.put(load(params, model_state), at_birth)
        opt_state = jax.jit(optimizer.init, out_shardings=placement.opt_state)(params)
        return State(sharding_lib.put(np.int32(0), placement.step), params, model_state, opt_state)

    return Start(abstract, make, mesh)


def compiled_when_called(step_fn: StepFn, start: Start) -> StepFn:
    """The step under `jax.jit`: the new state has the shardings of the old one and reuses its memory."""
    placement = jax.tree.map(lambda x: x.sharding, start.abstract)
    return jax.jit(step_fn, out_shardings=(placement, sharding_lib.replicated(start.mesh)), donate_argnums=0)


def fit(
    *,
    step_fn: StepFn,
    start: Start,
    batches: Callable[[int], Iterator[dict[str, Any]]],
    total_steps: int,
    checkpoints: Saving | None = None,
    validation: Validation | None = None,
    observers: Sequence[Observer] = (),
    profile: Profile | None = None,
    on_start: Callable[[int, State], None] | None = None,
    on_diverged: Callable[[int, str], None] | None = None,
    write: Callable[[int, dict[str, Any]], None] | None = None,
    description: str = "train",
) -> Fitted:
    """Trains from the newest good checkpoint, or else from the start, to `total_steps`.

    A population is trained by a step over members (`sharding.over_members`) on stacked states and batches.
    All scalars then have an axis over members. A member that diverges is reported, and the others continue.

    A step must not move data between host and device (`jax.transfer_guard`): batches are put on the devices
    before it, and scalars are fetched after it.

    Args:
      batches: `start_step -> iterator` over this process's part of each batch.
      on_start: called once with the step and the state that training starts from.
      on_diverged: called with `(member, reason)` for every member of a population that diverges, before the
        scalars of that step are written.
      write: called with `(step, scalars)` for each step in order, one step late so that the device never
        waits for it. `examples_per_second` does not count the time of validation and saving; for a
        population it counts the examples of one member.

    Raises:
      Diverged: the loss or the norm of the gradient of a single model is not finite.
      Stopped: SIGTERM or Ctrl-C came; the state is saved first.
    """
    first, state = _restored_or_made(start, checkpoints)
    if on_start:
        on_start(first, state)
    if first >= total_steps:
        return Fitted(state, first)
    run_step = compiled_when_called(step_fn, start)
    bar = tqdm(
        total=total_steps,
        initial=first,
        desc=description,
        unit="step",
        disable=jax.process_index() != 0,
        mininterval=0.2 if sys.stderr.isatty() else 10.0,
        dynamic_ncols=True,
    )
    last_saved = first if checkpoints else None
    lines = _Lines(bar, write, functools.partial(_report_divergence, checkpoints, on_diverged))
    measured = None
    with contextlib.closing(bar), _stop_signals() as stopped_by, _Trace(profile, first) as trace:
        data = batches(first)
        for step in range(first + 1, total_steps + 1):
            batch = sharding_lib.put_batch(next(data), start.mesh)
            trace.before(step)
            with jax.transfer_guard("disallow"):
                state, scalars = run_step(state, batch)
            lines.finish(last_saved)
            lines.begin(step, scalars, batch)
            regular = step == total_steps or bool(
                checkpoints and checkpoints.every and step % checkpoints.every == 0
            )
            if validation and (regular or step % validation.every == 0):
                lines.fetch(last_saved)
                with lines.clock_stopped():
                    measured = validation.measure(state)
                lines.add(measured)
            for observer in observers:
                lines.add(observer(step, state) or {})
            if trace.ends(step):
                lines.fetch(last_saved)
                trace.stop()
            stop = stopped_by(step)
            if stop or regular:
                metrics = lines.validation()
                lines.finish(last_saved)  # raises if the loss is not finite, so that no such state is saved
                if checkpoints:
                    with lines.clock_stopped():
                        checkpoints.run.save(step, state, checkpoints.config, metrics)
                    last_saved = step
            if stop and step < total_steps:
                if checkpoints:
                    checkpoints.run.wait()
                raise Stopped(step, stop)
    return Fitted(state, first, measured)


def _restored_or_made(start: Start, checkpoints: Saving | None) -> tuple[int, State]:
    restored = checkpoints.run.restore(start.abstract) if checkpoints else None
    if restored is not None:
        return restored.step, restored.state
    state = start.make()
    if checkpoints:
        checkpoints.run.save(0, state, checkpoints.config)
    return 0, state


class _Lines:
    """The scalars of every step: fetched one step late, checked, timed and written."""

    def __init__(self, bar: Any, write: Any, report: Callable[..., None]) -> None:
        self._bar, self._write, self._report = bar, write, report
        self._step, self._examples = 0, 0
        self._on_device: Any = None  # scalars that are not yet fetched
        self._line: dict[str, Any] | None = None  # scalars that are fetched and not yet written
        self._extra: dict[str, Any] = {}
        self._clock = time.perf_counter()

    def begin(self, step: int, on_device: dict[str, jax.Array], batch: dict[str, Any]) -> None:
        self._step, self._on_device, self._line, self._extra = step, on_device, None, {}
        members = on_device["loss"].ndim  # 1 for a population, whose batches have members as first axis
        self._examples = next(iter(batch.values())).shape[members]

    def add(self, scalars: dict[str, Any]) -> None:
        self._extra.update(scalars)

    def validation(self) -> dict[str, Any] | None:
        """The validation scalars of the newest step, for its checkpoint; None for a population's arrays."""
        found = {name: value for name, value in self._extra.items() if name.startswith("validation/")}
        return found if found and not any(map(np.ndim, found.values())) else None

    def fetch(self, last_saved: int | None) -> None:
        """Waits for the newest step, so that at most one step is in flight, and measures its time."""
        if self._on_device is None:
            return
        fetched, self._on_device = jax.device_get(self._on_device), None
        line = {name: value if value.ndim else float(value) for name, value in fetched.items()}
        self._report(self._step, line, last_saved)
        now = time.perf_counter()
        line["examples_per_second"] = self._examples / (now - self._clock)
        self._clock, self._line = now, line

    def finish(self, last_saved: int | None) -> None:
        """Writes the scalars of the newest step, once."""
        self.fetch(last_saved)
        if self._line is None:
            return
        line, self._line = self._line, None
        loss = f"loss {line['loss']:.4f}, " if not np.ndim(line["loss"]) else ""
        self._bar.set_postfix_str(f"{loss}{line['examples_per_second']:.0f} examples/s", refresh=False)
        self._bar.update()
        if self._write:
            self._write(self._step, line | self._extra)

    @contextlib.contextmanager
    def clock_stopped(self) -> Iterator[None]:
        before = time.perf_counter()
        yield
        self._clock += time.perf_counter() - before


class _Trace:
    """Writes a profiler trace of some steps; does nothing if there is no profile."""

    def __init__(self, profile: Profile | None, start: int) -> None:
        self._folder = profile and profile.folder
        steps = profile.steps if profile else (0, 0)
        self._first, self._last = (start + 2, start + 1 + steps) if isinstance(steps, int) else steps
        self._running = False

    def before(self, step: int) -> None:
        if self._folder and not self._running and self._first <= step <= self._last:
            jax.profiler.start_trace(str(self._folder))
            self._running = True

    def ends(self, step: int) -> bool:
        return self._running and step >= self._last

    def stop(self) -> None:
        if self._running:
            self._running = False
            jax.profiler.stop_trace()

    def __enter__(self) -> "_Trace":
        return self

    def __exit__(self, *error: Any) -> None:
        self.stop()


def _report_divergence(
    checkpoints: Saving | None,
    on_diverged: Callable[[int, str], None] | None,
    step: int,
    scalars: dict[str, Any],
    last_saved: int | None,
) -> None:
    """Raises Diverged for a single model; calls `on_diverged` for each diverged member of a population."""
    for name in ("loss", "grad_norm"):
        values = np.atleast_1d(scalars[name])
        for member in np.flatnonzero(~np.isfinite(values)):
            why = f"the {name.replace('_', ' ')} is {float(values[member])} at step {step}"
            remedy = "lower optim.learning_rate or set optim.clip_norm"
            if np.ndim(scalars[name]):
                if on_diverged:
                    on_diverged(int(member), f"{why}: {remedy}")
                continue
            if checkpoints:
                why += f"; the last good checkpoint is {checkpoints.run.directory / str(last_saved)}"
            raise Diverged(f"{why}: {remedy}, and start in a new --workdir")


@contextlib.contextmanager
def _stop_signals() -> Iterator[Callable[[int], int]]:
    """Yields `stopped_by(step) -> number of the signal`, SIGTERM or that of Ctrl-C; 0 where none came.

    A second Ctrl-C interrupts at once. Several processes agree on the step by JAX's preemption service, which
    knows SIGTERM alone.
    """
    if jax.process_count() > 1:
        yield lambda step: signal.SIGTERM if multihost_utils.reached_preemption_sync_point(step) else 0
        return
    received: list[int] = []

    def handler(number: int, frame: Any) -> None:
        if number == signal.SIGINT and received:
            raise KeyboardInterrupt
        received.append(number)
        name = "Ctrl-C" if number == signal.SIGINT else "SIGTERM"
        os.write(2, f"\n{name}: saving after this step\n".encode())

    heard = [number for number in (signal.SIGTERM, signal.SIGINT) if is_heard(number)]
    try:
        before = {number: signal.signal(number, handler) for number in heard}
    except ValueError:  # only the main thread can catch signals
        yield lambda step: 0
        return
    try:
        yield lambda step: received[0] if received else 0
    finally:
        for number, former in before.items():
            signal.signal(number, former)


def log_start(start: int, state: State, mesh: jax.sharding.Mesh, batch_size: int) -> None:
    """Logs the devices, the mesh, the size of the model, and the step that training starts from."""
    leaves = jax.tree.leaves(state.params)
    count, total = sum(leaf.size for leaf in leaves), sum(leaf.nbytes for leaf in leaves)
    held = sharding_lib.bytes_per_device(state.params)
    kinds = ", ".join(sorted({device.device_kind for device in jax.devices()}))
    LOG.info(
        "process %d of %d; %d devices (%s), %d of them here; mesh data=%d fsdp=%d; batch %d, %d a device",
        jax.process_index(), jax.process_count(), jax.device_count(), kinds, jax.local_device_count(),
        mesh.shape["data"], mesh.shape["fsdp"], batch_size, batch_size // jax.device_count(),
    )  # fmt: skip
    LOG.info(
        "%s parameters, %.2f MB, of which each device holds %.2f MB (%.3f); from step %d",
        f"{count:,}", total / 1e6, held / 1e6, held / total, start,
    )  # fmt: skip
