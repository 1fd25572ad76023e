"""The use cases of IEC 63110-1 through the proxy; ``cem/csms/README.md`` lists them. Named after the clause."""

import json
import socket
from datetime import UTC, datetime, timedelta

import pytest
from ocpp.exceptions import SecurityError
from ocpp.routing import on
from ocpp.v21 import call_result as result21

from tests.adapters.ocpp_peers import Station16, Station21, Station201, cloud, local_csms, stamp, station, until
from tests.adapters.ocpp_use_cases import ask, hear, joined

KINDS = pytest.mark.parametrize("kind", [Station16, Station201, Station21])
KINDS_2 = pytest.mark.parametrize("kind", [Station201, Station21])
HERE, ELSEWHERE = "https://files.example/x", "https://elsewhere.example/x"
AT = "2026-11-22T10:00:00.000Z"
TAG2 = {"idToken": "TAG2", "type": "ISO14443"}
MESSAGE = {"format": "UTF8", "content": "Guten Tag"}


def has_ipv6():
    try:
        with socket.socket(socket.AF_INET6) as probe:
            probe.bind(("::1", 0))
    except OSError:
        return False
    return True


def variable(component, name, **more):
    return {"component": {"name": component}, "variable": {"name": name}, **more}


# -- 8.2 energy ---------------------------------------------------------------------------------------------------------


async def test_8_2_9_a_dynamic_profile_is_kept_here_and_each_update_holds_the_station():
    async with joined(Station21) as site:
        site.local.apply(S1=16.0)
        await site.peer.start()
        await until(lambda: site.peer.seen.has("TxProfile", 16.0))
        schedule = {"id": 1, "chargingRateUnit": "A", "chargingSchedulePeriod": [{"startPeriod": 0, "limit": 10.0}]}
        profile = {
            "id": 5, "stackLevel": 0, "chargingProfilePurpose": "TxDefaultProfile", "chargingProfileKind": "Dynamic",
            "chargingSchedule": [schedule],
        }  # fmt: skip
        sky = site.sky.peers["S1"]
        assert (await ask(sky, "SetChargingProfile", {"evseId": 1, "chargingProfile": profile}))["status"] == "Accepted"
        await until(lambda: site.peer.seen.has("TxProfile", 10.0))
        update = {"chargingProfileId": 5, "scheduleUpdate": {"limit": 8.0}}
        assert (await site.kept("UpdateDynamicSchedule", update))["status"] == "Accepted"
        await until(lambda: site.peer.seen.has("TxProfile", 8.0))


class Dynamic21(Station21):
    """Knows dynamic profiles, and shows what it has of them."""

    def __init__(self, *args, **kwargs):
        super().__init__(*args, **kwargs)
        self.values, self.kinds, self.has = [], [], None

    @on("GetVariables")
    def on_variables_asked(self, get_variable_data):
        told = [
            {**asked, "attribute_status": "Accepted", "attribute_value": "true"}
            if asked["variable"]["name"] == "SupportsDynamicProfiles"
            else {**asked, "attribute_status": "UnknownVariable"}
            for asked in get_variable_data
        ]
        return result21.GetVariables(get_variable_result=told)

    @on("SetChargingProfile")
    def on_profile(self, evse_id, charging_profile):
        if charging_profile["charging_profile_purpose"] == "TxProfile":
            self.kinds.append(charging_profile["charging_profile_kind"])
            [schedule] = charging_profile["charging_schedule"]
            self.has = (schedule["charging_schedule_period"][0]["limit"], schedule["duration"])
        return super().on_profile(evse_id, charging_profile)

    @on("UpdateDynamicSchedule")
    def on_value(self, schedule_update, **_):
        self.values.append(schedule_update["limit"])
        self.has = (schedule_update["limit"], self.has[1])
        return result21.UpdateDynamicSchedule(status="Accepted")

    @on("GetCompositeSchedule")
    def on_composite_asked(self, evse_id, **_):
        if self.has is None:
            return result21.GetCompositeSchedule(status="Rejected")
        periods = [
            {"start_period": 0, "limit": self.has[0]}, {"start_period": self.has[1], "limit": 6.0},
        ]  # fmt: skip
        schedule = {
            "evse_id": evse_id, "duration": 86_400, "schedule_start": stamp(), "charging_rate_unit": "A",
            "charging_schedule_period": periods,
        }  # fmt: skip
        return result21.GetCompositeSchedule(status="Accepted", schedule=schedule)


