"""Maintenance of a lake: compaction, merges, deletes, retention, vacuum, bulk commits.

Every function works on one table through its log, may run in any number of processes at once, and may be
killed at any moment: rows become visible or invisible by one commit each.
"""
