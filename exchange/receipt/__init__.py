"""The receipt (回执): what the province signs for, bound to the exact bytes that were sent.

In: what was accepted, and the province's seal; or the bytes of a receipt. Out: one canonical
JSON file that anyone can check offline, or a numbered verification. Unreadable bytes raise
:class:`exchange.errors.Integrity`; a receipt that reads but does not hold is a verification
with failed checks, never an exception.
"""