async def test_8_2_9_our_own_limits_are_values_of_a_dynamic_profile_where_the_station_knows_them():
    async with joined(Dynamic21) as site:
        site.local.apply(S1=16.0)
        await site.peer.start()
        await until(lambda: site.peer.seen.has("TxProfile", 16.0))
        for amps in (12.0, 20.0, 9.0):
            site.local.apply(S1=amps)
            await until(lambda amps=amps: site.peer.has is not None and site.peer.has[0] == amps)
        assert set(site.peer.kinds) == {"Dynamic"}
        assert site.peer.values[-1] == 9.0


# -- transport -----------------------------------------------------------------------------------------------------------


@KINDS
async def test_both_legs_are_compressed_where_the_peer_can(kind):
    async with joined(kind) as site:
        for headers in (site.peer.ws.response.headers, site.sky.peers["S1"]._connection.response.headers):
            agreed = headers["Sec-WebSocket-Extensions"]
            assert agreed.startswith("permessage-deflate")
            assert "server_no_context_takeover" in agreed
            assert "client_no_context_takeover" in agreed
    async with local_csms() as local, station(kind, local.address, compression=None) as peer:
        assert await peer.boot() == "Accepted"


@pytest.mark.skipif(not has_ipv6(), reason="this machine has no IPv6")
@KINDS
async def test_stations_are_served_by_ipv6(kind):
    async with local_csms(host="::1") as local, station(kind, local.address.replace("127.0.0.1", "[::1]")) as peer:
        assert await peer.boot() == "Accepted"
        await until(lambda: peer.seen.has("TxDefaultProfile", 6.0))


# -- 8.3 assets ---------------------------------------------------------------------------------------------------------


@KINDS
async def test_8_3_3_discover_configuration(kind):
    async with joined(kind) as site:
        if site.is_16:
            told = [{"key": "NumberOfConnectors", "readonly": True, "value": "1"}]
            await site.down("GetConfiguration", {"key": ["NumberOfConnectors"]}, {"configurationKey": told})
            return
        await site.down("GetBaseReport", {"requestId": 7, "reportBase": "FullInventory"})
        asked = variable("EVSE", "Power")
        await site.down("GetReport", {"requestId": 8, "componentVariable": [asked]})
        data = [{**asked, "variableAttribute": [{"value": "22000"}]}]
        await site.up("NotifyReport", {"requestId": 7, "generatedAt": AT, "seqNo": 0, "reportData": data})
        read = {"getVariableResult": [{**asked, "attributeStatus": "Accepted", "attributeValue": "22000"}]}
        await site.down("GetVariables", {"getVariableData": [asked]}, read)


@KINDS
async def test_8_3_4_properties_are_set_but_for_those_of_the_stations_leg(kind):
    async with joined(kind) as site:
        if site.is_16:
            await site.down("ChangeConfiguration", {"key": "LightIntensity", "value": "40"})
            refused = await site.kept("ChangeConfiguration", {"key": "AuthorizationKey", "value": "A" * 20})
            assert refused == {"status": "Rejected"}
        else:
            data = [variable("Display", "Brightness", attributeValue="40")]
            done = {"setVariableResult": [variable("Display", "Brightness", attributeStatus="Accepted")]}
            await site.down("SetVariables", {"setVariableData": data}, done)
            secret = [variable("SecurityCtrlr", "BasicAuthPassword", attributeValue="A" * 20)]
            (refused,) = (await site.kept("SetVariables", {"setVariableData": secret}))["setVariableResult"]
            assert refused["attributeStatus"] == "Rejected"
        await until(lambda: "cloud_refused" in site.local.codes())


