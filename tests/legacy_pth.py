"""PyTorch files as written before 1.6, read without PyTorch."""

import collections
import pickle

import numpy as np


def read_pth(path):
    """State dict of a file in PyTorch's format before 1.6: pickles, then raw storages."""
    dtypes = {}

    class Reader(pickle.Unpickler):
        def find_class(self, module, name):
            return {
                "OrderedDict": collections.OrderedDict,
                "_rebuild_tensor_v2": lambda storage, offset, size, *_: (storage, offset, size),
                "FloatStorage": np.dtype("<f4"),
                "LongStorage": np.dtype("<i8"),
            }[name]

        def persistent_load(self, pid):
            _, dtype, key, *_ = pid
            dtypes[key] = dtype
            return key

    with open(path, "rb") as file:
        *_, tensors, keys = [Reader(file).load() for _ in range(5)]
        storages = {}
        for key in keys:
            (count,) = np.frombuffer(file.read(8), "<i8")
            data = file.read(int(count) * dtypes[key].itemsize)
            storages[key] = np.frombuffer(data, dtypes[key])
    return {
        name: storages[key][offset : offset + int(np.prod(size))].reshape(size)
        for name, (key, offset, size) in tensors.items()
    }
