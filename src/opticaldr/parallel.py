"""Several processes as one: what the whole batch must know of the rows that each process holds.

Every process works on some rows of a batch. Outputs are gathered before the loss, so that each
computes the loss of the whole batch; batch norm and dropout see the whole batch, too. With one
process nothing here does anything.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from datetime import timedelta
from typing import Any

import torch
from accelerate import PartialState
from accelerate.utils import broadcast_object_list, gather_object
from torch import Tensor, distributed, nn
from torch.nn import functional

PATIENCE = timedelta(hours=2)
"""How long a process waits for the others: the main process may render or train a surrogate."""


def processes() -> PartialState:
    """The processes that torchrun or accelerate launch started; this one alone without them."""
    several = int(os.environ.get("WORLD_SIZE", "1")) > 1
    return PartialState(cpu=several and not torch.cuda.is_available(), timeout=PATIENCE)


def is_main() -> bool:
    """True on the one process that writes files."""
    return processes().is_main_process


@contextmanager
def main_first() -> Iterator[None]:
    """The main process runs the block alone, then the others do: they find what it left on disk."""
    with processes().main_process_first():
        yield


# --- agreement --------------------------------------------------------------------------------


def on_any(flag: bool) -> bool:
    """True on every process if it is true on one."""
    state = processes()
    if state.num_processes == 1:
        return flag
    raised = torch.tensor([int(flag)], device=state.device)
    distributed.all_reduce(raised, distributed.ReduceOp.MAX)
    return bool(raised.item())


def from_all(values: list[Any]) -> list[Any]:
    """The values of all processes in one list."""
    return values if processes().num_processes == 1 else gather_object(values)


def as_main(value: Any) -> Any:
    """The main process's value, on every process."""
    return broadcast_object_list([value])[0]


# --- rows -------------------------------------------------------------------------------------


class _Gather(torch.autograd.Function):
    """Rows of all processes, in their order.

    All processes compute the same loss of the gathered rows, so the sum over processes of its
    gradients is their number times the own: nothing needs to be sent back. The mean that
    DistributedDataParallel takes then is the gradient of that loss.
    """

    @staticmethod
    def forward(ctx: Any, own: Tensor, counts: Sequence[int]) -> Tensor:
        index = distributed.get_rank()
        ctx.rows = slice(sum(counts[:index]), sum(counts[: index + 1]))
        ctx.processes = len(counts)
        padded = own.new_zeros(max(counts), *own.shape[1:])
        padded[: len(own)] = own
        found = [torch.empty_like(padded) for _ in counts]
        distributed.all_gather(found, padded)
        return torch.cat([rows[:count] for rows, count in zip(found, counts, strict=True)])

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None]:
        return ctx.processes * gradient[ctx.rows], None


def gather_rows(own: Tensor, counts: Sequence[int]) -> Tensor:
    """Rows of all processes, (sum of counts, ...), with a gradient for a loss that all compute.

    counts: rows per process, the same list everywhere; one count = nothing to gather.
    """
    return own if len(counts) == 1 else _Gather.apply(own, counts)


# --- layers that couple rows ------------------------------------------------------------------


class _Normalise(torch.autograd.Function):
    """(x - mean) / sqrt(var + eps) * weight + bias with mean and variance over all processes."""

    @staticmethod
    def forward(
        ctx: Any, x: Tensor, weight: Tensor, bias: Tensor, eps: float
    ) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        wide = x.to(torch.promote_types(x.dtype, torch.float32))
        axes = [0, *range(2, x.ndim)]
        own_mean = wide.mean(axes, keepdim=True)
        square = (wide - own_mean).square().sum(axes)
        count = square.new_tensor([x.numel() // x.shape[1]])
        own = torch.cat([count, own_mean.flatten(), square])
        found = [torch.empty_like(own) for _ in range(distributed.get_world_size())]
        distributed.all_gather(found, own)
        counts, means, squares = torch.stack(found).split([1, x.shape[1], x.shape[1]], dim=1)
        total = counts.sum()
        mean = (counts * means).sum(0) / total
        var = (squares + counts * (means - mean).square()).sum(0) / total
        ctx.shape = shape = [1, -1, *[1] * (x.ndim - 2)]
        scale = (var + eps).rsqrt()
        ctx.save_for_backward(x, weight, mean, scale, total)
        ctx.mark_non_differentiable(mean, var, total)
        normal = (wide - mean.view(shape)) * scale.view(shape)
        return (normal * weight.view(shape) + bias.view(shape)).to(x.dtype), mean, var, total

    @staticmethod
    def backward(ctx: Any, gradient: Tensor, *_: Tensor) -> tuple[Tensor, Tensor, Tensor, None]:
        x, weight, mean, scale, total = ctx.saved_tensors
        wide, axes, shape = gradient.to(mean), [0, *range(2, x.ndim)], ctx.shape
        normal = (x.to(mean) - mean.view(shape)) * scale.view(shape)
        of_bias, of_weight = wide.sum(axes), (wide * normal).sum(axes)
        both = torch.stack([of_bias, of_weight])
        distributed.all_reduce(both)
        shift, slope = (both / total).unbind()
        inner = wide - shift.view(shape) - normal * slope.view(shape)
        return (inner * (weight * scale).view(shape)).to(x), of_weight, of_bias, None


class WholeBatchNorm(nn.BatchNorm2d):
    """Batch norm of (b, c) or (b, c, h, w) with the statistics of all processes' rows.

    torch's SyncBatchNorm does the same but on a GPU only.
    """

    def forward(self, x: Tensor) -> Tensor:
        if not self.training:
            mean, var = self.running_mean, self.running_var
            return functional.batch_norm(x, mean, var, self.weight, self.bias, eps=self.eps)
        found, mean, var, total = _Normalise.apply(x, self.weight, self.bias, self.eps)
        with torch.no_grad():
            self.num_batches_tracked.add_(1)
            self.running_mean.lerp_(mean, self.momentum)
            self.running_var.lerp_(var * total / (total - 1), self.momentum)
        return found


class WholeBatchDropout(nn.Dropout):
    """Dropout with the mask that one process would draw for all rows, from the same generator."""

    def forward(self, x: Tensor) -> Tensor:
        if not self.training:
            return x
        counts = gather_rows(torch.tensor([len(x)], device=x.device), [1] * _count()).tolist()
        first = sum(counts[: distributed.get_rank()])
        mask = functional.dropout(x.new_ones(sum(counts), *x.shape[1:]), self.p)
        return x * mask[first : first + len(x)]


def see_whole_batch(module: nn.Module) -> None:
    """Replaces batch norm and dropout inside a module by those that see all processes' rows."""
    for name, child in module.named_children():
        if isinstance(child, nn.BatchNorm1d | nn.BatchNorm2d):
            whole = WholeBatchNorm(child.num_features, eps=child.eps, momentum=child.momentum)
            whole.load_state_dict(child.state_dict())
            setattr(module, name, whole.to(child.weight.device))
        elif isinstance(child, nn.Dropout):
            setattr(module, name, WholeBatchDropout(child.p))
        else:
            see_whole_batch(child)


def _count() -> int:
    return distributed.get_world_size()
