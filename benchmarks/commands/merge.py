"""Join the results.json of several devices into one report; the choice is made for each device."""

from __future__ import annotations

import logging
from collections import Counter
from pathlib import Path

from benchmarks.choose.policy import read_policy
from benchmarks.measure.seeds import judge_seeds
from benchmarks.report.render import write_report
from benchmarks.results import Results, choose, read_results
from core.cli import Parser
from core.errors import InputError

log = logging.getLogger(__name__)


def main(arguments: list[str]) -> None:
    """Run `python -m benchmarks merge A.json B.json --out DIR`."""
    parser = Parser(prog="python -m benchmarks merge", description=__doc__)
    parser.add_argument("results", type=Path, nargs="+", metavar="RESULTS", help="results.json of each device")
    parser.add_argument("--out", type=Path, required=True, metavar="DIR", help="receives the report")
    parser.add_argument("--policy", type=Path, metavar="FILE", help="choose again by this policy.json")
    options = parser.parse_args(arguments)
    devices = merge(options.results)
    if options.policy:
        policy = read_policy(options.policy)
        for results in devices:
            choose(results, policy)
            judge_seeds(results, policy)
            results["confidence"] = None  # it was drawn under the policy of its own run
    write_report(options.out, devices)
    for results in devices:
        print(f"{results['machine']['name']}: {results['choice']['sentence']}")
    log.info(f"report: {options.out / 'report.html'}")


def merge(files: list[Path]) -> list[Results]:
    """Read the results of several devices. Raises InputError when they speak of different classes."""
    devices = [results for file in files for results in read_results(file)]
    first = devices[0]["pack"]["classes"]
    for results, file in zip(devices, files, strict=False):
        if results["pack"]["classes"] != first:
            raise InputError(f"{file} has the classes {results['pack']['classes']}, {files[0]} has {first}")
    seen: Counter[str] = Counter()
    for results in devices:
        name = results["machine"]["name"]
        seen[name] += 1
        if seen[name] > 1:
            results["machine"]["name"] = f"{name} ({seen[name]})"
    return devices
