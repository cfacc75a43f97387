"""Flax definitions of AlexNet, VGG16, ResNet18, ResNet50, MobileNetV2 and ViT-B/16, for 224 x 224 images.

Layer by layer the networks whose weights torchvision publishes; batch normalisation is folded into a scale and a
shift, as at inference. Sources: Krizhevsky 2014 (arXiv 1404.5997), Simonyan and Zisserman 2014 (1409.1556),
He et al. 2015 (1512.03385), Sandler et al. 2018 (1801.04381), Dosovitskiy et al. 2020 (2010.11929).
"""

from __future__ import annotations

from functools import partial

import flax.linen as nn
import jax
import jax.numpy as jnp

IMAGE = (1, 224, 224, 3)
CLASSES = 1000


class ScaleShift(nn.Module):
    """Batch normalisation at inference."""

    @nn.compact
    def __call__(self, x):
        """[..., C] to [..., C]."""
        shape = (1,) * (x.ndim - 1) + x.shape[-1:]
        scale = self.param("scale", nn.initializers.ones, shape, jnp.float32)
        shift = self.param("shift", nn.initializers.zeros, shape, jnp.float32)
        return x * scale + shift


def _conv(features, size, stride=1, groups=1, norm=True, act=nn.relu, name=None):
    layers: list = [
        nn.Conv(
            features,
            (size, size),
            (stride, stride),
            padding=(size - 1) // 2,
            feature_group_count=groups,
            use_bias=not norm,
        )
    ]
    if norm:
        layers.append(ScaleShift())
    if act is not None:
        layers.append(act)
    return nn.Sequential(layers, name=name)


class AlexNet(nn.Module):
    """The single-tower variant of 2014."""

    @nn.compact
    def __call__(self, x):
        """[B, 224, 224, 3] to [B, 1000]."""
        pool = partial(nn.max_pool, window_shape=(3, 3), strides=(2, 2))
        x = pool(nn.relu(nn.Conv(64, (11, 11), (4, 4), padding=2, name="conv1")(x)))
        x = pool(nn.relu(nn.Conv(192, (5, 5), padding=2, name="conv2")(x)))
        for i, features in enumerate((384, 256, 256), start=3):
            x = nn.relu(nn.Conv(features, (3, 3), padding=1, name=f"conv{i}")(x))
        x = pool(x).reshape(x.shape[0], -1)
        for i in (6, 7):
            x = nn.relu(nn.Dense(4096, name=f"fc{i}")(x))
        return nn.Dense(CLASSES, name="fc8")(x)


class VGG16(nn.Module):
    """Configuration D."""

    @nn.compact
    def __call__(self, x):
        """[B, 224, 224, 3] to [B, 1000]."""
        for block, (features, depth) in enumerate(((64, 2), (128, 2), (256, 3), (512, 3), (512, 3)), start=1):
            for i in range(1, depth + 1):
                x = nn.relu(nn.Conv(features, (3, 3), padding=1, name=f"conv{block}_{i}")(x))
            x = nn.max_pool(x, (2, 2), (2, 2))
        x = x.reshape(x.shape[0], -1)
        for i in (6, 7):
            x = nn.relu(nn.Dense(4096, name=f"fc{i}")(x))
        return nn.Dense(CLASSES, name="fc8")(x)


class _Basic(nn.Module):
    features: int
    stride: int

    @nn.compact
    def __call__(self, x):
        y = _conv(self.features, 3, self.stride)(x)
        y = _conv(self.features, 3, act=None)(y)
        if x.shape != y.shape:
            x = _conv(self.features, 1, self.stride, act=None, name="shortcut")(x)
        return nn.relu(x + y)


class _Bottleneck(nn.Module):
    features: int
    stride: int

    @nn.compact
    def __call__(self, x):
        y = _conv(self.features, 1)(x)
        y = _conv(self.features, 3, self.stride)(y)
        y = _conv(4 * self.features, 1, act=None)(y)
        if x.shape != y.shape:
            x = _conv(4 * self.features, 1, self.stride, act=None, name="shortcut")(x)
        return nn.relu(x + y)


