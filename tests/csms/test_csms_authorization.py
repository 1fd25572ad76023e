"""Who may charge offline: what the cloud said, until it ends, its local list, and the tags of a site without cloud."""

import json
from datetime import timedelta

import pytest

from cem.csms.authorization import Authorization, token_hash
from cem.csms.records import TokenGone, TokenKnown
from cem.csms.token_cache import Group, Known, TokenCache
from tests.csms.rig import START_UTC, Rig
from tests.csms.test_csms_filter import command, online

LATER = START_UTC + timedelta(hours=2)


def stamp(at):
    return at.isoformat().replace("+00:00", "Z")


@pytest.mark.parametrize(
    "info",
    [
        {"idTagInfo": {"status": "Accepted", "expiryDate": stamp(START_UTC + timedelta(hours=1))}},
        {"idTokenInfo": {"status": "Accepted", "cacheExpiryDateTime": stamp(START_UTC + timedelta(hours=1))}},
    ],
)
def test_an_answer_of_the_cloud_holds_until_it_ends(info):
    authorization = Authorization("known", standalone=False)
    assert not authorization.decide("TAG", START_UTC).accepted
    authorization.learn("TAG", START_UTC, accepted=True, told=info)
    assert authorization.decide("tag", START_UTC).accepted
    assert not authorization.decide("TAG", LATER).accepted


def test_a_rejected_token_stays_rejected_where_unknown_ones_are_accepted():
    authorization = Authorization("accept", standalone=False)
    authorization.learn("BAD", START_UTC, accepted=False, told={"idTagInfo": {"status": "Blocked"}})
    assert not authorization.decide("BAD", START_UTC).accepted
    assert authorization.decide("OTHER", START_UTC).accepted


def entry(version, token, status="Accepted", **info):
    if version == "1.6":
        return {"idTag": token, "idTagInfo": {"status": status, **info}}
    return {"idToken": {"idToken": token, "type": "ISO14443"}, "idTokenInfo": {"status": status, **info}}


def may(rig, token):
    if rig.version == "1.6":
        return rig.call("Authorize", {"idTag": token})["idTagInfo"]["status"] == "Accepted"
    answer = rig.call("Authorize", {"idToken": {"idToken": token, "type": "ISO14443"}})
    return answer["idTokenInfo"]["status"] == "Accepted"


@pytest.mark.parametrize("version", ["1.6", "2.0.1", "2.1"])
def test_the_local_list_that_a_station_took_holds_here_as_well_also_after_a_restart(version):
    rig = online(version)
    full = [entry(version, "A"), entry(version, "B", "Blocked")]
    sent, _ = command(
        rig,
        "SendLocalList",
        {"listVersion": 1, "versionNumber": 1, "updateType": "Full", "localAuthorizationList": full},
    )
    rig.reply(sent, {"status": "Accepted"})
    change = [entry(version, "C"), {k: v for k, v in entry(version, "A").items() if not k.endswith("Info")}]
    sent, _ = command(rig, "SendLocalList", {"updateType": "Differential", "localAuthorizationList": change}, "c2")
    rig.reply(sent, {"status": "Accepted"})
    sent, _ = command(rig, "SendLocalList", {"updateType": "Full", "localAuthorizationList": []}, "c3")
    rig.reply(sent, {"status": "VersionMismatch"})  # not taken
    rig.cloud_closed()
    assert [may(rig, token) for token in "ABC"] == [False, False, True]
    kept = [r for r in rig.records if getattr(r, "name", None) == "local_list"][-1]
    assert '"C"' not in kept.text
    again = Authorization("known", standalone=False)
    again.restore(json.loads(kept.text))
    assert again.decide("C", rig.now.utc).accepted
    assert not again.decide("B", rig.now.utc).accepted


