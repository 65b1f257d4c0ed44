"""A whole fleet against the pair of the sandbox: `make load`."""
