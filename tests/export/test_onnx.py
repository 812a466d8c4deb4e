"""ONNX files: their values, their metadata, and what is refused."""

import json
import sys

import flax.linen as nn
import jax
import jax.export
import jax.numpy as jnp
import numpy as np
import pytest

from lcdnet_jax import export, networks, ops
from lcdnet_jax.atomic_io import TargetError
from lcdnet_jax.networks._lcdnet_blocks import low_pass
from lcdnet_jax.ops.operators import keep_operators
from tests.export.cases import TINY, Doubling, Spectrum, drawn, image, tiny

pytest.importorskip("onnx")
pytest.importorskip("onnxruntime")
import onnx

from lcdnet_jax.export import onnx as onnx_export
from lcdnet_jax.export import run_onnx

pytestmark = pytest.mark.usefixtures("quickly_compiled")


def check(name, *, size=None, dtype="float32"):
    """Exports a network, and compares it at sizes of the test's own."""
    module, variables = tiny(name)
    data = export.export_onnx(module, variables, size=size, dtype=dtype)
    model = run_onnx.load(data)
    tolerance = {"float32": 1e-4, "float16": 2e-2}[dtype]
    assert {case["images"] for case in model.card["verified"]} == {1, 2}
    side = 32 if size is None else size[0]
    for shape in [(1, side, side), *([(2, 31, 45)] if size is None else [])]:
        x = image(*shape, module.channels)
        expected = np.asarray(module.apply(variables, x))
        assert model(x).shape == expected.shape
        allowed = tolerance * max(1, np.abs(expected).max())
        np.testing.assert_allclose(model(x), expected, rtol=0, atol=allowed)
    return data, model


def count_nodes(data, op):
    return sum(node.op_type == op for node in onnx.load_from_string(data).graph.node)


class Deforming(networks.RestorationNetwork):
    """Samples where a convolution says, as SADNet does."""

    channels: int = 2
    dtype: type = jnp.float32

    @nn.compact
    def __call__(self, x):
        n, height, width, channels = x.shape
        offset = nn.Conv(18, (1, 1))(x).reshape(n, height, width, 1, 9, 2)
        kernel = self.param("taps", nn.initializers.normal(), (3, 3, channels, channels))
        return x + ops.deform_conv2d(x, offset, None, kernel)


def mark_slow(names):
    """The cases of networks, most of which take long to trace or to compare."""
    return [
        pytest.param(name, marks=[] if name == "dncnn" else pytest.mark.slow)
        for name in sorted(names)
    ]


