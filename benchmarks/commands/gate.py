"""Compare results with a baseline; fail on a shown loss of accuracy, more time beyond the noise, or a lack of one."""

from __future__ import annotations

from pathlib import Path

from benchmarks.choose.regressions import RegressionCheck, find_regressions
from benchmarks.report.results_file import read_reports
from core.cli import Parser
from core.errors import CheckError


def main(arguments: list[str]) -> None:
    """Run `python -m benchmarks gate RESULTS --baseline RESULTS`. Raises CheckError when a check fails."""
    parser = Parser(prog="python -m benchmarks gate", description=__doc__)
    parser.add_argument("results", type=Path, metavar="RESULTS", help="the folder of a run, or its report/results.json")
    parser.add_argument("--baseline", type=Path, required=True, metavar="RESULTS", help="the results to compare with")
    args = parser.parse_args(arguments)
    now, before = (read_reports(results_path(path))[0].results for path in (args.results, args.baseline))
    checks = find_regressions(before, now)
    for check in checks:
        print(describe_check(check))
    # all are printed before one fails the command: a log shows every regression at once
    failed = [check for check in checks if check.failure]
    if failed:
        more = f", and {len(failed) - 1} more" if len(failed) > 1 else ""
        raise CheckError(f"{failed[0].name}: {failed[0].failure}{more}")


def results_path(path: Path) -> Path:
    """Return the results file of a run's folder, or the file itself."""
    return path / "report" / "results.json" if path.is_dir() else path


def describe_check(check: RegressionCheck) -> str:
    """Return a check as one line."""
    verdict = "FAILED " if check.failure else "skipped" if check.skipped else "ok     "
    return f"{verdict} {check.name}: {check.failure or check.skipped or check.detail}"
