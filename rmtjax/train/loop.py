"""The training loop. It knows no task: functions and iterators come in, a state comes out."""

import contextlib
import logging
import math
import os
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
from rmtjax.errors import InputError
from rmtjax.train import sharding as sharding_lib
from rmtjax.train.step import LossFn, State, make_step, named_key

LOG = logging.getLogger(__name__)

Observer = Callable[[int, State], dict[str, float] | None]
"""`(finished steps, state) -> scalars or None`, called after every step. It must not keep the state, whose
buffers the next step reuses."""


class Diverged(InputError):
    """The loss or the gradient is not finite."""


class Stopped(Exception):
    """SIGTERM came; the state is saved where there are checkpoints. `step` is the last finished step."""

    def __init__(self, step: int):
        super().__init__(f"stopped by SIGTERM after step {step}")
        self.step = step


class Fitted(NamedTuple):
    state: State
    start_step: int  # 0, or the step it went on from


def abstract_state(
    init: Callable[[jax.Array], tuple[Any, Any]],
    optimizer: optax.GradientTransformation,
    rules: Any,
    mesh: Any,
) -> State:
    """The state as `ShapeDtypeStruct`s with their shardings: no array is made."""

    def make(key: jax.Array) -> State:
        params, model_state = init(key)
        return State(jnp.int32(0), params, model_state, optimizer.init(params))

    shapes = jax.eval_shape(make, jax.random.key(0))
    placement = sharding_lib.shardings(shapes, rules, mesh)
    return jax.tree.map(lambda x, s: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=s), shapes, placement)


def init_state(
    init: Callable[[jax.Array], tuple[Any, Any]],
    optimizer: optax.GradientTransformation,
    abstract: State,
    seed: int,
    load: Callable[[Any, Any], tuple[Any, Any]] | None = None,
) -> State:
    """A fresh state, born on its devices.

    Args:
      load: `params, model_state -> params, model_state`, on the host: where pre-trained weights come in.
    """
    placement = jax.tree.map(lambda x: x.sharding, abstract)
    at_birth = (placement.params, placement.model_state)
    params, model_state = jax.jit(init, out_shardings=at_birth)(named_key(seed, "init"))
    if load is not None:
        params, model_state = sharding_lib.put(load(params, model_state), at_birth)
    opt_state = jax.jit(optimizer.init, out_shardings=placement.opt_state)(params)
    return State(sharding_lib.put(np.int32(0), placement.step), params, model_state, opt_state)


