"""Certificates: X.509, revocation, time stamps, trust, signers by address."""