class TestNetworks:
    """One of each kind in the quick tests: all networks of a kind use the same primitives."""

    def test_convolutions(self):
        data, model = check("dncnn")
        sides = onnx.load_from_string(data).graph.input[0].type.tensor_type.shape.dim
        assert [side.dim_param or side.dim_value for side in sides] == ["b", "h", "w", 1]
        assert model.card["sizes"] is None

    def test_fourier_transforms(self):
        """Of any size, odd ones too, although JAX can only export it for known ones."""
        module, variables = Spectrum(), drawn(Spectrum())
        model = run_onnx.load(export.export_onnx(module, variables))
        for shape in [(2, 9, 14, 1), (1, 12, 7, 1)]:
            x = image(*shape)
            np.testing.assert_allclose(model(x), module.apply(variables, x), rtol=0, atol=1e-5)

    def test_deformable_convolutions(self):
        module, variables = Deforming(), drawn(Deforming())
        data = export.export_onnx(module, variables)
        assert count_nodes(data, "DeformConv") == 1
        x = image(2, 9, 14, 2)
        restored = run_onnx.load(data)(x)
        np.testing.assert_allclose(restored, module.apply(variables, x), rtol=0, atol=1e-5)

    @pytest.mark.extended
    def test_sadnet(self):
        data, model = check("sadnet", size=(24, 24))
        assert count_nodes(data, "DeformConv") == 4
        assert count_nodes(data, "Gather") == 0
        assert model.card["sizes"] == [[24, 24]]

    @pytest.mark.extended
    @pytest.mark.parametrize("name", mark_slow(set(TINY) - set(onnx_export.NEEDS_SIZE)))
    def test_any_size(self, name):
        check(name)

    @pytest.mark.extended
    @pytest.mark.slow
    @pytest.mark.parametrize("name", sorted(TINY))
    def test_one_size(self, name):
        check(name, size=(32, 32))

    @pytest.mark.extended
    @pytest.mark.slow
    @pytest.mark.parametrize("name", sorted(set(TINY) - set(onnx_export.NEEDS_SIZE)))
    def test_half_precision(self, name):
        _, model = check(name, dtype="float16")
        assert model.card["dtype"] == "float16"

    def test_filters_of_lcdnet_take_any_size(self):
        """They mirror borders. Traced only: a whole export of this network is slow."""
        images, filters = "b, 2*h, 2*w, 8", "b, 4, 25"
        shapes = jax.export.symbolic_shape(f"{images}, {filters}")
        arrays = [jax.ShapeDtypeStruct(part, np.float32) for part in (shapes[:4], shapes[4:])]
        with keep_operators():
            assert jax.eval_shape(low_pass, *arrays).shape == arrays[0].shape

    @pytest.mark.extended
    @pytest.mark.slow
    def test_presets_of_lcdnet_take_any_size(self):
        module = networks.create("lcdnet", preset="tiny")
        images = jax.ShapeDtypeStruct((1, 16, 16, 3), np.float32)
        variables = jax.eval_shape(module.init, jax.random.key(0), images)
        shape = jax.export.symbolic_shape("b, 16*h, 16*w, 3")
        images = jax.ShapeDtypeStruct(shape, np.float32)
        with keep_operators():
            assert jax.eval_shape(module.apply, variables, images).shape == shape

    def test_every_network_has_a_case(self):
        assert set(TINY) == set(networks.available())
        assert set(onnx_export.NEEDS_SIZE) <= set(TINY)

    @pytest.mark.parametrize("name", onnx_export.NEEDS_SIZE)
    def test_networks_that_need_a_size(self, name):
        with pytest.raises(export.ExportError, match=r"cannot be exported .* of any size.*size=\("):
            export.export_onnx(*tiny(name))

    @pytest.mark.extended
    def test_means_over_windows_need_a_size(self):
        module = networks.create("nafnet", **{**TINY["nafnet"], "local_pool": 32})
        with pytest.raises(
            export.ExportError, match=r"any size, since .*, as in size=\(256, 256\);"
        ):
            export.export_onnx(module, drawn(module))


@pytest.fixture(scope="module")
def half():
    module, variables = tiny("dncnn")
    return export.export_onnx(module, variables, dtype="float16", about={"licence": "CC0"})


class TestFile:
    def test_metadata(self, half):
        model = onnx.load_from_string(half)
        (entry,) = model.metadata_props
        card = json.loads(entry.value)
        assert entry.key == "lcdnet_jax"
        assert card == onnx_export.read_card(half)
        assert (card["opset"], card["license"], card["range"]) == (19, "CC0", [0.0, 1.0])
        assert (card["network"], card["stride"], card["dtype"]) == ("DnCNN", 1, "float16")
        assert "platforms" not in card
        assert model.opset_import[0].version == 19
        assert model.producer_name == "lcdnet_jax"
        assert [entry.name for entry in model.graph.output] == ["restored"]

    def test_half_precision(self, half):
        """Weights are stored in 16 bits; images stay float32."""
        model = onnx.load_from_string(half)
        assert model.graph.input[0].type.tensor_type.elem_type == onnx.TensorProto.FLOAT
        kernels = [entry for entry in model.graph.initializer if len(entry.dims) == 4]
        taps = [entry for entry in kernels if entry.dims[2] == 3]
        assert taps
        assert {entry.data_type for entry in taps} == {onnx.TensorProto.FLOAT16}
        module, variables = tiny("dncnn")
        x = image(1, 16, 24, 1)
        difference = np.abs(run_onnx.load(half)(x) - module.apply(variables, x)).max()
        assert 1e-6 < difference < 2e-2

    @pytest.mark.extended
    def test_is_reproducible(self, half):
        module, variables = tiny("dncnn")
        options = {"dtype": "float16", "about": {"licence": "CC0"}}
        assert export.export_onnx(module, variables, **options) == half

    def test_computes_in_float32(self):
        """Also a network that computes in bfloat16."""
        module, variables = tiny("dncnn")
        bfloat = module.clone(dtype=jnp.bfloat16)
        model = run_onnx.load(export.export_onnx(bfloat, variables, size=(8, 8)))
        x = image(1, 8, 8, 1)
        np.testing.assert_allclose(model(x), module.apply(variables, x), rtol=0, atol=1e-5)