@pytest.mark.parametrize("version", ["1.6", "2.0.1"])
def test_a_site_without_cloud_lets_everybody_charge_or_its_tags(version):
    free = Rig(version)
    free.open()
    free.boot()
    assert may(free, "ANYBODY")
    tags = {token_hash("MINE"): {"until": None}, token_hash("OLD"): {"until": stamp(START_UTC)}}
    held = Rig(version, options={"tags": lambda: tags})
    held.open()
    held.boot()
    assert may(held, "mine")
    assert not may(held, "ANYBODY")
    assert not may(held, "OLD")
    tags[token_hash("NEW")] = {"until": stamp(LATER)}
    assert may(held, "NEW")


FAMILY = {
    "1.6": {"idTagInfo": {"status": "Accepted", "parentIdTag": "Family"}},
    "2.0.1": {"idTokenInfo": {"status": "Accepted", "groupIdToken": {"idToken": "Family", "type": "Local"}}},
}


def authorize(rig, token, **more):
    """The station asks; gives the answer's payload."""
    if rig.version == "1.6":
        return rig.call("Authorize", {"idTag": token})
    return rig.call("Authorize", {"idToken": {"idToken": token, "type": "ISO14443"}, **more})


@pytest.mark.parametrize("version", ["1.6", "2.0.1"])
def test_what_the_cloud_said_survives_a_restart_with_the_group_by_which_another_tag_may_stop(version):
    rig = online(version)
    for token in ("MOTHER", "CHILD"):
        authorize(rig, token)
        rig.cloud(3, rig.up[-1][1], FAMILY[version])
    other = {"1.6": "2.0.1", "2.0.1": "1.6"}[version]
    again = rig.again(version=other)
    again.open()
    again.boot()
    again.cloud_closed()
    said = authorize(again, "child")
    told = said.get("idTagInfo") or said.get("idTokenInfo")
    assert told["status"] == "Accepted"
    assert "Family" in (told.get("parentIdTag"), told.get("groupIdToken", {}).get("idToken"))
    again.start("MOTHER")
    answer = again.call(
        *(
            ("StopTransaction", {"transactionId": 1, "meterStop": 5, "timestamp": again.stamp(), "idTag": "CHILD"})
            if other == "1.6"
            else (
                "TransactionEvent",
                {
                    "eventType": "Ended", "timestamp": again.stamp(), "triggerReason": "StopAuthorized", "seqNo": 1,
                    "transactionInfo": {"transactionId": "tx-1"}, "idToken": {"idToken": "CHILD", "type": "ISO14443"},
                },
            )
        )
    )  # fmt: skip
    told = answer.get("idTagInfo") or answer.get("idTokenInfo")
    assert "Family" in (told.get("parentIdTag"), told.get("groupIdToken", {}).get("idToken"))


def known(accepted=True, **more):
    return Known(accepted, **more)


def test_the_cache_is_bounded_the_least_recently_used_go_and_refused_ones_push_out_nobody():
    cache = TokenCache(accepted_room=3, refused_room=2)
    for token in "ABC":
        cache.learn(token, known(), START_UTC)
    assert cache.find("A", START_UTC)
    assert TokenGone("B") in cache.learn("D", known(), START_UTC)
    for number in range(50):
        cache.learn(f"no{number}", known(accepted=False), START_UTC)
    assert [bool(cache.find(token, START_UTC)) for token in "ABCD"] == [True, False, True, True]
    assert len(cache) == 5


def test_a_token_of_which_nothing_was_said_for_long_is_unknown_and_the_disk_is_written_seldom():
    cache = TokenCache(timedelta(days=2))
    (row,) = cache.learn("A", known(group=Group("Family")), START_UTC)
    assert cache.learn("A", known(group=Group("Family")), START_UTC + timedelta(hours=1)) == []
    assert len(cache.learn("A", known(group=Group("Family")), START_UTC + timedelta(hours=30))) == 1
    assert len(cache.learn("A", known(accepted=False), START_UTC + timedelta(hours=31))) == 1, "what changes is written"
    fresh = TokenCache(timedelta(days=2))
    fresh.restore([row])
    assert fresh.find("A", START_UTC + timedelta(hours=47)).group == Group("Family")
    assert fresh.find("A", START_UTC + timedelta(hours=49)) is None


