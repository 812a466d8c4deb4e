"""Decoded training images."""

import pytest

import input_pipeline

create = input_pipeline.create_dataset


def refuses(config, *needles, kind=ValueError, split="train"):
    with pytest.raises(kind) as caught:
        create(config, split)
    for needle in needles:
        assert needle in str(caught.value)


@pytest.mark.parametrize("paired", [False, True])
def test_a_crop_larger_than_every_image(tmp_path, config, fill, paired):
    config.data.train.path = str(tmp_path)
    config.degradation.kind = "none" if paired else "awgn"
    for half in ("input", "target") if paired else ("",):
        fill(tmp_path / half, {"a.png": (24, 9, 3), "b.png": (20, 30, 3), "c.png": (29, 29, 3)})
    config.data.crop = 31
    refuses(config, "config.data.crop 31", "the largest is 20x30", "use at most 30")
    config.data.crop = 30  # all are padded, but one along one side only
    assert next(create(config, "train").batches())["clean"].shape == (4, 30, 30, 3)
    config.data.crop = 31
    config.data.eval.path = str(tmp_path)
    assert len(create(config, "eval")) == 3  # evaluation takes full images
