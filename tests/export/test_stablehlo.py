"""Program files of every network, and refusals."""

import itertools
import sys

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from lcdnet_jax import export, networks, storage
from lcdnet_jax.atomic_io import TargetError
from lcdnet_jax.export import run_exported, stablehlo
from tests.export.cases import TINY, Spectrum, drawn, image, load, tiny

pytest.importorskip("flatbuffers")

STRIDES = {"sadnet": 8, "unet_n2n": 32, "nafnet": 16, "restormer": 8}

SLOW = ("ikc", "lcdnet", "memnet", "n3net", "nafnet", "restormer", "unet_n2n")  # to compile

FIXED = {"lcdnet": (16, 16), "n3net": (8, 12)}

pytestmark = pytest.mark.usefixtures("quickly_compiled")


class TestEveryNetwork:
    @pytest.mark.extended
    @pytest.mark.parametrize(
        "name",
        [
            pytest.param(name, marks=[pytest.mark.slow] if name in SLOW else [])
            for name in networks.available()
        ],
    )
    def test_values(self, name):
        module, variables = tiny(name)
        sizes = [FIXED[name]] if name in FIXED else None
        restore = load(export.export_program(module, variables, sizes=sizes))
        assert restore.card["network"] == type(module).__name__
        assert restore.card["stride"] == (None if sizes else STRIDES.get(name, 1))
        assert restore.card["platforms"] == ["cpu", "cuda", "tpu"]
        for kind in ("images", "size"):
            assert len({str(case[kind]) for case in restore.card["verified"]}) == 2
        # Shapes that have been compiled for verification.
        stride = restore.card["stride"] or 1
        side = max(16, stride)
        size = sizes[0] if sizes else (side + stride + stride // 2, side)
        x = image(2, *size, module.channels)
        expected = np.asarray(jax.jit(module.apply)(variables, x))[:1]
        assert np.ptp(expected) > 0.01
        np.testing.assert_allclose(
            restore(x[:1]), expected, rtol=0, atol=1e-5 * np.abs(expected).max()
        )

    @pytest.mark.extended
    @pytest.mark.slow
    def test_lcdnet_of_any_size(self):
        """With Fourier transforms as matrix products."""
        _, variables = tiny("lcdnet")
        module = networks.create("lcdnet", **TINY["lcdnet"], fourier="matmul")
        restore = load(export.export_program(module, variables))
        assert restore.card["sizes"] is None
        x = image(1, 33, 18, 1)
        expected = jax.jit(tiny("lcdnet")[0].apply)(variables, x)
        np.testing.assert_allclose(restore(x), expected, rtol=0, atol=1e-4)

    def test_fourier_transforms(self):
        """Of a sharded batch in training, by custom_partitioning; here plain ones."""
        module = Spectrum()
        variables = drawn(module)
        x = image(2, 8, 12, 1)
        restore = load(export.export_program(module, variables, sizes=[(8, 12)]))
        expected = np.asarray(jax.jit(module.apply)(variables, x))
        np.testing.assert_allclose(restore(x), expected, rtol=0, atol=1e-5)
        with pytest.raises(export.ExportError, match="needs to know sizes"):
            export.export_program(module, variables)

    @pytest.mark.extended
    @pytest.mark.parametrize("name", FIXED)
    def test_some_need_sizes(self, name):
        with pytest.raises(
            export.ExportError, match=r"needs to know sizes.*sizes=\[\(256, 256\)\]"
        ):
            export.export_program(*tiny(name))

    def test_scale(self, doubling):
        module, variables = doubling
        restore = load(export.export_program(module, variables))
        assert (restore.card["stride"], restore.card["scale"]) == (4, 2)
        x = image(3, 7, 9, 1)
        np.testing.assert_allclose(
            restore(x), module.apply(variables, x), rtol=0, atol=1e-5, strict=True
        )

    def test_bfloat16(self):
        module = networks.create("dncnn", dtype=jnp.bfloat16, **TINY["dncnn"])
        restore = load(export.export_program(module, drawn(module)))
        assert restore.card["dtype"] == "bfloat16"
        assert restore(image(1, 8, 8, 1)).dtype == np.float32

    def test_content(self, dncnn):
        """The same every time and everywhere: nothing of the machine that exports."""
        module, variables, data = dncnn
        assert export.export_program(module, variables) == data
        assert b".py" not in data


class TestSizes:
    def test_smallest_that_fits(self, dncnn):
        module, variables, _ = dncnn
        sizes = [(32, 24), (8, 12), (8, 12)]
        restore = load(export.export_program(module, variables, sizes=sizes, platforms=["cpu"]))
        assert restore.card["sizes"] == [[32, 24], [8, 12]]
        assert [case["size"][0] for case in restore.card["verified"]] == [32, 32, 8, 8]
        for (height, width), (full_height, full_width) in (
            ((8, 12), (8, 12)),
            ((7, 5), (8, 12)),
            ((9, 5), (32, 24)),
        ):
            x = image(1, height, width, 1)
            margin = ((0, 0), (0, full_height - height), (0, full_width - width), (0, 0))
            expected = module.apply(variables, np.pad(x, margin, mode="reflect"))
            np.testing.assert_allclose(
                restore(x), expected[:, :height, :width], rtol=0, atol=1e-5, strict=True
            )
        with pytest.raises(run_exported.ProgramError, match=r"33x5 pixels.*takes 32x24 or 8x12"):
            restore(image(1, 33, 5, 1))

    @pytest.mark.parametrize("sizes", [[], (256, 256), [(8, 0)], [(8.0, 8)], [(8, 8, 1)]])
    def test_refused(self, dncnn, sizes):
        with pytest.raises(export.ExportError, match="sizes are pairs of height and width"):
            export.export_program(*dncnn[:2], sizes=sizes)

    @pytest.mark.parametrize("size", [(99_999, 99_999), (16_001, 1), (8000, 8000), (10**30, 8)])
    def test_too_large(self, dncnn, size):
        message = rf"{size[0]}x{size[1]} pixels are too many.*up to 16000 and 32 megapixels"
        with pytest.raises(export.ExportError, match=message):
            export.export_program(*dncnn[:2], sizes=[(8, 12), size])

    @pytest.mark.parametrize(
        ("error", "message"),
        [
            (MemoryError(), "images of 8x12 pixels do not fit into memory"),
            (jax.errors.JaxRuntimeError("RESOURCE_EXHAUSTED: Out of memory"), "8x12 pixels do not"),
            (jax.errors.JaxRuntimeError("INTERNAL"), "INTERNAL"),
        ],
        ids=str,
    )
    def test_memory(self, dncnn, monkeypatch, error, message):
        def fail(self, images):
            raise error

        monkeypatch.setattr(run_exported.Program, "__call__", fail)
        with pytest.raises((export.ExportError, RuntimeError), match=message):
            export.export_program(*dncnn[:2], sizes=[(8, 12)])


class TestRefusals:
    """Each before anything is written."""

    def test_platforms(self, dncnn):
        with pytest.raises(export.ExportError, match="no platform 'gpu'; choose from cpu, cuda"):
            export.export_program(*dncnn[:2], platforms=("cpu", "gpu"))
        with pytest.raises(export.ExportError, match="no platform is given"):
            export.export_program(*dncnn[:2], platforms=())
        with pytest.raises(export.ExportError, match=r"for tpu cannot be verified.*add cpu"):
            export.export_program(*dncnn[:2], platforms=("tpu",))
        with pytest.raises(export.ExportError, match="of cpu, cuda, cpu is given twice"):
            export.export_program(*dncnn[:2], platforms=("cpu", "cuda", "cpu"))

    def test_weights(self, dncnn):
        module, variables, _ = dncnn
        broken = jax.tree.map(np.array, variables)
        broken["params"]["dncnn"]["conv_1"]["kernel"][0, 0, 0, 0] = np.nan
        with pytest.raises(export.ExportError, match=r"'conv_1'.*hold NaN or infinity"):
            export.export_program(module, broken)

    def test_flatbuffers(self, dncnn, monkeypatch):
        monkeypatch.setitem(sys.modules, "flatbuffers", None)
        with pytest.raises(ImportError, match=r"lcdnet-jax\[export\]"):
            export.export_program(*dncnn[:2])

    def test_other_values(self, dncnn, tmp_path):
        calls = itertools.count()

        class Drifting(networks.RestorationNetwork):
            channels: int = 1
            dtype: type = jnp.float32

            @nn.compact
            def __call__(self, x):
                return x * self.param("factor", nn.initializers.ones, ()) + 1e-3 * next(calls)

        path = tmp_path / "drifting.jaxprog"
        path.write_bytes(b"earlier")
        with pytest.raises(export.ExportError, match=r"Drifting gives other values.*0.00"):
            export.write(path, Drifting(), {"params": {"factor": jnp.ones(())}}, force=True)
        assert [p.name for p in tmp_path.iterdir()] == [path.name]
        assert path.read_bytes() == b"earlier"

    def test_paths(self, dncnn, tmp_path, monkeypatch):
        module, variables, data = dncnn
        path = tmp_path / "new" / "dncnn.jaxprog"
        card = export.write(path, module, variables, about={"step": 7})
        assert card == run_exported.load(path).card
        assert card["about"] == {"step": 7}
        with monkeypatch.context() as patch:
            patch.delattr(stablehlo, "export_program")  # each is found before the work begins
            with pytest.raises(TargetError, match="exists; choose another name, or --force"):
                export.write(path, module, variables)
            with pytest.raises(TargetError, match="is a directory; give a file"):
                export.write(path.parent, module, variables, force=True)
            with pytest.raises(OSError, match=r"cannot write .*Not a directory; choose a writable"):
                export.write(path / "below.jaxprog", module, variables)
        export.write(path, module, variables, force=True)
        assert path.read_bytes() == data
        assert [p.name for p in path.parent.iterdir()] == [path.name]

    def test_what_appears_meanwhile_stays(self, dncnn, tmp_path, monkeypatch):
        path = tmp_path / "dncnn.jaxprog"

        def slow(*arguments, **options):
            path.write_bytes(b"of somebody else")
            return dncnn[2]

        monkeypatch.setattr(stablehlo, "export_program", slow)
        with pytest.raises(TargetError, match=r"dncnn\.jaxprog exists"):
            export.write(path, *dncnn[:2])
        assert path.read_bytes() == b"of somebody else"
        assert [p.name for p in tmp_path.iterdir()] == [path.name]
        export.write(path, *dncnn[:2], force=True)
        assert path.read_bytes() == dncnn[2]


@pytest.mark.extended
def test_a_bucket(bucket, dncnn):
    module, variables, data = dncnn
    path = storage.to_path(f"{bucket}/new/x.jaxprog")
    export.write(path, module, variables)
    assert storage.read_bytes(path) == data
    with pytest.raises(TargetError, match=r"x.jaxprog exists; choose another name"):
        export.write(str(path), module, variables)
    export.write(str(path), module, variables, force=True)
    assert storage.list_files(storage.to_path(bucket)) == {"new/x.jaxprog": len(data)}
