"""Training on noisy images alone."""

import numpy as np
import pytest

import input_pipeline


def test_noise2self_needs_pairs_for_scores_only(tmp_path, config, fill):
    fill(tmp_path, {"a.png": (20, 31, 3), "b.png": (24, 40, 3)})
    config.data.train.path = config.data.eval.path = str(tmp_path)
    config.data.eval.source = "folder"
    config.degradation.kind = "none"
    with pytest.raises(ValueError, match="holds clean images only"):
        input_pipeline.create_dataset(config, "train")
    config.objective = "noise2self"
    dataset = input_pipeline.create_dataset(config, "train")
    batches = dataset.batches()
    batch = next(batches)
    batches.close()
    assert set(batch) == {"clean", "mask"}  # the step takes "clean" for the degraded image
    assert np.ptp(batch["clean"]) > 0
    with pytest.raises(ValueError, match=r"config\.data\.eval .* holds no pairs, but scores need"):
        input_pipeline.create_dataset(config, "eval")
