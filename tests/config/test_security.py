"""Passwords, TLS and security profiles in the site file."""

from pathlib import Path

import pytest

from tests.config.sites import GOOD, NO_PASSWORD, found, load, refused

TLS = "  listen: {port: 9000, tls: {certificate: c.pem, key: k.pem}}"
PLAIN = "  listen: {port: 9000}"


@pytest.fixture(autouse=True)
def files(tmp_path: Path) -> None:
    for name in ("c.pem", "k.pem", "ca.pem"):
        (tmp_path / name).touch()


def with_csms(*lines: str) -> str:
    return GOOD.replace(PLAIN, "\n".join(lines))


def test_stations_without_password_are_told_once(tmp_path: Path) -> None:
    (warning,) = load(tmp_path, GOOD).warnings
    assert NO_PASSWORD in warning.message
    assert "st-1, st-2" in warning.message
    assert warning.path == "stations[0].id"


@pytest.mark.parametrize("profile", [0, 1])
def test_a_stated_profile_is_an_answer(tmp_path: Path, profile: int) -> None:
    assert load(tmp_path, with_csms(PLAIN, f"  security_profile: {profile}")).warnings == ()


@pytest.mark.parametrize("profile", [2, 3])
def test_profiles_with_tls_need_tls(tmp_path: Path, profile: int) -> None:
    told = refused(tmp_path, with_csms(PLAIN, f"  security_profile: {profile}"))
    assert any("needs csms.listen.tls" in line for line in told)
    assert found(tmp_path, with_csms(TLS, f"  security_profile: {profile}")) == []


def test_stations_without_tls_beside_a_port_that_takes_tls_only(tmp_path: Path) -> None:
    told = found(tmp_path, with_csms(TLS, "  security_profile: 1"))
    assert all("takes TLS only" in line for line in told)
    assert len(told) == 2
    both = "  listen: {port: 9000, tls: {certificate: c.pem, key: k.pem, port: 9443}}"
    assert found(tmp_path, with_csms(both, "  security_profile: 1")) == []


def test_both_ports_are_looked_at(tmp_path: Path) -> None:
    for port in (9000, 8080):
        text = with_csms(f"  listen: {{port: 9000, tls: {{certificate: c.pem, key: k.pem, port: {port}}}}}")
        assert any(f"port {port} is t" in line for line in refused(tmp_path, text))


@pytest.mark.parametrize(
    ("upstream", "said"),
    [
        ("{id: up, url: 'wss://x', key: k.pem}", "without its certificate"),
        ("{id: up, url: 'ws://x', ca: ca.pem}", "must begin with wss://"),
        ("{id: up, url: 'ws://x', password: !env SET}", "sent unencrypted"),
        ("{id: up, url: 'ws://x', own_identity: {id: me, password: !env SET}}", "sent unencrypted"),
    ],
)
def test_upstreams(tmp_path: Path, upstream: str, said: str) -> None:
    (line,) = found(tmp_path, with_csms(PLAIN, f"  upstreams: [{upstream}]"), SET="s3cret-s3cret")
    assert said in line
    assert "s3cret" not in line


def test_half_a_second_certificate(tmp_path: Path) -> None:
    text = with_csms("  listen: {port: 9000, tls: {certificate: c.pem, key: k.pem, second_key: r.pem}}")
    assert any("come together" in line for line in refused(tmp_path, text))
