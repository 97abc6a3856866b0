"""Families of metrics: each module builds the states of one kind of prediction, and finalises them."""
