"""The kernel: routes requests to driver processes and swaps them under running conversations."""

__all__ = ["__version__"]

__version__ = "0.1.0"
