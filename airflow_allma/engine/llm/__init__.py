"""Calls to language models: requests, the providers' wire formats, rate limits, costs, and the answers."""
