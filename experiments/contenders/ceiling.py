"""The most that this machine gives: a product of two large square matrices, by XLA."""

import jax
import jax.numpy as jnp

from experiments.contenders import jax_device
from experiments.contenders.task import Contender, Started, Task

CPU_SIZE, ACCELERATOR_SIZE = 2048, 8192


def build(task: Task) -> Contender:
    """Returns the contender; its step is one product in the type of the task's computation."""
    size = CPU_SIZE if jax.default_backend() == "cpu" else ACCELERATOR_SIZE
    dtype = task.config.train.dtype

    def start() -> Started:
        a, b = jax.random.normal(jax.random.key(0), (2, size, size), dtype)
        product = jax.jit(jnp.matmul)

        def run(steps: int) -> int:
            for _ in range(steps):
                result = product(a, b)
            result.block_until_ready()
            return steps

        return Started(run, parameters=0, flops=2 * size**3)

    return jax_device.contender(start)
