from __future__ import annotations

import pytest

from tests.independent.judges import Demo, Judges, anchors, run


@pytest.fixture(scope="session")
def demo(tmp_path_factory: pytest.TempPathFactory) -> Demo:
    folder = tmp_path_factory.mktemp("demo")
    done = run("exchange", "demo", "--json", "--folder", folder, "--scale", "0.01")
    assert done.returncode == 0, done.stderr
    node = folder / "node"
    log = node / "data/evidence"
    return Demo(
        Judges(anchors(node / "seals/root.pem"), anchors(node / "province/seal/root.pem"), log),
        log,
        [path.read_bytes() for path in sorted((folder / "evidence").glob("*.avro"))],
        [path.read_bytes() for path in sorted((folder / "evidence").glob("*.receipt.json"))],
    )
