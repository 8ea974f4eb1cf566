"""What input costs, for `experiments.benchmark_data`: each figure is taken in a process of its own.

A subject is a module with `measure(contender, seconds, **task) -> dict`, which holds at least
`rate`, its unit's number per second; `turn` calls it in a new process.
"""
