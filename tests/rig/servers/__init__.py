"""The XMPP servers of Debian's packages, each as a modern peer or as a legacy server."""

from .base import Server, Settings
from .ejabberd import Ejabberd
from .jabberd2 import Jabberd2
from .prosody import Prosody

KINDS: dict[str, type[Server]] = {
    "jabberd2": Jabberd2,
    "prosody": Prosody,
    "ejabberd": Ejabberd,
}

__all__ = ["KINDS", "Ejabberd", "Jabberd2", "Prosody", "Server", "Settings"]
