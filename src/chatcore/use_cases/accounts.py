"""Accounts: coming into being."""

from dataclasses import dataclass

from chatcore.entities import (
    DEFAULT_ROLE,
    Profile,
    check,
    email_rule,
    normal_password,
    password_rule,
    profile_rules,
    username_rule,
)
from chatcore.ports import Clock, PasswordHasher, UnitOfWorkFactory
from chatcore.use_cases.sessions import SessionIssuer, SignedIn


@dataclass(frozen=True, slots=True, kw_only=True)
class PasswordPolicy:
    """`minimum` code points after NFC (ASVS 6.2.1 asks for at least 8)."""

    minimum: int = 8


@dataclass(frozen=True, kw_only=True)
class Register:
    """Anybody: makes an account with the role `user` and signs it in."""

    unit_of_work: UnitOfWorkFactory
    passwords: PasswordHasher
    policy: PasswordPolicy
    sessions: SessionIssuer
    clock: Clock

    async def __call__(
        self,
        *,
        username: str,
        password: str,
        email: str | None = None,
        profile: Profile = Profile(),
        user_agent: str = "",
        address: str = "",
    ) -> SignedIn:
        """Raises `ValidationFailed`, `UsernameTaken`, `EmailTaken`."""
        check(
            username_rule(username),
            email_rule(email) if email is not None else None,
            password_rule(password, self.policy.minimum),
            *profile_rules(profile),
        )
        password_hash = await self.passwords.hash(normal_password(password))
        now = self.clock.now()
        async with self.unit_of_work() as work:
            user = await work.users.add(
                username=username,
                email=email,
                password_hash=password_hash,
                roles=frozenset({DEFAULT_ROLE}),
                profile=profile,
                now=now,
            )
            signed_in = await self.sessions.open(work, user, user_agent=user_agent, address=address, now=now)
            await work.commit()
        return signed_in
