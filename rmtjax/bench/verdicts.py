"""How often T1 to T7 give each verdict in simulated studies, of which the truth is known."""

from typing import Any

from rmtjax.statistics import simulate, simulate_further


def main(arguments: Any, overrides: list[str]) -> None:
    print(f"{arguments.studies} studies of each kind; rates with Wilson's 95 % interval")
    for name, scenario in (simulate.SCENARIOS | simulate_further.FURTHER).items():
        if arguments.names not in name:
            continue
        found = simulate.rates(scenario, arguments.studies, arguments.seed)
        cells = [
            f"{row.verdict}{'*' if row.wrong else ''} {row.rate:.3f} [{row.low:.3f}, {row.high:.3f}]"
            for row in found.itertuples()
        ]
        print(f"{name}: {'; '.join(cells)}", flush=True)
    print("* is false of the study")
