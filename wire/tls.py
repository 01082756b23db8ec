"""TLS for the server, the links and clients: PEM files in, SSL contexts out. An adapter."""

from __future__ import annotations

import ssl
from dataclasses import dataclass
from pathlib import Path

from wire.errors import ConfigError


@dataclass(frozen=True)
class TlsConfig:
    """Paths of PEM files, read and checked when this is made.

    ``cert`` and ``key``: who this side is; a server needs both, a client may have neither.
    ``ca``: what the other side's certificate must be signed by (clients: None means the
    system's). On a server it turns mutual TLS on: hosts must show a certificate of that CA,
    while clients may come without one. ``name``: the name that servers' certificates carry,
    where that is not their address (pods have no names).

    Raises ConfigError that names the file and what is wrong with it.
    """

    cert: str = ""
    key: str = ""
    ca: str = ""
    name: str = ""

    def __post_init__(self) -> None:
        if bool(self.cert) != bool(self.key):
            raise ConfigError(
                f"TLS needs both or neither of certificate and key: cert is {self.cert!r}, "
                f"key is {self.key!r}"
            )
        for what, path in (("certificate", self.cert), ("key", self.key), ("CA", self.ca)):
            if path:
                _check_readable(what, path)
        self.client_context()

    @property
    def mutual(self) -> bool:
        """Whether hosts must show certificates to each other."""
        return bool(self.ca)

    def server_context(self) -> ssl.SSLContext:
        """For a server: shows ``cert``; asks for a certificate where ``ca`` is given."""
        if not self.cert:
            raise ConfigError("TLS on a server needs a certificate and a key")
        context = self._prepared(ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER))
        if self.ca:
            context.verify_mode = ssl.CERT_OPTIONAL
        return context

    def client_context(self) -> ssl.SSLContext:
        """For a client or a dialing host: verifies the server, shows ``cert`` if there is one."""
        context = self._prepared(ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT))
        if not self.ca:
            context.load_default_certs()
        return context

    def _prepared(self, context: ssl.SSLContext) -> ssl.SSLContext:
        context.minimum_version = ssl.TLSVersion.TLSv1_2
        context.set_alpn_protocols(["h2"])
        try:
            if self.cert:
                # A callback, or an encrypted key would ask for its password at the terminal.
                context.load_cert_chain(self.cert, self.key, password=lambda: "")
        except (ssl.SSLError, OSError, ValueError) as exc:
            raise ConfigError(
                f"TLS certificate {self.cert} and key {self.key} do not load: {exc}"
            ) from exc
        try:
            if self.ca:
                context.load_verify_locations(self.ca)
        except (ssl.SSLError, OSError) as exc:
            raise ConfigError(f"TLS CA file {self.ca} does not load: {exc}") from exc
        return context


def _check_readable(what: str, path: str) -> None:
    try:
        with Path(path).open("rb"):
            pass
    except OSError as exc:
        raise ConfigError(f"TLS {what} file {path}: {exc.strerror}") from exc
