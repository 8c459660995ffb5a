"""A certificate for tests: self-signed, for ``localhost`` and 127.0.0.1, valid for a hundred years, its key public."""

from __future__ import annotations

import os
import ssl

CERTIFICATE = """\
-----BEGIN CERTIFICATE-----
MIIBmzCCAUGgAwIBAgIUHAt4+iQxMZPbYKfQoSNBlWngm+QwCgYIKoZIzj0EAwIw
FDESMBAGA1UEAwwJbG9jYWxob3N0MCAXDTI2MTEyNTAzNDk1N1oYDzIxMjYxMTAx
MDM0OTU3WjAUMRIwEAYDVQQDDAlsb2NhbGhvc3QwWTATBgcqhkjOPQIBBggqhkjO
PQMBBwNCAAR9PI0tLCp9LMRn5VdY7sXpMYhsueOHMJ49JnELbND0AcucgLhcWZU+
2/1z+7ZI7j0Q9ivomuryBKIcTqKBdG0zo28wbTAdBgNVHQ4EFgQUIS51tMpel/Zt
rcSGIsnA1be18owwHwYDVR0jBBgwFoAUIS51tMpel/ZtrcSGIsnA1be18owwGgYD
VR0RBBMwEYIJbG9jYWxob3N0hwR/AAABMA8GA1UdEwEB/wQFMAMBAf8wCgYIKoZI
zj0EAwIDSAAwRQIhALusg+Qk0It/STYxCfcbL5/dsm30dPXBPx/tlbD9axuVAiAv
eua+PLlKOnDm/qaLhXnFumoAYRqvjX4Ubqk1Du+/NA==
-----END CERTIFICATE-----
"""

KEY = """\
-----BEGIN PRIVATE KEY-----
MIGHAgEAMBMGByqGSM49AgEGCCqGSM49AwEHBG0wawIBAQQg0SQfTjpyVIYBBVZm
LwV4YYt+2hEUupPTiZ9GEFeuDVyhRANCAAR9PI0tLCp9LMRn5VdY7sXpMYhsueOH
MJ49JnELbND0AcucgLhcWZU+2/1z+7ZI7j0Q9ivomuryBKIcTqKBdG0z
-----END PRIVATE KEY-----
"""


def server_context(folder: str) -> ssl.SSLContext:
    """A server's context; the certificate is written into `folder`, as OpenSSL only reads files."""
    path = os.path.join(folder, "certificate.pem")
    with open(path, "w", encoding="ascii") as file:
        file.write(CERTIFICATE + KEY)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(path)
    return context


def client_context() -> ssl.SSLContext:
    """A client's context that trusts the certificate, and no other."""
    return ssl.create_default_context(cadata=CERTIFICATE)
