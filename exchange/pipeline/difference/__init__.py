"""Snapshot difference (快照比对): what changed between two whole states of a source.

For sources that do not tell what changed: every pull reads everything, compares it by key and
digest with what was delivered, and brings new rows (I), changed ones (U) and those that are gone
(D). A pull goes through these steps; it may be killed at any of them:

1. Read the source; write changed rows and the new state into a folder of its own.
2. Name that folder: from now on it never changes. A pull that dies before starts again, and
   nothing of it was delivered.
3. Deliver the changes from the folder, part by part; the cursor, which the log commits together
   with each part, says which is next.
4. The cursor names the new state. The one before is removed by the next pull.

Deletions are never taken from a state that is not whole: an error of the source ends the pull.
Where it is empty, or lacks more rows than are expected to go, a person decides.
"""

from exchange.pipeline.difference.decision import DeletionDecision, WaitingDeletions, waiting
from exchange.pipeline.difference.source import DifferenceSource, decided

__all__ = ["DeletionDecision", "DifferenceSource", "WaitingDeletions", "decided", "waiting"]
