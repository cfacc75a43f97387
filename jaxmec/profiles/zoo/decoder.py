"""A transformer decoder in Flax, of the size of GPT-2 small: layers in one scan, the cache as an argument.

Source of the dimensions: Radford et al. 2019, "Language Models are Unsupervised Multitask Learners" (124 million
parameters): 12 layers of width 768, 12 heads, 50,257 tokens, learned positions, tied embedding.
"""

from __future__ import annotations

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np

from jaxmec.profiles import PartitionProfile, profile

PROMPT = 128  # tokens of a prefill
CONTEXT = 256  # tokens that the cache holds
TOKEN_BITS = 16  # of a token's number among 50,257
CACHE, POSITION = 2, 1  # inputs of the decoder that stay on their side
NEW_CACHE = 1  # its output that does


class _Layer(nn.Module):
    heads: int

    @nn.compact
    def __call__(self, x, cache, position):
        """Run on x [B, S, width]; cache {"key", "value"} [B, T, heads, width / heads]; position int32[]."""
        width = x.shape[-1]
        y = nn.LayerNorm(name="norm1")(x)
        query, key, value = jnp.split(nn.Dense(3 * width, name="qkv")(y), 3, axis=-1)
        shape = (*x.shape[:2], self.heads, width // self.heads)
        query, key, value = (part.reshape(shape) for part in (query, key, value))
        cache = {
            name: jax.lax.dynamic_update_slice_in_dim(cache[name], new, position, axis=1)
            for name, new in (("key", key), ("value", value))
        }
        seen = jnp.arange(cache["key"].shape[1])[None, :] <= (position + jnp.arange(x.shape[1]))[:, None]
        y = jax.nn.dot_product_attention(query, cache["key"], cache["value"], mask=seen[None, None])
        x = x + nn.Dense(width, name="project")(y.reshape(x.shape))
        y = nn.Dense(4 * width, name="expand")(nn.LayerNorm(name="norm2")(x))
        return x + nn.Dense(width, name="contract")(nn.gelu(y)), cache


class Decoder(nn.Module):
    """Next-token logits of some tokens behind those that the cache holds."""

    layers: int = 12
    width: int = 768
    heads: int = 12
    vocabulary: int = 50_257
    longest: int = 1024

    @nn.compact
    def __call__(self, tokens, position, cache):
        """Run the decoder.

        Args:
          tokens: int32[B, S], a prompt (prefill) or one token (decode).
          position: int32[], tokens that the cache holds already.
          cache: {"key", "value"}: float[layers, B, T, heads, width / heads], see `empty_cache`.

        Returns:
          Logits float[B, vocabulary] of the token after the last one, and the new cache.
        """
        embedding = nn.Embed(self.vocabulary, self.width, name="embedding")
        positions = self.param("positions", nn.initializers.normal(0.02), (self.longest, self.width), jnp.float32)
        here = jax.lax.dynamic_slice_in_dim(positions, position, tokens.shape[1])
        x = embedding(tokens) + here[None]
        stack = nn.scan(
            _Layer,
            variable_axes={"params": 0},
            split_rngs={"params": True},
            in_axes=(0, nn.broadcast),
            length=self.layers,
        )
        x, cache = stack(self.heads, name="layers")(x, cache, position)
        return embedding.attend(nn.LayerNorm(name="norm")(x[:, -1])), cache

    def empty_cache(self, batch: int, tokens: int) -> dict[str, jax.Array]:
        """A cache for so many tokens, float32[layers, batch, tokens, heads, width / heads] each."""
        shape = (self.layers, batch, tokens, self.heads, self.width // self.heads)
        return {name: jnp.zeros(shape, jnp.float32) for name in ("key", "value")}


def abstract(tokens: int, decoder: Decoder | None = None, context: int = CONTEXT):
    """The decoder as `profile` takes it, on so many new tokens: fn, params, tokens, position, cache."""
    decoder = decoder or Decoder()
    inputs = (
        jax.ShapeDtypeStruct((1, tokens), np.int32),
        jax.ShapeDtypeStruct((), np.int32),
        jax.eval_shape(lambda: decoder.empty_cache(1, context)),
    )
    return decoder.apply, jax.eval_shape(decoder.init, jax.random.key(0), *inputs), *inputs


def tables() -> list[PartitionProfile]:
    """Cut tables of the two phases: a prompt of 128 tokens, and one token in a context of 256."""
    return [
        profile(
            *abstract(tokens),
            name=f"decoder_{phase}",
            resident=(POSITION, CACHE),
            local_outputs=True,
            input_bits=TOKEN_BITS * tokens,
            source=f"traced by jaxmec.profiles from jaxmec/profiles/zoo/decoder.py; {tokens} new token(s), "
            f"cache of {CONTEXT}; the next token's number, which returns to the device, is neglected",
        )
        for phase, tokens in (("prefill", PROMPT), ("decode", 1))
    ]
