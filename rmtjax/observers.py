"""Spectra while somebody else's loop trains: of torch, transformers, Keras or Optax.

    observe = observers.every(100, "runs/mine")
    observe(step, model)                                                  # in a loop of torch
    observe(step, params)                                                 # in a loop of Optax
    Trainer(..., callbacks=[observers.transformers_callback(observe)])
    model.fit(..., callbacks=[observers.keras_callback(observe)])

The table of each observed step is below the folder (`spectra.observe.read`). Medians over the matrices are
scalars of TensorBoard there, and of a run of Weights & Biases, MLflow or trackio that is open.
"""

import os
import sys
from collections.abc import Callable
from typing import Any

from rmtjax import spectra

Observe = Callable[[int, Any], dict[str, float] | None]


def every(steps: int, folder: str | os.PathLike[str], **options: Any) -> Observe:
    """An observer, `(step, model) -> scalars`, or None at steps that `steps` does not divide.

    Args:
      steps, folder, options: as `spectra.observe.every`.

    Returns:
      A function of the step and of whatever holds weights (`checkpoints.weights_of`): a module of torch, a
      model of Keras, parameters, or a state with `params`.

    Raises:
      ValueError: `steps` is below 1.
    """
    from tensorboardX import SummaryWriter  # which imports torch, where that is installed: 2 s

    analysed = spectra.observe.every(steps, folder, **options)
    events = SummaryWriter(os.fspath(folder))

    def observe(step: int, model: Any) -> dict[str, float] | None:
        scalars = analysed(step, model)
        if scalars is not None:
            for name, value in scalars.items():
                events.add_scalar(name, value, step)
            events.flush()
            _log_to_open_runs(step, scalars)
        return scalars

    return observe


def _log_to_open_runs(step: int, scalars: dict[str, float]) -> None:
    """Nothing is imported: a run can be open only in a library that is."""
    wandb, mlflow, trackio = (sys.modules.get(name) for name in ("wandb", "mlflow", "trackio"))
    # Their own steps count what the loop logs, so ours is a scalar.
    if wandb is not None and getattr(wandb, "run", None) is not None:
        wandb.log(scalars | {"spectra/step": step})
    if mlflow is not None and mlflow.active_run() is not None:
        mlflow.log_metrics(scalars, step=step)
    if trackio is not None:
        try:
            trackio.log(scalars | {"spectra/step": step})
        except RuntimeError:  # no run is open
            return


def transformers_callback(observe: Observe) -> Any:
    """A callback of transformers' Trainer, which calls an observer before training and after each step."""
    from transformers import TrainerCallback

    class Spectra(TrainerCallback):
        def on_train_begin(self, args: Any, state: Any, control: Any, model: Any = None, **rest: Any) -> None:
            self.on_step_end(args, state, control, model)

        def on_step_end(self, args: Any, state: Any, control: Any, model: Any = None, **rest: Any) -> None:
            if state.is_world_process_zero:
                observe(state.global_step, model)

    return Spectra()


def keras_callback(observe: Observe) -> Any:
    """A callback of Keras, which calls an observer before training and after each batch."""
    import keras

    class Spectra(keras.callbacks.Callback):  # type: ignore[misc]
        step = 0

        def on_train_begin(self, logs: Any = None) -> None:
            observe(self.step, self.model)

        def on_train_batch_end(self, batch: int, logs: Any = None) -> None:
            self.step += 1
            observe(self.step, self.model)

    return Spectra()
