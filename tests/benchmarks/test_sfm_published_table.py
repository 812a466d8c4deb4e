"""The program that compares with the published table, on two images and a network of no effect."""

import pathlib

import numpy as np
import pytest

from benchmarks import sfm_published_table as table
from lcdnet_jax import convert, image_io

NAMES = ("a", "b")
INPUT_PSNR = 20 * np.log10(255 / 25)  # of gray images far from black and white


@pytest.fixture
def folders(tmp_path, monkeypatch):
    """Arguments of the program, whose network gives back its input."""
    images, weights = tmp_path / "images", tmp_path / "weights"
    images.mkdir()
    weights.mkdir()
    for name in NAMES:
        image_io.write(images / f"{name}.png", np.full((201, 200, 3), 128, np.uint8))
    (weights / "dncnn_gray_regular.pth").write_bytes(b"weights")
    publish(weights, INPUT_PSNR)
    monkeypatch.setattr(table, "_COUNT", len(NAMES))
    monkeypatch.setattr(convert, "read_state_dict", lambda path: {})
    monkeypatch.setattr(convert, "from_torch", lambda name, state: {})
    monkeypatch.setattr(table, "Restorer", lambda *_, **__: lambda image: image)
    return {"--images": images, "--weights": weights, "--cache": tmp_path / "cache"}


def publish(weights, psnr):
    header = ",".join(map(str, range(20)))
    rows = [",".join([f"{psnr:.4f}"] * 20) for _ in NAMES]
    path = weights / "psnr_bsd68_dncnn_gray_regular.csv"
    path.write_text("\n".join([header, *rows]) + "\n")


def run(monkeypatch, folders, *arguments):
    given = [str(part) for pair in folders.items() for part in pair]
    monkeypatch.setattr("sys.argv", ["table", *given, *arguments])
    table.main()


def test_compares_and_resumes(folders, monkeypatch, capsys):
    run(monkeypatch, folders, "--models=dncnn", "--sigmas=25")
    out = capsys.readouterr().out
    assert "all means are within 0.05 dB" in out
    (cache,) = folders["--cache"].iterdir()
    rows = cache.read_text().split()
    assert [row.split(",")[:2] for row in rows] == [["a", "25"], ["b", "25"]]
    # The second run reads what the first has written, up to a row that was cut off.
    cache.write_text(f"a,25,{INPUT_PSNR + 1:.4f}\nb,25,2")
    publish(folders["--weights"], INPUT_PSNR + 0.5)
    run(monkeypatch, folders, "--models=dncnn", "--sigmas=25")
    assert [row[:5] for row in cache.read_text().split()] == ["a,25,", "b,25,", "b,25,"]
    # Other weights are another cache.
    pathlib.Path(folders["--weights"] / "dncnn_gray_regular.pth").write_bytes(b"others")
    with pytest.raises(SystemExit, match=r"0\.05 dB from the published mean: dncnn at 25"):
        run(monkeypatch, folders, "--models=dncnn", "--sigmas=25")


def test_no_number_is_no_success(folders, monkeypatch):
    monkeypatch.setattr(table, "Restorer", lambda *_, **__: lambda image: image * np.nan)
    with pytest.raises(SystemExit, match="dncnn at 25"):
        run(monkeypatch, folders, "--models=dncnn", "--sigmas=25")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--models=n2n", "--sigmas=5"], "of n2n only sigma 10, 20, .* was published"),
        (["--models=memnet"], "memnet_gray_regular.* not found|No such file"),
        (["--models=dncnn", "--images=nowhere"], "nowhere"),
    ],
)
def test_mistakes(folders, monkeypatch, arguments, message):
    with pytest.raises(SystemExit, match=message):
        run(monkeypatch, folders, *arguments)


def test_gray_images_are_those_of_bsd68(shared_data):
    """Where decoded by Pillow, as the data's description has it."""
    from PIL import Image

    path = shared_data("denoise/cbsd68") / "101085.jpg"
    red, green, blue = np.moveaxis(np.asarray(Image.open(path), np.float64), -1, 0)
    expected = np.round(0.2989360213 * red + 0.5870430745 * green + 0.1140209043 * blue)
    np.testing.assert_array_equal(table._read_gray(path)[..., 0] * 255, expected)
