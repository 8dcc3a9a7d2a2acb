"""The groups of settings of what listens: the dashboard, the company's sign-in, Flower."""

from typing import Literal
from urllib.parse import urlsplit

from pydantic import BaseModel, Field, SecretStr, model_validator

OPEN_TO_ALL = (
    "accounts.google.com",
    "login.microsoftonline.com/common",
    "login.microsoftonline.com/consumers",
    "gitlab.com",
)
"""Providers where anybody may have an account."""


class ListenSettings(BaseModel):
    """An address that a part listens on."""

    host: str = "127.0.0.1"
    port: int = Field(8000, ge=0, le=65535)

    @property
    def address(self) -> str:
        """`http://host:port`, with brackets around an IPv6 address."""
        return f"http://{f'[{self.host}]' if ':' in self.host else self.host}:{self.port}"


class WebSettings(ListenSettings):
    """The dashboard. Closed: `paceline up` prints a link for the first administrator."""

    public_url: str | None = Field(
        None,
        pattern=r"^https?://[^/?#]+(/[^?#]*)?$",
        description="What browsers call it when it is not http://host:port: behind a proxy, with the path "
        "it is under, like https://ops.example.org/paceline",
    )

    second_factor: Literal["optional", "required"] = Field(
        "optional",
        description="required: who signs in by a password sees only the account's page until a second factor "
        "is set up; the company's sign-in counts as one",
    )

    @property
    def url(self) -> str:
        """Where browsers find it, without a slash at the end."""
        return (self.public_url or self.address).rstrip("/")

    @property
    def hosts(self) -> frozenset[str] | None:
        """The names that browsers may call it by, None for any: it listens on every address and nobody said
        what it is called.
        """
        if self.public_url is None and self.host in ("0.0.0.0", "::"):
            return None
        names = {"localhost", "127.0.0.1", "[::1]", self.host, urlsplit(self.url).hostname or ""}
        return frozenset(name.lower() for name in names)

    @property
    def prefix(self) -> str:
        """The path it is under, without a slash at the end; mostly nothing."""
        return "/".join(self.url.split("/")[3:]) and "/" + "/".join(self.url.split("/")[3:])


class OidcSettings(BaseModel):
    """The company's sign-in: a provider that speaks OpenID Connect (Google, Entra, Okta, Keycloak, ...)."""

    issuer: str | None = Field(
        None,
        pattern=r"^(https://[^?#]+|http://(127\.0\.0\.1|localhost)(:\d+)?(/[^?#]*)?)$",
        description="The provider, as it calls itself: https://accounts.google.com. Its redirect address is "
        "the dashboard's /login/company/done",
    )
    client_id: str = Field("", description="What the provider calls this dashboard")
    client_secret: SecretStr | None = Field(None, description="Its secret there", repr=False)
    label: str = Field("your company", max_length=40, description='The button: "Sign in with ..."')
    new_role: Literal["viewer", "operator"] | None = Field(
        None,
        description="Role of a new account for whoever the provider lets in; default: none is made, people "
        "link the account that an invitation gave them",
    )
    email_domains: tuple[str, ...] = Field(
        (), description="New accounts only for verified addresses in these domains; a JSON list"
    )

    @model_validator(mode="after")
    def _is_whole(self) -> "OidcSettings":
        if self.issuer and not self.client_id:
            raise ValueError("issuer needs client_id: what the provider calls this dashboard")
        is_open = any(name in str(self.issuer) for name in OPEN_TO_ALL)
        if self.new_role and is_open and not self.email_domains:
            raise ValueError("everybody has an account there: new_role needs email_domains")
        return self


class FlowerSettings(ListenSettings):
    """Flower, the worker monitor. Without basic_auth it looks only, behind a password of its own."""

    port: int = Field(5555, ge=0, le=65535)
    basic_auth: SecretStr | None = Field(
        None, description="user:password; unlocks Flower's actions", repr=False
    )
    public_url: str | None = Field(
        None,
        pattern="^https?://",
        description="Where browsers find it, if not at its own address: https://flower.example.org",
    )

    @property
    def url(self) -> str:
        """Where browsers find it, without a slash at the end."""
        return (self.public_url or self.address).rstrip("/")
