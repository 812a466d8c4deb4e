"""Writes numbers.json and api.json anew: ``python -m tests.guards.record``.

It runs the tests of this folder, which then write what they would compare, under the settings of
tests/conftest.py. Arguments are pytest's, such as ``-k networks``: what is not run stays as it was.
The artifacts stay: they are files of an earlier version, see make_artifacts.py.
"""

import os
import pathlib
import subprocess
import sys

HERE = pathlib.Path(__file__).resolve().parent

if __name__ == "__main__":
    command = [sys.executable, "-m", "pytest", str(HERE), "-q", *sys.argv[1:]]
    environment = os.environ | {"LCDNET_JAX_RECORD_GUARDS": "1"}
    sys.exit(subprocess.run(command, cwd=HERE.parent.parent, env=environment).returncode)
