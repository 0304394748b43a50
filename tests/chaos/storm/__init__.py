"""A storm over a kernel: all that can happen to it, at once, by a seed; and an oracle that looks at what came of it."""
