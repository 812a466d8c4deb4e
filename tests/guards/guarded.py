"""The names of the library that the guards call. Where one moves, change it here alone."""

from configs import default as default_config
from lcdnet_jax import Restorer, convert, networks
from lcdnet_jax.cli import main as cli
from lcdnet_jax.config import load as load_config
from lcdnet_jax.config import validate as validate_config
from lcdnet_jax.export import run_exported
from lcdnet_jax.resident_images import ResidentImages
from lcdnet_jax.training import train_and_evaluate
from lcdnet_jax.weights import create_weights, save_safetensors
from lcdnet_jax.weights import load as load_weights
from lcdnet_jax.weights import load_card as read_card

__all__ = [
    "ResidentImages",
    "Restorer",
    "cli",
    "convert",
    "create_weights",
    "default_config",
    "load_config",
    "load_weights",
    "networks",
    "read_card",
    "run_exported",
    "save_safetensors",
    "train_and_evaluate",
    "validate_config",
]
