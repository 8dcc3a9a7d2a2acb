"""The account that a company's sign-in opens. An account is never found by an address of e-mail: that would
give it to whoever gets the address next.
"""

from sqlalchemy import Connection, func, select, update

from app.accounts import Person
from app.accounts.oidc import Identity
from app.accounts.people import add_account, clean_name
from app.audit_log import note_change
from app.errors import ConfigError
from app.models import Account, Role
from app.settings import OidcSettings


def whose(connection: Connection, identity: Identity) -> Person | None:
    """The account that is linked with an identity, unless it is disabled."""
    query = select(Account.id, Account.name, Account.role).where(
        Account.oidc_issuer == identity.issuer,
        Account.oidc_subject == identity.subject,
        Account.disabled_at.is_(None),
    )
    row = connection.execute(query).one_or_none()
    return row and Person(row.id, row.name, Role(row.role))


def welcome(connection: Connection, identity: Identity, settings: OidcSettings) -> Person:
    """A new account for somebody of the company, named by the e-mail address that the provider has verified.
    Raises ConfigError when such people need an invitation, or the name is another account's.
    """
    if _is_known(connection, identity):
        raise ConfigError("this account is disabled: ask an administrator")
    if settings.new_role is None:
        raise ConfigError(
            "no account is linked with you: sign in with a password, then link it on the account's page, "
            "or ask an administrator for an invitation"
        )
    if identity.email is None:
        raise ConfigError("the company's sign-in names no verified e-mail address of yours")
    domain = identity.email.rpartition("@")[2]
    if settings.email_domains and domain not in settings.email_domains:
        raise ConfigError(f"accounts are for people of {', '.join(settings.email_domains)}")
    name = clean_name(identity.email)
    taken = select(Account.id).where(Account.name == name)
    if connection.execute(taken).first():
        raise ConfigError(
            f"there is an account {name}: sign in with its password, then link it on the account's page"
        )
    role, reason = Role(settings.new_role), "by the company's sign-in"
    person = add_account(connection, name, None, role, reason)
    link(connection, person, identity)
    return person


def link(connection: Connection, person: Person, identity: Identity) -> None:
    """Let an identity open an account from now on, in place of the one before; raises ConfigError when it
    opens another.
    """
    if _is_known(connection, identity):
        raise ConfigError("you are linked with another account already")
    given = {"oidc_issuer": identity.issuer, "oidc_subject": identity.subject}
    connection.execute(update(Account).where(Account.id == person.id).values(given))
    _note(connection, person, {"linked": identity.issuer, "subject": identity.subject})


def unlink(connection: Connection, person: Person) -> None:
    """Let only the password open an account; raises ConfigError when it has none."""
    own = update(Account).where(Account.id == person.id, Account.password_hash.is_not(None))
    if not connection.execute(own.values(oidc_issuer=None, oidc_subject=None)).rowcount:
        raise ConfigError("the account has no password: set one by a reset link first")
    _note(connection, person, {"linked": None})


def _is_known(connection: Connection, identity: Identity) -> bool:
    query = select(func.count()).where(
        Account.oidc_issuer == identity.issuer, Account.oidc_subject == identity.subject
    )
    return connection.execute(query).scalar_one() > 0


def _note(connection: Connection, person: Person, after: dict[str, object]) -> None:
    note_change(
        connection,
        actor=person.name,
        action="accounts.company_login",
        subject=person.name,
        before={},
        after=after,
        reason="",
    )
