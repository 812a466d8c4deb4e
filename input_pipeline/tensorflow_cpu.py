"""TensorFlow, kept off the accelerators: ``from input_pipeline.tensorflow_cpu import tf``."""

import os

# Read when TensorFlow is imported. Nothing here gains from oneDNN, which logs an error on CPUs
# without AVX-512; level 1 leaves out the remarks on the CPU at hand.
os.environ.setdefault("TF_ENABLE_ONEDNN_OPTS", "0")
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "1")

import tensorflow as tf

# JAX owns the accelerators; TensorFlow would take all of their memory.
tf.config.set_visible_devices([], "GPU")
tf.config.set_visible_devices([], "TPU")

__all__ = ["tf"]