class ResNet(nn.Module):
    """ResNet18 (basic blocks) and ResNet50 (bottlenecks, stride in the 3 x 3 convolution)."""

    block: type[nn.Module]
    depths: tuple[int, ...]

    @nn.compact
    def __call__(self, x):
        """[B, 224, 224, 3] to [B, 1000]."""
        x = _conv(64, 7, 2, name="stem")(x)
        x = nn.max_pool(x, (3, 3), (2, 2), padding=((1, 1), (1, 1)))
        for stage, depth in enumerate(self.depths):
            for i in range(depth):
                stride = 2 if stage > 0 and i == 0 else 1
                x = self.block(64 * 2**stage, stride, name=f"stage{stage + 1}_{i + 1}")(x)
        return nn.Dense(CLASSES, name="fc")(x.mean(axis=(1, 2)))


class _InvertedResidual(nn.Module):
    features: int
    stride: int
    expansion: int

    @nn.compact
    def __call__(self, x):
        width = x.shape[-1] * self.expansion
        y = x if self.expansion == 1 else _conv(width, 1, act=nn.relu6)(x)
        y = _conv(width, 3, self.stride, groups=width, act=nn.relu6)(y)
        y = _conv(self.features, 1, act=None)(y)
        return x + y if x.shape == y.shape else y


class MobileNetV2(nn.Module):
    """Width 1.0."""

    @nn.compact
    def __call__(self, x):
        """[B, 224, 224, 3] to [B, 1000]."""
        x = _conv(32, 3, 2, act=nn.relu6, name="stem")(x)
        blocks = (
            (1, 16, 1, 1),
            (6, 24, 2, 2),
            (6, 32, 3, 2),
            (6, 64, 4, 2),
            (6, 96, 3, 1),
            (6, 160, 3, 2),
            (6, 320, 1, 1),
        )
        for stage, (expansion, features, depth, stride) in enumerate(blocks, start=1):
            for i in range(depth):
                name = f"stage{stage}_{i + 1}"
                x = _InvertedResidual(features, stride if i == 0 else 1, expansion, name=name)(x)
        x = _conv(1280, 1, act=nn.relu6, name="head")(x)
        return nn.Dense(CLASSES, name="fc")(x.mean(axis=(1, 2)))


class _Encoder(nn.Module):
    @nn.compact
    def __call__(self, x):
        y = nn.LayerNorm()(x)
        x = x + nn.MultiHeadDotProductAttention(num_heads=12, name="attention")(y)
        y = nn.LayerNorm()(x)
        y = nn.Dense(3072, name="mlp1")(y)
        return x + nn.Dense(768, name="mlp2")(nn.gelu(y))


class ViTB16(nn.Module):
    """Twelve encoders of width 768 over 16 x 16 patches."""

    @nn.compact
    def __call__(self, x):
        """[B, 224, 224, 3] to [B, 1000]."""
        x = nn.Conv(768, (16, 16), (16, 16), padding="VALID", name="patches")(x)
        x = x.reshape(x.shape[0], -1, 768)
        token = self.param("token", nn.initializers.zeros, (1, 1, 768), jnp.float32)
        x = jnp.concatenate([jnp.broadcast_to(token, (x.shape[0], 1, 768)), x], axis=1)
        x = x + self.param("positions", nn.initializers.normal(0.02), (1, x.shape[1], 768), jnp.float32)
        for i in range(12):
            x = _Encoder(name=f"encoder{i + 1}")(x)
        return nn.Dense(CLASSES, name="fc")(nn.LayerNorm()(x)[:, 0])


NETWORKS: dict[str, nn.Module] = {
    "alexnet": AlexNet(),
    "vgg16": VGG16(),
    "resnet18": ResNet(_Basic, (2, 2, 2, 2)),
    "resnet50": ResNet(_Bottleneck, (3, 4, 6, 3)),
    "mobilenet_v2": MobileNetV2(),
    "vit_b_16": ViTB16(),
}


def abstract(name: str, batch: int = 1):
    """A network as `jaxmec.profiles.profile` takes it: fn, params, image, without any weights."""
    network = NETWORKS[name]
    image = jax.ShapeDtypeStruct((batch, *IMAGE[1:]), jnp.float32)
    params = jax.eval_shape(network.init, jax.random.key(0), image)
    return network.apply, params, image
