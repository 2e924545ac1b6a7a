"""Eight emulated devices for every test, and quick starts; set before JAX and TensorFlow are imported.

Most of the suite's time goes into compiling small programs that run only a few times. So LLVM does not
optimise them here, and XLA writes fusions with its older emitters, which take half the time. XLA's own
passes stay, and with them what is tested. Both workers of pytest, and the commands that tests start, share
one cache of compiled programs, which begins empty.
XLA_FLAGS=--xla_force_host_platform_device_count=8 tests the programs as users have them.
"""

import ast
import gc
import importlib
import importlib.metadata
import os
import shutil
import tempfile

from jaxtyping import _import_hook

QUICK = (
    "--xla_backend_optimization_level=0 --xla_cpu_use_fusion_emitters=false "
    "--xla_cpu_parallel_codegen_split_count=1"
)
if not importlib.metadata.version("jax").startswith("0.10."):
    QUICK = ""  # an unknown flag ends the process, and other versions may not know these

os.environ.setdefault("XLA_FLAGS", f"--xla_force_host_platform_device_count=8 {QUICK}")
os.environ.setdefault("JAX_PLATFORMS", "cpu")
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
os.environ.setdefault("TF_USE_LEGACY_KERAS", "1")  # which is not there: no Keras is imported, 2 s a process
os.environ.setdefault("MPLBACKEND", "agg")
os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")  # of each worker; two would wait for each other
CACHE = "JAX_COMPILATION_CACHE_DIR"


# A nested function is instrumented anew at each call of the function around it, which takes 3 ms. So only
# the others are: a fifth of the time of tests that run in the process of pytest.
_of_every_function = _import_hook.JaxtypingTransformer.visit_FunctionDef


def _of_outer_functions(self, node):
    nested = any(isinstance(parent, ast.FunctionDef) for parent in self._parents)
    return node if nested else _of_every_function(self, node)


_import_hook.JaxtypingTransformer.visit_FunctionDef = _of_outer_functions

# What an instrumented module imports first is compiled from source, since jaxtyping's hook looks for other
# names of bytecode while that module is executed: 4,000 files, 12 s a worker. So they are imported before.
LARGE = ("matplotlib.pyplot", "optax", "orbax.checkpoint", "pandas", "scipy.stats", "sklearn.metrics")
LARGE += ("flax.linen", "matfree", "statsmodels.api", "tensorflow", "tensorflow_datasets", "tensorboardX")


def pytest_configure(config):
    if hasattr(config, "workerinput"):
        for name in LARGE:
            importlib.import_module(name)
        gc.freeze()  # what was imported is not searched for garbage again: 5 % of the time
        gc.set_threshold(50_000, 20, 100)
        return
    if CACHE in os.environ:
        return
    folder = tempfile.mkdtemp(prefix="rmtjax-compiled-")
    os.environ[CACHE] = folder  # workers and commands are started by this process, and inherit it
    os.environ["JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS"] = "0.05"
    os.environ["JAX_PERSISTENT_CACHE_MIN_ENTRY_SIZE_BYTES"] = "-1"
    config.add_cleanup(lambda: shutil.rmtree(folder, ignore_errors=True))
