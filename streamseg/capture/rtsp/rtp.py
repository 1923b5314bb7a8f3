"""RTP packets: parsed, put in order, missing ones noticed; their time stamps on one line (RFC 3550).

Sender reports of RTCP are read as well.
"""

from __future__ import annotations

from dataclasses import dataclass, field

_WINDOW = 100
"""A packet at most this many behind is a late or doubled one; farther off, the numbering began anew."""
_HELD = 32
"""Packets that wait for one before them, over UDP."""
_HELD_NS = 30_000_000


@dataclass(frozen=True, slots=True)
class RtpPacket:
    """One packet."""

    payload_type: int
    marker: bool
    """Set on the last packet of a picture."""
    sequence: int
    timestamp: int
    """In units of the track's clock, modulo 2**32."""
    sender: int
    """Synchronisation source: which stream of the server it belongs to."""
    payload: bytes = field(repr=False)


def parse_rtp(data: bytes) -> RtpPacket | None:
    """Read a packet; None where it is none of version 2, or is cut."""
    if len(data) < 12 or data[0] >> 6 != 2:
        return None
    start = 12 + 4 * (data[0] & 15)
    if data[0] & 16:  # header extension
        if len(data) < start + 4:
            return None
        start += 4 + 4 * int.from_bytes(data[start + 2 : start + 4])
    end = len(data) - (data[-1] if data[0] & 32 else 0)
    if start > end:
        return None
    return RtpPacket(
        payload_type=data[1] & 127,
        marker=bool(data[1] & 128),
        sequence=int.from_bytes(data[2:4]),
        timestamp=int.from_bytes(data[4:8]),
        sender=int.from_bytes(data[8:12]),
        payload=data[start:end],
    )


@dataclass(frozen=True, slots=True)
class SenderReport:
    """What a sender's wall clock showed at one of its time stamps (RTCP, RFC 3550, 6.4.1)."""

    sender: int
    wall_ns: int
    """Nanoseconds of its wall clock, from any origin; it may be wrong by years."""
    timestamp: int
    """The same moment in units of the track's clock, modulo 2**32."""


_SENDER_REPORT, _BYE = 200, 203


def parse_control(data: bytes) -> tuple[list[SenderReport], bool]:
    """The sender reports in an RTCP packet of one or more parts, and whether the sender says goodbye."""
    reports: list[SenderReport] = []
    place = 0
    while place + 4 <= len(data) and data[place] >> 6 == 2:
        kind, end = data[place + 1], place + 4 + 4 * int.from_bytes(data[place + 2 : place + 4])
        if kind == _BYE:
            return reports, True
        if kind == _SENDER_REPORT and place + 20 <= end <= len(data):
            sender, seconds, fraction, timestamp = (
                int.from_bytes(data[place + at : place + at + 4]) for at in (4, 8, 12, 16)
            )
            if seconds or fraction:  # 0: it has no wall clock
                reports.append(SenderReport(sender, seconds * 10**9 + (fraction * 10**9 >> 32), timestamp))
        place = end
    return reports, False


@dataclass(frozen=True, slots=True)
class Arrival:
    """A packet in its place."""

    packet: RtpPacket
    arrived_ns: int
    lost: bool
    """Whether packets before it are missing."""


class Sequencer:
    """Puts packets in order and notices the missing ones.

    Over TCP (``reorder`` False) a gap is a loss at once. Over UDP packets behind a gap wait a little for
    the missing one; that delays only pictures that would be damaged otherwise.
    """

    def __init__(self, *, reorder: bool) -> None:
        self._reorder = reorder
        self._next: int | None = None
        self._sender = 0
        self._stranger: int | None = None
        self._held: dict[int, tuple[RtpPacket, int]] = {}

    def push(self, packet: RtpPacket, arrived_ns: int) -> list[Arrival]:
        """Take a packet as it arrives; returns those whose turn has come."""
        if self._next is None:
            self._begin(packet)
        elif packet.sender != self._sender:
            # One packet of another sender is a damaged one; two are a stream that began anew.
            stranger, self._stranger = self._stranger, packet.sender
            return self._begin_anew(packet, arrived_ns) if stranger == packet.sender else []
        self._stranger = None  # two senders at once: the first one is followed
        ahead = (packet.sequence - (self._next or 0) + 0x8000 & 0xFFFF) - 0x8000
        if ahead == 0:
            return [self._release(packet, arrived_ns, lost=False), *self._following()]
        if -_WINDOW <= ahead < 0:
            return []
        if self._reorder and ahead <= _WINDOW and ahead > 0:
            return self._hold(packet, arrived_ns)
        return self._begin_anew(packet, arrived_ns)

    def _hold(self, packet: RtpPacket, arrived_ns: int) -> list[Arrival]:
        self._held[packet.sequence] = (packet, arrived_ns)
        oldest = min(arrived for _, arrived in self._held.values())
        waited = len(self._held) > _HELD or arrived_ns - oldest > _HELD_NS
        return self._give_up() if waited else []

    def _begin_anew(self, packet: RtpPacket, arrived_ns: int) -> list[Arrival]:
        self._begin(packet)
        return [self._release(packet, arrived_ns, lost=True)]

    def _begin(self, packet: RtpPacket) -> None:
        self._sender, self._stranger, self._next = packet.sender, None, packet.sequence
        self._held.clear()

    def _release(self, packet: RtpPacket, arrived_ns: int, *, lost: bool) -> Arrival:
        self._next = packet.sequence + 1 & 0xFFFF
        return Arrival(packet, arrived_ns, lost)

    def _following(self) -> list[Arrival]:
        released: list[Arrival] = []
        while self._next in self._held:
            released.append(self._release(*self._held.pop(self._next), lost=False))
        return released

    def _give_up(self) -> list[Arrival]:
        """Go on behind the gap."""
        expected = self._next or 0
        first = min(self._held, key=lambda sequence: sequence - expected & 0xFFFF)
        packet, arrived_ns = self._held.pop(first)
        return [self._release(packet, arrived_ns, lost=True), *self._following()]


class Timeline:
    """Time stamps of 32 bits as one line that does not wrap, beginning at 0."""

    def __init__(self) -> None:
        self._last: int | None = None
        self._total = 0

    def place(self, timestamp: int) -> int:
        """Units since the first time stamp; negative for a picture before it."""
        self._total = self.near(timestamp)
        self._last = timestamp
        return self._total

    def near(self, timestamp: int) -> int:
        """Where a time stamp that is not a picture's lies on the line: within 2**31 units of the last one."""
        last = timestamp if self._last is None else self._last
        return self._total + (timestamp - last + 0x80000000 & 0xFFFFFFFF) - 0x80000000
