"""JUnit XML: what a CI shows of our checks."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from xml.etree import ElementTree as ET

from inference.files import write_text


@dataclass(frozen=True)
class Case:
    """One check: passed unless it says why it failed or was skipped."""

    name: str
    failure: str = ""
    skipped: str = ""
    said: str = ""


def write_junit(file: Path, suite: str, cases: Sequence[Case]) -> None:
    """Write the cases as one suite."""
    root = ET.Element("testsuite", name=suite, tests=str(len(cases)))
    root.set("failures", str(sum(bool(case.failure) for case in cases)))
    root.set("skipped", str(sum(bool(case.skipped) for case in cases)))
    for case in cases:
        node = ET.SubElement(root, "testcase", classname=f"rearguard.{suite}", name=case.name)
        if case.failure:
            ET.SubElement(node, "failure", message=case.failure)
        elif case.skipped:
            ET.SubElement(node, "skipped", message=case.skipped)
        elif case.said:
            ET.SubElement(node, "system-out").text = case.said
    ET.indent(root)
    write_text(file, ET.tostring(root, encoding="unicode", xml_declaration=True) + "\n")


def list_cases(results: dict[str, Any]) -> list[Case]:
    """Return the cases of a measured run: the choice, the gates of the bundles, and what could not be measured."""
    choice, noise = results["choice"], results["noise"]
    cases = [Case("choice", failure="" if choice["chosen"] else choice["sentence"], said=choice["sentence"])]
    cases.append(Case("noise", skipped="the whole table is noisy" if noise["noisy"] else ""))
    for arch, gates in results["gates"].items():
        for precision, gate in gates.items():
            cases += [_gate_case(f"{arch} {precision}", check) for check in gate["checks"]]
    for row in results["unmeasured"]:
        cases.append(Case(f"{row['arch']} {row['precision']} {row['backend']}", skipped=row["reason"]))
    return cases


def _gate_case(name: str, check: dict[str, Any]) -> Case:
    said = f"{check['value']:.4g}, the limit is {check['limit']:g}"
    return Case(f"{name}: {check['name']}", failure="" if check["passed"] else said, said=said)
