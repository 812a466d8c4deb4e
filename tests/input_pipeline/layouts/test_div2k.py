"""Clean photographs in a generated tree in the layout of DIV2K."""

import numpy as np
import pytest

from input_pipeline.sources import open_source
from lcdnet_jax import image_io
from lcdnet_jax.image_io import ImageError


def test_div2k(tmp_path):
    for name in ("DIV2K_train_HR/0002.png", "DIV2K_train_HR/0001.png", "DIV2K_valid_HR/0801.png"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        image_io.write(tmp_path / name, np.full((6, 8, 3), int(name[-8:-4]) % 256, np.uint8))
    spec = {"source": "div2k", "path": str(tmp_path), "split": "train"}
    source = open_source(spec, field="data")
    assert [example.name for example in source.examples] == ["0001", "0002"]
    assert source.examples[1].read(3)[0][0, 0, 0] == 2
    assert source.describe() == f"div2k train {tmp_path}: 2 images (published: 800), 6x8"
    assert len(open_source({**spec, "split": "valid"}, field="data").examples) == 1
    (tmp_path / "DIV2K_valid_HR/0801.png").unlink()
    with pytest.raises(ImageError, match=r"looked for images such as 0001\.png, found an empty"):
        open_source({**spec, "split": "valid"}, field="data")
    with pytest.raises(ImageError, match=r"looked for DIV2K_train_HR/, found 0001\.png"):
        open_source({**spec, "path": str(tmp_path / "DIV2K_train_HR")}, field="data")
