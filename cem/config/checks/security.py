"""Who may pose as whom: passwords, TLS and security profiles of the OCPP legs."""

from collections.abc import Iterator

from cem.config.draft import Draft, Finding


def profiles_can_be_met(draft: Draft) -> Iterator[Finding]:
    csms = draft.csms
    if csms is None:
        return
    tls = csms.listen.tls
    for i, station in draft.stations:
        profile = station.security_profile
        place: tuple[str | int, ...] = ("stations", i, "security_profile")
        if profile is None:
            profile, place = csms.security_profile, ("csms", "security_profile")
        if profile in {2, 3} and tls is None:
            yield Finding(place, f"security_profile {profile} of '{station.id}' needs csms.listen.tls")
        elif profile in {0, 1} and tls is not None and tls.port is None:
            yield Finding(
                place,
                f"'{station.id}' may come without TLS (security_profile {profile}), but csms.listen takes TLS only; "
                "give tls its own port to serve both",
                "warning",
            )


def stations_are_authenticated(draft: Draft) -> Iterator[Finding]:
    if draft.csms is None or draft.csms.security_profile is not None:
        return
    open_to_all = [
        (i, s.id) for i, s in draft.stations if s.security_profile is None and s.password is None and s.modbus is None
    ]
    if open_to_all:
        names = ", ".join(name for _, name in open_to_all[:5]) + (" ..." if len(open_to_all) > 5 else "")
        yield Finding(
            ("stations", open_to_all[0][0], "id"),
            f"no password is asked of {names}: whoever reaches csms.listen can pose as one of them. Give each a "
            "password, best with csms.listen.tls, or write security_profile: 0 in csms to say that this is meant",
            "warning",
        )


def keys_come_in_pairs(draft: Draft) -> Iterator[Finding]:
    if draft.csms is None:
        return
    tls = draft.csms.listen.tls
    if tls is not None and (tls.second_certificate is None) != (tls.second_key is None):
        yield Finding(("csms", "listen", "tls"), "second_certificate and second_key come together")
    for i, upstream in enumerate(draft.csms.upstreams):
        place = ("csms", "upstreams", i)
        if upstream.key is not None and upstream.certificate is None:
            yield Finding(place, f"upstream '{upstream.id}' has a key without its certificate")
        if upstream.url.startswith("ws://") and (upstream.ca or upstream.certificate):
            yield Finding(place, f"upstream '{upstream.id}' is dialed without TLS; its address must begin with wss://")
        own = upstream.own_identity
        if upstream.url.startswith("ws://") and (upstream.password or (own is not None and own.password)):
            yield Finding(
                place, f"the password of upstream '{upstream.id}' is sent unencrypted; better is wss://", "warning"
            )


RULES = (profiles_can_be_met, stations_are_authenticated, keys_come_in_pairs)
