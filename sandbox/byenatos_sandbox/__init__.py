"""Runs one untrusted process: a grant goes in, a supervised process with one channel comes out."""
