import pytest

from thalweg.app.security.hosts import AllowedHosts
from thalweg.errors import UsageError


@pytest.mark.parametrize(
    ("bound", "extra", "host", "accepted"),
    [
        ("127.0.0.1", (), "127.0.0.1:7860", True),
        ("127.0.0.1", (), "LOCALHOST", True),
        ("::1", (), "[::1]:7860", True),
        ("127.0.0.1", (), "192.0.2.7", False),
        ("127.0.0.1", (), "evil.example:7860", False),
        ("0.0.0.0", (), "192.0.2.7:7860", True),
        ("0.0.0.0", (), "[2001:db8::1]:7860", True),
        ("0.0.0.0", (), "evil.example", False),
        ("box.lan", (), "box.lan:7860", True),
        ("127.0.0.1", ("maps.example.org",), "Maps.example.org", True),
        ("127.0.0.1", ("maps.example.org",), "maps.example.org:8443", True),
        ("127.0.0.1", ("maps.example.org:8443",), "maps.example.org", False),
        ("127.0.0.1", ("maps.example.org",), "x.maps.example.org", False),
        ("127.0.0.1", ("maps.example.org",), "maps.example.org/x", False),
        ("127.0.0.1", (), "127.0.0.1:99999", False),
    ],
)
def test_a_host_is_accepted_by_name(bound: str, extra: tuple[str, ...], host: str, accepted: bool) -> None:
    assert AllowedHosts(bound, extra).accepts(host) is accepted


@pytest.mark.parametrize(
    ("origin", "host", "scheme", "own"),
    [
        ("http://127.0.0.1:7860", "127.0.0.1:7860", "http", True),
        ("http://127.0.0.1:7861", "127.0.0.1:7860", "http", False),
        ("http://localhost:7860", "127.0.0.1:7860", "http", False),
        ("https://maps.example.org", "maps.example.org", "http", True),  # the proxy ends TLS
        ("https://maps.example.org", "maps.example.org", "https", True),
        ("http://maps.example.org", "maps.example.org", "https", False),
        ("https://maps.example.org", "127.0.0.1:7860", "http", True),  # the proxy does not pass Host on
        ("https://maps.example.org:444", "127.0.0.1:7860", "http", False),
        ("https://a.org@evil.example", "a.org", "http", False),
        ("null", "127.0.0.1:7860", "http", False),
        ("file://", "127.0.0.1:7860", "http", False),
        ("http://[", "127.0.0.1:7860", "http", False),
        ("", "127.0.0.1:7860", "http", False),
    ],
)
def test_an_origin_is_the_app_s_own_by_name_and_port(origin: str, host: str, scheme: str, own: bool) -> None:
    assert AllowedHosts("127.0.0.1", ("maps.example.org",)).is_own_origin(origin, host, scheme) is own


@pytest.mark.parametrize("name", ["https://maps.example.org", "maps.example.org/app", "*", "", "a b", "name:port"])
def test_what_is_no_host_name_raises_one_line_error(name: str) -> None:
    with pytest.raises(UsageError, match="expected a host name such as"):
        AllowedHosts("127.0.0.1", (name,))
