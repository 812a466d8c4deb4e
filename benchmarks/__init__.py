"""Measurements. ``python -m benchmarks`` makes all of them quickly; each script can run alone.

A script ``bench_NAME.py`` prints one JSON object a line for each case, by ``run_cases``. It holds
at least ``benchmark``, ``case`` and either ``value`` and ``unit`` or ``error``; where the same was
measured with other code, also ``peer`` (what it is), ``peer_value`` and ``ratio``, our time
divided by the peer's: below 1 ours is faster. So it is ``value / peer_value`` for times and
``peer_value / value`` for rates, such as patches a second. Every script takes ``--quick``; those
that know PyTorch modules of the same math take ``--peer torch``.
"""

import json
import os
import sys
import traceback
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

from lcdnet_jax.messages import describe_processor

Result = Mapping[str, Any]


def run_cases(benchmark: str, cases: Iterable[tuple[str, Callable[[], Result]]]) -> None:
    """Measures and prints; ends the program with status 1 if a case failed.

    The others are still measured: one broken case should not cost the numbers of all.

    Args:
        benchmark: Name of the script, without ``bench_``.
        cases: Names, and functions that return ``value``, ``unit`` and further fields.
    """
    results = [run_case(benchmark, case, measure) for case, measure in cases]
    if any("error" in result for result in results):
        sys.exit(1)


def run_case(benchmark: str, case: str, measure: Callable[[], Result]) -> Result:
    """Measures one case, prints its line and returns what that holds."""
    try:
        measured = measure()
    except Exception as error:
        traceback.print_exc()
        measured = {"error": f"{type(error).__name__}: {error}"}
    result = {
        "benchmark": benchmark,
        "case": case,
        **measured,
        "cpus": os.cpu_count(),
        "machine": describe_processor(),
        # Where it is not set, most of the time of a small step on CPU goes into mapping memory.
        "large_pages": "glibc.malloc.hugetlb=1" in os.environ.get("GLIBC_TUNABLES", ""),
    }
    print(json.dumps(result), flush=True)
    return result


def compare_with_peer(
    value: float, peer: str, peer_value: float, *, is_rate: bool = False
) -> Result:
    """Returns the fields of a comparison; for a rate the higher number is better."""
    ratio = peer_value / value if is_rate else value / peer_value
    return {
        "peer": peer,
        "peer_value": round_significant(peer_value),
        "ratio": round_significant(ratio),
    }


def round_significant(number: float) -> float:
    """Rounds to four significant digits, and never before the decimal point."""
    return float(f"{number:.4g}") if abs(number) < 1000 else round(number)


def format_table(results: Sequence[Result]) -> str:
    """Formats case, value, unit and, if there is a peer, the ratio."""
    rows = [("case", "value", "unit", "ours / peer")]
    for result in results:
        case = f"{result['benchmark']}: {result['case']}"
        if "value" not in result:
            rows.append((case, "skipped" if "skipped" in result else "failed", "", ""))
            continue
        value = result["value"]
        number = f"{value:.0f}" if abs(value) >= 99.5 else f"{value:#.3g}"
        ratio = f"{result['ratio']:.2f}  ({result['peer']})" if "ratio" in result else ""
        rows.append((case, number, result["unit"], ratio))
    first, second, third = (max(len(row[k]) for row in rows) for k in range(3))
    return "\n".join(
        f"{case:<{first}}  {value:>{second}}  {unit:<{third}}  {ratio}".rstrip()
        for case, value, unit, ratio in rows
    )