class TestRefusals:
    """Each before anything is written."""

    @pytest.mark.parametrize(
        ("options", "message"),
        [
            ({"dtype": "bfloat16"}, "dtype must be float32 or float16, got 'bfloat16'"),
            ({"size": (9, 0)}, "sizes are pairs of height and width"),
            ({"size": (99_999, 8)}, "99999x8 pixels are too many"),
        ],
    )
    def test_options(self, options, message, tmp_path):
        path = tmp_path / "w.onnx"
        with pytest.raises(export.ExportError, match=message):
            export.write_onnx(path, *tiny("dncnn"), **options)
        assert not path.exists()

    def test_stride(self):
        message = "multiples of its stride, 4, got 30x24; use 32x24"
        with pytest.raises(export.ExportError, match=message):
            export.export_onnx(Doubling(), drawn(Doubling()), size=(30, 24))

    def test_what_has_no_form(self):
        message = "Doubling cannot be exported as ONNX, since it uses a transposed convolution"
        with pytest.raises(export.ExportError, match=message):
            export.export_onnx(Doubling(), drawn(Doubling()))

    def test_packages(self, monkeypatch):
        monkeypatch.setitem(sys.modules, "onnxruntime", None)
        with pytest.raises(ImportError, match=r"lcdnet-jax\[onnx\]"):
            export.export_onnx(*tiny("dncnn"))

    def test_other_values(self, tmp_path, monkeypatch):
        path = tmp_path / "w.onnx"
        path.write_bytes(b"earlier")
        restore = run_onnx.Model.__call__
        monkeypatch.setattr(
            run_onnx.Model, "__call__", lambda self, images: restore(self, images) + 2e-4
        )
        with pytest.raises(export.ExportError, match=r"DnCNN gives other values.*by 0.0002"):
            export.write_onnx(path, *tiny("dncnn"), force=True)
        assert path.read_bytes() == b"earlier"
        assert [p.name for p in tmp_path.iterdir()] == [path.name]

    def test_paths(self, tmp_path, monkeypatch):
        path = tmp_path / "new" / "w.onnx"
        card = export.write_onnx(path, *tiny("dncnn"), about={"step": 7})
        assert card == run_onnx.load(path).card
        assert card["about"] == {"step": 7}
        monkeypatch.delattr(onnx_export, "export_onnx")  # each is found before the work begins
        with pytest.raises(TargetError, match="exists; choose another name, or --force"):
            export.write_onnx(path, *tiny("dncnn"))
        with pytest.raises(TargetError, match="is a directory; give a file"):
            export.write_onnx(path.parent, *tiny("dncnn"), force=True)


class Triple(networks.RestorationNetwork):
    """Takes the mean of the image."""

    channels: int = 3
    dtype: type = jnp.float32
    global_means = True

    @nn.compact
    def __call__(self, x):
        return x - x.mean((1, 2), keepdims=True)


@pytest.mark.parametrize("channels", [1, 3, 6])
def test_photographs(channels):
    photo = onnx_export._make_photo(600, 40, channels)
    assert photo.shape == (600, 40, channels)
    assert photo.dtype == np.float32
    assert 0 <= photo.min() < photo.max() <= 1


def test_global_means():
    model = run_onnx.load(export.export_onnx(Triple(), {"params": {}}))
    assert model.card["global_means"]
    x = image(1, 40, 30, 3)
    np.testing.assert_allclose(model.restore(x[0]), Triple().apply({}, x)[0], atol=1e-6)
