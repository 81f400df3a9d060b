"""Formats of record values other than JSON: each makes the rows of a record, as mappings of names to values.

``registry`` opens the format that a policy asks for; JSON itself needs none, its decoder makes rows directly.
"""
