"""Flax Linen networks built on `cnn_jax.layers`."""
