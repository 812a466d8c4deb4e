"""Cards of the gallery."""

import base64
import importlib.util
import io
import json
import pathlib

import pytest
from PIL import Image

ROOT = pathlib.Path(__file__).resolve().parents[2]


@pytest.fixture
def gallery(tmp_path, monkeypatch):
    spec = importlib.util.spec_from_file_location("gallery", ROOT / "docs/gallery.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    monkeypatch.setattr(module, "NOTEBOOKS", tmp_path / "notebooks")
    monkeypatch.setattr(module, "FOLDER", tmp_path / "gallery")
    (tmp_path / "notebooks").mkdir()
    (tmp_path / "gallery").mkdir()
    return module


def cell(color, *tags):
    file = io.BytesIO()
    Image.new("RGB", (960, 320), color).save(file, "PNG")
    data = {"image/png": base64.b64encode(file.getvalue()).decode()}
    return {"cell_type": "code", "source": [], "metadata": {"tags": tags},
            "outputs": [{"data": data}]}  # fmt: skip


def text(source):
    return {"cell_type": "markdown", "source": [source], "metadata": {}}


def test_cards(gallery, tmp_path):
    cells = [text("a badge")]
    cells += [
        text("# What it shows\n\n[a](../docs/explanations/sfm.md), [b](../checkpoints/README.md)")
    ]
    cells += [cell("red"), cell("blue")]
    (tmp_path / "notebooks/one.ipynb").write_text(json.dumps({"cells": cells}))
    gallery.write(None)
    cards = (tmp_path / "gallery/_cards.md").read_text()
    assert "{grid-item-card} What it shows\n:img-top: one.png\n:link: one\n" in cards
    copied = (tmp_path / "gallery/one.ipynb").read_text()
    assert "[a](../explanations/sfm.md), [b](../../checkpoints/README.md)" in copied
    image = Image.open(tmp_path / "gallery/one.png")
    assert image.size == gallery.THUMBNAIL
    assert image.getpixel((240, 160)) == (0, 0, 255)  # the last picture
    assert image.getpixel((240, 10)) == (255, 255, 255)  # of other proportions


def test_a_cell_may_be_chosen(gallery):
    chosen = gallery.thumbnail({"cells": [cell("red", "thumbnail"), cell("blue")]})
    assert chosen.getpixel((240, 160)) == (255, 0, 0)
