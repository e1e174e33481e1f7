"""Who may talk to the studio: this machine's browser, with the printed token.

A page of another site can make a browser send requests to 127.0.0.1, and with a name of its own
that it points there (DNS rebinding) even read the answers. Both show in the headers: such requests
have a foreign Origin, or a foreign Host.
"""

from __future__ import annotations

import hmac
from collections.abc import Mapping
from dataclasses import dataclass
from http.cookies import CookieError, SimpleCookie

HEADER = "x-synthaug-token"
PARAMETER = "token"
LOOPBACK = ("127.0.0.1", "localhost", "[::1]")
WITHOUT = "this needs the token of the address that `synthaug studio` printed; open that address"

# nothing but the studio's own files, and pictures that came as text
POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; "
    "connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)
ALWAYS = {
    "content-security-policy": POLICY,
    "x-content-type-options": "nosniff",
    "referrer-policy": "no-referrer",
    "cross-origin-resource-policy": "same-origin",
    "cross-origin-opener-policy": "same-origin",
    "cache-control": "no-store",
}


@dataclass(frozen=True)
class Guard:
    """The token of a start, and the names by which the studio may be asked."""

    token: str
    port: int

    @property
    def cookie(self) -> str:
        """Return the name of the cookie; cookies do not tell ports apart."""
        return f"synthaug-studio-{self.port}"

    @property
    def hosts(self) -> frozenset[str]:
        """Return the values of Host that are right."""
        return frozenset(f"{name}:{self.port}" for name in LOOPBACK)

    @property
    def origins(self) -> frozenset[str]:
        """Return the values of Origin that are right."""
        return frozenset(f"http://{host}" for host in self.hosts)

    def foreign(self, headers: Mapping[str, str]) -> str:
        """Return why a request comes from elsewhere, by its headers; "" where it does not."""
        host = headers.get("host", "")
        if host not in self.hosts:
            return f"the host '{host}' is not this machine; open http://127.0.0.1:{self.port}"
        origin = headers.get("origin")
        if origin is not None and origin not in self.origins:
            return f"requests from '{origin}' are refused"
        return ""

    def has_token(self, headers: Mapping[str, str], parameters: Mapping[str, str]) -> bool:
        """Return whether a request has the token, in a header, a cookie or the address."""
        given = (headers.get(HEADER), self._cookie_of(headers), parameters.get(PARAMETER))
        return any(self._is_token(value) for value in given if value)

    def _is_token(self, value: str) -> bool:
        return hmac.compare_digest(value.encode("utf-8", "replace"), self.token.encode())

    def _cookie_of(self, headers: Mapping[str, str]) -> str | None:
        cookies: SimpleCookie = SimpleCookie()
        try:
            cookies.load(headers.get("cookie", ""))
        except CookieError:
            return None
        found = cookies.get(self.cookie)
        return found.value if found else None
