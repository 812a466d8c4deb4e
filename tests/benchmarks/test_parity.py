"""Results of the device against those of the CPU in float64."""

import json

import jax
import numpy as np
import pytest

from benchmarks import parity
from lcdnet_jax import messages, networks, ops

_BY_NUMPY = {"clean_channels", "dct_matrix", "fit_kernel_code"}


def test_every_network_and_operation_is_compared():
    assert set(parity.NETWORKS) == set(networks.available())
    functions = {name for name in ops.__all__ if callable(getattr(ops, name))} - _BY_NUMPY
    assert functions <= {name.split()[0] for name in parity.make_operations()}
    cases = {(case.subject, case.dtype) for case in parity.SETS["accelerator"]}
    assert {(name, dtype) for name in parity.NETWORKS for dtype in parity.TYPES} <= cases
    assert set(parity.SETS["tiny"]) <= set(parity.SETS["accelerator"])


@pytest.mark.parametrize("subject", ["upsample2x", "rfft2"])
def test_rounding_is_within_the_limits(subject):
    result = parity.measure(parity.Case(subject, "float32"))
    assert 0 < result["value"] < result["limit"] / 10


@pytest.mark.extended
def test_a_network_with_batch_normalization():
    expected = parity._compute_exactly("dncnn")
    assert {leaf.dtype.name for leaf in jax.tree.leaves(expected)} == {"float64"}
    assert {
        "the output",
        "the output in training",
        "the gradient of the images",
        "the gradient of the parameters",
        "the update of batch statistics",
    } == set(expected)
    for dtype in parity.TYPES:
        result = parity.measure(parity.Case("dncnn", dtype))
        assert 0 < result["value"] < result["limit"]


def test_distance_is_a_part_of_the_norm():
    expected = {"a": np.float64([3.0, 4.0]), "b": {"c": np.float64([6.0]), "d": np.float64([8.0])}}
    result = {"a": np.float32([3.0, 4.5]), "b": {"c": np.float32([6.0]), "d": np.float32([9.0])}}
    assert parity.measure_distances(result, expected) == {"a": 0.1, "b": 0.1}


@pytest.mark.parametrize("factor", [1.001, np.nan])
def test_another_result_is_an_error(monkeypatch, capsys, factor):
    compute = parity.compute
    wrong = "the gradient of argument 0"

    def compute_wrongly(subject, dtype, device):
        results = compute(subject, dtype, device)
        if dtype == "float32":
            results[wrong] = results[wrong] * np.float32(factor)
        return results

    monkeypatch.setattr(parity, "compute", compute_wrongly)
    monkeypatch.setattr("sys.argv", ["parity", "--only=upsample2x float32"])
    with pytest.raises(SystemExit, match="1"):
        parity.main()
    line = json.loads(capsys.readouterr().out)
    assert line["case"] == "upsample2x float32"
    assert line["machine"] == messages.describe_processor()
    assert f"ValueError: {wrong} on cpu differs from the CPU's in float64 by" in line["error"]


def test_a_name_of_no_case(monkeypatch, capsys):
    monkeypatch.setattr("sys.argv", ["parity", "--only=nosuch"])
    with pytest.raises(SystemExit, match="2"):
        parity.main()
    assert "no case has 'nosuch' in its name" in capsys.readouterr().err
