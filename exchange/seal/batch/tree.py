"""The salted hash tree over the records of one batch: RFC 6962 §2.1 with a salt in each leaf.

Let H be the hash of the suite and ``||`` concatenation:

* leaf of record i = H(0x00 || salt_i || record_i), salt_i being 16 bytes;
* node = H(0x01 || left || right), 32 + 32 bytes;
* a level with an odd number of nodes hands its last node up unchanged, which is the same
  tree as "split at the largest power of two smaller than n".

The salts are one keystream per batch: a block cipher in counter mode under the batch's seed.
A proof shows one salt; to guess a neighbour's record from its hash one would have to know the
neighbour's salt, that is: another block of the keystream, that is: the seed.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import accumulate, islice

from exchange.seal.crypto.hash_kernel import chosen
from exchange.seal.crypto.hash_python import HASH_SIZE, SALT_SIZE, Offsets, level_sizes
from exchange.seal.crypto.openssl import keystream
from exchange.seal.crypto.suites import ECDSA_P256_SHA256, SM2_SM3, Suite

__all__ = [
    "HASH_SIZE",
    "LEAF",
    "NODE",
    "SALT_SIZE",
    "entry_hashes",
    "leaf",
    "leaves",
    "levels",
    "path",
    "records_root",
    "root",
    "root_from_path",
    "salts",
    "split",
    "verify_consistency",
]

LEAF = b"\x00"
NODE = b"\x01"

_CIPHERS = {SM2_SM3.id: "sm4", ECDSA_P256_SHA256.id: "aes-128"}


def salts(suite: Suite, seed: bytes, count: int) -> bytes:
    """Return ``count`` salts end to end: the CTR keystream of ``seed`` from a zero counter."""
    return keystream(_CIPHERS[suite.id], seed, SALT_SIZE * count)


def leaf(suite: Suite, salt: bytes, record: bytes) -> bytes:
    """Hash one salted record."""
    return suite.digest(LEAF + salt + record)


def leaves(suite: Suite, records: bytes, offsets: Offsets, salted: bytes) -> list[bytes]:
    """Hash all records: record i is ``records[offsets[i]:offsets[i + 1]]``."""
    return split(chosen().hashing.leaves(suite, LEAF, records, offsets, salted))


def records_root(suite: Suite, records: bytes, offsets: Offsets, salted: bytes) -> bytes:
    """Return the root of the tree over salted records, of which there is at least one.

    This is most of the cost of a seal. Raises ValueError for offsets and salts that do not fit.
    """
    hashing = chosen().hashing
    hashes = hashing.leaves(suite, LEAF, records, offsets, salted)
    return hashing.tree(suite, NODE, hashes)[-HASH_SIZE:] or hashes


def entry_hashes(suite: Suite, entries: Sequence[bytes]) -> list[bytes]:
    """Hash entries without salts, the leaves of RFC 6962 §2.1 as they are."""
    offsets = list(accumulate(map(len, entries), initial=0))
    return split(chosen().hashing.leaves(suite, LEAF, b"".join(entries), offsets, b""))


def levels(suite: Suite, hashes: list[bytes]) -> list[list[bytes]]:
    """Return the tree from its leaves (at least one) up to the level that holds the root."""
    nodes = iter(split(chosen().hashing.tree(suite, NODE, b"".join(hashes))))
    return [hashes, *(list(islice(nodes, size)) for size in level_sizes(len(hashes)))]


def root(suite: Suite, hashes: list[bytes]) -> bytes:
    """Return the Merkle tree hash of the leaves (RFC 6962 §2.1)."""
    together = b"".join(hashes)
    return chosen().hashing.tree(suite, NODE, together)[-HASH_SIZE:] or together


def split(hashes: bytes) -> list[bytes]:
    """Take hashes that stand end to end apart."""
    return [hashes[at : at + HASH_SIZE] for at in range(0, len(hashes), HASH_SIZE)]


def path(tree: list[list[bytes]], index: int) -> list[bytes]:
    """Return the audit path of leaf ``index``, from the leaf's sibling upwards (§2.1.1)."""
    siblings = []
    for level in tree[:-1]:
        if index ^ 1 < len(level):
            siblings.append(level[index ^ 1])
        index >>= 1
    return siblings


def root_from_path(
    suite: Suite, leaf_hash: bytes, *, index: int, size: int, path: Sequence[bytes]
) -> bytes:
    """Recompute the root of a tree of ``size`` leaves from one leaf and its audit path.

    RFC 9162 §2.1.3.2. Raises ValueError where index, size and length of the path disagree.
    """
    if not 0 <= index < size:
        raise ValueError(f"index {index} is not below the tree size {size}")
    for each in (leaf_hash, *path):
        if len(each) != HASH_SIZE:
            raise ValueError(f"a hash of {len(each)} bytes")
    found = leaf_hash
    last = size - 1
    for sibling in path:
        if last == 0:
            raise ValueError("the path is too long")
        if index % 2 or index == last:
            found = suite.digest(NODE + sibling + found)
            while index % 2 == 0 and index:  # levels at which this node was handed up
                index >>= 1
                last >>= 1
        else:
            found = suite.digest(NODE + found + sibling)
        index >>= 1
        last >>= 1
    if last:
        raise ValueError("the path is too short")
    return found


def verify_consistency(
    suite: Suite,
    *,
    first: int,
    first_root: bytes,
    second: int,
    second_root: bytes,
    path: Sequence[bytes],
) -> bool:
    """Tell whether a tree of ``second`` leaves only appended to one of ``first`` leaves.

    RFC 9162 §2.1.4.2; an empty tree has no root to compare, so ``first`` is at least 1.
    """
    if not 1 <= first <= second:
        return False
    if any(len(each) != HASH_SIZE for each in path):
        return False
    if first == second:
        return not path and first_root == second_root
    node, last = first - 1, second - 1
    while node % 2:
        node >>= 1
        last >>= 1
    found, *rest = [first_root, *path] if node == 0 else [*path] or [b""]
    old = new = found
    for sibling in rest:
        if last == 0:
            return False
        if node % 2 or node == last:
            old = suite.digest(NODE + sibling + old)
            new = suite.digest(NODE + sibling + new)
            while node % 2 == 0 and node:  # levels at which this node was handed up
                node >>= 1
                last >>= 1
        else:
            new = suite.digest(NODE + new + sibling)
        node >>= 1
        last >>= 1
    return last == 0 and old == first_root and new == second_root
