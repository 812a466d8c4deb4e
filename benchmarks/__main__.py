"""Runs the benchmarks one after another, then prints a table; status 1 if one failed.

    python -m benchmarks                  # all, quickly
    python -m benchmarks deform_conv      # one or some

Each runs in a process of its own, so that threads and memory of one do not slow the next. Where
PyTorch is installed, it is the peer of those that know it.
"""

import argparse
import importlib.util
import json
import pathlib
import subprocess
import sys
from typing import Any

from benchmarks import format_table
from lcdnet_jax.messages import format_count

_HERE = pathlib.Path(__file__).resolve().parent
_WITH_TORCH = ("deform_conv", "networks", "pipeline")


def main() -> None:
    """Reads the names, runs, prints."""
    names = sorted(path.stem.removeprefix("bench_") for path in _HERE.glob("bench_*.py"))
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    parser.add_argument("names", nargs="*", metavar="NAME", help=f"of {', '.join(names)}")
    chosen = parser.parse_args().names or names
    if unknown := set(chosen) - set(names):
        parser.error(f"no benchmark {', '.join(sorted(unknown))}; there are {', '.join(names)}")
    results = [result for name in chosen for result in _run(name)]
    print("\n" + format_table(results))
    failed = [f"{r['benchmark']}: {r['case']}" for r in results if "error" in r]
    if failed:
        sys.exit(f"{len(failed)} failed: {', '.join(failed)}")


def _run(name: str) -> list[dict[str, Any]]:
    """Runs one script and passes on what it prints; a script that dies counts as a failed case."""
    results = []
    command = [sys.executable, "-m", f"benchmarks.bench_{name}", "--quick"]
    if name in _WITH_TORCH and importlib.util.find_spec("torch"):
        command.append("--peer=torch")
    with subprocess.Popen(command, cwd=_HERE.parent, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        for line in process.stdout:
            print(line, end="", flush=True)
            if line.startswith("{"):
                results.append(json.loads(line))
    if not results or (process.returncode and not any("error" in r for r in results)):
        error = f"ended with status {process.returncode} after {format_count(len(results), 'case')}"
        results.append({"benchmark": name, "case": "the script", "error": error})
    return results


if __name__ == "__main__":
    main()
