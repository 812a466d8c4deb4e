"""A file in PyTorch's format before 1.6, written without PyTorch, and a module that reads it."""

import collections
import pickle
import struct
import sys
import types

import numpy as np

from tests.legacy_pth import read_pth


def _global(module, name, value):
    value.__module__, value.__qualname__, value.__name__ = module, name, name
    return value


class _Tensor(np.ndarray):
    def detach(self):
        return self

    def is_floating_point(self):
        return self.dtype.kind == "f"

    def float(self):
        return self.astype(np.float32)

    def numpy(self):
        return np.asarray(self)


def module():
    """What the library uses of PyTorch to read a state dict, for ``sys.modules["torch"]``."""
    torch = types.ModuleType("torch")
    torch.Tensor = _Tensor
    torch.load = lambda path, *, map_location, weights_only: {
        name: array.view(_Tensor) for name, array in read_pth(path).items()
    }
    return torch


def write_pth(path, state_dict):
    """Writes float32 arrays as PyTorch before 1.6 did, which later ones read."""
    torch, utils = types.ModuleType("torch"), types.ModuleType("torch._utils")
    torch.FloatStorage = _global("torch", "FloatStorage", type("FloatStorage", (), {}))
    utils._rebuild_tensor_v2 = _global("torch._utils", "_rebuild_tensor_v2", lambda *_: None)
    arrays = {name: np.ascontiguousarray(array, "<f4") for name, array in state_dict.items()}

    class Storage:
        def __init__(self, key):
            self.key = key

    class Tensor:
        def __init__(self, key):
            self.array, self.storage = arrays[key], Storage(key)

        def __reduce__(self):
            strides = tuple(stride // 4 for stride in self.array.strides)
            hooks = collections.OrderedDict()
            arguments = self.storage, 0, self.array.shape, strides, False, hooks
            return utils._rebuild_tensor_v2, arguments

    class Writer(pickle.Pickler):
        def persistent_id(self, value):
            if not isinstance(value, Storage):
                return None
            size = arrays[value.key].size
            return "storage", torch.FloatStorage, value.key, "cpu", size, None

    system = {"protocol_version": 1001, "little_endian": True}
    system["type_sizes"] = {"short": 2, "int": 4, "long": 4}
    tensors = collections.OrderedDict((name, Tensor(name)) for name in arrays)
    before = {name: sys.modules.get(name) for name in ("torch", "torch._utils")}
    sys.modules.update({"torch": torch, "torch._utils": utils})
    try:
        with open(path, "wb") as file:
            for value in (0x1950A86A20F9469CFC6C, 1001, system, tensors, list(arrays)):
                Writer(file, protocol=2).dump(value)
            for array in arrays.values():
                file.write(struct.pack("<q", array.size) + array.tobytes())
    finally:
        for name, value in before.items():
            if value is None:
                del sys.modules[name]
            else:
                sys.modules[name] = value