@KINDS
async def test_8_3_5_monitoring_passes_and_what_a_trigger_brings_is_learned(kind):
    async with joined(kind) as site:
        if site.is_16:
            await site.down("TriggerMessage", {"requestedMessage": "StatusNotification", "connectorId": 1})
            status = {"connectorId": 1, "errorCode": "NoError", "status": "Preparing"}
        else:
            await site.down("TriggerMessage", {"requestedMessage": "StatusNotification", "evse": {"id": 1}})
            status = {"timestamp": AT, "connectorStatus": "Occupied", "evseId": 1, "connectorId": 1}
        await site.up("StatusNotification", status)
        assert site.local.state("S1/1").connected
        if site.is_16:
            return
        monitor = {"value": 70.0, "type": "UpperThreshold", "severity": 4, **variable("EVSE", "Temperature")}
        done = {
            "id": 1,
            "status": "Accepted",
            "type": "UpperThreshold",
            "severity": 4,
            **variable("EVSE", "Temperature"),
        }
        await site.down("SetVariableMonitoring", {"setMonitoringData": [monitor]}, {"setMonitoringResult": [done]})
        await site.down("SetMonitoringBase", {"monitoringBase": "All"})
        await site.down("GetMonitoringReport", {"requestId": 3})
        monitors = [{"id": 1, "transaction": False, "value": 70.0, "type": "UpperThreshold", "severity": 4}]
        if site.version == "2.1":
            monitors[0]["eventNotificationType"] = "CustomMonitor"
        else:
            monitors[0].pop("eventNotificationType", None)
        told = {**variable("EVSE", "Temperature"), "variableMonitoring": monitors}
        await site.up("NotifyMonitoringReport", {"requestId": 3, "seqNo": 0, "generatedAt": AT, "monitor": [told]})
        event = {
            "eventId": 1, "timestamp": AT, "trigger": "Alerting", "actualValue": "71.5",
            "eventNotificationType": "CustomMonitor", "variableMonitoringId": 1, **variable("EVSE", "Temperature"),
        }  # fmt: skip
        await site.up("NotifyEvent", {"generatedAt": AT, "seqNo": 0, "eventData": [event]})
        assert site.status["faults"] == []
        cleared = {"clearMonitoringResult": [{"id": 1, "status": "Accepted"}]}
        await site.down("ClearVariableMonitoring", {"id": [1]}, cleared)


async def test_8_3_5_a_periodic_stream_of_2_1_reaches_the_cloud_and_is_never_answered():
    async with joined(Station21) as site:
        params = {"interval": 5, "values": 2}
        stream = {"constantStreamData": {"id": 1, "params": params, "variableMonitoringId": 1}}
        await site.up("OpenPeriodicEventStream", stream, {"status": "Accepted"})
        sky, seen = site.sky.peers["S1"], []
        handle = sky.route_message

        async def note(text):
            if json.loads(text)[0] == 6:
                seen.append(text)
            else:
                await handle(text)

        sky.route_message = note
        data = {"id": 1, "pending": 0, "basetime": AT, "data": [{"t": 0.0, "v": "71.5"}, {"t": 1.5, "v": "72"}]}
        frames = [json.dumps([6, f"m{n}", "NotifyPeriodicEventStream", {**data, "pending": n}]) for n in range(20)]
        for frame in frames:
            await site.peer.ws.send(frame)
        await until(lambda: len(seen) == 20)
        assert seen == frames
        await site.down("AdjustPeriodicEventStream", {"id": 1, "params": {"interval": 60, "values": 1}})
        await site.up("ClosePeriodicEventStream", {"id": 1})


