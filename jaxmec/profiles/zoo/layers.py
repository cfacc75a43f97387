"""Layers that the networks share; batch normalisation is folded into a scale and a shift, as at inference."""

from __future__ import annotations

from collections.abc import Callable

import flax.linen as nn
import jax.numpy as jnp

CLASSES = 1000  # of ImageNet


class ScaleShift(nn.Module):
    """Batch normalisation at inference."""

    @nn.compact
    def __call__(self, x):
        """[..., C] to [..., C]."""
        shape = (1,) * (x.ndim - 1) + x.shape[-1:]
        scale = self.param("scale", nn.initializers.ones, shape, jnp.float32)
        shift = self.param("shift", nn.initializers.zeros, shape, jnp.float32)
        return x * scale + shift


def conv(features, size, stride=1, groups=1, act: Callable | None = nn.relu, name=None):
    """A convolution with normalisation and activation; groups are as many as channels in a depthwise one."""
    layers: list = [
        nn.Conv(
            features,
            (size, size),
            (stride, stride),
            padding=(size - 1) // 2,
            feature_group_count=groups,
            use_bias=False,
        ),
        ScaleShift(),
    ]
    if act is not None:
        layers.append(act)
    return nn.Sequential(layers, name=name)


class SqueezeExcite(nn.Module):
    """Channels scaled by a gate that two small layers compute from their means (Hu et al. 2017, 1709.01507)."""

    width: int
    act: Callable = nn.relu
    gate: Callable = nn.sigmoid

    @nn.compact
    def __call__(self, x):
        """[B, H, W, C] to [B, H, W, C]."""
        y = self.act(nn.Conv(self.width, (1, 1), name="squeeze")(x.mean(axis=(1, 2), keepdims=True)))
        return x * self.gate(nn.Conv(x.shape[-1], (1, 1), name="excite")(y))


class InvertedResidual(nn.Module):
    """Expand by a pointwise convolution, filter by a depthwise one, project (Sandler et al. 2018, 1801.04381)."""

    features: int
    stride: int
    width: int  # of the expanded layer; none if it is the input's
    size: int = 3
    squeeze: int = 0  # width of squeeze and excitation, none if 0
    act: Callable = nn.relu6
    gate: Callable = nn.sigmoid
    squeeze_act: Callable = nn.relu

    @nn.compact
    def __call__(self, x):
        """[B, H, W, C] to [B, H / stride, W / stride, features]."""
        y = x if self.width == x.shape[-1] else conv(self.width, 1, act=self.act)(x)
        y = conv(self.width, self.size, self.stride, groups=self.width, act=self.act)(y)
        if self.squeeze:
            y = SqueezeExcite(self.squeeze, self.squeeze_act, self.gate)(y)
        y = conv(self.features, 1, act=None)(y)
        return x + y if x.shape == y.shape else y
