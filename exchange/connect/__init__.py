"""Connect: the plugin surface; a connector is a generator of column frames with a cursor (D1).

In: settings of one source and the cursor committed last. Out: :class:`Pulled` frames in the
source's own types and names, each with the cursor that stands behind it. A connector imports
this package and nothing else of ours. Whatever a connector raises passes one error map: it
leaves as Transient, Misconfigured, Denied or Rejected, without secrets in its text.
"""

from exchange.connect.error_map import database_error
from exchange.connect.http_client import HttpClient, HttpLimits, judge
from exchange.connect.manners import Manners
from exchange.connect.registry import find, installed
from exchange.connect.secrets import Resolver, Secret
from exchange.connect.slicing import slices
from exchange.connect.surface import Connector, Cursor, Look, Note, Pulled, Source, connector
from exchange.errors import Denied, ExchangeError, Misconfigured, Rejected, Transient
from exchange.foreign import original
from exchange.http.message import Request, Response
from exchange.http.signing import rtime, sign, unwrap_secret
from exchange.text import Text, suggest

__all__ = [
    "Connector",
    "Cursor",
    "Denied",
    "ExchangeError",
    "HttpClient",
    "HttpLimits",
    "Look",
    "Manners",
    "Misconfigured",
    "Note",
    "Pulled",
    "Rejected",
    "Request",
    "Resolver",
    "Response",
    "Secret",
    "Source",
    "Text",
    "Transient",
    "connector",
    "database_error",
    "find",
    "installed",
    "judge",
    "original",
    "rtime",
    "sign",
    "slices",
    "suggest",
    "unwrap_secret",
]
