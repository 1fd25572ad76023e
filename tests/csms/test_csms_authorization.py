"""Who may charge offline: what the cloud said, until it ends, its local list, and the tags of a site without cloud."""

import json
from datetime import timedelta

import pytest

from cem.csms.authorization import Authorization, token_hash
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
    assert not authorization.decide("TAG", START_UTC)
    authorization.learn("TAG", accepted=True, told=info)
    assert authorization.decide("tag", START_UTC)
    assert not authorization.decide("TAG", LATER)


def test_a_rejected_token_stays_rejected_where_unknown_ones_are_accepted():
    authorization = Authorization("accept", standalone=False)
    authorization.learn("BAD", accepted=False, told={"idTagInfo": {"status": "Blocked"}})
    assert not authorization.decide("BAD", START_UTC)
    assert authorization.decide("OTHER", START_UTC)


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
    assert again.decide("C", rig.now.utc)
    assert not again.decide("B", rig.now.utc)


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