@KINDS
async def test_8_3_6_firmware_comes_from_allowed_hosts_only_and_its_progress_is_told(kind):
    async with joined(kind) as site:
        signed = {"retrieveDateTime": AT, "signingCertificate": "PEM", "signature": "c2ln"}
        if site.is_16:
            ask_for = [("UpdateFirmware", lambda where: {"location": where, "retrieveDate": AT}, {})]
            more = {"requestId": 1}
            ask_for.append(
                ("SignedUpdateFirmware", lambda where: {**more, "firmware": {"location": where, **signed}}, None)
            )
        else:
            ask_for = [
                ("UpdateFirmware", lambda where: {"requestId": 1, "firmware": {"location": where, **signed}}, None)
            ]
            ask_for.append(
                ("PublishFirmware", lambda where: {"requestId": 2, "location": where, "checksum": "0" * 32}, None)
            )
        for action, payload, answer in ask_for:
            await site.down(action, payload(HERE), answer)
            try:
                assert await site.kept(action, payload(ELSEWHERE)) == {"status": "Rejected"}
            except SecurityError:
                assert answer == {}, "1.6 has no status to refuse by"
        assert site.local.codes().count("cloud_refused") == len(ask_for)
        for status in ("Downloading", "Downloaded", "Installing", "Installed"):
            if site.is_16:
                await site.up("FirmwareStatusNotification", {"status": status})
                await site.up("SignedFirmwareStatusNotification", {"status": status, "requestId": 1})
            else:
                await site.up("FirmwareStatusNotification", {"status": status, "requestId": 1})
        if not site.is_16:
            published = {"status": "Published", "location": [HERE], "requestId": 2}
            await site.up("PublishFirmwareStatusNotification", published)
            await site.down("UnpublishFirmware", {"checksum": "0" * 32}, {"status": "Unpublished"})


RESETS = [
    (Station16, "Soft"), (Station16, "Hard"), (Station201, "Immediate"), (Station201, "OnIdle"),
    (Station21, "Immediate"), (Station21, "ImmediateAndResume"),
]  # fmt: skip


@pytest.mark.parametrize(("kind", "how"), RESETS)
async def test_8_3_7_after_a_reset_the_station_is_held_again_and_no_session_is_lost(kind, how):
    async with joined(kind) as site:
        site.local.apply(S1=12.0)
        await site.peer.start()
        await until(lambda: site.peer.seen.has("TxProfile", 12.0))
        scheduled = how == "OnIdle"
        await site.down("Reset", {"type": how}, {"status": "Scheduled"} if scheduled else None)
        transaction, stays = site.peer.transaction, how in {"Hard", "ImmediateAndResume"}
        if not stays:  # a hard reset leaves no time to say goodbye, the third kind goes on with the transaction
            await site.peer.stop()
        await site.peer.ws.close()
        await until(lambda: not site.local.state("S1/1").online)
        assert site.local.state("S1/1").in_force_a >= 6.0
        async with station(kind, site.local.address) as again:
            assert await again.boot() == "Accepted"
            await until(lambda: again.seen.has("TxDefaultProfile", 6.0))  # what holds it while we are gone
            if stays:
                again.transaction, again.sequence = transaction, 10
                await again.meter(11.5, 11.5, 11.5)
            else:
                await again.start()
            site.local.apply(S1=12.0)
            await until(lambda: again.seen.has("TxProfile", 12.0))
            await again.stop()
        kinds = [s.kind for s in site.local.store.sessions() if s.kind != "meter"]
        assert kinds == ["start", "stop"] * (1 if stays else 2)
        told = "StartTransaction", "StopTransaction"
        heard = [site.sky.count(action) for action in told]
        if kind is not Station16:
            heard = [site.sky.count("TransactionEvent", event_type=e) for e in ("Started", "Ended")]
        assert heard == [kinds.count("start"), kinds.count("stop")]


@KINDS
async def test_8_3_8_display_messages_pass_in_both_directions(kind):
    async with joined(kind) as site:
        if site.is_16:
            data = {"vendorId": "org.example", "messageId": "display", "data": "Guten Tag"}
            await site.down("DataTransfer", data, {"status": "Accepted", "data": "shown"})
            return
        message = {"id": 1, "priority": "NormalCycle", "message": MESSAGE}
        await site.down("SetDisplayMessage", {"message": message})
        await site.down("GetDisplayMessages", {"requestId": 2})
        await site.up("NotifyDisplayMessages", {"requestId": 2, "messageInfo": [message]})
        await site.down("ClearDisplayMessage", {"id": 1})


