"""The bench: an synthetic table of any length, the measuring tools, and what to compare with.

In: a number of rows and an empty PostgreSQL database or a file's path. Out: the table there, and
figures of the floor (COPY, unparsed) and of the row-at-a-time path over the same rows.
"""
