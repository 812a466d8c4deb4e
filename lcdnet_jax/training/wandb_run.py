"""The run of Weights & Biases: offline, a folder in the working directory that can be uploaded."""

import contextlib
import importlib.util
import json
import os
import pathlib
import shutil
import uuid
from collections.abc import Mapping
from typing import Any

from lcdnet_jax import atomic_io, storage


def check_package() -> None:
    """Checks that the package wandb is installed.

    Raises:
        ImportError: With the fix, if it is not.
    """
    found = importlib.util.find_spec("wandb")
    if found is None or found.origin is None:  # a folder "wandb" is no package
        raise ImportError(
            "config.writers: 'wandb' needs the package wandb; pip install \"lcdnet-jax[wandb]\""
        )


class WandbRun:
    """A run whose identity stays when training continues.

    By default it is offline: nothing is sent, and ``wandb sync`` uploads its folder. metrics.jsonl
    is the reference then. Every start writes a new folder with all of its lines and deletes the old
    one, so that no step is missing or there twice, whenever the process was killed. With
    ``WANDB_MODE=online`` the server keeps the lines of earlier processes.

    Args:
        workdir: Working directory of the training. wandb/run_id in it has the identity.
        folder: Local folder of its files.
        config: Fields of the configuration.

    Raises:
        OSError: If the working directory cannot be read or written.
        Exception: Of a type of wandb's, if it cannot start.
    """

    def __init__(self, workdir: pathlib.Path, folder: pathlib.Path, config: Mapping[str, Any]):
        self._is_online = online = os.environ.get("WANDB_MODE") == "online"
        if not online:  # wandb reads it when it is imported; its reports would go over the network
            os.environ["WANDB_ERROR_REPORTING"] = "false"
        import wandb

        self._wandb = wandb
        (folder / "wandb").mkdir(exist_ok=True)
        identity = _read_or_create_identity(workdir / "wandb" / "run_id")
        if not online:
            _delete_offline_folders(workdir / "wandb")
        self._run = wandb.init(
            id=identity,
            project=os.environ.get("WANDB_PROJECT", "lcdnet_jax"),
            name=workdir.name,
            dir=str(folder),
            config=dict(config),
            mode="online" if online else "offline",
            resume="allow" if online else None,
            reinit="create_new",
            settings=wandb.Settings(
                console="off", silent=True, symlink=False, disable_git=True, disable_code=True
            ),
        )

    def repeat(self, log: pathlib.Path) -> None:
        """Adds what earlier processes wrote, unless a server has it.

        Args:
            log: metrics.jsonl, up to the step at which this process starts.
        """
        if not self._is_online and log.exists():
            for line in log.read_text().splitlines():
                row = json.loads(line)
                self.write_scalars(row.pop("step"), row)

    def write_scalars(self, step: int, scalars: Mapping[str, float]) -> None:
        """Adds numbers. Steps must not decrease."""
        self._run.log(dict(scalars), step=step)

    def close(self) -> None:
        """Writes what is left and ends wandb's process, unless the caller has a run of its own."""
        self._run.finish()
        if self._wandb.run is None:
            self._wandb.teardown()  # waits for the last bytes, which finish does not

    def abandon(self) -> None:
        """Forgets wandb's process after it has failed. Otherwise Python ends with a traceback."""
        with contextlib.suppress(Exception):  # of wandb's types
            self._wandb.teardown()


def _read_or_create_identity(path: pathlib.Path) -> str:
    if storage.exists(path):
        return storage.read_bytes(path).decode().strip()
    identity = uuid.uuid4().hex[:8]
    atomic_io.write(path, f"{identity}\n".encode(), force=False)
    return identity


def _delete_offline_folders(folder: pathlib.Path) -> None:
    for name in sorted({name.partition("/")[0] for name in storage.list_files(folder)}):
        if name.startswith("offline-run-"):
            if storage.is_bucket(folder):
                storage.remove(folder / name)
            else:
                shutil.rmtree(folder / name)
