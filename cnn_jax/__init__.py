"""Convolutional-network research in JAX and Flax."""
