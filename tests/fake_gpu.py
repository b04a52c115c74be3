"""A CUDA device that computes nothing: its tensors have a shape and a type, those of the CPU are real."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor
from torch._subclasses.fake_tensor import DataDependentOutputException, DynamicOutputShapeException, FakeTensor, FakeTensorMode
from torch.utils._pytree import tree_leaves, tree_map_only

CUDA, STAND_IN = torch.device("cuda", 0), torch.device("lazy", 0)
aten = torch.ops.aten


class Crossing(RuntimeError):
    "Something crossed between the CPU and the GPU where nothing may."


class FakeGpu(FakeTensorMode):
    """A block in which there is a GPU. `crossings` is what went there or was read back; what is read is ones.

    Tensors of two devices in one operation raise, as on a GPU. Autograd's engine, which would ask a GPU for its streams, is told
    of another device.
    """

    avoid_device_init = True

    def __init__(self):
        super().__init__(allow_non_fake_inputs=True, allow_fallback_kernels=False)
        self.crossings, self.closed = [], False

    def cross(self, func: Any, tensors: list[Tensor]) -> None:
        "Note what crosses, or refuse it."
        what = f"{func} {[tuple(x.shape) for x in tensors]}"
        if self.closed:
            raise Crossing(what)
        self.crossings.append(what)

    @contextmanager
    def close(self) -> Iterator[None]:
        "A block in which nothing may cross."
        self.closed, before = True, self.closed
        try:
            yield
        finally:
            self.closed = before

    def read(self, func: Any, args: Any, kwargs: Any) -> Any:
        "The answer of an operation on the CPU, where all of the GPU's tensors are ones."
        ones = lambda x: torch.ones(x.shape, dtype=x.dtype)  # noqa: E731
        return func(*tree_map_only(FakeTensor, ones, args), **tree_map_only(FakeTensor, ones, kwargs))

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        if func is torch.ops.prim.device.default:
            return STAND_IN if args[0].fake_device == CUDA else args[0].fake_device
        kwargs, tensors = dict(kwargs or {}), [x for x in tree_leaves((args, kwargs)) if isinstance(x, Tensor)]
        there, here = ([x for x in tensors if isinstance(x, FakeTensor) == fake] for fake in (True, False))
        device = kwargs.get("device") and torch.device(kwargs["device"])
        if device and device.type in ("cuda", "lazy"):
            kwargs["device"] = CUDA
        elif not there:
            return func(*args, **kwargs)
        elif device or (func is aten.copy_.default and here and args[0] is here[0]):
            self.cross(func, there)
            return self.read(func, args, kwargs)
        if here:
            self.cross(func, here)
        if func.__name__.startswith("_fused"):  # optimizers, in place
            return None
        try:
            return super().__torch_dispatch__(func, types, *tree_map_only(Tensor, self.on_meta, (args, kwargs)))
        except (DataDependentOutputException, DynamicOutputShapeException):
            self.cross(func, there)
            found = self.read(func, args, kwargs)
            return FakeTensor(self, found.to("meta"), CUDA) if isinstance(found, Tensor) else found

    def on_meta(self, x: Tensor) -> Tensor:
        "The tensor, without numbers if it has any."
        return x if isinstance(x, FakeTensor) else FakeTensor(self, x.to("meta"), x.device)
