"""How weights change: sharding, optimisers, the step, the loop, a whole run."""

from rmtjax.train.loop import Diverged as Diverged
from rmtjax.train.loop import Stopped as Stopped
from rmtjax.train.run import Result as Result
from rmtjax.train.run import run as run
