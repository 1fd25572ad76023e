"""What differs between OCPP versions, as one Protocol; ``v16`` and ``v2`` implement it, nothing else knows."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Protocol

from cem.csms.facts import Fact
from cem.csms.ladder import Rung
from cem.csms.moment import Now
from cem.csms.profile_reading import Rules
from cem.csms.profiles import Clear, CompositeAsked, Profile, Refusal, Step
from cem.csms.settings import OURS, with_ours
from cem.csms.token_cache import Group

Ask = tuple[str, Mapping[str, Any]]
"""A CALL to make: action and payload."""

MEASURANDS = (
    OURS,
    "Current.Import,Power.Active.Import,Energy.Active.Import.Register",
    "Current.Import,Energy.Active.Import.Register",
    "Power.Active.Import,Energy.Active.Import.Register",
)
"""What control needs to see of a transaction; a station that cannot tell one of them may refuse the whole list."""


def measurand_lists(also: Sequence[str]) -> list[str]:
    """What to ask for, the best first: ours with the cloud's, then ours alone."""
    together = [with_ours(also, ours) for ours in MEASURANDS] if also else []
    return list(dict.fromkeys([*together, *MEASURANDS]))


SAFE_PROFILE_ID = 900_000_000
LIVE_PROFILE_ID = 900_100_000
"""Our profiles' ids start here, plus the EVSE's number; the cloud's never reach a station, so none can clash."""


@dataclass(frozen=True, slots=True)
class StartAnswer:
    """What the CSMS said to the start of a transaction: its id (1.6), and whether the token was good."""

    transaction_id: str | None
    token_ok: bool


@dataclass(frozen=True, slots=True)
class ProfilesAsked:
    """GetChargingProfiles, reduced to what selects profiles.

    Attributes:
        sources: Whose limits; empty: everybody's.
    """

    request_id: int
    evse: int | None
    ids: tuple[int, ...]
    purpose: str | None
    stack_level: int | None
    sources: tuple[str, ...] = ()

    def selects(self, profile: Profile) -> bool:
        """Whether it asks for this profile, which a CSMS set."""
        return (
            (not self.sources or "CSO" in self.sources)
            and (self.evse is None or profile.evse == self.evse)
            and (not self.ids or profile.profile_id in self.ids)
            and (self.purpose is None or profile.purpose == self.purpose)
            and (self.stack_level is None or profile.stack_level == self.stack_level)
        )


@dataclass(frozen=True, slots=True)
class StartProfile:
    """The profile in a remote start.

    Attributes:
        key: The member that carries it.
        evse: 0 where the station may choose.
        raw: The profile.
        token: Whose transaction it is for.
        remote_start_id: By which the transaction will be known (2.x).
    """

    key: str
    evse: int
    raw: Any
    token: str | None
    remote_start_id: int | None = None


@dataclass(frozen=True, slots=True)
class LocalAnswer:
    """What we decide when we answer as the CSMS; the dialect writes it down.

    Attributes:
        group: Of the token; by it a station lets another tag of the family end the transaction.
        contract_ok: The contract certificate is good; ``None`` where none was shown.
    """

    now: Now
    interval_s: int
    accepted: bool = True
    token_ok: bool = True
    group: Group | None = None
    contract_ok: bool | None = None
    transaction_id: str | None = None


@dataclass(frozen=True, slots=True)
class Live:
    """A live limit to be written down.

    Attributes:
        amount: In the rung's unit: A on each phase, or W.
        start: Of its schedule, by the station's clock.
        life_s: Of its schedule, from then.
        phases: To charge on; ``None``: not said.
        offline_s: It ends so long after the station went offline (2.1); ``None``: not said.
        whole: The profile; else no more than a new value for it (2.1, a dynamic one).
    """

    rung: Rung
    evse: int
    amount: float
    transaction_id: str
    start: datetime
    life_s: int
    phases: int | None = None
    offline_s: int | None = None
    whole: bool = True


