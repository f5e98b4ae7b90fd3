"""REFRESH_COOKIE: a browser keeps the refresh token where no script can read it, and sends it automatically.

A browser sends it whichever page makes the request. The cookie therefore counts, and is set, only for pages of our own
and of CORS_ORIGINS, by `Origin` and `Sec-Fetch-Site`, which no script can change, and by SameSite. It is only for the
refresh route: all others need an access token, which no browser sends automatically (RFC 9700 §4.7, OWASP ASVS 5.0,
3.3 and 3.5.1).
"""

from datetime import timedelta
from typing import TypeVar

from litestar import Response
from litestar.datastructures import Cookie

from chatcore import SignedIn
from chatcore.errors import Forbidden, Unauthenticated
from chatcore_app import Settings
from chatcore_http import account_schemas
from chatcore_http.origins import is_welcome
from chatcore_http.path_prefix import prefix_of
from chatcore_http.routing import AnyRequest

PATH = "/auth/refresh"

T = TypeVar("T")


class RefreshCookie:
    """Sets and deletes the cookie, if REFRESH_COOKIE is true."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self.name = "__Secure-refresh_token" if settings.cookie_secure else "refresh_token"

    def answer(self, signed_in: SignedIn, request: AnyRequest) -> Response[account_schemas.Tokens]:
        """Return the tokens, with the cookie for pages that may have it."""
        answer = Response(account_schemas.Tokens.of(signed_in))
        if self._settings.refresh_cookie and self._may_use(request):
            lives = timedelta(days=self._settings.refresh_token_expire_days)
            answer.set_cookie(self._cookie(request, signed_in.refresh_token, int(lives.total_seconds())))
        return answer

    def token_of(self, request: AnyRequest) -> str:
        """Return the cookie's token. Raise `Forbidden` for a page that may not use it, `Unauthenticated` without
        one."""
        if not self._may_use(request):
            raise Forbidden("This origin may not use the refresh cookie. CORS_ORIGINS names those that may.")
        if token := request.cookies.get(self.name):
            return token
        raise Unauthenticated

    def deleted(self, content: T, request: AnyRequest) -> Response[T]:
        answer = Response(content)
        if self._settings.refresh_cookie:
            answer.set_cookie(self._cookie(request, "", 0))
        return answer

    def _may_use(self, request: AnyRequest) -> bool:
        headers, settings = request.headers, self._settings
        site = headers.get("sec-fetch-site", "none")
        return headers.get("origin") in settings.cors_origins or (
            site in ("same-origin", "none") and is_welcome(headers, settings)
        )

    def _cookie(self, request: AnyRequest, token: str, max_age: int) -> Cookie:
        return Cookie(
            self.name,
            path=prefix_of(request.scope) + PATH,
            value=token,
            max_age=max_age,
            secure=self._settings.cookie_secure,
            httponly=True,
            samesite=self._settings.cookie_samesite,
        )
