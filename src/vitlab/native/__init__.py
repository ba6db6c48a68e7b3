"""The fast path: C kernels, and a network that computes the same with them (accelerate.py)."""
