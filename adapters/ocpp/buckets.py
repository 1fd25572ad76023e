"""Token buckets: how often an address may knock, and how fast a connection may talk (fault S13)."""

from collections import OrderedDict
from ipaddress import IPv6Address, ip_address

MOST_KEYS = 4096


class Bucket:
    """Fills at ``rate`` a second up to ``burst``; what is taken may put it into debt.

    Args:
        rate: Tokens a second.
        burst: Most tokens.
        now_s: Monotonic.
    """

    __slots__ = ("_at_s", "_burst", "_rate", "_tokens")

    def __init__(self, rate: float, burst: float, now_s: float) -> None:
        self._rate, self._burst = rate, burst
        self._tokens, self._at_s = burst, now_s

    def take(self, now_s: float, cost: float = 1.0) -> float:
        """Takes tokens; returns how long to wait until the debt is paid, 0 where there is none."""
        self._tokens = min(self._burst, self._tokens + (now_s - self._at_s) * self._rate) - cost
        self._at_s = now_s
        return max(0.0, -self._tokens / self._rate)

    def try_take(self, now_s: float, cost: float = 1.0) -> bool:
        """Takes tokens only where there are enough, so that knocking on does not lengthen the wait."""
        self._tokens = min(self._burst, self._tokens + (now_s - self._at_s) * self._rate)
        self._at_s = now_s
        if self._tokens < cost:
            return False
        self._tokens -= cost
        return True


class Buckets:
    """One bucket for each key; the longest unused are forgotten.

    Args:
        rate: Tokens a second.
        burst: Most tokens.
    """

    def __init__(self, rate: float, burst: float) -> None:
        self._rate, self._burst = rate, burst
        self._buckets: OrderedDict[object, Bucket] = OrderedDict()

    def of(self, key: object, now_s: float) -> Bucket:
        """The bucket of this key."""
        bucket = self._buckets.get(key)
        if bucket is None:
            bucket = self._buckets[key] = Bucket(self._rate, self._burst, now_s)
            if len(self._buckets) > MOST_KEYS:
                self._buckets.popitem(last=False)
        else:
            self._buckets.move_to_end(key)
        return bucket


def source(host: str) -> str:
    """What counts as one address: an IPv4 address, or the /64 that one IPv6 customer has."""
    try:
        address = ip_address(host.partition("%")[0])
    except ValueError:
        return host
    if isinstance(address, IPv6Address):
        if address.ipv4_mapped is not None:
            return str(address.ipv4_mapped)
        return str(IPv6Address(int(address) >> 64 << 64))
    return str(address)
