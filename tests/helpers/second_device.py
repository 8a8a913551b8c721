"""A device `twin` for tests on machines without a GPU: importing this module adds it to torch and accelerate.

Its operators compute on the CPU. As on a GPU, an operator refuses tensors of both devices (but for numbers without
axes, copies and indices) and random numbers from a generator of the CPU, and arrays hold tensors of the CPU alone. So
what makes a tensor in the wrong place is found; speed, kernels and autocast are not those of a GPU.

It stays for the whole process. Built on torch's experimental backends in Python (`torch.utils.backend_registration`).
"""

import functools
import os
from typing import Any

import torch
from torch import Tensor
from torch.utils import _pytree as pytree
from torch.utils.backend_registration import _setup_privateuseone_for_python_backend

NAME = "twin"  # not `second`: modules get a method of this name
KEY = "PrivateUse1"
AWAY = ("aten::copy_", "aten::_to_copy", "aten::index.Tensor", "aten::index_put", "aten::index_put_")
"""Operators that may have tensors of both devices: CUDA copies between them, and takes indices of the CPU."""
OWN = (
    "aten::detach",  # torch's own keeps the storage, and so what is kept by it here
    "aten::detach_",
    "aten::_copy_from",
    "aten::_local_scalar_dense",
    "aten::convolution_overrideable",
    "aten::convolution_backward_overrideable",
)
"""Operators with an implementation other than `_run`."""
ran: list[str] = []
"""Operators that ran on the device, in order."""


class _Module:
    """What torch asks the module of a device."""

    def is_available(self) -> bool:
        return True

    is_initialized = is_available

    def current_device(self) -> int:
        return 0

    def device_count(self) -> int:
        return 1

    def _is_in_bad_fork(self) -> bool:
        return False

    def manual_seed_all(self, seed: int) -> None:
        pass

    def get_amp_supported_dtype(self) -> list[torch.dtype]:
        return [torch.bfloat16]

    def get_rng_state(self, device: int = 0) -> Tensor:
        return torch.get_rng_state()

    def set_rng_state(self, state: Tensor, device: int = 0) -> None:
        torch.set_rng_state(state)

    def set_device(self, device: Any) -> None:
        pass

    synchronize = set_device


_setup_privateuseone_for_python_backend(NAME, _Module())
_host: dict[int, Tensor] = {}
"""By the storage of a tensor of the device, which is empty: the tensor of the CPU that has its values."""


def _there(value: object) -> bool:
    return isinstance(value, Tensor) and value.device.type == NAME


def _values(tensor: Tensor) -> Tensor:
    return _host[tensor.untyped_storage()._cdata]


def _stand_in(values: Tensor) -> Tensor:
    if 0 in values.stride() and values.numel():  # expanded: what seems dense must be
        values = values.contiguous()
    found = torch._C._acc.create_empty_tensor(tuple(values.shape), values.dtype)
    _host[found.untyped_storage()._cdata] = values
    return found


def _run(operator: Any, *args: Any, **kwargs: Any) -> Any:
    """Run an operator with the values of its tensors, and put what it makes on the device."""
    name = operator.name()
    ran.append(name)
    given, spec = pytree.tree_flatten((args, kwargs))
    theirs = [value for value in given if _there(value)]
    others = [value for value in given if isinstance(value, Tensor) and not _there(value) and value.dim()]
    if theirs and others and name not in AWAY:
        raise RuntimeError(f"Expected all tensors to be on the same device: {name} has both {NAME} and cpu.")
    asked = next((value for value in given if isinstance(value, torch.device)), None)
    here = asked.type == NAME if asked is not None else bool(theirs)
    if here and any(isinstance(value, torch.Generator) for value in given):
        raise RuntimeError(f"Expected a generator of {NAME}, but found one of cpu: {name}.")
    cpu = torch.device("cpu")
    plain = [_values(v) if _there(v) else cpu if isinstance(v, torch.device) else v for v in given]
    args, kwargs = pytree.tree_unflatten(plain, spec)
    # A stand-in seems contiguous, and its values may be transposed.
    reshapes = name in ("aten::view", "aten::_unsafe_view")
    found = args[0].reshape(args[1]) if reshapes else operator(*args, **kwargs)
    known = {id(inner): outer for outer, inner in zip(given, plain, strict=True) if isinstance(outer, Tensor)}

    def out(value: Any) -> Any:
        return known.get(id(value)) if id(value) in known else _stand_in(value) if here else value

    return pytree.tree_map_only(Tensor, out, found)


def _gradients_of_convolution(grad: Tensor, images: Tensor, weight: Tensor, *options: Any) -> Any:
    *geometry, transposed, padding, groups, wanted = options
    bias = [weight.shape[1] * groups if transposed else weight.shape[0]] if wanted[2] else None
    operator = torch.ops.aten.convolution_backward.default
    return _run(operator, grad, images, weight, bias, *geometry, transposed, padding, groups, wanted)


def _copy(values: Tensor, target: Tensor, non_blocking: bool = False) -> Tensor:
    plain = [_values(each) if _there(each) else each for each in (target, values)]
    plain[0].copy_(plain[1])
    return target


def _register() -> list[torch.library.Library]:
    """Give the device its operators; they are there as long as what is returned."""
    whatever, aten = torch.library.Library("_", "IMPL"), torch.library.Library("aten", "IMPL")
    whatever.fallback(_run, KEY)
    whatever.fallback(torch.library.fallthrough_kernel, f"Autocast{KEY}")
    aten.impl("_copy_from", _copy, KEY)
    aten.impl("_local_scalar_dense", lambda tensor: _values(tensor).item(), KEY)
    aten.impl("convolution_overrideable", functools.partial(_run, torch.ops.aten.convolution.default), KEY)
    aten.impl("convolution_backward_overrideable", _gradients_of_convolution, KEY)
    # Operators that torch makes of others with an output given: stand-ins cannot be resized.
    composite = torch._C._dispatch_get_registrations_for_dispatch_key
    names = {*composite("CompositeExplicitAutograd"), *composite("CompositeExplicitAutogradNonFunctional")}
    for name in sorted(name for name in names if name.startswith("aten::") and not name.endswith("out")):
        if name in OWN:
            continue
        packet, _, overload = name.removeprefix("aten::").partition(".")
        operator = getattr(getattr(torch.ops.aten, packet), overload or "default")
        aten.impl(name.removeprefix("aten::"), functools.partial(_run, operator), KEY)
    return [whatever, aten]


_libraries = _register()
os.environ["ACCELERATE_TORCH_DEVICE"] = NAME
