"""Join the results of several devices into one report, with a choice for each device."""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from benchmarks.choose.choice import choose
from benchmarks.choose.policy import read_policy
from benchmarks.report.render import render
from benchmarks.report.results_file import DeviceReport, read_reports
from core.cli import Parser
from core.errors import InputError

log = logging.getLogger(__name__)


def main(arguments: list[str]) -> None:
    """Run `python -m benchmarks merge A.json B.json --out DIR`."""
    parser = Parser(prog="python -m benchmarks merge", description=__doc__)
    parser.add_argument("results", type=Path, nargs="+", metavar="RESULTS", help="results.json of each device")
    parser.add_argument("--out", type=Path, required=True, metavar="DIR", help="the folder of the new report")
    parser.add_argument("--policy", type=Path, metavar="FILE", help="choose again by this policy.json")
    args = parser.parse_args(arguments)
    devices = merge(args.results)
    # from the files alone: they hold the answers and the times that a choice is made from
    if args.policy:
        policy = read_policy(args.policy)
        policy.check_classes(devices[0].results.pack.classes)
        devices = [replace(device, choice=choose(device.results, policy)) for device in devices]
    render(args.out, devices)
    for device in devices:
        print(f"{device.results.machine.name}: {device.choice.sentence}")
    log.info(f"report: {args.out / 'report.html'}")


def merge(files: Sequence[Path]) -> list[DeviceReport]:
    """Read the results of several devices. Raises InputError when their classes differ."""
    devices = list[DeviceReport]()
    names = Counter[str]()
    classes = None
    for file in files:
        for device in read_reports(file):
            pack = device.results.pack
            classes = classes or pack.classes  # those of the first device
            if pack.classes != classes:
                other = ", ".join(sorted({*pack.classes} ^ {*classes})[:5]) or "their order"
                raise InputError(f"{file} and {files[0]} differ in their classes ({other}): merge results of one pack")
            name = device.results.machine.name
            names[name] += 1  # the charts tell devices apart by their names
            devices.append(device if names[name] == 1 else rename_device(device, f"{name} ({names[name]})"))
    return devices


def rename_device(device: DeviceReport, name: str) -> DeviceReport:
    """Return the results and the choice with another name for their machine."""
    results = replace(device.results, machine=replace(device.results.machine, name=name))
    return DeviceReport(results, replace(device.choice, device=name))
