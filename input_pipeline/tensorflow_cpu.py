"""TensorFlow, kept off the accelerators: ``from input_pipeline.tensorflow_cpu import tf``."""

import os

# TensorFlow reads these when it is imported. The pipeline does not gain from oneDNN, which logs an
# error on CPUs without AVX-512. Log level 1 hides the messages about the CPU.
os.environ.setdefault("TF_ENABLE_ONEDNN_OPTS", "0")
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "1")

import tensorflow as tf

# JAX uses the accelerators. TensorFlow would reserve all of their memory.
tf.config.set_visible_devices([], "GPU")
tf.config.set_visible_devices([], "TPU")

__all__ = ["tf"]
