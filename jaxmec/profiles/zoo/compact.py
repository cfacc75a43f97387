"""Flax definitions of networks made for little work: phones and the like.

Sources: Iandola et al. 2016 (arXiv 1602.07360; version 1.1 of its authors' repository), Howard et al. 2017
(1704.04861) and 2019 (1905.02244), Ma et al. 2018 (1807.11164), Tan et al. 2018 (1807.11626; B1, without squeeze
and excitation), Tan and Le 2019 (1905.11946), Radosavovic et al. 2020 (2003.13678). Details are those of the
networks whose weights torchvision publishes, which has no MobileNetV1.
"""

from __future__ import annotations

import flax.linen as nn
import jax.numpy as jnp

from jaxmec.profiles.zoo.layers import CLASSES, InvertedResidual, SqueezeExcite, conv


def _multiple_of_eight(width: float) -> int:
    """The nearest multiple, which must not lose a tenth of the width."""
    nearest = max(8, int(width + 4) // 8 * 8)
    return nearest if nearest >= 0.9 * width else nearest + 8


class SqueezeNet(nn.Module):
    """Version 1.1: fire modules, no dense layer."""

    @nn.compact
    def __call__(self, x):
        """[B, 224, 224, 3] to [B, 1000]."""
        x = nn.relu(nn.Conv(64, (3, 3), (2, 2), padding="VALID", name="conv1")(x))
        widths = (16, 16, 32, 32, 48, 48, 64, 64)
        for i, squeeze in enumerate(widths, start=2):
            if i in (2, 4, 6):
                x = nn.max_pool(x, (3, 3), (2, 2))
            x = nn.relu(nn.Conv(squeeze, (1, 1), name=f"fire{i}_squeeze")(x))
            one = nn.Conv(4 * squeeze, (1, 1), name=f"fire{i}_expand1")(x)
            three = nn.Conv(4 * squeeze, (3, 3), padding=1, name=f"fire{i}_expand3")(x)
            x = nn.relu(jnp.concatenate([one, three], axis=-1))
        return nn.relu(nn.Conv(CLASSES, (1, 1), name="conv10")(x)).mean(axis=(1, 2))


class MobileNetV1(nn.Module):
    """Width 1.0: depthwise and pointwise convolutions in turn."""

    @nn.compact
    def __call__(self, x):
        """[B, 224, 224, 3] to [B, 1000]."""
        x = conv(32, 3, 2, name="stem")(x)
        blocks = (
            (64, 1),
            (128, 2),
            (128, 1),
            (256, 2),
            (256, 1),
            (512, 2),
            *5 * ((512, 1),),
            (1024, 2),
            (1024, 1),
        )
        for i, (features, stride) in enumerate(blocks, start=1):
            x = conv(x.shape[-1], 3, stride, groups=x.shape[-1], name=f"depthwise{i}")(x)
            x = conv(features, 1, name=f"pointwise{i}")(x)
        return nn.Dense(CLASSES, name="fc")(x.mean(axis=(1, 2)))


class MobileNetV3(nn.Module):
    """Large, width 1.0."""

    @nn.compact
    def __call__(self, x):
        """[B, 224, 224, 3] to [B, 1000]."""
        x = conv(16, 3, 2, act=nn.hard_swish, name="stem")(x)
        blocks = (  # kernel, expanded width, features, squeeze and excitation, stride
            (3, 16, 16, False, 1),
            (3, 64, 24, False, 2),
            (3, 72, 24, False, 1),
            (5, 72, 40, True, 2),
            (5, 120, 40, True, 1),
            (5, 120, 40, True, 1),
            (3, 240, 80, False, 2),
            (3, 200, 80, False, 1),
            (3, 184, 80, False, 1),
            (3, 184, 80, False, 1),
            (3, 480, 112, True, 1),
            (3, 672, 112, True, 1),
            (5, 672, 160, True, 2),
            (5, 960, 160, True, 1),
            (5, 960, 160, True, 1),
        )
        for i, (size, width, features, has_squeeze, stride) in enumerate(blocks, start=1):
            squeeze = _multiple_of_eight(width / 4) if has_squeeze else 0
            act = nn.hard_swish if features >= 80 else nn.relu
            x = InvertedResidual(features, stride, width, size, squeeze, act, nn.hard_sigmoid, name=f"block{i}")(x)
        x = conv(960, 1, act=nn.hard_swish, name="head")(x).mean(axis=(1, 2))
        return nn.Dense(CLASSES, name="fc2")(nn.hard_swish(nn.Dense(1280, name="fc1")(x)))


class MNASNet(nn.Module):
    """B1, depth multiplier 1.0."""

    @nn.compact
    def __call__(self, x):
        """[B, 224, 224, 3] to [B, 1000]."""
        x = conv(32, 3, 2, name="stem")(x)
        blocks = (  # kernel, expansion, features, blocks, stride
            (3, 1, 16, 1, 1),
            (3, 3, 24, 3, 2),
            (5, 3, 40, 3, 2),
            (5, 6, 80, 3, 2),
            (3, 6, 96, 2, 1),
            (5, 6, 192, 4, 2),
            (3, 6, 320, 1, 1),
        )
        for stage, (size, expansion, features, depth, stride) in enumerate(blocks, start=1):
            for i in range(depth):
                width, name = expansion * x.shape[-1], f"stage{stage}_{i + 1}"
                x = InvertedResidual(features, stride if i == 0 else 1, width, size, act=nn.relu, name=name)(x)
        return nn.Dense(CLASSES, name="fc")(conv(1280, 1, name="head")(x).mean(axis=(1, 2)))


class EfficientNetB0(nn.Module):
    """The base network of the family."""

    @nn.compact
    def __call__(self, x):
        """[B, 224, 224, 3] to [B, 1000]."""
        x = conv(32, 3, 2, act=nn.swish, name="stem")(x)
        blocks = (  # kernel, expansion, features, blocks, stride
            (3, 1, 16, 1, 1),
            (3, 6, 24, 2, 2),
            (5, 6, 40, 2, 2),
            (3, 6, 80, 3, 2),
            (5, 6, 112, 3, 1),
            (5, 6, 192, 4, 2),
            (3, 6, 320, 1, 1),
        )
        for stage, (size, expansion, features, depth, stride) in enumerate(blocks, start=1):
            for i in range(depth):
                x = InvertedResidual(
                    features,
                    stride if i == 0 else 1,
                    expansion * x.shape[-1],
                    size,
                    squeeze=x.shape[-1] // 4,
                    act=nn.swish,
                    squeeze_act=nn.swish,
                    name=f"stage{stage}_{i + 1}",
                )(x)
        return nn.Dense(CLASSES, name="fc")(conv(1280, 1, act=nn.swish, name="head")(x).mean(axis=(1, 2)))


class _Shuffle(nn.Module):
    """Half of the channels pass (or are halved in size), the other half is filtered; then they are interleaved."""

    features: int
    stride: int

    @nn.compact
    def __call__(self, x):
        half = self.features // 2
        if self.stride == 1:
            kept, y = jnp.split(x, 2, axis=-1)
        else:
            channels = x.shape[-1]
            kept = conv(half, 1)(conv(channels, 3, self.stride, groups=channels, act=None)(x))
            y = x
        y = conv(half, 3, self.stride, groups=half, act=None)(conv(half, 1)(y))
        y = conv(half, 1)(y)
        return jnp.stack([kept, y], axis=-1).reshape(*y.shape[:-1], self.features)


class ShuffleNetV2(nn.Module):
    """Width 1.0."""

    @nn.compact
    def __call__(self, x):
        """[B, 224, 224, 3] to [B, 1000]."""
        x = nn.max_pool(conv(24, 3, 2, name="stem")(x), (3, 3), (2, 2), padding=((1, 1), (1, 1)))
        for stage, (features, depth) in enumerate(((116, 4), (232, 8), (464, 4)), start=2):
            for i in range(depth):
                x = _Shuffle(features, 2 if i == 0 else 1, name=f"stage{stage}_{i + 1}")(x)
        return nn.Dense(CLASSES, name="fc")(conv(1024, 1, name="head")(x).mean(axis=(1, 2)))


class _RegNetBlock(nn.Module):
    """A bottleneck of one width with grouped convolutions, eight channels each, and squeeze and excitation."""

    features: int
    stride: int

    @nn.compact
    def __call__(self, x):
        y = conv(self.features, 1)(x)
        y = conv(self.features, 3, self.stride, groups=self.features // 8)(y)
        y = SqueezeExcite(x.shape[-1] // 4)(y)
        y = conv(self.features, 1, act=None)(y)
        if x.shape != y.shape:
            x = conv(self.features, 1, self.stride, act=None, name="shortcut")(x)
        return nn.relu(x + y)


class RegNetY400(nn.Module):
    """400 million multiply-accumulates."""

    @nn.compact
    def __call__(self, x):
        """[B, 224, 224, 3] to [B, 1000]."""
        x = conv(32, 3, 2, name="stem")(x)
        for stage, (features, depth) in enumerate(((48, 1), (104, 3), (208, 6), (440, 6)), start=1):
            for i in range(depth):
                x = _RegNetBlock(features, 2 if i == 0 else 1, name=f"stage{stage}_{i + 1}")(x)
        return nn.Dense(CLASSES, name="fc")(x.mean(axis=(1, 2)))
