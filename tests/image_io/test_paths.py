import pytest

from lcdnet_jax import image_io, storage
from lcdnet_jax.image_io import ImageError


def test_find_images(tmp_path):
    for name in ("b.PNG", "a.jpg", "c.tif", "10.webp", "notes.txt", ".hidden.png", "._a.jpg"):
        (tmp_path / name).touch()
    (tmp_path / "folder.png").mkdir()
    found = image_io.find_images(tmp_path)
    assert found == [tmp_path / name for name in ("10.webp", "a.jpg", "b.PNG", "c.tif")]
    assert image_io.find_images(str(tmp_path)) == found


def test_find_images_with_a_link_that_leads_nowhere(tmp_path):
    """It is found, so that whoever reads it says what is wrong; links to folders are not."""
    (tmp_path / "a.png").symlink_to(tmp_path / "unmounted.png")
    (tmp_path / "b.png").symlink_to(tmp_path)
    assert image_io.find_images(tmp_path) == [tmp_path / "a.png"]


def test_find_images_refuses(tmp_path):
    with pytest.raises(ImageError, match=r"contains no image.*\.png, \.jpg.*subfolders"):
        image_io.find_images(tmp_path)
    with pytest.raises(ImageError, match="does not exist"):
        image_io.find_images(tmp_path / "none")
    (tmp_path / "a.png").touch()
    with pytest.raises(ImageError, match="is a file, not a folder"):
        image_io.find_images(tmp_path / "a.png")


def test_find_images_in_a_bucket(bucket):
    folder = storage.to_path(f"{bucket}/in")
    for name in ("b.PNG", "a.jpg", "notes.txt", ".hidden.png", "folder.png/c.png"):
        storage.write(folder / name, b"")
    assert image_io.find_images(f"{bucket}/in") == [folder / "a.jpg", folder / "b.PNG"]
    with pytest.raises(ImageError, match=r"b.PNG: is a file, not a folder"):
        image_io.find_images(folder / "b.PNG")
    with pytest.raises(ImageError, match=r"/none: does not exist; give the folder"):
        image_io.find_images(f"{bucket}/none")
    with pytest.raises(ImageError, match=r"the bucket gs://no-such does not exist"):
        image_io.find_images("gs://no-such/in")
