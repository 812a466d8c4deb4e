"""Trains a network: ``python train.py --config configs/sadnet_small.py --workdir runs/small``."""

import sys

from absl import app, flags, logging
from ml_collections import config_flags

import input_pipeline
from lcdnet_jax import config as config_lib
from lcdnet_jax import training
from lcdnet_jax.checkpoints import CheckpointError, silence_orbax

_CONFIG = config_flags.DEFINE_config_file(
    "config",
    None,
    "Experiment, such as configs/sadnet_small.py or configs/sadnet_color_awgn.py:30. Fields are "
    "overridden as --config.batch_size=8.",
    lock_config=True,
)
_WORKDIR = flags.DEFINE_string(
    "workdir", None, "Directory of the run. Used again, it continues the run it holds."
)
flags.mark_flags_as_required(["config", "workdir"])


def main(argv: list[str]) -> None:
    """Reads flags, opens the data, trains."""
    if len(argv) > 1:
        raise app.UsageError(f"unknown arguments {argv[1:]}; options begin with --")
    logging.set_verbosity(logging.WARNING)
    silence_orbax()
    config, workdir = _CONFIG.value, _WORKDIR.value
    assert workdir is not None  # a required flag
    try:
        datasets = input_pipeline.create_datasets(config)
        training.train_and_evaluate(config, workdir, datasets=datasets)
    except (ValueError, CheckpointError, training.NonFiniteLossError) as error:
        sys.exit(f"error: {error}")
    except KeyboardInterrupt as error:
        print(error, flush=True)
        sys.exit(130)


if __name__ == "__main__":
    app.run(main, flags_parser=config_lib.parse_flags)