@pytest.mark.parametrize("version", ["1.6", "2.0.1"])
@pytest.mark.parametrize("policy", ["known", "accept", "reject"])
def test_the_policy_decides_of_unknown_tags_and_an_empty_one_is_unknown(version, policy):
    rig = online(version, offline_authorization=policy)
    authorize(rig, "GOOD")
    rig.cloud(3, rig.up[-1][1], FAMILY[version])
    rig.cloud_closed()
    assert may(rig, "GOOD") is (policy != "reject")
    assert may(rig, "STRANGER") is (policy == "accept")
    assert may(rig, "") is (policy == "accept")


def test_a_cache_of_one_station_serves_the_others_and_one_station_list_does_not():
    rig = online("1.6")
    authorize(rig, "GOOD")
    rig.cloud(3, rig.up[-1][1], FAMILY["1.6"])
    (row,) = [r for r in rig.records if isinstance(r, TokenKnown)]
    assert (row.token_hash, row.group) == (token_hash("GOOD"), "Family")
    assert "GOOD" not in repr(rig.records)
    assert rig.shared.cache.find(token_hash("GOOD"), START_UTC)


@pytest.mark.parametrize("version", ["1.6", "2.0.1"])
def test_a_station_that_has_another_list_than_ours_is_believed(version):
    rig = online(version)
    key = "listVersion" if version == "1.6" else "versionNumber"
    full = {"updateType": "Full", "localAuthorizationList": [entry(version, "A")], key: 7}
    sent, _ = command(rig, "SendLocalList", full)
    rig.reply(sent, {"status": "Accepted"})
    for told, holds in ((7, True), (0, False)):
        sent, _ = command(rig, "GetLocalListVersion", {}, f"v{told}")
        rig.reply(sent, {key: told})
        rig.cloud_closed()
        assert may(rig, "A") is holds
        rig.cloud_opened()


CHAIN = {"certificate": "-----BEGIN CERTIFICATE-----\nMIIB  odd  spacing"}


def test_plug_and_charge_passes_as_it_is_and_offline_only_a_contract_that_the_cloud_accepted_is_good():
    rig = online("2.0.1", offline_authorization="accept")
    text = (
        '[2,"p1","Authorize",{"idToken":{"idToken":"DE-8AA-C12345-X","type":"eMAID"},'
        '"certificate":"-----BEGIN CERTIFICATE-----\\nMIIB  odd  spacing" }]'
    )
    rig.text(text)
    assert rig.up_text[-1] == text
    rig.cloud(3, "p1", {"idTokenInfo": {"status": "Accepted"}, "certificateStatus": "Accepted"})
    again = rig.again()
    again.open()
    again.boot()
    again.cloud_closed()
    emaid = "DE-8AA-C12345-X"
    assert authorize(again, emaid, **CHAIN) == {
        "idTokenInfo": {"status": "Accepted"}, "certificateStatus": "Accepted",
    }  # fmt: skip
    for token, shown in ((emaid, {"certificate": "another"}), ("DE-8AA-C99999-X", CHAIN)):
        assert authorize(again, token, **shown) == {
            "idTokenInfo": {"status": "Unknown"}, "certificateStatus": "NoCertificateAvailable",
        }  # fmt: skip
    assert authorize(again, "RFID") == {"idTokenInfo": {"status": "Accepted"}}


def test_where_a_station_needs_no_token_a_start_without_one_is_accepted():
    rig = online("2.0.1")
    rig.cloud_closed()
    answer = rig.call("TransactionEvent", {
        "eventType": "Started", "timestamp": rig.stamp(), "triggerReason": "CablePluggedIn", "seqNo": 0,
        "transactionInfo": {"transactionId": "t"}, "evse": {"id": 1, "connectorId": 1},
        "idToken": {"idToken": "", "type": "NoAuthorization"},
    })  # fmt: skip
    assert answer["idTokenInfo"]["status"] == "Accepted"
