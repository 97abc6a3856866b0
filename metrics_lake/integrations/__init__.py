"""Adapters for other frameworks: each imports its framework inside, and nothing here imports an adapter."""
