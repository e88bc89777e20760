"""Draft: a source's rows in, a proposal for the catalog out; pure, columns not rows.

What fits a type is decided by the validator itself, so a guess never disagrees with it.
"""
