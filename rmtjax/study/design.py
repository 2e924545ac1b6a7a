"""A study's design: which arms stand for what, with how many seeds, as a config file says it."""

import re
from collections.abc import Mapping
from typing import Any, NamedTuple

from ml_collections import ConfigDict

from rmtjax.errors import InputError
from rmtjax.spectra.metrics import METRICS
from rmtjax.statistics import Arm, Roles
from rmtjax.study.arms import check_names, function_of_file

# The power of the weights' scale that each metric of the spectrum grows with, for T1's blocks.
SCALES = {name: metric.scale for name, metric in METRICS.items()}
FIELDS = {"overrides", "family", "dose", "baseline", "seeds"}


class Design(NamedTuple):
    """The design of a study.

    Attributes:
      overrides: `field=value` changes of the config, by arm.
      arms: what each arm stands for.
      seeds: by arm.
      roles: the families that the answers are about.
      population: how many runs one process trains together at most.
    """

    overrides: dict[str, list[str]]
    arms: dict[str, Arm]
    seeds: dict[str, list[int]]
    roles: Roles
    population: int


def load_design(path: str, config: ConfigDict) -> Design:
    """The design of a config file: its `get_design(config)` gives plain data,

        {"arms": {name: {"overrides": [...], "family": ..., "dose": ..., "baseline": ..., "seeds": "0-4"},
         ...}, "roles": {"diversity": family, "dropout": family, "decay": family, "synthetic": [families],
         "placebos": [families], ...}, "population": 16}

    `overrides` are `field=value` changes of the config, none if left out; `baseline` is an arm's name, "none"
    if left out; `population` is 1 if left out.

    Raises:
      InputError: no such function, or the design is not of this form.
    """
    get_design = function_of_file(path, "get_design", "add it to the config, or give --arms")
    return of_plain(get_design(config), path)


def of_plain(content: Mapping[str, Any], name: str) -> Design:
    """The design of plain data, checked. Messages call it `name`."""
    cells: dict[str, dict[str, Any]] = {arm: dict(cell) for arm, cell in content.get("arms", {}).items()}
    check_names(cells, f"get_design(config) of {name!r}")
    for arm, cell in cells.items():
        unknown, missing = cell.keys() - FIELDS, {"family", "dose", "seeds"} - cell.keys()
        if unknown or missing:
            what = f"has the unknown field {min(unknown)!r}" if unknown else f"lacks {min(missing)!r}"
            raise InputError(f"arm {arm!r} of {name!r} {what}: its fields are {', '.join(sorted(FIELDS))}")
        cell["baseline"] = cell.get("baseline", "none")
        if cell["baseline"] not in cells:
            raise InputError(
                f"arm {arm!r} of {name!r} has the baseline {cell['baseline']!r}, which is no arm"
            )
    families = {cell["family"] for cell in cells.values()}
    try:
        roles = Roles(**{"scales": SCALES} | content.get("roles", {}))
    except TypeError as error:
        raise InputError(f"the roles of {name!r} are not of this form: {', '.join(Roles._fields)}") from error
    named = (roles.diversity, roles.dropout, roles.decay, *roles.synthetic, *_placebos(roles), *roles.alone)
    for family in (*named, *roles.sources):
        if family not in families:
            raise InputError(
                f"the roles of {name!r} name the family {family!r}, of which there is no arm: there are "
                f"{', '.join(sorted(families))}"
            )
    return Design(
        {arm: list(cell.get("overrides", [])) for arm, cell in cells.items()},
        {arm: Arm(cell["family"], float(cell["dose"]), cell["baseline"]) for arm, cell in cells.items()},
        {arm: seeds_of(str(cell["seeds"])) for arm, cell in cells.items()},
        roles,
        int(content.get("population", 1)),
    )


def _placebos(roles: Roles) -> tuple[str, ...]:
    return (*roles.placebos, *([roles.progress] if roles.progress else []))


def fewer_seeds(design: Design, chosen: list[int]) -> dict[str, list[int]]:
    """The chosen seeds of each arm; of a control whose seeds its baseline lacks, as many of its own.

    Raises:
      InputError: none of them is a seed of the design.
    """
    out = {}
    for arm, seeds in design.seeds.items():
        control = not set(seeds) & set(design.seeds[design.arms[arm].baseline])
        out[arm] = seeds[: len(chosen)] if control else [seed for seed in seeds if seed in chosen]
    if not any(set(seeds) & set(chosen) for seeds in out.values()):
        raise InputError(f"--seeds={','.join(map(str, chosen))}: the design has none of these seeds")
    return out


def seeds_of(text: str) -> list[int]:
    """The numbers of `0-4` or `0,3,7`. Raises InputError for other text."""
    found: list[int] = []
    for part in text.split(","):
        ends = re.fullmatch(r"(\d+)(?:-(\d+))?", part.strip())
        if not ends:
            raise InputError(f"--seeds={text!r} is not a list of whole numbers: write 0-4 or 0,3,7")
        found += range(int(ends[1]), int(ends[2] or ends[1]) + 1)
    if not found:
        raise InputError(f"--seeds={text!r} names no seed: write 0-4 or 0,3,7")
    return found
