"""The log on one machine: topics with transactions in one SQLite file."""
