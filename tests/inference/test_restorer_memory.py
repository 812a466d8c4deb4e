"""A Restorer where memory is too small: smaller windows, warnings, errors."""

import numpy as np
import pytest

from lcdnet_jax import Restorer, inference
from lcdnet_jax.inference import limits, picture
from tests.inference.blur import Whole


class TestMemory:
    """Windows of more pixels than a device could hold fail."""

    @pytest.fixture
    def limited(self, color, monkeypatch):
        """Makes restorers with a limit, and lists the sizes of the windows that fit."""

        def make(most, module=color.module, **options):
            restorer = Restorer(module, color.variables, **options, device="cpu")
            run, sizes = restorer._program.run, []

            def limit(variables, windows):
                if np.prod(windows.shape[:3]) > most:
                    raise RuntimeError("RESOURCE_EXHAUSTED: Out of memory allocating bytes")
                sizes.append(windows.shape[:3])
                return run(variables, windows)

            monkeypatch.setattr(restorer._program, "run", limit)
            return restorer, sizes

        return make

    def test_whole_images(self, rng, color, limited):
        restorer, sizes = limited(100 * 100, overlap=8)
        image = rng.random((200, 180, 3), np.float32)
        expected = Restorer(color.module, color.variables)(image)
        with pytest.warns(inference.MemoryWarning) as warnings:
            result = restorer(image)
        assert [str(warning.message) for warning in warnings] == [
            "windows of 192x256 pixels do not fit into memory; using tiles of 128x128 for "
            "images as large",
            "windows of 128x128 pixels do not fit into memory; using tiles of 64x64 for "
            "images as large",
        ]
        np.testing.assert_allclose(result, expected, rtol=0, atol=1e-6)
        assert set(sizes) == {(1, 64, 64)}
        np.testing.assert_array_equal(restorer([image[:60], image])[1], result)  # no warning

    def test_smaller_images_do_not_depend_on_larger_ones(self, rng, color, limited):
        """They are restored whole before and after one for which memory was too small."""
        small, large = (rng.random(size, np.float32) for size in ((90, 60, 3), (200, 180, 3)))
        restorer, sizes = limited(100 * 100, overlap=0)
        before = restorer(small)
        with pytest.warns(inference.MemoryWarning):
            restorer(large)
        sizes.clear()
        np.testing.assert_array_equal(restorer(small), before)
        assert sizes == [(1, 96, 64)]
        sizes.clear()
        np.testing.assert_array_equal(restorer([large, small])[1], before)  # no warning
        assert sizes[-1] == (1, 96, 64)

    def test_of_the_host(self, color, limited, monkeypatch):
        """Smaller windows do not help against it."""

        def fail(self, *arguments, **options):
            raise MemoryError

        restorer, _ = limited(100 * 100)
        monkeypatch.setattr(picture.Picture, "finish", fail)
        with pytest.raises(MemoryError):
            restorer(np.zeros((90, 90, 3), np.uint8))
        assert restorer._smaller is None

    def test_batches(self, rng, limited):
        restorer, sizes = limited(64 * 64, tile=64, overlap=8, tile_batch=4)
        images = rng.random((3, 64, 64, 3), np.float32)
        with pytest.warns(
            inference.MemoryWarning, match="windows as large are computed one by one"
        ):
            restorer(images)
        assert sizes == [(1, 64, 64)] * 3

    def test_progress_starts_again(self, rng, limited):
        calls = []
        options = {"tile": 128, "overlap": 8, "progress": lambda *call: calls.append(call)}
        restorer, _ = limited(64 * 64, **options)
        with pytest.warns(inference.MemoryWarning):
            restorer([rng.random(size, np.float32) for size in ((60, 60), (200, 60))])
        assert calls[0] == (1, 3)
        assert calls[-1][0] == calls[-1][1] > 3

    def test_too_little_for_any(self, rng, limited):
        restorer, _ = limited(50 * 50)
        with (
            pytest.warns(inference.MemoryWarning) as warnings,
            pytest.raises(RuntimeError, match="RESOURCE_EXHAUSTED"),
        ):
            restorer(rng.random((500, 500, 3), np.float32))
        tiles = [str(warning.message).split()[-5] for warning in warnings]
        assert tiles == ["256x256", "160x160"]  # twice the overlap of 64 and some

    def test_means_over_the_image(self, limited):
        module = Whole()
        restorer, _ = limited(100 * 100, module=module, overlap=8)
        with pytest.warns(inference.MemoryWarning, match="which change the result of this netw"):
            restorer(np.zeros((120, 120, 3), np.float32))

    def test_a_cpu_has_no_such_error(self, rng, color, monkeypatch):
        """The system would end the process, so XLA's plan is compared with what is left."""
        image = rng.random((200, 180, 3), np.float32)
        expected = Restorer(color.module, color.variables)(image)
        monkeypatch.setattr(limits, "find_available_memory", lambda: 5 * 10**5)
        restorer = Restorer(color.module, color.variables, overlap=8, device="cpu")
        with pytest.warns(inference.MemoryWarning, match="windows of 192x256 pixels do not fit"):
            result = restorer(image)
        np.testing.assert_allclose(result, expected, rtol=0, atol=1e-6)
        monkeypatch.setattr(limits, "find_available_memory", lambda: 10)
        with pytest.raises(RuntimeError, match=r"RESOURCE_EXHAUSTED: windows of 64x64 pixels need"):
            Restorer(color.module, color.variables, overlap=8, device="cpu").predict(
                image[:60, :60]
            )

    def test_other_errors(self, color, monkeypatch):
        def fail(variables, windows):
            raise RuntimeError("something else")

        restorer = Restorer(color.module, color.variables)
        monkeypatch.setattr(restorer._program, "run", fail)
        with pytest.raises(RuntimeError, match="something else"):
            restorer(np.zeros((9, 9), np.float32))
