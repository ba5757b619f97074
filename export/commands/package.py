"""Write one archive for the device: the production bundle, the code that runs it, requirements, run.sh, a README."""

from __future__ import annotations

import json
from contextlib import ExitStack
from pathlib import Path

from core.cli import Parser
from core.data.run_dir import open_run
from core.errors import InputError
from core.files import scratch_folder
from core.locks import locked
from export.package import benchmark_files, describe, device_files, write_archive
from export.production import open_production


def main(arguments: list[str]) -> int:
    """Write the archive and print where it is, what it holds and how large it is."""
    parser = Parser(prog="python -m export package", description=__doc__)
    add = parser.add_argument
    add("run", type=Path, metavar="RUN", help="the folder of a run, runs/NAME")
    add("--out", type=Path, metavar="FILE", help="the archive to write (default: runs/NAME/rearguard-NAME.tar.gz)")
    add("--with-benchmark", action="store_true", help="add all candidates, benchmarks/, the test rows and benchmark.sh")
    add("--pack", type=Path, help="the pack that the run was trained on, if it was moved")
    add("--json", action="store_true", help="print what was written as JSON")
    args = parser.parse_args(arguments)
    run = open_run(args.run)
    production = open_production(run)
    archive_folder = f"rearguard-{run.path.resolve().name}"
    out = args.out or run.path / f"{archive_folder}.tar.gz"
    _refuse_inside_bundle(out)
    bundles = run.bundles().values() if args.with_benchmark else ()
    with locked(production.path, *bundles), ExitStack() as stack:
        files = device_files(production.path)
        if args.with_benchmark:
            # the test rows lie there until the archive is written
            scratch = stack.enter_context(scratch_folder(out))
            files |= benchmark_files(run, run.open_pack(args.pack), scratch)
        size = write_archive(out, archive_folder, files)
    holds = describe(production)
    if args.with_benchmark:
        holds.append(f"candidates for benchmark.sh: {', '.join(run.bundles())}")
    facts = {"archive": str(out), "folder": archive_folder, "files": len(files), "bytes": size, "holds": holds}
    line = f"{out}: {len(files)} files, {size / 2**20:.1f} MiB; on the device: tar -xzf, then sha256sum -c SHA256SUMS"
    print(json.dumps(facts, indent=1) if args.json else "\n".join([line, *holds]))
    return 0


def _refuse_inside_bundle(out: Path) -> None:
    """Refuse an archive inside a bundle: the next one would be refused for a file that nothing binds."""
    for folder in out.resolve().parents:
        if (folder / "bundle.json").is_file():
            raise InputError(f"{out} lies in the bundle {folder}, which holds proved files alone: name another --out")
