"""Who may do what on the Hub: tokens, their users, and the users' organisations.

Owns the table of tokens and the rules of reading and writing by namespace. Knows no HTTP and no repos. The three kinds
of token and the roles in an organisation are those that `huggingface_hub` reads from `/api/whoami-v2`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

TOKEN = "hf_loopback"  # writes as `loopback`: own repos and those of `org`; opens nothing on any other server
READ_TOKEN = "hf_loopback_read"  # the same user, reading only
SCOPED_TOKEN = "hf_loopback_scoped"  # the same user, fine-grained: reads and writes in `org` alone
OTHER_TOKEN = "hf_other"  # writes as `other`, who is only a reader of `org`
UNKNOWN_TOKEN = "hf_expired"  # in no table: as a token that was revoked

TokenRole = Literal["read", "write", "fineGrained"]
OrgRole = Literal["admin", "write", "contributor", "read"]


@dataclass(frozen=True)
class User:
    """A person with an account: the name is a namespace too. `orgs`: role by name of the organisation."""

    name: str
    orgs: Mapping[str, OrgRole] = field(default_factory=dict)


@dataclass(frozen=True)
class Token:
    """What a user's token is good for. `scope`: the namespaces that a fine-grained token opens."""

    user: User
    role: TokenRole
    scope: frozenset[str] = frozenset()

    def reads(self, namespace: str) -> bool:
        """Whether private repos of `namespace` are seen with this token."""
        if self.role == "fineGrained" and namespace not in self.scope:
            return False
        return namespace == self.user.name or namespace in self.user.orgs

    def writes(self, namespace: str) -> bool:
        """Whether repos of `namespace` are created, changed and deleted with this token."""
        if self.role == "read" or not self.reads(namespace):
            return False
        return namespace == self.user.name or self.user.orgs[namespace] in ("admin", "write")

    def whoami(self) -> dict[str, Any]:
        """The answer of `/api/whoami-v2`, the fields that clients read."""
        access: dict[str, Any] = {"displayName": f"{self.role} token", "role": self.role}
        if self.role == "fineGrained":
            kinds = {self.user.name: "user", **dict.fromkeys(self.user.orgs, "org")}
            access["fineGrained"] = {
                "canReadGatedRepos": True,
                "global": [],
                "scoped": [
                    {"entity": {"type": kinds[name], "name": name}, "permissions": ["repo.content.read", "repo.write"]}
                    for name in sorted(self.scope)
                ],
            }
        return {
            "type": "user",
            "id": f"user-{self.user.name}",
            "name": self.user.name,
            "fullname": self.user.name.title(),
            "email": f"{self.user.name}@example.org",
            "emailVerified": True,
            "isPro": False,
            "canPay": False,
            "orgs": [
                {"type": "org", "id": f"org-{org}", "name": org, "fullname": org.title(), "roleInOrg": role}
                for org, role in self.user.orgs.items()
            ],
            "auth": {"type": "access_token", "accessToken": access},
        }


LOOPBACK = User("loopback", {"org": "write", "readers": "read"})
OTHER = User("other", {"org": "read"})
TOKENS: Mapping[str, Token] = {
    TOKEN: Token(LOOPBACK, "write"),
    READ_TOKEN: Token(LOOPBACK, "read"),
    SCOPED_TOKEN: Token(LOOPBACK, "fineGrained", frozenset({"org"})),
    OTHER_TOKEN: Token(OTHER, "write"),
}
