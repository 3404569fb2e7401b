"""Tensors that only pretend to be on a GPU: what is computed on the wrong device is found on any machine.

They have shapes, types and devices, but no values (PyTorch's FakeTensorMode).
"""

from collections import defaultdict
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from functools import partial
from unittest import mock

import numpy as np
import torch
from torch import Tensor, nn
from torch._subclasses.fake_tensor import FakeTensorMode, unset_fake_temporarily
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_map_only

GPU = torch.device("cuda", 0)
INDEXING = {getattr(torch.ops.aten, name).default for name in ("index_put", "index_put_", "_index_put_impl_")}
INDEXING.add(torch.ops.aten.index.Tensor)


@contextmanager
def pretended_gpu() -> Iterator[None]:
    """Let tensors be made on a GPU that is not there.

    Modules made before come along by ``module.to(GPU)``; their tensors that are neither parameters nor buffers stay.
    """
    stand_ins = (nn.Module, "_apply", _apply), (torch, "autocast", _Autocast), (torch, "save", partial(_save, torch.save))
    with ExitStack() as stack:
        for place, name, stand_in in stand_ins:
            stack.enter_context(mock.patch.object(place, name, stand_in))
        for mode in FakeTensorMode(allow_non_fake_inputs=True), _FixedAnswers(), _Methods():
            stack.enter_context(mode)
        yield


def _apply(module: nn.Module, change: Callable[[Tensor], Tensor], recurse: bool = True) -> nn.Module:
    """Move a module's tensors, as PyTorch does, which keeps the objects and cannot for these."""
    for child in module.children() if recurse else ():
        child._apply(change)
    for name, parameter in module._parameters.items():
        if parameter is not None:
            module._parameters[name] = nn.Parameter(change(parameter.detach()), parameter.requires_grad)
    for name, buffer in module._buffers.items():
        if buffer is not None:
            module._buffers[name] = change(buffer)
    return module


class _Autocast:
    """Do as ``torch.autocast``, which refuses without a GPU."""

    def __init__(self, device_type: str, dtype: torch.dtype = torch.bfloat16, enabled: bool = True, cache_enabled: bool = True):
        self.device_type, self.wanted = device_type, (dtype, enabled)

    def __enter__(self) -> None:
        self.before = torch.get_autocast_dtype(self.device_type), torch.is_autocast_enabled(self.device_type)
        self._set(*self.wanted)

    def __exit__(self, *error) -> None:
        self._set(*self.before)
        torch.clear_autocast_cache()

    def _set(self, dtype: torch.dtype, enabled: bool) -> None:
        torch.set_autocast_dtype(self.device_type, dtype)
        torch.set_autocast_enabled(self.device_type, enabled)


class _FixedAnswers(TorchDispatchMode):
    """Answer what depends on values: masks choose everything, and every number is 1. Check what FakeTensorMode does not."""

    def __torch_dispatch__(self, function, types, arguments=(), options=None):
        if function is torch.ops.aten._local_scalar_dense.default:
            return 1.0 if arguments[0].dtype.is_floating_point else 1
        if function is torch.ops.aten.nonzero.default:
            return _all_places(arguments[0])
        if function is torch.ops.aten.bincount.default:
            n_bins = dict(enumerate(arguments)).get(2) or (options or {})["minlength"]
            return torch.empty(n_bins, dtype=torch.int64, device=arguments[0].device)
        if function is torch.ops.aten.convolution.default and arguments[0].device.type == "cpu":
            raise RuntimeError("a network computes on the CPU")
        if function in INDEXING:
            content, indices, *rest = arguments
            _require_indexable(content, indices, rest)
            indices = [part for index in indices for part in _without_mask(index)]
            arguments = (content, indices, *rest)
        return function(*arguments, **(options or {}))


def _all_places(mask: Tensor) -> Tensor:
    return torch.empty(mask.numel(), mask.ndim, dtype=torch.int64, device=mask.device)


def _without_mask(index: Tensor | None) -> list[Tensor | None]:
    is_mask = index is not None and index.dtype in (torch.bool, torch.uint8)
    return list(_all_places(index).unbind(1)) if is_mask else [index]


def _require_indexable(content: Tensor, indices: list[Tensor | None], rest: list) -> None:
    """Indices may be on the CPU or where the content is; values are there, or one number on the CPU."""
    devices = {index.device for index in indices if index is not None} - {torch.device("cpu")}
    devices |= {value.device for value in rest if isinstance(value, Tensor) and value.ndim}
    if devices - {content.device}:
        raise RuntimeError(f"a tensor on {content.device} with indices or values on {devices}")


class _Methods(TorchFunctionMode):
    """Do what tensors without values cannot: become NumPy arrays, be copied and shared, have gradients without a driver."""

    def __torch_function__(self, function, types, arguments=(), options=None):
        if function in (Tensor.numpy, Tensor.__array__):
            return _to_numpy(arguments[0])
        if function is Tensor.share_memory_:
            return arguments[0]
        if function is Tensor.backward:
            return _backward(arguments[0])
        if function is Tensor.__deepcopy__:
            return arguments[0].detach().clone()
        return function(*arguments, **(options or {}))


def _save(save: Callable, content: object, file: object) -> None:
    """Save zeros."""
    with unset_fake_temporarily():
        save(tree_map_only(Tensor, lambda tensor: torch.zeros(tensor.shape, dtype=tensor.dtype), content), file)


def _to_numpy(tensor: Tensor) -> np.ndarray:
    if tensor.device.type != "cpu":
        raise TypeError(f"can't convert {tensor.device} device type tensor to numpy")
    kind = str(tensor.dtype).removeprefix("torch.")
    # a list of whole numbers is often that of events, no two alike
    return np.arange(len(tensor), dtype=kind) if "int" in kind and tensor.ndim == 1 else np.zeros(tensor.shape, kind)


def _backward(loss: Tensor) -> None:
    """Put gradients into the parameters, as PyTorch's engine does, which asks for a GPU."""
    waiting_for, seen, stack = defaultdict(int), set(), [loss.grad_fn]
    while stack:
        node = stack.pop()
        if node in seen:
            continue
        seen.add(node)
        for user, _ in node.next_functions:
            if user is not None:
                waiting_for[user] += 1
                stack.append(user)
    gradients, ready = {loss.grad_fn: [torch.ones_like(loss)]}, [loss.grad_fn]
    while ready:
        node = ready.pop()
        results = node(*gradients.pop(node))
        results = results if isinstance(results, tuple) else (results,)
        for (user, place), result in zip(node.next_functions, results):
            if user is None:
                continue
            sums = gradients.setdefault(user, [None] * len(user._input_metadata))
            if result is not None:
                wanted = user._input_metadata[place]
                assert result.device == wanted.device, f"{node}: gradient on {result.device} for {wanted.device}"
                result = result.sum_to_size(wanted.shape).to(wanted.dtype)
                sums[place] = result if sums[place] is None else sums[place] + result
            waiting_for[user] -= 1
            if not waiting_for[user]:
                ready.append(user)
