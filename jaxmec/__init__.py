"""jaxmec: cooperative edge inference in JAX."""
