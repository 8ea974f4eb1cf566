"""Many runs: everything here composes `python -m experiments.train` and imports nothing of it."""