@KINDS
async def test_8_3_9_8_3_10_logs_go_to_allowed_hosts_only_and_their_upload_is_told(kind):
    async with joined(kind) as site:

        def log(where):
            return {"logType": "SecurityLog", "requestId": 4, "log": {"remoteLocation": where}}

        await site.down("GetLog", log(HERE), {"status": "Accepted", "filename": "log.gz"})
        assert await site.kept("GetLog", log(ELSEWHERE)) == {"status": "Rejected"}
        await site.up("LogStatusNotification", {"status": "Uploaded", "requestId": 4})
        if site.is_16:
            await site.down("GetDiagnostics", {"location": HERE}, {"fileName": "diag.zip"})
            with pytest.raises(SecurityError):
                await site.kept("GetDiagnostics", {"location": ELSEWHERE})
            await site.up("DiagnosticsStatusNotification", {"status": "Uploaded"})
        else:
            await site.down("SetMonitoringLevel", {"severity": 4})
        await site.up(
            "SecurityEventNotification", {"type": "TamperDetectionActivated", "timestamp": AT, "techInfo": "lid"}
        )


@KINDS
async def test_8_3_11_fault_codes_pass_and_are_learned(kind):
    async with joined(kind) as site:

        async def tell(code):
            if site.is_16:
                status = "Available" if code is None else "Faulted"
                payload = {"connectorId": 1, "errorCode": code or "NoError", "status": status, "vendorErrorCode": "E77"}
                await site.up("StatusNotification", payload)
                return
            event = {
                "eventId": 1, "timestamp": AT, "trigger": "Delta", "actualValue": "false" if code is None else "true",
                "eventNotificationType": "HardWiredNotification", "component": {"name": "EVSE", "evse": {"id": 1}},
                "variable": {"name": "Problem"}, **({} if code is None else {"techCode": code, "techInfo": "E77"}),
            }  # fmt: skip
            await site.up("NotifyEvent", {"generatedAt": AT, "seqNo": 0, "eventData": [event]})

        await tell("GroundFailure")
        await tell("GroundFailure")
        (fault,) = site.status["faults"]
        assert (fault["evse"], fault["code"]) == (1, "GroundFailure")
        assert "E77" in fault["info"]
        await tell(None)
        assert site.status["faults"] == []
        told = [(e.code, e.text) for e in site.local.events if e.code.startswith("station_fault")]
        assert [code for code, _ in told] == ["station_fault", "station_fault_over"], (
            "once when it comes, once when it goes"
        )
        assert all("S1 EVSE 1" in text and "GroundFailure" in text for _, text in told)
        await tell("GroundFailure")
        await site.peer.boot()  # it says anew what is wrong
        assert site.status["faults"] == []


@KINDS
async def test_8_3_13_8_3_15_the_cloud_takes_a_station_in_and_out(kind):
    """Pending: commands pass, nothing else; accepted: held; rejected later: no longer served, and its draw stays reserved."""
    status = "Pending"
    async with cloud() as sky, local_csms(upstream=sky.url) as local, station(kind, local.address) as peer:
        await until(lambda: "S1" in sky.peers)

        def decide(**_):
            return peer_of_the_cloud._call_result.BootNotification(current_time=AT, interval=1, status=status)

        peer_of_the_cloud = sky.peers["S1"]
        peer_of_the_cloud.route_map["BootNotification"] = {"_on_action": decide}
        assert await peer.boot() == "Pending"
        if kind is Station16:
            action, payload = "ChangeConfiguration", {"key": "HeartbeatInterval", "value": "600"}
            answer = {"status": "Accepted"}
        else:
            action, payload = "GetBaseReport", {"requestId": 1, "reportBase": "ConfigurationInventory"}
            answer = {"status": "Accepted"}
        heard = hear(peer, action, answer)
        assert await ask(peer_of_the_cloud, action, payload) == answer
        assert heard == [payload]
        assert peer.seen.limits == []
        assert not local.state("S1/1").online
        status = "Accepted"
        assert await peer.boot() == "Accepted"
        await until(lambda: peer.seen.has("TxDefaultProfile", 6.0))
        assert local.state("S1/1").online
        status = "Rejected"
        assert await peer.boot() == "Rejected"
        assert not local.state("S1/1").online
        assert local.state("S1/1").in_force_a >= 6.0


