"""Trains a network: ``python train.py --config configs/sadnet_small.py --workdir runs/small``.

The same command continues a run. Exit codes: 0 when the run is complete, 1 after an error (one
line), 75 when another process of the run is lost, 130 after Ctrl-C and 143 after SIGTERM. Both
signals save the state first, if there were any steps. docs/how_to/clusters.md shows how to start it
on several hosts.
"""

from lcdnet_jax.cli import script_start  # isort: skip  # noqa: F401  # before JAX is imported

import os

from absl import app, flags, logging

import input_pipeline
from lcdnet_jax import config as config_lib
from lcdnet_jax import multihost, storage, training
from lcdnet_jax.checkpoints import silence_orbax
from lcdnet_jax.cli.script import (
    DistributedFlags,
    end_in_one_line,
    set_network_options,
    use_compilation_cache,
)
from lcdnet_jax.training.metric_writer import check_packages
from lcdnet_jax.training.profile import parse_range

_CONFIG = config_lib.define_config(
    None,
    "Experiment, such as configs/sadnet_small.py or configs/sadnet_color_awgn.py:30. "
    "--config.batch_size=8 overrides a field.",
)
_WORKDIR = flags.DEFINE_string(
    "workdir",
    None,
    "Working directory of the run, local or gs://BUCKET/PATH. A run that it holds continues.",
)
_PROFILE = flags.DEFINE_string(
    "profile", None, "START:STOP writes a profiler trace of these steps to WORKDIR/profile."
)
_REPLAY = flags.DEFINE_integer(
    "replay",
    None,
    "Instead of training, repeat this step of the run in the working directory and write its "
    "batch, pictures and the names of arrays that are not finite to WORKDIR/replay.",
    lower_bound=1,
)
_ACCEPT_CHANGED_DATA = flags.DEFINE_bool(
    "accept_changed_data",
    False,
    "Continue a run although its training images have changed. The steps that follow are then not "
    "those that the run would have made.",
)
_HOSTS = DistributedFlags()
_DETERMINISTIC = flags.DEFINE_bool(
    "deterministic",
    False,
    "On GPUs, use only deterministic algorithms, which are slower. CPUs are always deterministic.",
)
_COMPILATION_CACHE = flags.DEFINE_enum(
    "compilation_cache",
    "user",
    ["user", "workdir", "off"],
    "Where compiled programs are kept for the next start. user: in the user's folder for caches. "
    "workdir: in WORKDIR/compiled, for machines that do not last, and for several hosts.",
)
for _name, _example in (("config", "configs/sadnet_small.py"), ("workdir", "runs/first")):
    flags.register_validator(
        _name,
        lambda value: value is not None,
        f"--{_name} is missing, such as --{_name}={_example}",
    )
flags.mark_flags_as_mutual_exclusive(["profile", "replay"])


def main(argv: list[str]) -> None:
    """Reads flags, joins other hosts, opens the data, trains."""
    if len(argv) > 1:
        raise app.UsageError(f"unknown arguments {argv[1:]}; options begin with --")
    logging.set_verbosity(logging.WARNING)
    silence_orbax()
    config, workdir, accept = _CONFIG.value, _WORKDIR.value, _ACCEPT_CHANGED_DATA.value
    assert workdir is not None  # a required flag
    if _DETERMINISTIC.value:  # read when JAX first looks for devices
        flag = "--xla_gpu_deterministic_ops=true"
        os.environ["XLA_FLAGS"] = f"{os.environ.get('XLA_FLAGS', '')} {flag}".strip()
    set_network_options(config.network.name)
    with end_in_one_line(
        interrupted="interrupted before the state was saved; the newest checkpoint, if any, stays"
    ):
        storage.check_bucket(storage.to_path(workdir) / "config.json", write=True)
        check_packages(config)
        profile = parse_range(_PROFILE.value)
        _HOSTS.join()
        use_compilation_cache(choice=_COMPILATION_CACHE.value, workdir=storage.to_path(workdir))
        multihost.check_devices()
        multihost.wait_for_all()  # from here on, they may take unequal times
        if _REPLAY.value is not None:
            data = input_pipeline.create_dataset(config, "train")
            training.replay(
                config, workdir, _REPLAY.value, datasets={"train": data}, accept_changed_data=accept
            )
        else:
            datasets = input_pipeline.create_datasets(config)
            training.train_and_evaluate(
                config, workdir, datasets=datasets, profile=profile, accept_changed_data=accept
            )


if __name__ == "__main__":
    app.run(main, flags_parser=config_lib.parse_flags)
