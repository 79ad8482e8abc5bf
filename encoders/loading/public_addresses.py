"""Which addresses belong to the public internet, by the special-purpose registries of IANA (RFC 6890).

Python's `is_global` knows most of them; the others depend on its version, so they stand here.
"""

from __future__ import annotations

from ipaddress import IPv4Address, IPv6Address, ip_address, ip_network

_NOT_PUBLIC = tuple(
    ip_network(text)
    for text in (
        "192.0.0.0/24",  # protocol assignments; Oracle's metadata is at 192.0.0.192
        "192.88.99.0/24",  # relays of 6to4
        "168.63.129.16/32",  # Azure's host agent, the same on every machine there
        "2001::/23",  # protocol assignments: Teredo, ORCHID
        "2002::/16",  # 6to4, which leads to any IPv4 address
        "3fff::/20",  # documentation
    )
)
_GLOBAL_UNICAST = ip_network("2000::/3")  # all of IPv6 that is handed out
_TRANSLATED = ip_network("64:ff9b::/96")  # NAT64: an IPv4 address as hosts without IPv4 see it


def is_public(address: str) -> bool:
    """Whether a numeric address is one of the public internet: not loopback, private, link-local, metadata, multicast,
    reserved, nor an IPv6 form of such an IPv4 address. Raises `ValueError` for what is no address."""
    found: IPv4Address | IPv6Address = ip_address(address)
    if isinstance(found, IPv6Address):
        if found.scope_id:
            return False
        if found.ipv4_mapped or found in _TRANSLATED:
            found = IPv4Address(int(found) & 0xFFFF_FFFF)
        elif found not in _GLOBAL_UNICAST:
            return False
    return found.is_global and not found.is_multicast and not any(found in network for network in _NOT_PUBLIC)