@KINDS
async def test_8_3_16_certificates_pass_but_for_those_of_the_stations_leg(kind):
    async with joined(kind) as site:
        chosen, ours = ("ManufacturerRootCertificate", "CentralSystemRootCertificate") if site.is_16 else (
            "MORootCertificate", "CSMSRootCertificate")  # fmt: skip
        await site.down("InstallCertificate", {"certificateType": chosen, "certificate": "PEM"})
        refused = await site.kept("InstallCertificate", {"certificateType": ours, "certificate": "PEM"})
        assert refused["status"] == "Rejected"
        refused = await site.kept("CertificateSigned", {"certificateChain": "PEM"})
        assert refused["status"] == "Rejected"
        data = {"hashAlgorithm": "SHA256", "issuerNameHash": "a1", "issuerKeyHash": "b2", "serialNumber": "c3"}
        assert await site.kept("DeleteCertificate", {"certificateHashData": data}) == {"status": "Failed"}
        if site.is_16:
            told = {"status": "Accepted", "certificateHashData": [data]}
            await site.down("GetInstalledCertificateIds", {"certificateType": chosen}, told)
        else:
            chain = [{"certificateType": chosen, "certificateHashData": data}]
            told = {"status": "Accepted", "certificateHashDataChain": chain}
            await site.down("GetInstalledCertificateIds", {"certificateType": [chosen]}, told)
            ocsp = {"ocspRequestData": {**data, "responderURL": "https://ocsp.example"}}
            await site.up("GetCertificateStatus", ocsp, {"status": "Accepted", "ocspResult": "AAAA"})
        await site.down("DeleteCertificate", {"certificateHashData": data})


# -- 8.4 sessions -------------------------------------------------------------------------------------------------------


@KINDS
async def test_8_4_3_a_reservation_passes_and_is_learned(kind):
    async with joined(kind) as site:
        until_utc = datetime.now(UTC) + timedelta(hours=1)
        until_text = until_utc.isoformat(timespec="milliseconds").replace("+00:00", "Z")

        async def reserve(number, answer="Accepted"):
            if site.is_16:
                payload = {"connectorId": 1, "expiryDate": until_text, "idTag": "TAG", "reservationId": number}
            else:
                token = {"idToken": "TAG", "type": "ISO14443"}
                payload = {"id": number, "expiryDateTime": until_text, "idToken": token, "evseId": 1}
            await site.down("ReserveNow", payload, {"status": answer})

        def held():
            return [(one["id"], one["evse"], one["until"]) for one in site.status["reservations"]]

        await reserve(41, "Occupied")
        assert held() == []
        await reserve(42)
        assert held() == [(42, 1, until_text)]
        assert "TAG" not in str(site.status)
        status = {"connectorId": 1, "errorCode": "NoError", "status": "Reserved"}
        if not site.is_16:
            status = {"timestamp": AT, "connectorStatus": "Reserved", "evseId": 1, "connectorId": 1}
        await site.up("StatusNotification", status)
        assert (site.local.state("S1/1").status, site.local.state("S1/1").connected) == ("Reserved", False)
        await site.down("CancelReservation", {"reservationId": 42})
        assert held() == []
        await reserve(43)
        if site.is_16:
            payload = {"connectorId": 1, "idTag": "TAG", "meterStart": 0, "timestamp": AT, "reservationId": 43}
            info = {"idTagInfo": {"status": "Accepted"}, "transactionId": 77}
            await site.up("StartTransaction", payload, info)
            assert held() == []
            return
        await site.up("ReservationStatusUpdate", {"reservationId": 43, "reservationUpdateStatus": "Expired"})
        assert held() == []
        await reserve(44)
        begun = {
            "eventType": "Started", "timestamp": AT, "triggerReason": "Authorized", "seqNo": 0, "evse": {"id": 1},
            "transactionInfo": {"transactionId": "tx-44"}, "reservationId": 44,
        }  # fmt: skip
        await site.up("TransactionEvent", begun)
        assert held() == []


