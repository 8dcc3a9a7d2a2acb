"""Signing in at a company's provider: OpenID Connect, the code flow with PKCE. Authlib speaks the protocol.

A browser keeps one random secret while it is at the provider. State, nonce and verifier follow from it, so an
answer is good only in the browser that asked, and nothing is stored here meanwhile.
"""

import hmac
import threading
from base64 import urlsafe_b64encode
from dataclasses import dataclass
from datetime import UTC, datetime
from hashlib import sha256
from typing import Any, cast

import httpx2
from authlib.common.errors import AuthlibBaseError
from authlib.integrations.base_client.sync_app import OAuth2Mixin
from authlib.integrations.base_client.sync_openid import OpenIDMixin
from authlib.integrations.httpx_client import OAuth2Client
from joserfc.errors import JoseError

from app.accounts import new_secret
from app.accounts.passwords import Busy
from app.errors import Unreachable
from app.log import get_logger
from app.settings import OidcSettings

TIMEOUT_S = 5.0
AT_ONCE = 4
"""So many answers are looked at together: each waits for the provider, and anybody may send one."""
DISCOVERY = "/.well-known/openid-configuration"
CALLBACK = "/login/company/done"
log = get_logger(__name__)


class NotBelieved(Unreachable):
    """The provider's answer is not one to this browser's question, or is not signed by the provider."""


@dataclass(frozen=True, slots=True)
class Identity:
    """A person, by the provider's word. `subject` is its own name for the person and never changes; `email`
    only when the provider has verified it; `proved_at`: when the person last typed a password there.
    """

    issuer: str
    subject: str
    email: str | None
    proved_at: datetime | None


class _Client(OAuth2Mixin, OpenIDMixin):  # type: ignore[misc]
    client_cls = OAuth2Client


class Provider:
    """The provider of the settings. Its addresses and keys are asked for once, new keys when they turn up."""

    def __init__(self, settings: OidcSettings, url: str) -> None:
        self.settings = settings
        self._back = url + CALLBACK
        self._issuer = str(settings.issuer).rstrip("/")
        secret = settings.client_secret
        self._client = _Client(
            None,
            "company",
            client_id=settings.client_id,
            client_secret=secret and secret.get_secret_value(),
            server_metadata_url=self._issuer + DISCOVERY,
            client_kwargs={
                "scope": "openid email",
                "code_challenge_method": "S256",
                "timeout": TIMEOUT_S,
                "follow_redirects": False,
            },
        )
        self._at_once = threading.BoundedSemaphore(AT_ONCE)

    def ask(self, secret: str, *, anew: bool) -> str:
        """Where to send the browser that keeps this secret. `anew`: the password is asked for though the
        provider knows the browser. Raises Unreachable.
        """
        extra: dict[str, Any] = {"prompt": "login", "max_age": 0} if anew else {}
        begun = self._talk(
            lambda: self._client.create_authorization_url(
                self._back,
                state=_from(secret, "state"),
                nonce=_from(secret, "nonce"),
                code_verifier=_from(secret, "verifier"),
                **extra,
            )
        )
        return str(begun["url"])

    def hear(self, secret: str, state: str, code: str) -> Identity:
        """Return the person who came back; raises NotBelieved, Unreachable and Busy."""
        if not hmac.compare_digest(state.encode(), _from(secret, "state").encode()):
            raise NotBelieved("this sign-in was begun in another browser, or too long ago")
        claims = self._talk(lambda: self._claims_for(secret, code))
        email = claims.get("email") if claims.get("email_verified") is True else None
        proved = claims.get("auth_time")
        return Identity(
            self._issuer,
            str(claims["sub"]),
            str(email).strip().lower() if email else None,
            datetime.fromtimestamp(float(proved), UTC) if proved else None,
        )

    def _claims_for(self, secret: str, code: str) -> dict[str, Any]:
        token = self._client.fetch_access_token(
            self._back, code=code, code_verifier=_from(secret, "verifier")
        )
        claims = self._client.parse_id_token(token, _from(secret, "nonce"))
        if not claims:
            raise NotBelieved("the provider sent no ID token")
        return cast(dict[str, Any], claims)

    def _talk(self, what: Any) -> Any:
        """One thing said to the provider, its errors as ours. The log gets its message, and no page does."""
        if not self._at_once.acquire(blocking=False):
            raise Busy("many people sign in just now: try again in a moment")
        try:
            self._check_metadata(self._client.load_server_metadata())
            return what()
        except httpx2.HTTPError as error:
            log.warning("oidc.away", issuer=self._issuer, error=str(error) or type(error).__name__)
            raise Unreachable("the company's sign-in does not answer: try again, or use a password") from None
        except (AuthlibBaseError, JoseError, ValueError, KeyError, TypeError, RuntimeError) as error:
            log.warning("oidc.not_believed", issuer=self._issuer, error=str(error))
            raise NotBelieved("the company's sign-in sent an answer that cannot be believed") from None
        finally:
            self._at_once.release()

    def _check_metadata(self, found: dict[str, Any]) -> None:
        """It must speak for itself, and sign with a key that only it has."""
        if str(found.get("issuer", "")).rstrip("/") != self._issuer:
            found.pop("_loaded_at", None)
            raise NotBelieved(f"{self._issuer} calls itself {found.get('issuer')}")
        offered = found.get("id_token_signing_alg_values_supported") or ["RS256"]
        own = [name for name in offered if str(name)[:2] in ("RS", "ES", "PS", "Ed")]
        found["id_token_signing_alg_values_supported"] = own


def begin() -> str:
    """A new secret for a browser to keep while it is at the provider."""
    return new_secret()


def _from(secret: str, what: str) -> str:
    """Return the values that follow from the secret, for the provider: 43 letters that tell nothing of it."""
    digest = hmac.new(secret.encode(), what.encode(), sha256).digest()
    return urlsafe_b64encode(digest).decode().rstrip("=")
