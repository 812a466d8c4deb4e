"""Loading weights of any format."""

import pathlib
from collections.abc import Callable

from lcdnet_jax import config as config_lib
from lcdnet_jax import convert, multihost, storage
from lcdnet_jax.atomic_io import Path
from lcdnet_jax.typing import Fields
from lcdnet_jax.weights import directory, safetensors_file, torch_file
from lcdnet_jax.weights.card import Card, CardError
from lcdnet_jax.weights.directory import Step
from lcdnet_jax.weights.network import Weights


def load(
    path: Path,
    *,
    network: str | None = None,
    network_kwargs: Fields | None = None,
    ema: bool = True,
    step: Step = None,
    on_network: Callable[[str], None] | None = None,
) -> Weights:
    """Loads weights of any format.

    Args:
        path: Working directory of a training, parameters-only directory, ``.safetensors`` file of
            this library, or a ``.pth``, ``.pt`` or ``.safetensors`` file with a PyTorch state dict.
        network: Network of a PyTorch state dict, as for :func:`lcdnet_jax.networks.create`. The
            other formats name their network.
        network_kwargs: Arguments of :func:`lcdnet_jax.networks.create` for that network.
        ema: For a directory: whether to use averaged parameters if the checkpoint has them.
        step: For a directory: the step to load. "best": that with the best evaluation, if
            ``config.best_metric`` of the training keeps it. None: the newest that is not damaged.
        on_network: Called with the name of the network, as soon as it is known and before this
            function starts JAX's devices. Not called for a PyTorch file.

    Returns:
        The network, its variables as float32 arrays of JAX or NumPy, and their card. The card is
        the stored one, or made from the configuration and the scores of a training, or from the
        name and content of a PyTorch file.

    Raises:
        CheckpointError: For damaged files, and for files of another format.
        ValueError: For a card (``CardError``) or configuration (``ConfigError``) that cannot be
            used, where JAX finds no device (``DeviceError``), and for arguments or state dicts that
            do not fit.
        OSError: For a file that cannot be opened.
        ImportError: For a PyTorch file where PyTorch is not installed.
    """

    def start_devices(name: str) -> None:
        if on_network is not None:
            on_network(name)
        multihost.check_devices()

    path = storage.to_path(path)
    kind = _find_kind(path)
    if (kind == "torch" or network is not None) and not storage.exists(path):
        raise OSError(f"cannot read {path}: No such file or directory; give a .pth or .pt file")
    if kind == "directory":
        if network is not None:
            raise ValueError(
                f"{path} is a directory, which names its network; give a PyTorch "
                "file, or leave network off"
            )
        config = config_lib.load(path / "config.json")
        start_devices(config.network.name)
        return directory.load(path, config, ema=ema, step=step)
    if step is not None:
        raise _make_step_error(path, step)
    if kind == "torch":
        multihost.check_devices()
        return torch_file.load(path, convert.read_state_dict(path), network, network_kwargs)
    tensors, header = safetensors_file.read(path)
    if header is None:
        multihost.check_devices()
        return torch_file.load(path, tensors, network, network_kwargs)
    if network is not None:
        raise ValueError(f"{path} names its network; leave network off")
    start_devices(header.card["network"])
    return safetensors_file.load(path, tensors, header)


def load_card(path: Path, *, ema: bool = True, step: Step = None) -> Card:
    """Loads the card of weights, without reading or verifying the weights.

    For a working directory this is the card of the newest checkpoint whose manifest is intact, even
    if other files of it are damaged and :func:`load` would use an earlier one.

    Args:
        path: As for :func:`load`.
        ema: As for :func:`load`.
        step: As for :func:`load`.

    Returns:
        The card.

    Raises:
        CheckpointError, ValueError, OSError: As :func:`load`.
        CardError: For PyTorch files, which have no card.
    """
    path = storage.to_path(path)
    kind = _find_kind(path)
    if kind == "directory":
        multihost.check_devices()
        return directory.load_card(path, ema=ema, step=step)
    if step is not None:
        raise _make_step_error(path, step)
    header = safetensors_file.read(path, arrays=False)[1] if kind == "safetensors" else None
    if header is None:
        raise CardError(f"{path} has no card; only files that this library wrote have one")
    return header.card


def _find_kind(path: pathlib.Path) -> str:
    suffixes = (*safetensors_file.SUFFIXES, *torch_file.SUFFIXES)
    is_dir = storage.is_dir(path)
    is_file = not is_dir and storage.is_file(path)
    if not (is_dir or is_file) and storage.exists(path):  # reading a pipe may never end
        raise ValueError(f"{path} is neither a file nor a directory; give one")
    if path.suffix.lower() in suffixes and not is_dir:
        return "safetensors" if path.suffix.lower() in safetensors_file.SUFFIXES else "torch"
    if is_file:
        raise ValueError(
            f"{path} is not a checkpoint: give a directory, or a file that ends in "
            f"{', '.join(suffixes)}"
        )
    return "directory"


def _make_step_error(path: pathlib.Path, step: Step) -> ValueError:
    return ValueError(f"{path} holds the weights of one step; leave step {step} off")
