"""Batch normalisation over the rows of all processes.

`nn.SyncBatchNorm` is that for CUDA alone. This one works on every device, and has the parameters, buffers and names of
the layer that it replaces, so checkpoints are the same.

Legend: B batch, C channels, R processes.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from gen_engine.train.parallel import collectives


class GlobalBatchNorm(_BatchNorm):
    """Normalises x_BC… by mean and variance over the rows of all processes while training; float32 statistics."""

    def forward(self, x: Tensor) -> Tensor:
        """The normalised values, in the type of x."""
        if not self.training or collectives.size() == 1:
            return super().forward(x)
        over = [axis for axis in range(x.dim()) if axis != 1]
        values = x.float()
        variance_C, mean_C = torch.var_mean(values, over, correction=0)
        means_RC, variances_RC = collectives.gather(torch.stack([mean_C, variance_C])).unbind(1)
        mean_C = means_RC.mean(dim=0)
        # That of all rows: within the processes, and between them.
        variance_C = variances_RC.mean(dim=0) + (means_RC - mean_C).square().mean(dim=0)
        self._remember(mean_C.detach(), variance_C.detach(), x.numel() // x.shape[1] * collectives.size())
        scale_C = torch.rsqrt(variance_C + self.eps)
        if self.affine:
            scale_C = scale_C * self.weight
        shift_C = -mean_C * scale_C + (self.bias if self.affine else 0.0)
        shape = [1, -1] + [1] * (x.dim() - 2)
        return torch.addcmul(shift_C.view(shape), values, scale_C.view(shape)).to(x.dtype)

    def _check_input_dim(self, input: Tensor) -> None:
        """Any number of axes after the channels."""

    @torch.no_grad()
    def _remember(self, mean_C: Tensor, variance_C: Tensor, count: int) -> None:
        """Move the running statistics; their variance is that of a sample, as in torch's own layers."""
        if self.running_mean is None or self.running_var is None or self.num_batches_tracked is None:
            return
        self.num_batches_tracked.add_(1)
        weight = 1.0 / float(self.num_batches_tracked) if self.momentum is None else self.momentum
        self.running_mean.lerp_(mean_C, weight)
        self.running_var.lerp_(variance_C * (count / max(count - 1, 1)), weight)


def share_statistics(network: nn.Module) -> None:
    """Replace the batch normalisation in a network, at any depth; nothing with one process."""
    if collectives.size() == 1:
        return
    for name, layer in network.named_children():
        if isinstance(layer, _BatchNorm) and not isinstance(layer, GlobalBatchNorm):
            setattr(network, name, _replacement(layer))
        else:
            share_statistics(layer)


def _replacement(layer: _BatchNorm) -> GlobalBatchNorm:
    """The same layer, parameters and buffers included, over all processes."""
    new = GlobalBatchNorm(layer.num_features, layer.eps, layer.momentum, layer.affine, layer.track_running_stats)
    new.weight, new.bias = layer.weight, layer.bias
    new.running_mean, new.running_var = layer.running_mean, layer.running_var
    new.num_batches_tracked = layer.num_batches_tracked
    return new.train(layer.training)
