"""`python -m benchmarks.studies hotpath`: one module of `benchmarks/studies/commands` each."""

from core.cli import dispatch

if __name__ == "__main__":
    raise SystemExit(dispatch("benchmarks.studies", "benchmarks.studies.commands"))
