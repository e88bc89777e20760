"""The verification certificate (可视化验章): one HTML page that says what was checked and found.

In: verdicts. Out: a page that needs nothing else, prints on A4 in black and white, and tells
pass from failure by words and shapes: verdict, seals and main facts in front, everything that was
checked in the annex. It runs no script and loads nothing: pictures of seals
are embedded, those that browsers could be harmed by are left out. Every text comes from files
of strangers: all of it is escaped, and characters that change the reading order are shown as
what they are. Raises nothing for whatever the files contain.
"""

from __future__ import annotations

from exchange.evidence.report.facts import Titles
from exchange.evidence.report.front import certificate
from exchange.evidence.report.pictures import MAX_PICTURE, MAX_SIDE, picture_source

__all__ = ["MAX_PICTURE", "MAX_SIDE", "Titles", "certificate", "picture_source"]
