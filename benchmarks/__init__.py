"""Measurements. ``python -m benchmarks`` makes all of them quickly; each script can run alone.

A script ``bench_NAME.py`` prints one JSON object a line for each case, by ``run_cases``. It holds
at least ``benchmark``, ``case`` and either ``value`` and ``unit`` or ``error``; where the same was
measured with other code, also ``peer`` (what it is), ``peer_value`` and ``ratio``, which is
``peer_value / value``. Every script takes ``--quick``.
"""

import json
import os
import platform
import sys
import traceback
from collections.abc import Callable, Iterable, Mapping
from typing import Any


def run_cases(benchmark: str, cases: Iterable[tuple[str, Callable[[], Mapping[str, Any]]]]) -> None:
    """Measures and prints; ends the program with status 1 if a case failed.

    The others are still measured: one broken case should not cost the numbers of all.

    Args:
      benchmark: name of the script, without ``bench_``.
      cases: names, and functions that return ``value``, ``unit`` and whatever explains them.
    """
    machine = {"cpus": os.cpu_count(), "machine": platform.machine()}
    failed = False
    for case, measure in cases:
        result: Mapping[str, Any]
        try:
            result = measure()
        except Exception as error:
            traceback.print_exc()
            failed = True
            result = {"error": f"{type(error).__name__}: {error}"}
        print(json.dumps({"benchmark": benchmark, "case": case, **result, **machine}), flush=True)
    if failed:
        sys.exit(1)
