"""Flax definitions of well-known image networks, for 224 x 224 images where the name says no other size.

Layer by layer the networks whose weights torchvision publishes; batch normalisation is folded into a scale and a
shift, as at inference. Sources: Krizhevsky 2014 (arXiv 1404.5997), Simonyan and Zisserman 2014 (1409.1556),
Szegedy et al. 2014 (1409.4842), He et al. 2015 (1512.03385), Sandler et al. 2018 (1801.04381), Dosovitskiy et al.
2020 (2010.11929); `compact` has those of the rest.
"""

from __future__ import annotations

from functools import partial

import flax.linen as nn
import jax
import jax.numpy as jnp

from jaxmec.profiles.zoo import compact
from jaxmec.profiles.zoo.layers import CLASSES, InvertedResidual, conv


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
        y = conv(self.features, 3, self.stride)(x)
        y = conv(self.features, 3, act=None)(y)
        if x.shape != y.shape:
            x = conv(self.features, 1, self.stride, act=None, name="shortcut")(x)
        return nn.relu(x + y)


class _Bottleneck(nn.Module):
    features: int
    stride: int

    @nn.compact
    def __call__(self, x):
        y = conv(self.features, 1)(x)
        y = conv(self.features, 3, self.stride)(y)
        y = conv(4 * self.features, 1, act=None)(y)
        if x.shape != y.shape:
            x = conv(4 * self.features, 1, self.stride, act=None, name="shortcut")(x)
        return nn.relu(x + y)


class ResNet(nn.Module):
    """ResNet18 (basic blocks) and ResNet50 (bottlenecks, stride in the 3 x 3 convolution)."""

    block: type[nn.Module]
    depths: tuple[int, ...]

    @nn.compact
    def __call__(self, x):
        """[B, 224, 224, 3] to [B, 1000]."""
        x = conv(64, 7, 2, name="stem")(x)
        x = nn.max_pool(x, (3, 3), (2, 2), padding=((1, 1), (1, 1)))
        for stage, depth in enumerate(self.depths):
            for i in range(depth):
                stride = 2 if stage > 0 and i == 0 else 1
                x = self.block(64 * 2**stage, stride, name=f"stage{stage + 1}_{i + 1}")(x)
        return nn.Dense(CLASSES, name="fc")(x.mean(axis=(1, 2)))


class MobileNetV2(nn.Module):
    """Width 1.0."""

    @nn.compact
    def __call__(self, x):
        """[B, 224, 224, 3] to [B, 1000]."""
        x = conv(32, 3, 2, act=nn.relu6, name="stem")(x)
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
                width = expansion * x.shape[-1]
                x = InvertedResidual(features, stride if i == 0 else 1, width, name=name)(x)
        x = conv(1280, 1, act=nn.relu6, name="head")(x)
        return nn.Dense(CLASSES, name="fc")(x.mean(axis=(1, 2)))


class _Encoder(nn.Module):
    @nn.compact
    def __call__(self, x):
        y = nn.LayerNorm()(x)
        x = x + nn.MultiHeadDotProductAttention(num_heads=12, name="attention")(y)
        y = nn.LayerNorm()(x)
        y = nn.Dense(3072, name="mlp1")(y)
        return x + nn.Dense(768, name="mlp2")(nn.gelu(y))


class ViTB(nn.Module):
    """Twelve encoders of width 768 over square patches."""

    patch: int = 16

    @nn.compact
    def __call__(self, x):
        """[B, H, W, 3] to [B, 1000]."""
        patch = (self.patch, self.patch)
        x = nn.Conv(768, patch, patch, padding="VALID", name="patches")(x)
        x = x.reshape(x.shape[0], -1, 768)
        token = self.param("token", nn.initializers.zeros, (1, 1, 768), jnp.float32)
        x = jnp.concatenate([jnp.broadcast_to(token, (x.shape[0], 1, 768)), x], axis=1)
        x = x + self.param("positions", nn.initializers.normal(0.02), (1, x.shape[1], 768), jnp.float32)
        for i in range(12):
            x = _Encoder(name=f"encoder{i + 1}")(x)
        return nn.Dense(CLASSES, name="fc")(nn.LayerNorm()(x)[:, 0])


class _Inception(nn.Module):
    widths: tuple[int, int, int, int, int, int]  # 1 x 1; reduced and 3 x 3; reduced and large; after the pool
    large: int

    @nn.compact
    def __call__(self, x):
        one, reduced, three, reduced_large, large, pooled = self.widths
        branches = (
            conv(one, 1)(x),
            conv(three, 3)(conv(reduced, 1)(x)),
            conv(large, self.large)(conv(reduced_large, 1)(x)),
            conv(pooled, 1)(nn.max_pool(x, (3, 3), padding="SAME")),
        )
        return jnp.concatenate(branches, axis=-1)


class GoogLeNet(nn.Module):
    """Nine inception modules; the published weights of torchvision have 3 x 3 kernels for the paper's 5 x 5."""

    large: int = 5

    @nn.compact
    def __call__(self, x):
        """[B, 224, 224, 3] to [B, 1000]."""
        pool = partial(nn.max_pool, window_shape=(3, 3), strides=(2, 2), padding="SAME")
        x = pool(conv(64, 7, 2, name="conv1")(x))
        x = pool(conv(192, 3, name="conv3")(conv(64, 1, name="conv2")(x)))
        stages = (
            ((64, 96, 128, 16, 32, 32), (128, 128, 192, 32, 96, 64)),
            (
                (192, 96, 208, 16, 48, 64),
                (160, 112, 224, 24, 64, 64),
                (128, 128, 256, 24, 64, 64),
                (112, 144, 288, 32, 64, 64),
                (256, 160, 320, 32, 128, 128),
            ),
            ((256, 160, 320, 32, 128, 128), (384, 192, 384, 48, 128, 128)),
        )
        for stage, modules in enumerate(stages, start=3):
            for i, widths in enumerate(modules, start=1):
                x = _Inception(widths, self.large, name=f"inception{stage}_{i}")(x)
            x = x.mean(axis=(1, 2)) if stage == 5 else pool(x)
        return nn.Dense(CLASSES, name="fc")(x)


NETWORKS: dict[str, nn.Module] = {
    "alexnet": AlexNet(),
    "vgg16": VGG16(),
    "googlenet": GoogLeNet(),
    "resnet18": ResNet(_Basic, (2, 2, 2, 2)),
    "resnet50": ResNet(_Bottleneck, (3, 4, 6, 3)),
    "squeezenet": compact.SqueezeNet(),
    "mobilenet_v1": compact.MobileNetV1(),
    "mobilenet_v2": MobileNetV2(),
    "mobilenet_v3": compact.MobileNetV3(),
    "shufflenet_v2": compact.ShuffleNetV2(),
    "mnasnet": compact.MNASNet(),
    "efficientnet_b0": compact.EfficientNetB0(),
    "regnet_y_400mf": compact.RegNetY400(),
    "vit_b_16": ViTB(),
    "vit_b_32_384": ViTB(patch=32),
}


def image_size(name: str) -> int:
    """Pixels along each side of a network's image; a name ends with them where they are not 224."""
    last = name.rpartition("_")[2]
    return int(last) if last.isdigit() and int(last) >= 100 else 224


def abstract(name: str, batch: int = 1):
    """A network as `jaxmec.profiles.profile` takes it: fn, params, image, without any weights."""
    network = NETWORKS[name]
    image = jax.ShapeDtypeStruct((batch, image_size(name), image_size(name), 3), jnp.float32)
    params = jax.eval_shape(network.init, jax.random.key(0), image)
    return network.apply, params, image
