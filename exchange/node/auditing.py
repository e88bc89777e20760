"""Opens the parts of a node for an audit: what is missing is not made."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from sqlalchemy import make_url

from exchange.errors import ExchangeError, Integrity

if TYPE_CHECKING:
    from exchange.audit.whole import NodeParts
    from exchange.catalog.model import Catalog
    from exchange.log import Log
    from exchange.node.node import Node
    from exchange.seal.checks import Verification
    from exchange.seal.pki.trust import Trust
    from exchange.store.database import Store


def audit_node(
    node: Node,
    *,
    known: Sequence[bytes] = (),
    progress: Callable[[int], None] = lambda _rows: None,
) -> Verification:
    """Audit everything that a node keeps; see :func:`exchange.audit.whole.audit`.

    Raises Transient where log or store do not answer, Misconfigured for those of another release.
    """
    from exchange.audit.whole import audit

    with ExitStack() as opened:
        return audit(_parts(node, opened), known=known, progress=progress)


def _parts(node: Node, opened: ExitStack) -> NodeParts:
    from exchange.audit.whole import NodeParts

    settings = node.settings
    path, log, structure = _log(node, opened)
    received, received_store, received_trust = _received(node, opened)
    upstream = settings.upstream
    return NodeParts(
        log=log,
        log_path=path,
        structure=structure,
        store=_store(node, settings.store, opened),
        store_expected=settings.store.partition("://")[0],
        evidence=settings.resolve(settings.evidence.folder),
        trust=node.trust(settings.trust),
        province=node.trust(upstream.trust) if upstream is not None else None,
        state=settings.resolve(settings.state),
        schemas=settings.resolve(settings.schemas),
        catalog=_catalog(node),
        sources={name: source.resource for name, source in settings.sources.items()},
        received=received,
        received_store=received_store,
        received_trust=received_trust,
        received_province="" if settings.receiver is None else settings.receiver.province,
    )


def _log(
    node: Node, opened: ExitStack
) -> tuple[Path | None, Log | None, Callable[[], Iterator[str]]]:
    if node.settings.log.driver == "kafka":
        return None, node.cluster, lambda: iter(())
    from exchange.log.embedded.log import EmbeddedLog
    from exchange.log.embedded.structure import structure

    path = node.settings.resolve(node.settings.log.path)
    if not path.is_file():
        return path, None, lambda: iter(())
    try:
        log = EmbeddedLog(path, clock=node.clock)
    except Integrity:
        return path, None, partial(structure, path)
    opened.callback(log.close)
    return path, log, partial(structure, path)


def _store(node: Node, address: str, opened: ExitStack) -> Store | None:
    """Open a store as it is; None for one in a file that is not there."""
    from exchange.store.database import open_store

    url = make_url(node.settings.url(address, node.environ))
    if url.get_backend_name() == "sqlite" and not Path(url.database or "").is_file():
        return None
    store = open_store(url.render_as_string(hide_password=False), clock=node.clock, migrate=False)
    opened.callback(store.close)
    return store


def _received(node: Node, opened: ExitStack) -> tuple[Path | None, Store | None, Trust | None]:
    receiver = node.settings.receiver
    if receiver is None:
        return None, None, None
    folder = node.settings.resolve(receiver.folder)
    return folder, _store(node, receiver.store, opened), node.trust(receiver.trust)


def _catalog(node: Node) -> Catalog | None:
    try:
        return node.catalog
    except ExchangeError:
        return None
