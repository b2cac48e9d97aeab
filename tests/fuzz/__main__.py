"""``python -m tests.fuzz``: all campaigns, or one case again by its number."""

from __future__ import annotations

import argparse
import sys
import tempfile
import time
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path

from tests.fuzz.campaign import Outcome, describe, generator, load, run_case
from tests.fuzz.runner import Limits, run_campaign

CAMPAIGNS = {
    "flow-files": ("tests.fuzz.flow_files:CAMPAIGN", 10_000),
    "expressions": ("tests.fuzz.expressions:CAMPAIGN", 20_000),
    "manifests": ("tests.fuzz.manifests:CAMPAIGN", 5_000),
    "json": ("tests.fuzz.json_values:CAMPAIGN", 5_000),
    "flows": ("tests.fuzz.engine_and_dag:CAMPAIGN", 100),
}
"""Name -> the campaign and how many cases it has."""

FAULTS = ("crash", "hang", "unlocated", "wrong")
SHOWN_FAULTS = 20


@dataclass
class Tally:
    """What the cases of a campaign resulted in."""

    name: str
    kinds: Counter[str] = field(default_factory=Counter)
    faults: dict[tuple[str, str], list[Outcome]] = field(default_factory=dict)
    slowest: Outcome | None = None
    seconds: float = 0.0

    def add(self, outcome: Outcome) -> None:
        """Count an outcome; faults of one cause are collected."""
        self.kinds[outcome.kind] += 1
        if outcome.fault is not None:
            self.faults.setdefault((outcome.kind, outcome.fault), []).append(outcome)
        if self.slowest is None or outcome.seconds > self.slowest.seconds:
            self.slowest = outcome

    def rows(self) -> list[str]:
        """Return the campaign's lines of the table."""
        slowest = f"{self.slowest.seconds:.2f} s (case {self.slowest.index})" if self.slowest else "-"
        faults = ", ".join(f"{self.kinds[kind]} {kind}" for kind in FAULTS)
        outcomes = ", ".join(
            f"{count} {kind}" for kind, count in self.kinds.most_common() if kind not in FAULTS
        )
        return [
            f"{self.name}: {self.kinds.total()} inputs in {self.seconds:.0f} s; slowest {slowest}",
            f"  outcomes: {outcomes}",
            f"  faults:   {faults}",
        ]


def main(arguments: list[str] | None = None) -> int:
    """Run the campaigns and print a table; return 1 if there is a fault."""
    options = _options().parse_args(arguments)
    if options.case:
        return _again(options.case, options.seed)
    tallies = []
    for name in options.campaign or CAMPAIGNS:
        target, cases = CAMPAIGNS[name]
        count = max(1, int(cases * options.scale)) if options.cases is None else options.cases
        tally = Tally(name)
        began = time.monotonic()
        for outcome in run_campaign(
            target,
            seed=options.seed,
            cases=range(options.first, options.first + count),
            workers=options.workers,
            limits=Limits(options.seconds, options.megabytes << 20),
        ):
            tally.add(outcome)
        tally.seconds = time.monotonic() - began
        tallies.append(tally)
        print(*tally.rows(), sep="\n", flush=True)
        _print_faults(tally, options.seed)
    return int(any(tally.faults for tally in tallies))


def _print_faults(tally: Tally, seed: int) -> None:
    ordered = sorted(tally.faults.items(), key=lambda item: -len(item[1]))
    for (kind, fault), outcomes in ordered[:SHOWN_FAULTS]:
        case = min(outcome.index for outcome in outcomes)
        print(f"  {len(outcomes)} x {kind}: {fault}")
        print(f"      again: python -m tests.fuzz --seed {seed} --case {tally.name}:{case}", flush=True)
    if len(ordered) > SHOWN_FAULTS:
        print(f"  {len(ordered) - SHOWN_FAULTS} more kinds of fault")


def _again(case: str, seed: int) -> int:
    """Run one case in this process, without limits, and print its input and its outcome."""
    name, _, index = case.partition(":")
    campaign = load(CAMPAIGNS[name][0])
    print(describe(campaign, campaign.make(generator(campaign, seed, int(index)))), flush=True)
    with tempfile.TemporaryDirectory(prefix="allma-fuzz-") as folder:
        campaign.start(Path(folder))
        outcome = run_case(campaign, seed, int(index), Path(folder))
    print(f"\n{outcome.kind} in {outcome.seconds:.2f} s\n{outcome.details}")
    return int(outcome.fault is not None)


def _options() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m tests.fuzz", description=__doc__)
    parser.add_argument("campaign", nargs="*", help=f"which campaigns; all if none: {', '.join(CAMPAIGNS)}")
    parser.add_argument("--seed", type=int, default=0, help="another seed means other inputs")
    parser.add_argument("--scale", type=float, default=1.0, help="a multiple of the usual number of inputs")
    parser.add_argument("--cases", type=int, help="the number of inputs of each campaign")
    parser.add_argument("--first", type=int, default=0, help="the number of the first input")
    parser.add_argument("--workers", type=int, default=2, help="number of processes")
    parser.add_argument("--seconds", type=float, default=5.0, help="CPU seconds after which a case is a hang")
    parser.add_argument("--megabytes", type=int, default=2048, help="memory of a worker beyond its imports")
    parser.add_argument("--case", metavar="CAMPAIGN:NUMBER", help="run one case again and show it")
    return parser


if __name__ == "__main__":
    sys.exit(main())
