"""The command restore: scores against references."""

import numpy as np
import pytest

from lcdnet_jax import image_io, metrics
from tests.cli.halving import halved, noise, put

pytestmark = pytest.mark.usefixtures("stand_in")


class TestReference:
    @pytest.mark.extended
    def test_scores_are_of_the_written_files(self, place, run):
        rng = np.random.default_rng(0)
        expected = []
        for name, shape in (("a", (20, 30, 3)), ("x/b", (70, 13, 3))):
            image = put(place / "in" / f"{name}.png", noise(shape))
            clean = rng.integers(0, 256, shape).astype(np.uint8)
            put(place / "clean" / f"{name}.{'tif' if name == 'a' else 'png'}", clean)
            pair = [image_io.to_float(x)[None] for x in (halved(image_io.read(image)), clean)]
            expected.append([float(f(*pair)[0]) for f in (metrics.psnr, metrics.ssim)])
        out = run("in", "-o", "out", "--reference", "clean").splitlines()
        found = [
            [float(line.split("PSNR ")[1].split()[0]), float(line.split("SSIM ")[1])]
            for line in out
            if "PSNR" in line
        ]
        np.testing.assert_allclose(found[:2], expected, atol=0.006)
        np.testing.assert_allclose(found[2], np.mean(expected, 0), atol=0.006)
        assert out[0].startswith("out/a.png  30x20  PSNR ")
        assert out[-1].startswith("mean  PSNR ")

    def test_loss_by_the_format_counts(self, place, run):
        image = noise((40, 40, 3)) // 2 * 2
        put(place / "a.png", image)
        put(place / "clean.png", image // 2)
        assert "PSNR inf dB  SSIM 1.0000" in run("a.png", "-o", "b.png", "--reference", "clean.png")
        out = run("a.png", "-o", "b.jpg", "--quality", "50", "--reference", "clean.png")
        assert 10 < float(out.split("PSNR ")[1].split()[0]) < 40

    def test_alpha_does_not_count_and_small_images_have_no_ssim(self, place, run):
        image = noise((8, 9, 4)) // 2 * 2 | [0, 0, 0, 2]  # nothing is hidden
        image = image.astype(np.uint8)
        put(place / "a.png", image)
        put(place / "clean.png", image[..., :3] // 2)
        out = run("a.png", "-o", "b.png", "--reference", "clean.png")
        assert out.startswith("b.png  9x8  PSNR inf dB\n")

    def test_other_suffixes(self, place, run, error_of):
        """Whatever their case; of several the first of IMAGE_SUFFIXES."""
        for name in ("a", "b", "c"):
            put(place / "in" / f"{name}.bmp", noise() // 2 * 2)
        for name in ("a.TIF", "a.png", "b.PNG", "c.bmp", "c.png"):
            good = name in ("a.png", "b.PNG", "c.bmp")
            put(place / "clean" / name, noise() // 2 if good else noise(seed=3))
        assert run("in", "-o", "out", "--reference", "clean").count("PSNR inf dB") == 4

    def test_gray_as_webp(self, place, run):
        """WebP has three channels."""
        put(place / "a.png", noise((20, 30)) // 2 * 2)
        put(place / "clean.webp", noise((20, 30)) // 2)
        assert "PSNR inf" in run("a.png", "-o", "b.webp", "--reference", "clean.webp")

    @pytest.mark.parametrize(
        ("reference", "message"),
        [
            ("none", "none is not a folder; give one with a reference for each image"),
            ("in/a.png", "in/a.png is not a folder; give one with a reference for each image"),
            ("clean", "clean has no reference called b.png or with another suffix; add it"),
        ],
    )
    def test_missing(self, place, error_of, reference, message):
        for name in ("in/a.png", "in/b.png", "clean/a.png"):
            put(place / name)
        assert error_of("in", "-o", "out", "--reference", reference) == message
        assert not (place / "out").exists()

    def test_of_another_size(self, place, error_of):
        put(place / "a.png")
        for shape, channels in (((20, 31, 3), "3 channels"), ((20, 30), "1 channel")):
            height, width = shape[:2]
            put(place / "clean.png", noise(shape))
            assert error_of("a.png", "-o", "c.png", "--reference", "clean.png") == (
                f"clean.png: it is {width}x{height} with {channels}, the restored image "
                "30x20 with 3 channels; give an image that matches"
            )
        assert "none.png does not exist; give the reference of the image" in error_of(
            "a.png", "-o", "c.png", "--reference", "none.png"
        )
        (place / "broken.png").touch()
        assert "broken.png: the file is empty" in error_of(
            "a.png", "-o", "c.png", "--reference", "broken.png"
        )
        assert not (place / "c.png").exists()
