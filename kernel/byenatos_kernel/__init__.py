"""The kernel: routes requests to driver processes and swaps them under running conversations."""
