"""Alembic migrations of the store; released ones never change."""
