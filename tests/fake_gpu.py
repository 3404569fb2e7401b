"""Tensors that pretend to be on a GPU, so that wrong devices are found on any machine.

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

GPU, CPU = torch.device("cuda", 0), torch.device("cpu")
aten = torch.ops.aten
INDEXING = {
    aten.index.Tensor,
    aten.index_put.default,
    aten.index_put_.default,
    aten._index_put_impl_.default,
}


@contextmanager
def fake_gpu() -> Iterator["_FixedAnswers"]:
    """Let tensors be made on a GPU that is not there; yield what knows when it was waited for.

    Modules made before come along by ``module.to(GPU)``; their tensors that are neither parameters
    nor buffers stay.
    """
    answers = _FixedAnswers()
    with ExitStack() as stack:
        for place, name, stand_in in (
            (nn.Module, "_apply", _apply),
            (torch, "autocast", _Autocast),
            (torch, "save", partial(_save, torch.save)),
        ):
            stack.enter_context(mock.patch.object(place, name, stand_in))
        for mode in FakeTensorMode(allow_non_fake_inputs=True), answers, _Methods():
            stack.enter_context(mode)
        yield answers


def _apply(module: nn.Module, change: Callable, recurse: bool = True) -> nn.Module:
    """Move a module's tensors; PyTorch keeps the objects, which these cannot."""
    for child in module.children() if recurse else ():
        child._apply(change)
    for name, parameter in module._parameters.items():
        if parameter is not None:
            moved = change(parameter.detach())
            module._parameters[name] = nn.Parameter(moved, parameter.requires_grad)
    for name, buffer in module._buffers.items():
        if buffer is not None:
            module._buffers[name] = change(buffer)
    return module


class _Autocast:
    """Do as ``torch.autocast``, which refuses without a GPU."""

    def __init__(self, device_type, dtype=torch.bfloat16, enabled=True, cache_enabled=True):
        self.device_type, self.wanted = device_type, (dtype, enabled)

    def __enter__(self) -> None:
        kind = self.device_type
        self.before = torch.get_autocast_dtype(kind), torch.is_autocast_enabled(kind)
        self._set(*self.wanted)

    def __exit__(self, *error) -> None:
        self._set(*self.before)
        torch.clear_autocast_cache()

    def _set(self, dtype: torch.dtype, enabled: bool) -> None:
        torch.set_autocast_dtype(self.device_type, dtype)
        torch.set_autocast_enabled(self.device_type, enabled)


class _FixedAnswers(TorchDispatchMode):
    """Answer what depends on values: masks choose everything, and every number is 1.

    Refuses what FakeTensorMode does not. ``waits`` lists for which results of the GPU the program
    had to wait.
    """

    def __init__(self):
        super().__init__()
        self.waits: list[str] = []

    def __torch_dispatch__(self, function, types, arguments=(), options=None):
        options = options or {}
        self._note_wait(function, arguments, options)
        if function is aten._local_scalar_dense.default:
            return 1.0 if arguments[0].dtype.is_floating_point else 1
        if function is aten.nonzero.default:
            return _all_places(arguments[0])
        if function is aten.bincount.default:
            n_bins = options.get("minlength") or arguments[2]
            return torch.empty(n_bins, dtype=torch.int64, device=arguments[0].device)
        if function is aten.convolution.default and arguments[0].device == CPU:
            raise RuntimeError("a network computes on the CPU")
        if function in INDEXING:
            content, indices, *rest = arguments
            _require_indexable(content, indices, rest)
            indices = [part for index in indices for part in _without_mask(index)]
            arguments = (content, indices, *rest)
        return function(*arguments, **options)

    def _note_wait(self, function, arguments: tuple, options: dict) -> None:
        if function in INDEXING:
            waited_for = [index for index in arguments[1] if _is_mask(index)]
        elif (function is aten._to_copy.default and options.get("device") == CPU) or function in (
            aten._local_scalar_dense.default,
            aten.nonzero.default,
        ):
            waited_for = arguments
        else:
            return
        self.waits += [str(function) for tensor in waited_for if tensor.device == GPU]


def _all_places(mask: Tensor) -> Tensor:
    return torch.empty(mask.numel(), mask.ndim, dtype=torch.int64, device=mask.device)


def _is_mask(index: Tensor | None) -> bool:
    return index is not None and index.dtype in (torch.bool, torch.uint8)


def _without_mask(index: Tensor | None) -> list[Tensor | None]:
    return list(_all_places(index).unbind(1)) if _is_mask(index) else [index]


def _require_indexable(content: Tensor, indices: list[Tensor | None], rest: list) -> None:
    """Indices may be on the CPU or with the content; so may values, but then only one."""
    devices = {index.device for index in indices if index is not None} - {CPU}
    values = [value for value in rest if isinstance(value, Tensor)]
    devices |= {value.device for value in values if value.ndim}
    if any(value.dtype != content.dtype for value in values):
        raise RuntimeError(f"values of {values[0].dtype} for a tensor of {content.dtype}")
    if devices - {content.device}:
        raise RuntimeError(f"a tensor on {content.device} with indices or values on {devices}")


class _Methods(TorchFunctionMode):
    """Do what these tensors cannot: become NumPy arrays, be copied and shared, have gradients."""

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

    def zeros(tensor: Tensor) -> Tensor:
        assert tensor.device == CPU, "a file that does not open without a GPU"
        return torch.zeros(tensor.shape, dtype=tensor.dtype)

    with unset_fake_temporarily():
        save(tree_map_only(Tensor, zeros, content), file)


def _to_numpy(tensor: Tensor) -> np.ndarray:
    if tensor.device != CPU:
        raise TypeError(f"can't convert {tensor.device} device type tensor to numpy")
    kind = str(tensor.dtype).removeprefix("torch.")
    if "int" in kind and tensor.ndim == 1:  # often the numbers of events, no two alike
        return np.arange(len(tensor), dtype=kind)
    return np.zeros(tensor.shape, kind)


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
                assert result.device == wanted.device, f"{node}: a gradient on {result.device}"
                result = result.sum_to_size(wanted.shape).to(wanted.dtype)
                sums[place] = result if sums[place] is None else sums[place] + result
            waiting_for[user] -= 1
            if not waiting_for[user]:
                ready.append(user)
