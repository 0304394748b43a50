"""The HTTP front: a server on httptools, the vendors' APIs on it, and the kernel behind it."""
