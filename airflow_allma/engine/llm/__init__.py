"""Calls of language models: requests, wire formats of providers, limits, and what is made of the response."""
