from __future__ import annotations

import base64
import hashlib
import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from exchange.seal.batch import tree as merkle
from exchange.seal.crypto.suites import ECDSA_P256_SHA256, SM2_SM3, SUITES, Suite

VECTORS = json.loads(Path(__file__).parent.parent.joinpath("vectors/merkle.json").read_text())
SHARED = Path(__file__).parents[3] / "shared/vectors/merkle"


def by_the_book(suite: Suite, hashes: list[bytes]) -> bytes:
    """RFC 6962 §2.1 as it is written: split at the largest power of two smaller than n."""
    if len(hashes) == 1:
        return hashes[0]
    k = 1 << (len(hashes) - 1).bit_length() - 1
    left, right = by_the_book(suite, hashes[:k]), by_the_book(suite, hashes[k:])
    return suite.digest(b"\x01" + left + right)


@pytest.mark.parametrize("name", SUITES)
@given(count=st.integers(1, 70), seed=st.binary(min_size=16, max_size=16))
def test_tree_is_the_one_of_the_rfc_and_every_path_leads_to_its_root(
    name: str, count: int, seed: bytes
) -> None:
    suite = SUITES[name]
    records = [b"%d" % i * (i % 5) for i in range(count)]
    offsets = [0]
    for record in records:
        offsets.append(offsets[-1] + len(record))
    salted = merkle.salts(suite, seed, count)
    hashes = merkle.leaves(suite, b"".join(records), offsets, salted)
    assert hashes == [
        merkle.leaf(suite, salted[16 * i : 16 * i + 16], record) for i, record in enumerate(records)
    ]
    tree = merkle.levels(suite, hashes)
    root = merkle.root(suite, hashes)
    assert root == tree[-1][0] == by_the_book(suite, hashes)
    for i, item in enumerate(hashes):
        path = merkle.path(tree, i)
        assert merkle.root_from_path(suite, item, index=i, size=count, path=path) == root


@given(count=st.integers(2, 40), data=st.data())
def test_wrong_paths_are_refused_or_lead_elsewhere(count: int, data: st.DataObject) -> None:
    suite = ECDSA_P256_SHA256
    hashes = [suite.digest(b"%d" % i) for i in range(count)]
    tree = merkle.levels(suite, hashes)
    index = data.draw(st.integers(0, count - 1))
    path = merkle.path(tree, index)

    def root(leaf: bytes, index: int, size: int, path: list[bytes]) -> bytes | None:
        try:
            return merkle.root_from_path(suite, leaf, index=index, size=size, path=path)
        except ValueError:
            return None

    expected = tree[-1][0]
    bad = bytes(32)
    assert root(bad, index, count, path) != expected
    assert root(hashes[index], (index + 1) % count, count, path) != expected
    assert root(hashes[index], count, count, path) is None
    assert root(hashes[index], -1, count, path) is None
    assert root(hashes[index], index, count, path[:-1]) is None
    assert root(hashes[index], index, count, [*path, bad]) is None
    assert root(hashes[index], index, count, [path[0][:31], *path[1:]]) is None
    for i in range(len(path)):
        assert root(hashes[index], index, count, [*path[:i], bad, *path[i + 1 :]]) != expected


def test_salts_are_the_ciphers_counter_blocks() -> None:
    # openssl enc -sm4-ctr / -aes-128-ctr -K 000102…0f -iv 0 over zeros
    assert VECTORS["salts"].keys() == SUITES.keys()
    for name, expected in VECTORS["salts"].items():
        assert merkle.salts(SUITES[name], bytes(range(16)), 3).hex() == expected


def test_own_vectors() -> None:
    for name, roots in VECTORS["roots"].items():
        suite = SUITES[name]
        for size, expected in enumerate(roots, start=1):
            records = [bytes([i]) * i for i in range(size)]
            offsets = [sum(map(len, records[:i])) for i in range(size + 1)]
            salted = merkle.salts(suite, bytes(range(16)), size)
            hashes = merkle.leaves(suite, b"".join(records), offsets, salted)
            assert merkle.root(suite, hashes).hex() == expected


def test_no_tree_without_leaves() -> None:
    with pytest.raises(ValueError, match="at least one leaf"):
        merkle.root(SM2_SM3, [])


@pytest.mark.skipif(not SHARED.exists(), reason="vectors of transparency-dev not beside the clone")
def test_vectors_of_transparency_dev() -> None:
    cases = json.loads((SHARED / "inclusion.json").read_text())
    for name, case in cases.items():
        decode = base64.b64decode
        try:
            result = merkle.root_from_path(
                ECDSA_P256_SHA256,
                decode(case["leafHash"] or ""),
                index=case["leafIdx"],
                size=case["treeSize"],
                path=[decode(item) for item in case["proof"] or []],
            )
            accepted = result == decode(case["root"] or "")
        except ValueError:
            accepted = False
        assert accepted is not case["wantErr"], name
    assert len(cases) > 50


@pytest.mark.skipif(not SHARED.exists(), reason="vectors of transparency-dev not beside the clone")
def test_consistency_vectors_of_transparency_dev() -> None:
    cases = json.loads((SHARED / "consistency.json").read_text())
    for name, case in cases.items():
        decode = base64.b64decode
        accepted = merkle.verify_consistency(
            ECDSA_P256_SHA256,
            first=case["size1"],
            first_root=decode(case["root1"] or ""),
            second=case["size2"],
            second_root=decode(case["root2"] or ""),
            path=[decode(item) for item in case["proof"] or []],
        )
        assert accepted is not case["wantErr"], name
    assert len(cases) > 50


def proof_by_the_book(suite: Suite, m: int, hashes: list[bytes], *, whole: bool) -> list[bytes]:
    """RFC 6962 §2.1.2 as it is written: SUBPROOF(m, D[n], b)."""
    if m == len(hashes):
        return [] if whole else [by_the_book(suite, hashes)]
    k = 1 << (len(hashes) - 1).bit_length() - 1
    if m <= k:
        left = proof_by_the_book(suite, m, hashes[:k], whole=whole)
        return [*left, by_the_book(suite, hashes[k:])]
    right = proof_by_the_book(suite, m - k, hashes[k:], whole=False)
    return [*right, by_the_book(suite, hashes[:k])]


@pytest.mark.parametrize("name", SUITES)
def test_every_tree_continues_each_smaller_one_and_no_other(name: str) -> None:
    suite = SUITES[name]
    hashes = [suite.digest(b"%d" % i) for i in range(40)]
    roots = [merkle.root(suite, hashes[: i + 1]) for i in range(40)]
    for second in range(1, 41):
        for first in range(1, second + 1):
            path = proof_by_the_book(suite, first, hashes[:second], whole=True)
            joined = {
                "first": first,
                "first_root": roots[first - 1],
                "second": second,
                "second_root": roots[second - 1],
                "path": path,
            }

            def holds(fields: dict[str, Any] = joined, **changed: Any) -> bool:
                return merkle.verify_consistency(suite, **{**fields, **changed})

            assert holds()
            assert not holds(first_root=bytes(32))
            assert not holds(second_root=bytes(32))
            assert not holds(path=[*path, bytes(32)])
            assert not holds(path=[*path, b""])
            assert not holds(first=first + 1)
            assert not holds(first=0)
            for i in range(len(path)):
                assert not holds(path=[*path[:i], bytes(32), *path[i + 1 :]])
                assert not holds(path=path[:i])


def test_hash_is_the_one_of_hashlib() -> None:
    expected = hashlib.sha256(b"\x00" + bytes(16) + b"record").digest()
    assert merkle.leaf(ECDSA_P256_SHA256, bytes(16), b"record") == expected
