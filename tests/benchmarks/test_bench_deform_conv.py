"""The benchmark of deformable convolution."""

import pytest

from benchmarks import bench_deform_conv
from tests.benchmarks.tiny_cases import tiny_operation

pytestmark = pytest.mark.usefixtures("short_trials")


@pytest.mark.usefixtures("quickly_compiled")
class TestDeformConv:
    @pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
    def test_beside_the_textbook(self, dtype):
        result = bench_deform_conv.measure(tiny_operation(gradient=True, dtype=dtype), 0.0)
        assert result["peer"] == "take_along_axis"
        assert result["memory_mib"] > 0

    @pytest.mark.parametrize("gradient", [False, True])
    @pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
    def test_beside_torch(self, dtype, gradient):
        pytest.importorskip("torch")
        case = tiny_operation(gradient=gradient, dtype=dtype)
        result = bench_deform_conv.measure(case, 0.0, peer="torch")
        assert "torch grid_sample" in result["peer_trials_ms"]

    def test_wrong_gradients_are_named(self, rng):
        ours = [rng.normal(size=(3, 4)) for _ in range(6)]
        bench_deform_conv._agree("float32", ours, ours)
        with pytest.raises(ValueError, match="d/d mask differs"):
            bench_deform_conv._agree("float32", [*ours[:3], ours[3] * 1.1, *ours[4:]], ours)
