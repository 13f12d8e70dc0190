"""What a NetworkPolicy lets through, evaluated as Kubernetes' documentation has it.

Source: https://kubernetes.io/docs/concepts/services-networking/network-policies/
"""

import ipaddress
from typing import NamedTuple

from objects import matches


class Peer(NamedTuple):
    """Who is at the other end: a pod, or an address outside of the cluster."""

    name: str
    namespace: str | None = None
    labels: dict = {}
    address: str | None = None


def allows(policy, direction, peer, protocol, port, named_ports=None):
    """Whether a pod that the policy chooses may talk with the peer. `named_ports`: names of its own ports, with numbers."""
    side, field = ("egress", "to") if direction == "Egress" else ("ingress", "from")
    if direction not in policy["spec"]["policyTypes"]:
        return True
    for rule in policy["spec"].get(side, []):
        peers, ports = rule.get(field), rule.get("ports")
        if (not peers or any(is_meant(policy, each, peer) for each in peers)) and (
                not ports or any(is_port(each, protocol, port, named_ports or {}) for each in ports)):
            return True
    return False


def is_meant(policy, selection, peer):
    if "ipBlock" in selection:
        return peer.address is not None and in_block(selection["ipBlock"], ipaddress.ip_address(peer.address))
    if peer.namespace is None:
        return False
    if "namespaceSelector" in selection:
        if not matches(selection["namespaceSelector"], {"kubernetes.io/metadata.name": peer.namespace}):
            return False
    elif peer.namespace != policy["metadata"].get("namespace", "default"):
        return False
    return matches(selection.get("podSelector", {}), peer.labels)


def in_block(block, address):
    within = lambda cidr: address.version == ipaddress.ip_network(cidr).version and address in ipaddress.ip_network(cidr)
    return within(block["cidr"]) and not any(within(each) for each in block.get("except", []))


def is_port(entry, protocol, port, named_ports):
    wanted = named_ports.get(entry["port"], entry["port"])
    return entry.get("protocol", "TCP") == protocol and wanted == port
