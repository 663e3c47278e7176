"""A device that is none: tensors on the CPU that say they are on MPS, and refuse what MPS and any GPU refuse.

MPS has no float64, and nothing computes with tensors of two devices but for single numbers.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, ClassVar

import torch
from torch import Tensor
from torch.overrides import TorchFunctionMode, resolve_name
from torch.utils._pytree import tree_flatten

MPS, CPU = torch.device("mps"), torch.device("cpu")
#: What only looks at a tensor, or takes one of another device.
_LOOKS = {
    *("__get__", "__set__", "__repr__", "__len__", "__index__", "__bool__", "__float__", "__int__", "__format__"),
    *("__getitem__", "__setitem__", "size", "dim", "numel", "is_floating_point", "is_complex", "stride", "item"),
    *("storage_offset", "data_ptr", "untyped_storage", "is_contiguous", "tolist", "copy_", "element_size", "set_"),
    *("requires_grad_", "register_hook", "_has_compatible_shallow_copy_type", "to", "cpu"),
}


class PretendedMPS(TorchFunctionMode):
    """Inside it ``torch.device("mps")`` can be computed on."""

    #: Of all, as some tensors are kept from one use to the next; and kept, as numbers of freed storages are given away.
    there: ClassVar[dict[int, torch.UntypedStorage]] = {}

    def on_mps(self, tensor: Tensor) -> bool:
        return tensor.untyped_storage()._cdata in self.there

    def put(self, tensor: Tensor) -> Tensor:
        storage = tensor.untyped_storage()
        self.there[storage._cdata] = storage
        return tensor

    def __torch_function__(self, func: Any, types: Any, args: tuple = (), kwargs: dict | None = None) -> Any:
        kwargs = dict(kwargs or {})
        with torch._C.DisableTorchFunction():
            return self._call(func, args, kwargs)

    def _call(self, func: Any, args: tuple, kwargs: dict) -> Any:
        if func is torch.device:
            return func(*args, **kwargs)
        name, where = getattr(func, "__name__", ""), resolve_name(func) or ""
        given = list(_tensors((args, kwargs)))
        mine = [tensor for tensor in given if self.on_mps(tensor)]
        if where.endswith("Tensor.device.__get__"):
            return MPS if mine else func(*args, **kwargs)
        asked = _asked(name, args, kwargs)
        to = CPU if name == "cpu" else asked
        if name == "to" and len(given) == 2:  # as another tensor
            to = MPS if self.on_mps(given[1]) else CPU
        args, kwargs = _replace(args), {key: _replace(value) for key, value in kwargs.items()}
        if name == "numpy" and mine:
            raise TypeError("can't convert mps:0 device type tensor to numpy")
        if mine and name not in _LOOKS and any(t.ndim and not self.on_mps(t) for t in given):
            raise RuntimeError(f"{where or name}: expected all tensors to be on the same device, mps and cpu")
        result = func(*args, **kwargs)
        if to == CPU and mine and name in ("to", "cpu"):
            return result.clone() if isinstance(result, Tensor) and self.on_mps(result) else result
        if to == MPS or (mine and to is None and name not in ("item", "tolist", "numpy")):
            for tensor in _tensors(result):
                if to == MPS and name == "to" and tensor is given[0] and not mine:
                    result = tensor = tensor.clone()
                if tensor.dtype in (torch.float64, torch.complex128):
                    raise TypeError(f"{where or name}: Cannot convert a MPS Tensor to float64 dtype")
                self.put(tensor)
        return result


def _tensors(values: Any) -> Iterator[Tensor]:
    for value in tree_flatten(values)[0]:
        if isinstance(value, Tensor):
            yield value


def _is_device(value: Any) -> bool:
    return (isinstance(value, torch.device) and value.type == "mps") or (isinstance(value, str) and value == "mps")


def _replace(value: Any) -> Any:
    if isinstance(value, tuple):
        return tuple(map(_replace, value))
    return "cpu" if _is_device(value) else value


def _asked(name: str, args: tuple, kwargs: dict) -> torch.device | None:
    """The device that a call names."""
    for value in (*args, *kwargs.values()):
        if _is_device(value):
            return MPS
    named = kwargs.get("device")
    if named is None and name == "to":
        named = next((value for value in args[1:] if isinstance(value, torch.device) or value == "cpu"), None)
    return None if named is None else torch.device(named)
