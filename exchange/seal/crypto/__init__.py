"""Ciphers and keys: suites, libcrypto, devices (PKCS#11), strict DER."""