class Dialect(Protocol):
    """One OCPP version."""

    version: str
    bad_format: str
    rules: Rules
    """Of charging profiles."""

    def read(self, action: str, payload: Mapping[str, Any]) -> Fact | None:
        """What a station's CALL says; ``None`` where control does not care. Never raises."""
        ...

    def answer(self, action: str, payload: Mapping[str, Any], local: LocalAnswer) -> dict[str, Any] | None:
        """Our own answer as the CSMS; ``None`` for an action we do not know."""
        ...

    def boot_status(self, result: Mapping[str, Any]) -> str: ...
    def start_answer(self, result: Mapping[str, Any]) -> StartAnswer: ...
    def token_accepted(self, result: Mapping[str, Any]) -> bool | None: ...

    # towards the station
    def clear_foreign(self) -> Sequence[Ask]: ...
    def clear_profile(self, profile_id: int) -> Ask: ...
    def ask_profiles(self, request_id: int) -> Ask | None:
        """For the profiles that a CSMS has set; ``None`` where the version has no such question."""
        ...

    def ask_composite(self, evse: int) -> Ask: ...
    def composite_steps(self, result: Mapping[str, Any]) -> Sequence[tuple[float, float]]:
        """When each limit of a composite schedule begins, in s, and that limit, A per phase; empty where it does not tell."""
        ...

    def ask_capabilities(self) -> Ask:
        """Asks what the station says of its charging profiles: stack levels, rate units, phases."""
        ...

    def safe_default(
        self, evse: int, amount: float, *, unit: str = "A", maximum: bool = False, absolute: bool = False
    ) -> Ask:
        """The permanent limit; as the station's maximum where the cloud's own profiles go there too."""
        ...

    def live_limit(self, live: Live) -> Ask: ...
    def limit_status(self, result: Mapping[str, Any]) -> str: ...
    def ask_settings(self) -> Ask:
        """Asks for what the station samples now, and whether it ends a transaction whose token is rejected."""
        ...

    def set_password(self, password: str) -> Ask:
        """Gives the station another password for its leg to us."""
        ...

    def certificate_signed(self, chain: str) -> Ask:
        """Hands the station the certificate that it asked for."""
        ...

    def ask_network_priority(self) -> Ask | None:
        """Asks for the order of the station's network profiles; ``None`` where this version has none."""
        ...

    def repoint(
        self, url: str, key: str | None, slot: int, security_profile: int, priority: Sequence[str]
    ) -> Sequence[Ask]:
        """The steps that point the station to another CSMS; none where this version needs a key and has none."""
        ...

    def ask_samples(self, interval_s: int, also: Sequence[str] = ()) -> Sequence[Sequence[Ask]]:
        """What to ask for; of each inner sequence the first that the station accepts is enough.

        Args:
            interval_s: Between two samples.
            also: Measurands beside ours.
        """
        ...

    def accepted(self, result: Mapping[str, Any]) -> bool:
        """Whether the station took such a setting."""
        ...

    def ask_state(self, evses: Sequence[int]) -> Sequence[Ask]: ...
    def ask_boot(self) -> Ask: ...
    def remote_stop(self, transaction_id: str) -> Ask: ...

    # the cloud's commands that we answer
    def set_profile(self, payload: Mapping[str, Any], received: datetime) -> Profile | Refusal:
        """The profile of a SetChargingProfile, or why no station could hold it."""
        ...

    def profile_status(self, refusal: Refusal | None) -> dict[str, Any]:
        """The answer to a command of smart charging; ``None``: it is accepted."""
        ...

    def clear_profiles(self, payload: Mapping[str, Any]) -> Clear: ...
    def composite_asked(self, payload: Mapping[str, Any]) -> CompositeAsked | Refusal: ...
    def composite(self, asked: CompositeAsked, start: datetime, steps: Sequence[Step]) -> dict[str, Any]: ...
    def profiles_asked(self, payload: Mapping[str, Any]) -> ProfilesAsked | None: ...
    def report_profiles(self, asked: ProfilesAsked, found: Sequence[Profile]) -> Sequence[Ask]: ...
    def start_profile(self, action: str, payload: Mapping[str, Any]) -> StartProfile | None:
        """The profile in a remote start; ``None`` where there is none."""
        ...

    def stop_id(self, action: str, payload: Mapping[str, Any]) -> str | None:
        """The transaction that a command of the cloud names by ``transactionId``; ``None`` for other commands."""
        ...

    def wire_id(self, transaction_id: str) -> str | int:
        """A transaction id as this version writes it in JSON."""
        ...