def fit(
    *,
    init: Callable[[jax.Array], tuple[Any, Any]],
    loss_fn: LossFn,
    optimizer: optax.GradientTransformation,
    batches: Callable[[int], Iterator[dict[str, np.ndarray]]],
    total_steps: int,
    seed: int,
    mesh: jax.sharding.Mesh,
    rules: Sequence[tuple[str, str]] = ((r".*", "fsdp"),),
    accumulate: int = 1,
    schedule: optax.Schedule | None = None,
    load: Callable[[Any, Any], tuple[Any, Any]] | None = None,
    checkpoints: Run | None = None,
    checkpoint_steps: int | None = None,
    config: dict[str, Any] | None = None,
    observers: Sequence[Observer] = (),
    on_start: Callable[[int, State], None] | None = None,
    write: Callable[[int, dict[str, float]], None] | None = None,
    description: str = "train",
) -> Fitted:
    """Trains from the newest good checkpoint, or from fresh, to `total_steps`.

    Args:
      init: `key -> params, model_state`, traceable.
      batches: `start_step -> iterator` of this process's part of each batch.
      checkpoint_steps: a checkpoint every so many steps, besides step 0 and the last.
      config: plain data stored with every checkpoint.
      on_start: called once with the step and state that training starts from.
      write: `(step, scalars)`, once a step, in order, one step late so that the device never waits for it.

    Raises:
      Diverged: the loss or the gradient's norm is not finite.
      Stopped: SIGTERM. The state is saved first.
    """
    abstract = abstract_state(init, optimizer, rules, mesh)
    restored = checkpoints.restore(abstract) if checkpoints else None
    start = 0
    if restored is not None:
        state, start = restored
    else:
        state = init_state(init, optimizer, abstract, seed, load)
        if checkpoints:
            checkpoints.save(0, state, config or {})
    if on_start:
        on_start(start, state)
    if start >= total_steps:
        return Fitted(state, start)

    placement = jax.tree.map(lambda x: x.sharding, abstract)
    step_fn = jax.jit(
        make_step(loss_fn, optimizer, seed=seed, accumulate=accumulate, schedule=schedule),
        out_shardings=(placement, sharding_lib.replicated(mesh)),
        donate_argnums=0,
    )
    last_saved = start if checkpoints else None
    pending: tuple[int, Any, dict[str, float]] | None = None
    clock = time.perf_counter()
    main_process = jax.process_index() == 0
    bar = tqdm(
        total=total_steps, initial=start, desc=description, unit="step", disable=not main_process,
        mininterval=0.2 if sys.stderr.isatty() else 10.0, dynamic_ncols=True,
    )  # fmt: skip

    def flush(size: int) -> None:
        """Writes the scalars of the step before; waits for it, which also keeps one step in flight at most."""
        nonlocal pending, clock
        if pending is None:
            return
        step, on_device, extra = pending
        scalars = {key: float(value) for key, value in jax.device_get(on_device).items()}
        bad = [key for key in ("loss", "grad_norm") if not math.isfinite(scalars[key])]
        if bad:
            raise Diverged(_diverged(bad[0], scalars[bad[0]], step, checkpoints, last_saved))
        now = time.perf_counter()
        scalars["examples_per_second"] = size / (now - clock)
        clock, pending = now, None
        bar.set_postfix_str(
            f"loss {scalars['loss']:.4f}, {scalars['examples_per_second']:.0f} examples/s", refresh=False
        )
        bar.update()
        if write:
            write(step, scalars | extra)

    with contextlib.closing(bar), _sigterm() as terminated:
        data = batches(start)
        for step in range(start + 1, total_steps + 1):
            batch = next(data)
            size = next(iter(batch.values())).shape[0] * jax.process_count()
            state, scalars = step_fn(state, sharding_lib.put_batch(batch, mesh))
            flush(size)
            pending = (step, scalars, {})
            for observer in observers:
                pending[2].update(observer(step, state) or {})
            stop = terminated(step)
            if stop or step == total_steps or (checkpoint_steps and step % checkpoint_steps == 0):
                validation = {
                    key: value for key, value in pending[2].items() if key.startswith("validation/")
                }
                flush(size)  # a state whose loss was not finite is never saved
                if checkpoints:
                    checkpoints.save(step, state, config or {}, validation or None)
                    last_saved = step
            if stop and step < total_steps:
                if checkpoints:
                    checkpoints.wait()
                raise Stopped(step)
    return Fitted(state, start)


def _diverged(name: str, value: float, step: int, checkpoints: Run | None, last_saved: int | None) -> str:
    where = f"; the last good checkpoint is {checkpoints.directory / str(last_saved)}" if checkpoints else ""
    return (
        f"the {name.replace('_', ' ')} is {value} at step {step}{where}: "
        "lower optim.learning_rate or set optim.clip_norm, and start in a new --workdir"
    )


@contextlib.contextmanager
def _sigterm() -> Iterator[Callable[[int], bool]]:
    """Yields `terminated(step)`. Several processes agree on the step, through JAX's preemption service."""
    if jax.process_count() > 1:
        yield multihost_utils.reached_preemption_sync_point
        return
    received = []

    def handler(number: int, frame: Any) -> None:
        received.append(number)
        os.write(2, b"\nSIGTERM: saving after this step\n")

    try:
        before = signal.signal(signal.SIGTERM, handler)
    except ValueError:  # not the main thread: there is nothing to catch
        yield lambda step: False
        return
    try:
        yield lambda step: bool(received)
    finally:
        signal.signal(signal.SIGTERM, before)


def log_start(start: int, state: State, mesh: jax.sharding.Mesh, batch_size: int) -> None:
    """Says what is trained, where it lies, and from which step."""
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