@KINDS
async def test_8_4_4_8_4_5_the_list_that_the_cloud_sends_authorizes_when_it_is_gone(kind):
    async with joined(kind) as site:
        if site.is_16:
            entry = {"idTag": "TAG2", "idTagInfo": {"status": "Accepted"}}
            one, other = {"idTag": "TAG2"}, {"idTag": "TAG3"}
            await site.up("Authorize", {"idTag": "TAG"}, {"idTagInfo": {"status": "Accepted", "parentIdTag": "FAMILY"}})
            start = "RemoteStartTransaction", {"connectorId": 1, "idTag": "TAG2"}
        else:
            entry = {"idToken": TAG2, "idTokenInfo": {"status": "Accepted"}}
            one, other = {"idToken": TAG2}, {"idToken": {**TAG2, "idToken": "TAG3"}}
            shown = {"status": "Accepted", "groupIdToken": {"idToken": "FAMILY", "type": "Central"}}
            await site.up("Authorize", {"idToken": {"idToken": "TAG", "type": "ISO14443"}}, {"idTokenInfo": shown})
            start = "RequestStartTransaction", {"evseId": 1, "remoteStartId": 9, "idToken": TAG2}
        key = "listVersion" if site.is_16 else "versionNumber"
        listed = {key: 1, "updateType": "Full", "localAuthorizationList": [entry]}
        await site.down("SendLocalList", listed)
        await site.down("GetLocalListVersion", {}, {key: 1})
        await site.down("ClearCache", {})
        await site.down(*start)
        await site.sky.stop()
        await until(lambda: "csms_lost" in site.local.codes())
        verdicts = []
        for token in (one, other):
            answer = await ask(site.peer, "Authorize", token)
            verdicts.append((answer.get("idTagInfo") or answer["idTokenInfo"])["status"])
        assert verdicts == ["Accepted", "Invalid" if site.is_16 else "Unknown"]


@KINDS
async def test_8_4_6_8_4_7_tariffs_and_costs_pass(kind):
    async with joined(kind) as site:
        if site.is_16:
            price = {
                "vendorId": "org.openchargealliance.costmsg",
                "messageId": "SetUserPrice",
                "data": '{"price": 0.4}',
            }
            await site.down("DataTransfer", price, {"status": "Accepted"})
            return
        await site.peer.start()
        await site.down("CostUpdated", {"totalCost": 3.21, "transactionId": site.peer.transaction}, {})
        ended = {
            "eventType": "Updated", "timestamp": AT, "triggerReason": "Trigger", "seqNo": 5, "evse": {"id": 1},
            "transactionInfo": {"transactionId": site.peer.transaction},
        }  # fmt: skip
        await site.up("TransactionEvent", ended, {"totalCost": 3.5, "updatedPersonalMessage": MESSAGE})
        if site.version == "2.0.1":
            return
        tariff = {"tariffId": "T1", "currency": "EUR", "energy": {"prices": [{"priceKwh": 0.4}]}}
        await site.down("SetDefaultTariff", {"evseId": 1, "tariff": tariff})
        assigned = {"tariffId": "T1", "tariffKind": "DefaultTariff", "evseIds": [1]}
        await site.down("GetTariffs", {"evseId": 1}, {"status": "Accepted", "tariffAssignments": [assigned]})
        await site.down("ChangeTransactionTariff", {"transactionId": site.peer.transaction, "tariff": tariff})
        cleared = {"clearTariffsResult": [{"tariffId": "T1", "status": "Accepted"}]}
        await site.down("ClearTariffs", {"tariffIds": ["T1"]}, cleared)


@KINDS
async def test_8_4_9_a_contract_certificate_passes(kind):
    async with joined(kind) as site:
        if site.is_16:
            data = {
                "vendorId": "org.openchargealliance.iso15118pnc",
                "messageId": "Get15118EVCertificate",
                "data": "EXI",
            }
            await site.up("DataTransfer", data, {"status": "Accepted", "data": "EXI too"})
            return
        schema = "urn:iso:15118:2:2013:MsgDef"
        asked = {"iso15118SchemaVersion": schema, "action": "Install", "exiRequest": "RVhJ"}
        await site.up("Get15118EVCertificate", asked, {"status": "Accepted", "exiResponse": "RVhJIHRvbw=="})
