"""The zone's name server: authoritative answers from the emulated Cloudflare, over UDP and TCP.

A proxied name, or one of a proxied load balancer, answers with the edge's address. Names outside
the zone are refused and never looked up elsewhere. Built on dnspython.
"""

from __future__ import annotations

import asyncio
import logging
import socket
import struct
from collections.abc import Iterable
from typing import cast

import dns.exception
import dns.flags
import dns.message
import dns.name
import dns.opcode
import dns.rcode
import dns.rdata
import dns.rdataclass
import dns.rdatatype
import dns.rrset

from sandbox.cloud.cloudflare.domain import CloudflareState, DnsRecord
from sandbox.cloud.cloudflare.records import AUTOMATIC, presentation
from sandbox.cloud.edge.routing import records_for

log = logging.getLogger("sandbox.cloud.dns")

AUTOMATIC_TTL = 300
"""Seconds, the vendor's TTL for "automatic" and for proxied names."""
NEGATIVE_TTL = 60
PLAIN_UDP = 512
LONGEST_CHAIN = 8
TCP_SECONDS = 10.0


class Zone:
    """Answers queries from the state of the account."""

    def __init__(self, state: CloudflareState, edge_address: str) -> None:
        self._state, self._edge = state, edge_address

    def answer(self, wire: bytes, limit: int | None = None) -> bytes | None:
        """Answer a query; `limit` is the most bytes for a client without EDNS."""
        try:
            query = dns.message.from_wire(wire, ignore_trailing=True)
        except dns.exception.DNSException:
            return None
        if query.flags & dns.flags.QR or not query.question:
            return None
        response = dns.message.make_response(query)
        self._fill(query, response)
        most = 65535
        if limit is not None:
            most = max(limit, query.payload) if query.edns >= 0 else limit
        try:
            return response.to_wire(max_size=most)
        except dns.exception.TooBig:
            short = dns.message.make_response(query)
            short.flags |= dns.flags.TC | dns.flags.AA
            return short.to_wire()

    def _fill(self, query: dns.message.Message, response: dns.message.Message) -> None:
        question = query.question[0]
        name = question.name.to_text(omit_final_dot=True).lower()
        if query.opcode() != dns.opcode.QUERY or question.rdclass != dns.rdataclass.IN:
            response.set_rcode(dns.rcode.NOTIMP)
            return
        if not self._inside(name):
            response.set_rcode(dns.rcode.REFUSED)
            return
        response.flags |= dns.flags.AA
        found = self._answers(name, dns.rdatatype.to_text(question.rdtype), LONGEST_CHAIN)
        response.answer.extend(found)
        if not found:
            if not self._exists(name):
                response.set_rcode(dns.rcode.NXDOMAIN)
            response.authority.append(self._soa(NEGATIVE_TTL))

    def _answers(self, name: str, kind: str, hops: int) -> list[dns.rrset.RRset]:
        if name == self._state.zone and kind == "SOA":
            return [self._soa(AUTOMATIC_TTL)]
        if name == self._state.zone and kind == "NS":
            servers = [f"ns{number}.{name}." for number in (1, 2)]
            return [_rrset(name, AUTOMATIC_TTL, kind, servers)]
        if self._behind_edge(name):
            return [_rrset(name, AUTOMATIC_TTL, "A", [self._edge])] if kind == "A" else []
        records = records_for(self._state, name)
        wanted = [r for r in records if r.type == kind]
        if wanted:
            return [_rrset(name, _ttl(wanted[0]), kind, map(presentation, wanted))]
        aliases = [r for r in records if r.type == "CNAME"]
        if not aliases:
            return []
        chain = [_rrset(name, _ttl(aliases[0]), "CNAME", [presentation(aliases[0])])]
        target = aliases[0].content.rstrip(".").lower()
        if hops and self._inside(target):
            chain += self._answers(target, kind, hops - 1)
        return chain

    def _behind_edge(self, name: str) -> bool:
        balancers = self._state.load_balancers.values()
        if any(b.name == name and b.enabled and b.proxied for b in balancers):
            return True
        if any(domain.hostname == name for domain in self._state.worker_domains.values()):
            return True
        return any(r.proxied for r in records_for(self._state, name))

    def _exists(self, name: str) -> bool:
        if name == self._state.zone or records_for(self._state, name) or self._behind_edge(name):
            return True
        below = f".{name}"  # an empty name between the zone and a record exists too
        return any(r.name.endswith(below) for r in self._state.records.values())

    def _inside(self, name: str) -> bool:
        return name == self._state.zone or name.endswith(f".{self._state.zone}")

    def _soa(self, ttl: int) -> dns.rrset.RRset:
        zone = self._state.zone
        text = f"ns1.{zone}. dns.{zone}. 1 10000 2400 604800 {NEGATIVE_TTL}"
        return _rrset(zone, ttl, "SOA", [text])


def _rrset(name: str, ttl: int, kind: str, texts: Iterable[str]) -> dns.rrset.RRset:
    return dns.rrset.from_text_list(dns.name.from_text(name), ttl, "IN", kind, list(texts))


def _ttl(record: DnsRecord) -> int:
    return AUTOMATIC_TTL if record.ttl == AUTOMATIC else record.ttl


class DnsServer:
    """Serves a zone on one address, UDP and TCP."""

    def __init__(self, zone: Zone) -> None:
        self._zone = zone
        self._udp: asyncio.DatagramTransport | None = None
        self._tcp: asyncio.Server | None = None

    async def start(self, udp: socket.socket, tcp: socket.socket) -> None:
        """Serve on bound sockets."""
        loop = asyncio.get_running_loop()
        self._udp, _ = await loop.create_datagram_endpoint(lambda: _Udp(self._zone), sock=udp)
        self._tcp = await asyncio.start_server(self._serve, sock=tcp)

    async def stop(self) -> None:
        """Stop serving."""
        if self._udp is not None:
            self._udp.close()
        if self._tcp is not None:
            self._tcp.close()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while True:
                async with asyncio.timeout(TCP_SECONDS):
                    (length,) = struct.unpack("!H", await reader.readexactly(2))
                    wire = await reader.readexactly(length)
                answer = self._zone.answer(wire)
                if answer is None:
                    break
                writer.write(struct.pack("!H", len(answer)) + answer)
                await writer.drain()
        except (TimeoutError, asyncio.IncompleteReadError, ConnectionError):
            pass  # the client is done
        finally:
            writer.close()


class _Udp(asyncio.DatagramProtocol):
    def __init__(self, zone: Zone) -> None:
        self._zone = zone
        self._transport: asyncio.DatagramTransport | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.DatagramTransport, transport)

    def datagram_received(self, data: bytes, addr: tuple[str, int]) -> None:
        answer = self._zone.answer(data, PLAIN_UDP)
        if answer is not None and self._transport is not None:
            self._transport.sendto(answer, addr)
