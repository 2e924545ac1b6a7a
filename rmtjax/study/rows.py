"""The numbers of a study's finished runs in files that outlive its folder, or come from other machines."""

import pathlib
from collections.abc import Mapping, Sequence

import pandas as pd

from rmtjax import files, results
from rmtjax.study.planning import PlannedRun


class KeptRows:
    """The rows in files, and those of runs that finished since.

    Args:
      paths: of files, all of which are read where they exist. The first is written.

    Raises:
      InputError: a file is damaged, or two files hold one run with two configs.
    """

    def __init__(self, paths: Sequence[str]) -> None:
        self._target = pathlib.Path(paths[0]) if paths else None
        self._rows = results.EMPTY
        for path in paths:
            if path != paths[0] or pathlib.Path(path).exists():
                self._rows = results.merged(self._rows, results.read_rows(path), repr(path))

    @property
    def made(self) -> Mapping[tuple[str, int], results.Made]:
        """What made each run, by arm and seed."""
        return self._rows.made

    def add_finished(self, runs: Sequence[PlannedRun]) -> None:
        """Adds runs whose folders are finished. Writes the file if there are any, or if there is no file yet.

        Raises:
          InputError: the file cannot be written, or holds one of the runs with another config.
        """
        new = [run for run in runs if (run.arm, run.seed) not in self.made and run.is_finished()]
        if new:
            seeds: dict[str, list[int]] = {}
            for run in new:
                seeds.setdefault(run.arm, []).append(run.seed)
            out = new[0].workdir.parent.parent
            found = results.Rows(
                results.collect(out, seeds, seeds), {(run.arm, run.seed): run.made for run in new}
            )
            self._rows = results.merged(self._rows, found, repr(str(out)))
        if self._target is not None and (new or not self._target.exists()):
            files.make_folder(self._target.parent, "the folder of the rows", "--rows")
            with files.locked(self._target.with_name(f".{self._target.name}.lock"), lambda who: None):
                if self._target.exists():  # another command may have added runs
                    there = results.read_rows(self._target)
                    self._rows = results.merged(self._rows, there, repr(str(self._target)))
                results.write_rows(self._target, self._rows)

    def table(self, seeds: Mapping[str, Sequence[int]]) -> pd.DataFrame:
        """The long table of these seeds of each arm, arm by arm."""
        table = self._rows.table
        parts = [
            table[(table["arm"] == arm) & (table["seed"] == seed)]
            for arm, some in seeds.items()
            for seed in sorted(some)
        ]
        parts = [part for part in parts if len(part)]
        return pd.concat(parts, ignore_index=True) if parts else results.EMPTY.table
