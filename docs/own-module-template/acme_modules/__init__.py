"""Modules for flows, registered in pyproject.toml."""
