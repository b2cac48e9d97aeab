"""Benchmarks: ``python -m benchmarks NAME``.

Most measures come with a reference that is measured in the same call, and with their ratio, which can be
compared between machines. The docstring of each module describes its measures and references.
"""
